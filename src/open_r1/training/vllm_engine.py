"""TRL's way to vLLM, corrected at its seams so that vLLM sees the prompt that the trainer scores.

TRL 1.16 hands a colocated vLLM prompts whose picture tokens stand there already, once per patch; vLLM puts them in once
more (two pictures of 187 tokens become 559 and 187), and features land on the wrong tokens (huggingface/trl
issues 6294, 6401, 6718). Here each picture is one token again before vLLM gets it. A vLLM server keeps the tokens that
it is given and needs them all. TRL tells neither of `max_pixels`: a colocated vLLM is made with it here, a server has
to be started with it. That vLLM read what the trainer will score is checked at every generation; it costs nothing.
"""

import gc
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any, cast
from unittest.mock import patch

from open_r1.policy.loading import whole_checkpoint
from open_r1.schema import UserError

REMEDY = "report it, and set use_vllm: false until then"


def one_token_per_picture(ids: Sequence[int], image_token_id: int) -> list[int]:
    """Return the prompt with each run of picture tokens as a single one; between two pictures stand other tokens.

    >>> one_token_per_picture([5, 9, 9, 9, 6, 9, 9], image_token_id=9)
    [5, 9, 6, 9]
    """
    runs = groupby(ids, key=lambda token: token == image_token_id)
    return [token for picture, run in runs for token in ([image_token_id] if picture else run)]


def picture_lengths(ids: Sequence[int], image_token_id: int) -> list[int]:
    """How many tokens each picture of a prompt takes, in order."""
    return [len(list(run)) for picture, run in groupby(ids, key=lambda token: token == image_token_id) if picture]


@contextmanager
def pictures_as_trained(use_vllm: bool, processor: Any, per_prompt: int) -> Iterator[None]:
    """Inside the block TRL's colocated vLLM is made for pictures of the processor's sizes, `per_prompt` at most.

    Without these vLLM plans for pictures of 12.8 million pixels and videos, and scales none down to `max_pixels`.
    """
    if not use_vllm:
        yield
        return
    from trl.generation import vllm_generation

    engine = cast(Any, vllm_generation).LLM
    pictures = {"limit_mm_per_prompt": {"image": per_prompt, "video": 0}, "mm_processor_kwargs": pixels_of(processor)}

    def as_trained(model: str, **kwargs: Any) -> Any:
        return engine(model=whole_checkpoint(model), **pictures, **kwargs)

    with patch.object(vllm_generation, "LLM", as_trained):
        yield


def pixels_of(processor: Any) -> dict[str, int]:
    """The sizes that the processor scales pictures to, as vLLM takes them."""
    size = processor.image_processor.size
    return {"min_pixels": size["shortest_edge"], "max_pixels": size["longest_edge"]}


def see_pictures_once(generation: Any, processor: Any) -> None:
    """Let TRL's `VLLMGeneration` give vLLM the prompts as vLLM takes them, from now on.

    Raises, at a generation, UserError where vLLM's prompt is another than the trainer's, with both lengths.
    """
    if generation.mode == "colocate":
        _patch_colocated(generation.llm, processor.image_token_id)
    elif generation.accelerator.is_main_process:  # it alone speaks to the server
        _patch_server(generation, processor.image_token_id, pixels_of(processor))


def _patch_colocated(llm: Any, image: int) -> None:
    generate = llm.generate

    def generate_as_trained(prompts: list[dict[str, Any]], *args: Any, **options: Any) -> list[Any]:
        given = [
            prompt | {"prompt_token_ids": one_token_per_picture(prompt["prompt_token_ids"], image)}
            for prompt in prompts
        ]
        outputs = generate(given, *args, **options)
        for prompt, output in zip(prompts, outputs, strict=True):
            scored, read = prompt["prompt_token_ids"], output.prompt_token_ids
            if list(read) != list(scored):
                raise UserError(
                    f"use_vllm: vLLM reads a prompt of {len(read)} tokens (pictures {picture_lengths(read, image)})"
                    f" where the trainer scores {len(scored)} ({picture_lengths(scored, image)}): the policy would be"
                    f" trained on other prompts than it answers; {REMEDY}"
                )
        return outputs

    llm.generate = generate_as_trained


def end_colocated(generation: Any) -> None:
    """Stop a colocated vLLM and let go of its memory; the processes' own connection stays.

    vLLM's own way, also when Python collects the engine, closes torch's default process group, which is the trainer's.
    """
    if generation.mode != "colocate":
        return
    client = generation.llm.llm_engine.engine_core
    client._finalizer.detach()
    client.engine_core.model_executor.shutdown()
    gc.unfreeze()  # vLLM froze what was there when it started, our model too, and frozen objects are never collected
    del generation.llm


def _patch_server(generation: Any, image: int, sizes: dict[str, int]) -> None:
    place = generation._place_features

    def place_checked(features: dict | None, prompt_ids: list[int]) -> dict | None:
        if features is not None:
            seen = [part["length"] for part in features["mm_placeholders"]["image"]]
            scored = picture_lengths(prompt_ids, image)
            if seen != scored:
                raise UserError(
                    f"use_vllm: the server reads pictures of {seen} tokens, the trainer scores {scored}; start it"
                    f" with --mm-processor-kwargs '{json.dumps(sizes)}'"
                )
        return place(features, prompt_ids)

    generation._place_features = place_checked
