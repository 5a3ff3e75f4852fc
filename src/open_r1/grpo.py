"""Training entry, read top to bottom: data, base policy, evaluation, the method's stages, evaluation, summary.

    python -m open_r1.grpo --config RUN/recipe.yaml          (launch.py writes that recipe and starts this)

Everything goes into the run's folder, the recipe's `output_dir`; of two stages the first has a folder of its own in it.
"""

import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from accelerate import PartialState
from tqdm import tqdm
from transformers import Qwen2VLForConditionalGeneration, Qwen2VLProcessor
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from trl.models.utils import unwrap_model_for_generation

from open_r1.configs import EKIPLConfig, load_config, weighting_of
from open_r1.data.prepare import prepare_rows, test_sets
from open_r1.data.prompts import to_dataset
from open_r1.evaluation.curve import CurveCallback
from open_r1.evaluation.results import SetResult
from open_r1.evaluation.run import Evaluate, Seconds, evaluate_once, evaluate_path, evaluate_policy, grader
from open_r1.external import Gatherer, behind_store
from open_r1.external.build import build_providers
from open_r1.external.store.replies import PromptVersion
from open_r1.policy.loading import load_policy, precision
from open_r1.policy.sharding import begin_sharding, describe_sharding, release_memory, unsharded
from open_r1.preflight.folder import LOCK
from open_r1.recipe.rules import Recipe
from open_r1.report.figures import draw_run
from open_r1.report.run_folder import print_table, read_metrics, write_summary
from open_r1.schema import Row
from open_r1.tasks import Task, get_task
from open_r1.training.base_policy import make_base, read_recipe
from open_r1.training.candidate_log import CandidateLog
from open_r1.training.metrics import JsonLinesCallback, ProgressBar
from open_r1.training.rehearsal import rehearse
from open_r1.training.restart import disk_full_in_one_line, hold_run, train_to_the_end, whole_model
from open_r1.training.stages import Stage, left_over, stages_of
from open_r1.training.stopping import StopCallback, Stopped
from open_r1.training.supervised import build_sft, lora_config
from open_r1.training.teachers import Asking, Teachers
from open_r1.training.trainer import EKIPLTrainer, reward_functions
from open_r1.training.vllm_engine import end_colocated
from open_r1.training.watch import WatchCallback, limits_of, read_warnings
from open_r1.utils.entry import command_parser, run_entry
from open_r1.utils.packages import write_bill
from open_r1.utils.provenance import weights_digest


@contextmanager
def timed(seconds: Seconds, stage: str) -> Iterator[None]:
    """Add the seconds that the block takes to `seconds[stage]`."""
    began = time.monotonic()
    yield
    seconds[stage] = (seconds.get(stage) or 0.0) + time.monotonic() - began


def base_policy(recipe: Recipe, task: Task) -> str:
    """Return where the policy is loaded from; makes the tiny base policy where it is missing."""
    path = recipe.untrained
    if not recipe.model_path and not Path(path).is_dir():
        make_base(task, read_recipe(task), seed=0, output=Path(path))
    return path


def build_trainer(
    config: EKIPLConfig,
    task: Task,
    model: Qwen2VLForConditionalGeneration,
    processor: Qwen2VLProcessor,
    train: list[Row],
) -> EKIPLTrainer:
    """Join the parts of the rl stage: dataset, rewards, external models, metrics."""
    folder, recipe = Path(str(config.output_dir)), config.recipe
    grade = functools.lru_cache(maxsize=2**14)(grader(task, recipe.training_grader))
    kind, weighting = recipe.prompt_kind, weighting_of(recipe)
    ask, logprobs = not recipe.store_read_only, weighting.needs_logprobs
    providers = behind_store(
        build_providers(recipe.teachers, recipe.external_seed, recipe.max_pixels, ask, logprobs),
        PromptVersion(task.name, kind, task.instruction_for(kind)),
        recipe.store_path,
        recipe.store_read_only,
        recipe.external_budget_usd,
    )
    asking = Asking(recipe.external_deadline_s, kind, recipe.ask_below, recipe.external_prefetch_steps)
    rank = f"-{config.process_index}" if config.process_index else ""
    every = 1 if config.log_completions else recipe.log_candidates_every
    candidate_log = CandidateLog(folder / f"candidates{rank}.jsonl", every, recipe.log_candidates_prompts)
    metrics_log = JsonLinesCallback(folder / "metrics.jsonl", recipe.prompts_of_a_step(config.world_size))
    return EKIPLTrainer(
        model=model,
        args=config,
        processing_class=processor,
        share_vision=recipe.share_vision,
        share_prefix=recipe.share_prefix,
        train_dataset=to_dataset(train, task, kind),
        reward_funcs=reward_functions(grade),
        rows={row.id: row for row in train},
        grade=grade,
        teachers=Teachers(Gatherer(providers, recipe.external_required), task, asking) if providers else None,
        num_policy_samples=recipe.num_samples,
        selection=recipe.selection,
        max_external=recipe.max_external,
        advantage_baseline=recipe.advantage_baseline,
        weighting=weighting,
        candidate_log=candidate_log,
        peft_config=lora_config(recipe),
        callbacks=[metrics_log, candidate_log],
    )


