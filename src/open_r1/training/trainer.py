"""EKIPLTrainer: TRL's GRPO with a group that is chosen from a wider pool. The whole patch is here.

    candidates   N samples of the policy (TRL generates them) and N of every external model
    rewards      R(o) = format + accuracy, by the task's grader
    selection    G of the pool: its best, ties to the policy, or another rule of selection.py
    update       TRL's own: advantages over the G kept rewards (Eq. 1), clipped ratio, KL to the reference (Eq. 2-3)

Five seams of `GRPOTrainer` are overridden; each calls `super()` and restates nothing (UPSTREAM.md lists what is relied
on). Between TRL's class and this one stands `sharing.SharingTrainer`, which computes once what a group shares. With no
external models, N = G and nothing shared every override hands TRL's values through untouched, so the run is plain GRPO
to the last bit. An external row has no sampling log-probs and its ratio is 1: its update is A grad log pi(o).
"""

import inspect
import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from trl.trainer.grpo_trainer import GRPOTrainer

from open_r1.method.candidates import external_candidates, policy_candidates
from open_r1.method.groups import Generated, Groups, Rule
from open_r1.method.weighting import count_unweighted, has_weight, weigh
from open_r1.method.weights import Weighting
from open_r1.rewards.deadline import of_row
from open_r1.schema import POLICY, Answers, Candidate, Failure, Row, Score
from open_r1.training.barrier import Meeting
from open_r1.training.candidate_log import CandidateLog, describe_prompt
from open_r1.training.checkpoints import WholeCheckpoints
from open_r1.training.metrics import TokenMeans, step_metrics
from open_r1.training.sharing_trainer import SharingTrainer
from open_r1.training.teachers import Teachers, nobody

Grade = Callable[[str, str], Score]  # (reply, answer) -> Score


def reward_functions(grade: Grade) -> list[Callable[..., list[float]]]:
    """Return R_format and R_accuracy (Eq. 7) as TRL calls them; with a cached `grade` nothing is scored twice."""

    def format_reward(completions: list, answer: list[str], **_: Any) -> list[float]:
        return [grade(reply[0]["content"], true).format for reply, true in zip(completions, answer, strict=True)]

    def accuracy_reward(completions: list, answer: list[str], **_: Any) -> list[float]:
        return [grade(reply[0]["content"], true).accuracy for reply, true in zip(completions, answer, strict=True)]

    return [format_reward, accuracy_reward]


