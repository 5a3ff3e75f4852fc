"""Who answers in an evaluation: the policy by transformers (hf) or vLLM, or any external model (api).

A back end is a function that takes the replies still wanted and yields (wanted, reply) pairs in any order, as they
come; a reply of None is a request that failed. Prompts are those of training (prompts.py).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from tqdm import tqdm

from open_r1.data.prompts import Part, conversations, messages
from open_r1.external.gather import Gatherer
from open_r1.external.provider import Provider, Request
from open_r1.recipe.settings import PromptKind
from open_r1.schema import Failure, Reply, Row, UserError
from open_r1.tasks import Task

if TYPE_CHECKING:
    from PIL.Image import Image

    from open_r1.evaluation.policy_replies import Sampling

AT_ONCE = 64  # rows that an external model is asked about before their replies are written


class Wanted(NamedTuple):
    """Sample number `sample` of the reply to a row."""

    row: Row
    sample: int


Replied = tuple[Wanted, str | None]
BackEnd = Callable[[Sequence[Wanted], str], Iterator[Replied]]  # (wanted, label of the progress bar)


def hf(path: str, task: Task, kind: PromptKind, sampling: "Sampling", max_pixels: int, use_cpu: bool) -> BackEnd:
    """The policy at `path` by transformers' batched generate."""
    import torch

    from open_r1.evaluation.policy_replies import generate_replies  # it takes ten seconds
    from open_r1.policy.loading import load_policy, precision

    model, processor = load_policy(path, max_pixels, precision(sampling.bf16))
    model.to("cuda" if torch.cuda.is_available() and not use_cpu else "cpu")  # pyright: ignore[reportArgumentType]  # its decorator hides `self`

    def answer(wanted: Sequence[Wanted], label: str) -> Iterator[Replied]:
        open_ = {row_id: list(group) for row_id, group in groupby(wanted, key=lambda q: q.row.id)}
        rows = [question.row for question in wanted]
        for row, reply in generate_replies(model, processor, rows, task, sampling, kind, label):
            yield open_[row.id].pop(0), reply

    return answer


def for_vllm(path: str) -> str:
    """Where vLLM can load the policy at `path` from: an adapter has no weights of its own."""
    from open_r1.policy.loading import whole_checkpoint

    return whole_checkpoint(path)


def vllm_part(image: "Image") -> Part:
    """The piece of a message that holds an opened picture, as vLLM spells it."""
    return {"type": "image_pil", "image_pil": image}


def vllm(path: str, task: Task, kind: PromptKind, sampling: "Sampling", max_pixels: int) -> BackEnd:
    """The policy at `path`, a whole checkpoint (`for_vllm`), by vLLM, which batches by itself."""
    try:
        from vllm import LLM, SamplingParams  # pyright: ignore[reportMissingImports]  # an extra of setup.py
    except ImportError as error:
        raise UserError("BACKEND=vllm: the package vllm is not installed; `uv pip install -e '.[gpu]'`") from error

    engine = LLM(
        model=path,
        mm_processor_kwargs={"max_pixels": max_pixels},
        limit_mm_per_prompt={"image": task.images_per_row},
        seed=sampling.seed,
    )
    params = SamplingParams(
        temperature=sampling.temperature, top_p=sampling.top_p, top_k=sampling.top_k,
        max_tokens=sampling.max_completion_length,
    )  # fmt: skip

    def answer(wanted: Sequence[Wanted], label: str) -> Iterator[Replied]:
        for start in tqdm(range(0, len(wanted), sampling.batch_size), desc=label, unit="batch"):
            chunk = wanted[start : start + sampling.batch_size]
            asked = conversations([question.row for question in chunk], task, kind, vllm_part)
            outputs = engine.chat(asked, params, use_tqdm=False)
            yield from zip(chunk, (output.outputs[0].text for output in outputs), strict=True)

    return answer


def api(provider: Provider, task: Task, kind: PromptKind, deadline_s: float) -> BackEnd:
    """An external model: GPT-4o, Gemini, or anything behind an OpenAI-compatible server.

    Args:
        provider: the model; asked for a row's open samples in one request.
        task: whose prompt it gets.
        kind: of the prompt.
        deadline_s: for the replies to AT_ONCE rows; a row without a reply until then has failed.
    """

    def answer(wanted: Sequence[Wanted], label: str) -> Iterator[Replied]:
        rows = [list(group) for _, group in groupby(wanted, key=lambda question: question.row.id)]
        pool = Gatherer([_OpenSamples(provider, {group[0].row.id: len(group) for group in rows})])
        try:
            for start in tqdm(range(0, len(rows), AT_ONCE), desc=label, unit="batch"):
                chunk = rows[start : start + AT_ONCE]
                requests = [Request(group[0].row, messages(group[0].row, task, kind)) for group in chunk]
                for group, answers in zip(chunk, pool.ask(requests, deadline_s)().answers, strict=True):
                    answered = answers[provider.name]
                    texts = [] if isinstance(answered, Failure) else [reply.text for reply in answered]
                    yield from zip(group, [*texts, *[None] * len(group)], strict=False)
        finally:
            pool.close()

    return answer


class _OpenSamples:
    """A provider that is asked for as many replies as a row has open samples; a pool would ask for its own n."""

    def __init__(self, provider: Provider, open_: dict[str, int]):
        self.provider, self.name, self.n, self.open = provider, provider.name, provider.n, open_
        self.aclose = provider.aclose

    async def ask(self, request: Request) -> list[Reply] | Failure:
        """Ask for what is open."""
        return await self.provider.ask(replace(request, n=self.open[request.row.id]))