def train_stage(stage: Stage, config: EKIPLConfig, task: Task, path: str, evaluate: Evaluate, seen: int) -> str:
    """Train one stage from the checkpoint `path` and return its model's path; a stage that is trained stays as it is.

    `seen` counts the prompts of the stages before, for curve.jsonl.
    """
    trained = stage.folder / "model"
    if whole_model(trained):
        return str(trained)
    stage.folder.mkdir(exist_ok=True)
    begin_sharding(config)
    frozen = config.recipe.lora is not None and config.recipe.half_precision  # below an adapter nothing is rounded away
    model, processor = load_policy(path, config.recipe.max_pixels, precision(frozen), **config.recipe.policy_options)
    stop = StopCallback(config.recipe.strict)
    if stage.name == "rl":
        trainer = build_trainer(config, task, model, processor, stage.rows)
        watch = WatchCallback(stage.folder, limits_of(config.recipe), stop if config.recipe.strict else None)
        trainer.callback_handler.callbacks.insert(0, watch)  # before those that write lines down
    else:
        trainer = build_sft(config, task, model, processor, stage.rows, stage.folder)
    trainer.remove_callback(PrinterCallback if config.disable_tqdm else ProgressCallback)
    if not config.disable_tqdm:
        trainer.add_callback(ProgressBar)
    if every := config.recipe.curve_every:
        log = next(c for c in trainer.callback_handler.callbacks if isinstance(c, JsonLinesCallback))
        curve = Path(str(config.output_dir)) / "curve.jsonl"

        def ask(_: object, label: str) -> dict[str, SetResult]:
            with unwrap_model_for_generation(trainer.model_wrapped, trainer.accelerator) as policy, unsharded(policy):
                return evaluate(policy, label, processor=processor)

        trainer.add_callback(CurveCallback(curve, every, ask, lambda step: seen + log.prompts_at(step)))
    train_to_the_end(trainer, stage.folder, config.recipe.argv, Path(str(config.output_dir)), stop)
    if isinstance(trainer, EKIPLTrainer) and config.use_vllm:
        end_colocated(trainer.vllm_generation)
    return str(trained)


def run(config: EKIPLConfig) -> Mapping[str, object]:
    """Run every stage that an earlier start of this run has not finished, and return what summary.json holds."""
    recipe, state, folder = config.recipe, PartialState(), Path(str(config.output_dir))
    task = get_task(recipe.task)
    if state.is_main_process and (changed := write_bill(folder)):
        tqdm.write(f"{folder} goes on with other packages: {', '.join(changed)}")
    seconds: Seconds = {"data": 0.0, "base": 0.0, "train": 0.0, "eval": 0.0}
    with timed(seconds, "data"):
        tests = prepare_rows(task, recipe, ["train", *test_sets(task, recipe)])
        train = tests.pop("train")
    stages = stages_of(recipe.stages, train, recipe.sft_rows, recipe.sft_rows_again, folder)
    if stages and stages[-1].name == "rl":
        left = left_over(len(stages[-1].rows), recipe.prompts_per_generation(config.world_size) * config.world_size)
        if left and state.is_main_process:
            print(left, flush=True)
    with timed(seconds, "base"):
        path = start = base_policy(recipe, task)
    evaluate = functools.partial(timed(seconds, "eval")(evaluate_path), recipe, task, tests)
    before = evaluate_once(folder, seconds, functools.partial(evaluate, path, "before", again=True))
    first_rows = {name: rows[: recipe.curve_rows] for name, rows in tests.items()}
    curve, logs = functools.partial(evaluate_policy, recipe, task, first_rows), []
    for stage in stages:
        path = train_stage(stage, config, task, path, curve, sum(log["prompts"] for log in logs))
        release_memory()  # of policy, reference and optimizer, before the next model is loaded
        logs.append(read_metrics(stage.folder)[-1])
    after = evaluate(path, "after") if stages else before
    if not state.is_main_process:
        return {}
    seconds["train"] = sum(log["time_s"] for log in logs)  # over all starts
    summary = write_summary(
        folder,
        task=recipe.task,
        model=recipe.model,
        method=recipe.method,
        seed=recipe.seed,
        argv=recipe.argv,
        seconds={stage: None if value is None else round(value, 1) for stage, value in seconds.items()},
        base=before,
        final=after,
        stages=[stage.folder for stage in stages],
        base_weights=weights_digest(Path(start)),
        warnings=read_warnings(folder),
        distributed=describe_sharding(config),
    )
    draw_run(folder)
    print_table(summary, folder)
    return summary


def main(argv: Sequence[str]) -> int:
    """Parse the command line and run; returns the exit status."""
    parser = command_parser(__doc__)
    parser.add_argument("--config", type=Path, required=True, help="merged recipe, as launch.py writes it")
    config = load_config(parser.parse_args(argv).config)
    folder = Path(str(config.output_dir))
    rehearse(config.recipe, config.world_size, rows=False)  # the rows are read next
    try:
        with hold_run(folder / LOCK), disk_full_in_one_line(folder):
            run(config)
    except Stopped as stopped:
        if PartialState().is_main_process:
            print(stopped, flush=True)
        return stopped.status
    PartialState().destroy_process_group()  # without it several processes can abort after all is done
    return 0


if __name__ == "__main__":
    run_entry(main)