class EKIPLTrainer(WholeCheckpoints, SharingTrainer):
    """GRPO on the best G of K candidates, K = N policy samples + N of each external model.

    `share_vision` and `share_prefix` are `SharingTrainer`'s.

    Args:
        rows: every training row by its id; the dataset's `id` column points into it.
        grade: the task's grader at its training setting; called once per candidate, TRL's second call hits its cache.
        teachers: the external models and how they are asked, or None for plain GRPO.
        num_policy_samples: N; defaults to TRL's num_generations, which is G.
        selection: name of the rule in `selection.SELECTIONS`.
        max_external: most external candidates in a kept group; None sets no limit.
        advantage_baseline: over whose rewards the advantages' mean is taken, one of `advantages.BASELINES`.
        weighting: the factor on external candidates' advantages.
        candidate_log: writes what stood in the pools of chosen steps; None writes nothing.
    """

    def __init__(
        self,
        *args: Any,
        rows: dict[str, Row],
        grade: Grade,
        teachers: Teachers | None = None,
        num_policy_samples: int | None = None,
        selection: str = "top_g",
        max_external: int | None = None,
        advantage_baseline: str = "kept",
        weighting: Weighting = Weighting(),  # noqa: B008  # frozen
        candidate_log: CandidateLog | None = None,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self.rows, self.grade = rows, grade
        self.teachers = teachers
        self.G = cast(int, self.num_generations)
        self.N = num_policy_samples or self.G
        self.rule = Rule(selection, max_external, advantage_baseline, scaled=self.scale_rewards != "none")
        self.weighting = weighting
        self.sources = [POLICY, *(teachers.pool.names if teachers else ())]
        self._batch_rows: list[Row] = []  # rows of the batch that is being generated, G in a row per prompt
        self._groups = Groups([], [], np.empty((0, 0)))  # what they were answered, and what of it is trained on
        self.candidate_log = candidate_log
        self._token_means = TokenMeans(self.sources)
        self._meeting = Meeting(self.args.ddp_timeout)

    @property
    def _training(self) -> bool:
        return cast(torch.nn.Module, self.model).training  # evaluation stays pure policy

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self._batch_rows = [self.rows[row["id"]] for row in inputs] if self._training else []
        output = super()._generate_and_score_completions(inputs)
        if self._training:
            sources = [self.sources.index(candidate.source) for candidate in self._groups.kept]
            output["source"] = torch.tensor(sources, device=output["advantages"].device)
            output["advantages"] = self._advantages(output["advantages"])
            self._log_candidates(output["advantages"])
            if self.weighting.kind != "uncorrected":
                output["advantages"] = self._weigh(output)
        return output

    def _advantages(self, advantages_B: torch.Tensor) -> torch.Tensor:
        """Take TRL's advantages where they are those of the method, else the ones against another baseline."""
        if self.rule.baseline != "kept":
            return torch.as_tensor(self._groups.advantages_PG.reshape(-1)).to(advantages_B)
        if self.teachers is None:
            return advantages_B
        # The mean of equal floats can differ from them by an ulp, and 1e-8 / (0 + 1e-4) is not zero.
        dead_B = torch.tensor(self._groups.dead_P).repeat_interleave(self.G)
        return advantages_B.masked_fill(dead_B.to(advantages_B.device), 0.0)

    def _weigh(self, batch: dict[str, Any]) -> torch.Tensor:
        """Weigh the external candidates' advantages by the policy before its update: (B, 1) or (B, T)."""
        mask_BT, groups = batch["completion_mask"], (self._groups.pools, self._groups.kept_PG)
        weighted, metrics = weigh(
            self.weighting, batch["advantages"], lambda: self._sampling_logps(batch), mask_BT, *groups
        )
        for name, value in metrics.items():
            values = cast(torch.Tensor, self.accelerator.gather(torch.tensor([value], device=weighted.device)))
            self._metrics["train"][name].append((values.max() if name == "weights/max" else values.nanmean()).item())
        return weighted

    def _sampling_logps(self, batch: dict[str, Any]) -> torch.Tensor:
        """Log-probs (B, T) under the policy that sampled; TRL leaves them out where the loss pass finds the same."""
        if "old_per_token_logps" in batch:
            return batch["old_per_token_logps"]
        taken = inspect.signature(GRPOTrainer._get_per_token_logps_and_entropies).parameters
        ids, mask = (torch.cat([batch[f"prompt_{x}"], batch[f"completion_{x}"]], dim=1) for x in ("ids", "mask"))
        length, size = batch["completion_ids"].shape[1], self.args.per_device_train_batch_size
        passed = {name: value for name, value in batch.items() if name in taken}
        with torch.no_grad():
            return self._get_per_token_logps_and_entropies(self.model, ids, mask, length, size, **passed)[0]

    def _log_candidates(self, advantages: torch.Tensor) -> None:
        """Write the pools of this process's prompts where the step is one of those that are written."""
        step = self.state.global_step + 1  # the step that trains on them, as metrics.jsonl counts
        if self.candidate_log is None or not self.candidate_log.due(step):
            return
        advantages_PG = advantages.view(-1, self.G).tolist()
        groups = self._groups
        prompts = zip(self._batch_rows[:: self.G], groups.pools, groups.kept_PG, advantages_PG, strict=True)
        lines = (describe_prompt(step, *prompt) for prompt in prompts)
        self.candidate_log.write(lines, self.callback_handler.callbacks)

    def _generate(self, prompts: list) -> tuple:
        if not self._training:
            return super()._generate(prompts)
        G, N = self.G, self.N
        rows_P = self._batch_rows[::G]
        # Teachers answer while the policy samples.
        pending = self.teachers.ask(rows_P, self.state.global_step, self._generations_left) if self.teachers else nobody
        sampled = super()._generate(prompts if N == G else [p for p in prompts[::G] for _ in range(N)])
        generated = Generated(*cast(Any, sampled))
        if generated.tool_mask is not None or generated.extra_fields:
            raise NotImplementedError("EKIPLTrainer does not support tools, environments or rollout functions")

        texts = [completion[0]["content"] for completion in generated.completions]
        own_PN = []
        for p, row in enumerate(rows_P):
            own, grade = slice(p * N, (p + 1) * N), self._grader(row)
            own_PN.append(policy_candidates(generated.completion_ids[own], texts[own], self.eos_token_ids, grade))
        gathered = pending(own_PN)
        pools = [
            own + self._external_candidates(row, answers)
            for own, row, answers in zip(own_PN, rows_P, gathered.answers, strict=True)
        ]

        groups = Groups.choose(pools, G, self.rule)
        if self.teachers and self.weighting.needs_others:
            groups = self.teachers.score(rows_P, groups, self.state.global_step)
        self._groups = groups
        for name, count in count_unweighted(self.weighting, gathered.answers, pools).items():
            self._log_metric(f"external/{name}/unweighted", count)
        metrics = step_metrics(pools, groups.kept_PG, self.sources, gathered.failures, gathered.wait_s)
        for name, value in (metrics | (self.teachers.usage() if self.teachers else {})).items():
            self._log_metric(name, value)  # TRL averages it over processes and logging steps
        self._log_metric("dead_groups/update", float(np.mean(groups.dead_P)))
        self._meeting.wait(f"candidates of step {self.state.global_step + 1}")
        return groups.repack(generated)

    def _log_metric(self, name: str, value: float) -> None:
        """Log a metric of this process's prompts; TRL takes the mean over processes, and one NaN would make it NaN."""
        if math.isnan(value):  # nothing to average here; another process may have something
            self._metrics["train"][name].append(value)
        else:
            counted = self.accelerator.num_processes if name.endswith("/failures") else 1  # a sum, not a mean
            super()._log_metric(name, value * counted)

    @property
    def _generations_left(self) -> int:
        """How many generations follow the present one; each serves num_iterations passes over its steps."""
        args = cast(Any, self.args)
        updates = self.num_iterations * args.steps_per_generation / args.gradient_accumulation_steps
        return math.ceil((self.state.max_steps - self.state.global_step) / updates) - 1

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        sampler = super()._get_train_sampler(dataset)
        if self.teachers is None:
            return sampler
        rows = [self.rows[id_] for id_ in cast(Any, self.train_dataset)["id"]]
        of = self.accelerator
        block = cast(Any, self.args).generation_batch_size
        return self.teachers.watch(cast(Any, sampler), rows, block, of.num_processes, of.process_index)

    def _grader(self, row: Row) -> Callable[[str], Score]:
        def grade(reply: str) -> Score:
            with of_row(row.id):
                return self.grade(reply, row.answer)

        return grade

    def _external_candidates(self, row: Row, answers: Answers) -> list[Candidate]:
        """Tokenise and score what the external models said of one prompt; a failed model leaves its slots empty.

        A reply without the log-probs that its weight needs is left out as well.
        """
        eos, length = cast(int, self._tokenizer.eos_token_id), cast(int, self.max_completion_length)
        return [
            candidate
            for name, answer in answers.items()
            if not isinstance(answer, Failure)
            for candidate in external_candidates(name, answer, self._tokenizer, eos, length, self._grader(row))
            if has_weight(self.weighting, candidate)
        ]

    def _get_per_token_logps_and_entropies(self, model: Any, *args: Any, **kwargs: Any) -> tuple:
        if kwargs.get("num_images") is not None and kwargs.get("pixel_values") is None:
            raise RuntimeError("the log-prob pass has images but no pixel_values: the policy would be scored blind")
        result = super()._get_per_token_logps_and_entropies(model, *args, **kwargs)
        self._token_means.logps = result[0].detach()
        return result

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        loss = super()._compute_loss(model, inputs)
        if self._training and "source" in inputs:
            means = self._token_means.by_source(
                inputs["source"],
                inputs["completion_mask"],
                inputs["advantages"],
                inputs.get("ref_per_token_logps"),
                self.accelerator,
            )
            for name, value in means.items():
                self._metrics["train"][name].append(value)
        return loss
