"""The evaluations of a run: of the checkpoint that training begins or ends with, and of the policy as it is trained."""

import functools
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import gather_object
from tqdm import tqdm
from transformers import Qwen2VLForConditionalGeneration, Qwen2VLProcessor

from open_r1.evaluation import known_replies
from open_r1.evaluation.policy_replies import evaluate_set, generate_replies, sampling_of
from open_r1.evaluation.results import SetResult, joined
from open_r1.policy.loading import Policy, load_policy, precision
from open_r1.policy.sharding import release_memory, whole_weights
from open_r1.recipe.rules import Recipe
from open_r1.schema import Row, Score
from open_r1.tasks import Task
from open_r1.utils.files import write_json

Seconds = dict[str, float | None]  # by stage; None where the stage was not needed

Evaluate = Callable[..., dict[str, SetResult]]  # (model, label, processor=...): evaluate_policy on the curve's rows
Ask = Callable[[list[Row], str], Iterable[tuple[Row, str]]]  # (rows, label of the progress bar) -> rows with replies


def grader(task: Task, setting: str) -> Callable[[str, str], Score]:
    """Return the task's grader at one of its settings."""
    return lambda reply, answer: task.grade(reply, answer, setting)


def evaluate_path(
    recipe: Recipe, task: Task, tests: dict[str, list[Row]], path: str, when: str, again: bool = False
) -> dict[str, SetResult]:
    """Evaluate the policy at `path`; it is out of memory again when its stage begins.

    With `again` it is likely to be asked the same by another run: its replies are kept, and taken from where they are.
    """
    device, options = PartialState().device, recipe.policy_options
    setup = " ".join([str(device), *options.values()])
    digest = known_replies.policy_digest(path, setup, recipe.max_pixels) if again else None

    @functools.cache
    def policy() -> Policy:
        with whole_weights():
            model, processor = load_policy(path, recipe.max_pixels, precision(recipe.half_precision), **options)
        model.to(device)  # pyright: ignore[reportArgumentType]  # its decorator hides `self`
        return model, processor

    ask = _asking(recipe, task, policy)
    try:
        return _evaluate(recipe, task, tests, _asking_once(recipe, task, digest, ask) if digest else ask, when)
    finally:
        policy.cache_clear()
        release_memory()


def evaluate_policy(
    recipe: Recipe,
    task: Task,
    tests: dict[str, list[Row]],
    model: Qwen2VLForConditionalGeneration,
    when: str,
    processor: Qwen2VLProcessor,
) -> dict[str, SetResult]:
    """Evaluate the policy as it stands in memory."""
    return _evaluate(recipe, task, tests, _asking(recipe, task, lambda: (model, processor)), when)


def _asking(recipe: Recipe, task: Task, policy: Callable[[], Policy]) -> Ask:
    """Ask the policy, which is loaded when it is needed."""
    sampling, kind = sampling_of(recipe), recipe.prompt_kind
    return lambda rows, label: generate_replies(*policy(), rows, task, sampling, kind, label)


def _asking_once(recipe: Recipe, task: Task, digest: str, ask: Ask) -> Ask:
    """Take the replies of the policy with this digest from where they are kept; ask and keep what is not there."""

    def take(rows: list[Row], label: str) -> Iterable[tuple[Row, str]]:
        place = known_replies.place(digest, rows, task, recipe.prompt_kind, sampling_of(recipe))
        known = known_replies.read(place, rows)
        if known is None:
            return known_replies.keep(place, ask(rows, label))
        tqdm.write(f"{label}: the policy's {len(known)} replies are known ({place}) and graded again")
        return known

    return take


def _evaluate(recipe: Recipe, task: Task, tests: dict[str, list[Row]], ask: Ask, when: str) -> dict[str, SetResult]:
    """Ask, write and grade every test set, each process its share of the rows."""
    state = PartialState()
    grade, results = grader(task, recipe.evaluation_grader), {}
    for name, rows in tests.items():
        share = rows[state.process_index :: state.num_processes]
        rank = f"-{state.process_index}" if state.num_processes > 1 else ""
        output = Path(str(recipe.output_dir)) / "replies" / f"{when}-{name}{rank}.jsonl"
        # A process may have no row where there are fewer rows than processes.
        part = [evaluate_set(ask(share, f"evaluate {output.stem}"), grade, output)] if share else []
        results[name] = joined(gather_object(part))
    return results


def evaluate_once(folder: Path, seconds: Seconds, evaluate: Callable[[], dict[str, SetResult]]) -> dict[str, SetResult]:
    """Evaluate before training, or read what an earlier start of this run found.

    Args:
        folder: of the run.
        seconds: per stage; those that the earlier start had spent by then are added.
        evaluate: does it, and adds its own seconds.
    """
    kept = folder / "before.json"
    if kept.is_file():
        found = json.loads(kept.read_text())
        seconds.update({stage: (seconds[stage] or 0.0) + spent for stage, spent in found["seconds"].items()})
        return {name: SetResult(**result) for name, result in found["base"].items()}
    results = evaluate()
    if PartialState().is_main_process:
        write_json(kept, {"seconds": seconds, "base": {name: asdict(result) for name, result in results.items()}})
    return results
