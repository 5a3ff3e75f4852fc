"""The evaluations of a run: of the checkpoint that training begins or ends with, and of the policy as it is trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from accelerate import PartialState
from accelerate.utils import gather_object

from open_r1.configs import EKIPLConfig
from open_r1.evaluation import Sampling, evaluate_set
from open_r1.prompts import PromptKind
from open_r1.schema import Row, Score
from open_r1.summary import SetResult, pool
from open_r1.tasks import Task
from open_r1.utils.loading import load_policy

Evaluate = Callable[..., dict[str, SetResult]]  # (model, label, processor=...): evaluate_all on the curve's rows


def grader(task: Task, setting: str) -> Callable[[str, str], Score]:
    """Return the task's grader at one of its settings."""
    return lambda reply, answer: task.grade(reply, answer, setting)


def evaluate_path(
    config: EKIPLConfig, task: Task, tests: dict[str, list[Row]], path: str, when: str
) -> dict[str, SetResult]:
    """Evaluate the policy at `path`; it is out of memory again when its stage begins."""
    model, processor = load_policy(path, config.max_pixels)
    model.to("cpu" if config.use_cpu else PartialState().device)
    return evaluate_all(config, task, tests, model, when, processor)


def evaluate_all(
    config: EKIPLConfig, task: Task, tests: dict[str, list[Row]], model: Any, when: str, processor: Any
) -> dict[str, SetResult]:
    """Evaluate the policy on every test set, each process on its share of the rows."""
    state = PartialState()
    sampling = Sampling(
        temperature=config.eval_temperature,
        top_p=config.eval_top_p,
        top_k=config.eval_top_k,
        max_completion_length=config.eval_max_completion_length,
        batch_size=config.eval_batch_size,
        seed=config.seed,
    )
    results = {}
    for name, rows in tests.items():
        share = rows[state.process_index :: state.num_processes]
        rank = f"-{state.process_index}" if state.num_processes > 1 else ""
        output = Path(str(config.output_dir)) / "replies" / f"{when}-{name}{rank}.jsonl"
        grade, kind = grader(task, config.eval_setting), cast(PromptKind, config.prompt_kind)
        # A process may have no row where there are fewer rows than processes.
        part = [evaluate_set(model, processor, share, task, sampling, grade, output, kind)] if share else []
        results[name] = pool(gather_object(part))
    return results
