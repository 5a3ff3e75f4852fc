"""candidates.jsonl: what stood in the pools of chosen steps and what became of it, one line per prompt.

A line holds the prompt (id, images, problem, answer) and every candidate of its pool, kept or not: enough to look at a
run without its data set or its weights (docs/METRICS.md). wandb and tensorboard get the same as a table where the run
reports to them; neither needs a network.
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainingArguments
from transformers.integrations.integration_utils import TensorBoardCallback, WandbCallback
from transformers.trainer_callback import TrainerControl, TrainerState

from open_r1.method.selection import ranking
from open_r1.schema import Candidate, Row
from open_r1.utils.files import JsonObject, append_jsonl, cut_after_step
from open_r1.utils.images import open_picture
from open_r1.utils.markdown import markdown

COLUMNS = ("step", "id", "problem", "answer", "source", "text", "reward", "rank", "kept", "advantage")
CELL_CHARACTERS = 500  # of a text in a tensorboard table, which is drawn whole


def describe_prompt(
    step: int,
    row: Row,
    pool: Sequence[Candidate],
    kept_G: Sequence[int],
    advantages_G: Sequence[float],
    reward_names: Sequence[str] = (),
) -> JsonObject:
    """Return one line: the prompt and its K candidates in pool order, the policy's first.

    Args:
        step: the optimiser step that trains on it, as in metrics.jsonl.
        row: the prompt's row.
        pool: its K candidates.
        kept_G: indices of the G that are trained on.
        advantages_G: what is trained on, in the same order: weighted, and the mean over its tokens where they are
            weighted singly; a candidate that is not kept has none (null).
        reward_names: of the reward functions (R), of which each gave every candidate a part of its reward.
    """
    ranks_K = ranking([c.reward for c in pool], [c.external for c in pool]).argsort()
    advantage = dict(zip(kept_G, advantages_G, strict=True))
    candidates = [
        {
            "source": c.source,
            "text": c.text,
            "reward": _number(c.reward),
            **{part: value for part, value in vars(c.score).items() if value is not None},
            "rewards": {name: _number(given) for name, given in zip(reward_names, c.rewards_R, strict=False)},
            "tokens": len(c.token_ids),
            "truncated": c.truncated,
            "rank": int(ranks_K[k]),
            "kept": k in advantage,
            "advantage": advantage.get(k),
        }
        for k, c in enumerate(pool)
    ]
    prompt = {"step": step, "id": row.id, "kind": row.kind, "images": [str(path) for path in row.images]}
    return prompt | {"problem": row.problem, "answer": row.answer, "candidates": candidates}


def _number(value: float) -> float | None:
    """A number as JSON has it: null where there is none."""
    return None if math.isnan(value) else value


class CandidateLog(TrainerCallback):
    """Writes the pools of every `every`-th step, of at most `prompts` prompts each, and hands them on as a table.

    `every` 0 writes nothing. Each process writes its own prompts to a file of its own. As a callback it takes back what
    a run wrote after the checkpoint that it goes on from.
    """

    def __init__(self, path: Path, every: int = 1, prompts: int = 8):
        self.path, self.every, self.prompts = path, every, prompts

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Keep the lines up to the step that training goes on from."""
        if self.path.is_file():
            cut_after_step(self.path, state.global_step)

    def due(self, step: int) -> bool:
        """Whether this step is written; the first one always is."""
        return self.every > 0 and (step - 1) % self.every == 0

    def write(self, lines: Iterable[JsonObject], callbacks: Sequence[TrainerCallback]) -> None:
        """Append the first `prompts` lines at once; `callbacks` are the trainer's, where the loggers are found."""
        chosen = [line for line, _ in zip(lines, range(self.prompts), strict=False)]
        append_jsonl(self.path, chosen)
        for callback in callbacks:
            if isinstance(callback, TensorBoardCallback) and callback.tb_writer is not None:
                text = markdown(COLUMNS, [[_cell(cell) for cell in row] for row in table_rows(chosen)])
                callback.tb_writer.add_text("candidates", text, chosen[0]["step"])
            elif isinstance(callback, WandbCallback):
                _log_wandb(chosen)


def table_rows(lines: Sequence[JsonObject]) -> list[list[object]]:
    """One row per candidate, in the order of COLUMNS."""
    return [[(line | c)[name] for name in COLUMNS] for line in lines for c in line["candidates"]]


def _cell(value: object) -> str:
    """A value as a Markdown cell; a model's text is data and stays on its line."""
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return text[:CELL_CHARACTERS].replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;").replace("\n", " ")


def _log_wandb(lines: Sequence[JsonObject]) -> None:
    """Put a table with the pictures into the current step of the wandb run, if there is one."""
    import wandb  # takes seconds, and few runs report there

    if wandb.run is None:
        return
    most = max(len(line["images"]) for line in lines)
    heads = [f"image {i + 1}" for i in range(most)]
    pictures: list[list[Any]] = []
    for line in lines:
        shown = [wandb.Image(open_picture(Path(path)).image) for path in line["images"]]  # as the policy sees them
        pictures += [shown + [None] * (most - len(shown))] * len(line["candidates"])
    rows: list[Any] = [[*images, *row] for images, row in zip(pictures, table_rows(lines), strict=True)]
    wandb.log({"candidates": wandb.Table(columns=[*heads, *COLUMNS], data=rows)}, commit=False)
