"""Evaluation of the policy: its replies to a test set, written as they come, graded by the task's own grader."""

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import GenerationConfig, Qwen2VLForConditionalGeneration, Qwen2VLProcessor, set_seed

from open_r1.data.prompts import conversations
from open_r1.evaluation.results import SetResult
from open_r1.policy.decoding import grouped_decoding
from open_r1.policy.prefill_sharing import prefill_shared
from open_r1.policy.vision_sharing import preprocess_once
from open_r1.recipe.rules import Recipe
from open_r1.recipe.settings import PromptKind
from open_r1.rewards.deadline import of_row
from open_r1.schema import Row, Score
from open_r1.tasks import Task
from open_r1.utils.files import append_jsonl


@dataclass(frozen=True)
class Sampling:
    """How the policy is asked at evaluation; the defaults are Reason-RFT's evaluation settings."""

    temperature: float = 0.1
    top_p: float = 0.9
    top_k: int = 50
    max_completion_length: int = 768
    batch_size: int = 64
    seed: int = 0
    bf16: bool = False  # computes in bfloat16, also where the weights are float32


def sampling_of(recipe: Recipe) -> Sampling:
    """How the recipe asks the policy in evaluation."""
    return Sampling(
        temperature=recipe.eval_temperature,
        top_p=recipe.eval_top_p,
        top_k=recipe.eval_top_k,
        max_completion_length=recipe.eval_max_completion_length,
        batch_size=recipe.eval_rows_at_once,
        seed=recipe.seed,
        bf16=recipe.half_precision,
    )


@torch.inference_mode()
def generate_replies(
    model: Qwen2VLForConditionalGeneration,
    processor: Qwen2VLProcessor,
    rows: list[Row],
    task: Task,
    sampling: Sampling,
    kind: PromptKind,
    label: str,
) -> Iterator[tuple[Row, str]]:
    """Yield each row with the policy's reply, batch by batch; restores the model's mode and every random state.

    A batch holds prompts of similar length, so that little is padded; the order of the rows is not kept. A row that is
    there several times (K replies) is preprocessed, encoded and prefilled once per batch.
    """
    config = generation_config(model, processor.tokenizer, sampling)
    order = sorted(rows, key=lambda row: len(row.problem))  # stable: the repeats of a row stay together
    with _as_before(model):
        model.eval()
        set_seed(sampling.seed)
        for start in tqdm(range(0, len(order), sampling.batch_size), desc=label, unit="batch"):
            batch = order[start : start + sampling.batch_size]
            with preprocess_once(processor.image_processor):
                inputs = processor.apply_chat_template(
                    conversations(batch, task, kind),  # pyright: ignore[reportArgumentType]  # its hint knows text only
                    add_generation_prompt=True,
                    tokenize=True,
                    return_dict=True,
                    processor_kwargs={"padding": True, "padding_side": "left", "return_tensors": "pt"},
                ).to(model.device)  # pyright: ignore[reportAttributeAccessIssue]  # tokenized it is no text
            with (
                grouped_decoding(model),
                prefill_shared(model),
                inheriting_nothing(model),
                torch.autocast(model.device.type, torch.bfloat16, enabled=sampling.bf16),
            ):
                # Each process has rows of its own: it must not wait for the others at every token, as under ZeRO-3.
                ids = model.generate(**inputs, generation_config=config, synced_gpus=False)  # pyright: ignore[reportAttributeAccessIssue]
            ids = ids[:, inputs["input_ids"].shape[1] :]
            yield from zip(batch, processor.batch_decode(ids, skip_special_tokens=True), strict=True)


@contextmanager
def _as_before(model: Qwen2VLForConditionalGeneration) -> Iterator[None]:
    """Restore the model's mode and each state that `set_seed` sets: Python's, numpy's, torch's, the model's GPU's."""
    was_training, states = model.training, (random.getstate(), np.random.get_state())
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        try:
            yield
        finally:
            model.train(was_training)
            random.setstate(states[0])
            np.random.set_state(states[1])


def generation_config(model: Any, tokenizer: Any, sampling: Sampling) -> GenerationConfig:
    """How `model` is sampled: it ends at every token that training takes for an end, TRL's rule; Qwen2-VL has two."""
    ends = model.generation_config.eos_token_id
    ends = [ends] if isinstance(ends, int) else list(ends or [])
    return GenerationConfig(
        do_sample=sampling.temperature > 0,
        temperature=sampling.temperature or None,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        max_new_tokens=sampling.max_completion_length,
        eos_token_id=ends if tokenizer.eos_token_id in ends else [tokenizer.eos_token_id, *ends],
        pad_token_id=tokenizer.pad_token_id,
        suppress_tokens=[model.config.image_token_id],  # a sampled image token would mismatch the image features
    )


@contextmanager
def inheriting_nothing(model: Any) -> Iterator[None]:
    """Inside the block `generate` takes nothing from the checkpoint's own generation_config.json.

    What a configuration leaves open is filled in from there: a repetition penalty, which training does not have.
    """
    own, model.generation_config = model.generation_config, GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own


def evaluate_set(replies: Iterable[tuple[Row, str]], grade: Callable[[str, str], Score], output: Path) -> SetResult:
    """Grade and average the replies to one test set; `output` gets one JSON line per reply as it comes, with scores."""
    output.parent.mkdir(parents=True, exist_ok=True)
    scores = []
    output.unlink(missing_ok=True)
    for row, reply in replies:
        with of_row(row.id):
            scores.append(grade(reply, row.answer))
        line = {"id": row.id, "kind": row.kind, "answer": row.answer, "reply": reply}
        append_jsonl(output, [line | asdict(scores[-1])])
    return SetResult.from_scores(scores)
