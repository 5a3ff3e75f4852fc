"""curve.jsonl: how good the policy is on the test sets while it is trained."""

from collections.abc import Callable
from pathlib import Path

from transformers import Qwen2VLForConditionalGeneration, TrainerCallback, TrainingArguments
from transformers.trainer_callback import TrainerControl, TrainerState

from open_r1.evaluation.results import CurveLine, SetResult, with_pooled_ood
from open_r1.utils.files import append_jsonl, cut_after_step


class CurveCallback(TrainerCallback):
    """Evaluates the policy every `every` steps of training and appends a line to curve.jsonl (docs/METRICS.md).

    The last step is left out: the run's final evaluation follows it.
    """

    def __init__(
        self,
        path: Path,
        every: int,
        evaluate: Callable[[Qwen2VLForConditionalGeneration, str], dict[str, SetResult]],
        prompts: Callable[[int], float],
    ):
        """Hold what a line is made of: `evaluate(model, label)` by test set, `prompts(step)` seen by the whole run."""
        self.path, self.every, self.evaluate, self.prompts = path, every, evaluate, prompts

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Drop a line that a kill cut; one that is written again after a stop says the same, and counts once."""
        if state.is_world_process_zero and self.path.is_file():
            cut_after_step(self.path)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        model: Qwen2VLForConditionalGeneration,
        **kwargs: object,
    ) -> None:
        """Evaluate where the step is due; every process evaluates its share, the first one writes."""
        step = state.global_step
        if step % self.every or step >= state.max_steps:
            return
        results = with_pooled_ood(self.evaluate(model, f"step{step}"))
        sets = {name: result.as_json() for name, result in results.items()}
        if state.is_world_process_zero:
            line: CurveLine = {"step": step, "prompts": round(self.prompts(step)), "sets": sets}
            append_jsonl(self.path, [line])
