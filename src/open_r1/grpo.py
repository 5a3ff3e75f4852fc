"""Training entry, read top to bottom: data, base policy, evaluation, EKIPL (or GRPO) training, evaluation, summary.

    python src/open_r1/grpo.py --config RUN/recipe.yaml          (launch.py writes that recipe and starts this)

Everything goes into the run's folder, the recipe's `output_dir`.
"""

import argparse
import functools
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

from accelerate import PartialState
from accelerate.utils import gather_object
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from open_r1.asking import Asking, Teachers
from open_r1.configs import EKIPLConfig, load_config
from open_r1.evaluation import Sampling, evaluate_set
from open_r1.external import ExternalPool, keep_replies
from open_r1.external.build import build_providers
from open_r1.external.store import Prompt
from open_r1.figures import draw_run
from open_r1.metrics import JsonLinesCallback, ProgressBar
from open_r1.prompts import PromptKind, to_dataset
from open_r1.restart import Seconds, evaluate_once, room_on, train_to_the_end
from open_r1.rows import load_rows
from open_r1.schema import Row, UserError
from open_r1.stopping import Stopped
from open_r1.summary import SetResult, column, pool, print_table, read_metrics, write_summary
from open_r1.synthetic.sample import Size
from open_r1.synthetic.write import own_folder, write_dataset
from open_r1.tasks import Task, get_task
from open_r1.trainer import EKIPLTrainer, Grade, reward_functions
from open_r1.utils.loading import load_policy
from open_r1.utils.processes import hold
from open_r1.utils.provenance import ROOT


@contextmanager
def timed(seconds: Seconds, stage: str) -> Iterator[None]:
    """Add the seconds that the block takes to `seconds[stage]`."""
    began = time.monotonic()
    yield
    seconds[stage] = (seconds.get(stage) or 0.0) + time.monotonic() - began


def prepare_data(config: EKIPLConfig, task: Task, state: PartialState) -> tuple[list[Row], dict[str, list[Row]]]:
    """Return the training rows and the rows of every test set; makes synthetic data where no data are given."""
    folder = config.data_path
    if not folder:
        counts = config.synthetic_counts(task.test_files)
        size = cast(Size, config.data_size)
        folder = str(own_folder(task.name, size, counts))
        if state.is_main_process:
            write_dataset(task.name, Path(folder), size, 0, counts)
        state.wait_for_everyone()
    load = functools.partial(load_rows, task, folder, skip_bad_rows=config.skip_bad_rows)
    train = load("train").rows[: config.num_train_rows]
    return train, {name: load(name).rows[: config.num_test_rows] for name in task.test_files}


def base_policy(config: EKIPLConfig, task: Task) -> str:
    """Return where the policy is loaded from; makes the tiny base policy where it is missing."""
    if config.model_path:
        return config.model_path
    base = Path(config.base_path) if config.base_path else ROOT / "bases" / task.name
    if not base.is_dir():
        from open_r1.sft import make_base, read_recipe

        make_base(task, read_recipe(task), seed=0, output=base)
    return str(base)


def grader(task: Task, setting: str) -> Grade:
    """Return the task's grader at one of its settings."""
    return lambda reply, answer: task.grade(reply, answer, setting)


def evaluate_all(
    config: EKIPLConfig, task: Task, model: Any, processor: Any, tests: dict[str, list[Row]], when: str
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


def build_trainer(config: EKIPLConfig, task: Task, model: Any, processor: Any, train: list[Row]) -> EKIPLTrainer:
    """Join the parts: dataset, rewards, external models, metrics."""
    grade = functools.lru_cache(maxsize=2**14)(grader(task, config.grader_setting))
    kind = cast(PromptKind, config.prompt_kind)
    providers = keep_replies(
        build_providers(config.teachers, config.external_seed, config.max_pixels, ask=not config.store_read_only),
        Prompt(task.name, kind, task.instruction_for(kind)),
        config.store_path,
        config.store_read_only,
        config.external_budget_usd,
    )
    asking = Asking(config.external_deadline_s, kind, config.ask_below, config.external_prefetch_steps)
    prompts_per_step = (
        config.per_device_train_batch_size * (config.gradient_accumulation_steps or 1) * config.world_size
        / (config.num_generations or 1) / config.num_iterations
    )  # fmt: skip
    trainer = EKIPLTrainer(
        model=model,
        args=config,
        processing_class=processor,
        share_vision=config.share_vision,
        share_prefix=config.share_prefix,
        train_dataset=to_dataset(train, task, kind),
        reward_funcs=reward_functions(grade),
        rows={row.id: row for row in train},
        grade=grade,
        teachers=Teachers(ExternalPool(providers, config.external_required), task, asking) if providers else None,
        num_policy_samples=config.num_samples,
        selection=config.selection,
        max_external=config.max_external,
        advantage_baseline=config.advantage_baseline,
        weighting=config.weighting,
        callbacks=[JsonLinesCallback(Path(str(config.output_dir)) / "metrics.jsonl", prompts_per_step)],
    )
    trainer.remove_callback(PrinterCallback if config.disable_tqdm else ProgressCallback)
    if not config.disable_tqdm:
        trainer.add_callback(ProgressBar)
    return trainer


def run(config: EKIPLConfig) -> dict[str, Any]:
    """Run every stage that an earlier start of this run has not finished, and return what summary.json holds."""
    state, task, folder = PartialState(), get_task(config.task), Path(str(config.output_dir))
    seconds: Seconds = {"data": 0.0, "base": 0.0, "train": 0.0, "eval": 0.0}
    with timed(seconds, "data"):
        train, tests = prepare_data(config, task, state)
    with timed(seconds, "base"):
        path = base_policy(config, task)
    trained = (folder / "model").is_dir()  # by an earlier start, which was stopped while it evaluated
    model, processor = load_policy(str(folder / "model") if trained else path, config.max_pixels)
    trainer = build_trainer(config, task, model, processor, train)
    evaluate = functools.partial(timed(seconds, "eval")(evaluate_all), config, task, trainer.model, processor, tests)
    before = evaluate_once(folder, seconds, functools.partial(evaluate, "before"))
    if not trained:
        train_to_the_end(trainer, folder, config.argv)
    after = evaluate("after")
    if not state.is_main_process:
        return {}
    seconds["train"] = float(column(read_metrics(folder), "time_s")[-1])  # over all starts
    summary = write_summary(
        folder,
        task=config.task,
        model=config.model,
        method=config.method,
        seed=config.seed,
        argv=config.argv,
        seconds={stage: None if value is None else round(value, 1) for stage, value in seconds.items()},
        base=before,
        final=after,
    )
    draw_run(folder)
    print_table(summary, folder)
    return summary


def main(argv: list[str] | None = None) -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--config", type=Path, required=True, help="merged recipe, as launch.py writes it")
    config = load_config(parser.parse_args(argv).config)
    folder = Path(str(config.output_dir))
    with hold(folder / "run.lock") if PartialState().is_main_process else nullcontext(), room_on(folder):
        run(config)
    PartialState().destroy_process_group()  # without it several processes can abort after all is done


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except Stopped as stopped:
        if PartialState().is_main_process:
            print(stopped, flush=True)
        sys.exit(stopped.status)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
