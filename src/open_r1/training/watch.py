"""A run says when it is not what it was meant to be: one line on the screen, in metrics.jsonl and in summary.json.

The logged lines of the rl stage are watched, so that a run that goes on finds its counts again in metrics.jsonl. No
limit is reached in a healthy run (docs/METRICS.md).
"""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm
from transformers import TrainerCallback, TrainingArguments
from transformers.trainer_callback import TrainerControl, TrainerState

from open_r1.recipe.rules import Recipe
from open_r1.schema import POLICY
from open_r1.training.stopping import StopCallback
from open_r1.utils.files import JsonObject, append_jsonl, cut_after_step, read_jsonl

WARNINGS = "warnings.jsonl"  # beside metrics.jsonl
Line = JsonObject  # of metrics.jsonl


class Limits(NamedTuple):
    """From where on a run is warned about; 0 switches a warning off."""

    silent_steps: int = 3  # steps in a row in which every call of a teacher failed
    format_steps: int = 5  # steps in a row in which no reply of a source had its tags in place
    dead_steps: int = 20  # steps in a row in which no group had an advantage
    flat_steps: int = 20  # steps in a row in which the policy's accuracy, or its reward, was the same
    kl: float = 2.0  # nats per token of the policy's own kept candidates


def limits_of(recipe: Recipe) -> Limits:
    """Return what the recipe's `warn_*` say."""
    return Limits(*(getattr(recipe, f"warn_{name}") for name in Limits._fields))


class Sign(NamedTuple):
    """One thing that a line may show: how many steps in a row make a warning of it, and the warning's text."""

    name: str  # one warning per name
    shown: bool | None  # None: the line does not say
    steps: int
    text: str


class Watch:
    """Counts in how many steps in a row each sign was shown."""

    def __init__(self, limits: Limits):
        self.limits, self.raised = limits, set[str]()
        self._in_a_row: dict[str, int] = {}
        self._last: Line = {"step": 0}

    def look(self, line: Line) -> list[tuple[str, str]]:
        """Take the next line and return the (name, text) of each warning that it completes; each name comes once."""
        steps = line["step"] - self._last["step"]  # a line holds the means over the steps since the line before
        new = []
        for sign in (*self._of_teachers(line), *self._of_formats(line), *self._of_learning(line)):
            if sign.shown is not None:
                self._in_a_row[sign.name] = self._in_a_row.get(sign.name, 0) + steps if sign.shown else 0
            if 0 < sign.steps <= self._in_a_row.get(sign.name, 0) and sign.name not in self.raised:
                self.raised.add(sign.name)
                new.append((sign.name, sign.text))
        self._last = line
        return new

    def _of_teachers(self, line: Line) -> Iterator[Sign]:
        steps = self.limits.silent_steps
        for name in _teachers(line):
            failures, answered = line[f"external/{name}/failures"], _value(line, f"external/{name}/reward") is not None
            look = f"external/{name}/failures, its address, key and model name, and what was said of it above"
            text = f"every call of {name} failed for {steps} steps: the run trains without it; look at {look}"
            yield Sign(f"silent/{name}", not answered if answered or failures else None, steps, text)

    def _of_formats(self, line: Line) -> Iterator[Sign]:
        steps = self.limits.format_steps
        lengths = {POLICY: "max_completion_length"}
        for source in (POLICY, *_teachers(line)):
            key = f"{source}/format" if source == POLICY else f"external/{source}/format"
            look = f"its replies (make gallery RUN=...) and {lengths.get(source, 'max_tokens')}"
            text = f"no reply of {source} had both tags in place for {steps} steps ({key} is 0); look at {look}"
            yield Sign(f"format/{source}", _holds(_value(line, key), lambda value: value == 0), steps, text)

    def _of_learning(self, line: Line) -> Iterator[Sign]:
        limits, look = self.limits, "candidates.jsonl (make gallery RUN=...), grader_setting"
        key, steps = "dead_groups/update", limits.dead_steps
        text = (
            f"no group had an advantage for {steps} steps ({key} is 1): nothing was learnt; look at {look}, temperature"
        )
        yield Sign("dead", _holds(_value(line, key), lambda value: value == 1), steps, text)
        for key in (f"{POLICY}/accuracy", f"{POLICY}/reward"):
            value, steps = _value(line, key), limits.flat_steps
            text = f"{key} stayed at {value} for {steps} steps; look at {look}, learning_rate"
            still = _holds(value, lambda value, key=key: value == _value(self._last, key))
            yield Sign(
                f"flat/{key}", still, max(steps - 1, 0), text
            )  # the first of equal values stands still with none
        key = f"kl/{POLICY}"
        value = _value(line, key)
        text = f"{key} is {value} nats per token, above {limits.kl:g}; look at learning_rate, beta, max_grad_norm"
        yield Sign("kl", _holds(value, lambda value: value > limits.kl), 1 if limits.kl else 0, text)


def _teachers(line: Line) -> list[str]:
    ends = "external/", "/failures"
    return [
        key.removeprefix(ends[0]).removesuffix(ends[1])
        for key in line
        if key.startswith(ends[0]) and key.endswith(ends[1])
    ]


def _value(line: Line, key: str) -> float | None:
    """The metric, rounded as it is shown; None where the line has none."""
    value = line.get(key)
    return None if value is None or math.isnan(value) else round(value, 6)


def _holds(value: float | None, rule: Callable[[float], bool]) -> bool | None:
    return None if value is None else rule(value)


class WatchCallback(TrainerCallback):
    """Shows the warnings, writes them to warnings.jsonl, and counts them in each logged line as `warnings`.

    It must stand before the callbacks that write lines down. With `stop` a warning ends the run.
    """

    def __init__(self, folder: Path, limits: Limits, stop: StopCallback | None = None):
        self.folder, self.stop = folder, stop
        self.watch, self.count = Watch(limits), 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Find counts and warnings of earlier starts, up to the step that training goes on from."""
        metrics, warnings = self.folder / "metrics.jsonl", self.folder / WARNINGS
        for line in read_jsonl(metrics, cut="drop") if metrics.is_file() else []:
            if line["step"] <= state.global_step:
                self.watch.look(line)
        raised = read_warnings(self.folder, state.global_step)
        self.count = len(raised)
        # A run that was ended by a warning ends again where nothing was done about it.
        self.watch.raised = set() if self.stop else {warning["name"] for warning in raised}
        if state.is_world_process_zero and warnings.is_file():
            cut_after_step(warnings, state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        """Look at a line of training."""
        if not logs or "loss" not in logs:
            return
        for name, text in self.watch.look({"step": state.global_step, **logs}):
            self.count += 1
            if self.stop is not None:
                self.stop.reason = self.stop.reason or text
            if state.is_world_process_zero:
                tqdm.write(f"warning at step {state.global_step}: {text}")
                append_jsonl(self.folder / WARNINGS, [{"step": state.global_step, "name": name, "warning": text}])
        logs["warnings"] = self.count


def read_warnings(folder: Path, step: float = math.inf) -> list[JsonObject]:
    """Return the warnings of a run up to a step: `step`, `name` (what it is about) and `warning` (the line)."""
    path = folder / WARNINGS
    lines = read_jsonl(path, cut="drop") if path.is_file() else []
    return [line for line in lines if line["step"] <= step]
