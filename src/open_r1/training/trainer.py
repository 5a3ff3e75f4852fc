"""EKIPLTrainer: TRL's GRPO with a group that is chosen from a wider pool. The whole patch is here.

    candidates   N samples of the policy (TRL generates them) and N of every external model
    rewards      R(o) = format + accuracy, by the task's grader, or the weighted sum of any reward functions
    selection    G of the pool: its best, ties to the policy, or another rule of selection.py
    update       TRL's own: advantages over the G kept rewards (Eq. 1), clipped ratio, KL to the reference (Eq. 2-3)

The overridden seams of `GRPOTrainer` each call `super()` and restate nothing (UPSTREAM.md lists them and what is relied
on). Between TRL's class and this one stands `sharing_trainer.SharingTrainer`, which computes once what a group shares.
With no external models, N = G and nothing shared every override hands TRL's values through untouched, so the run is
plain GRPO to the last bit. An external row has no sampling log-probs and its ratio is 1: its update is
A grad log pi(o).
"""

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice, zip_longest
from typing import Any, cast

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset
from trl.trainer.grpo_trainer import GRPOTrainer

from open_r1.external.gather import Gathered
from open_r1.method.candidates import external_candidates, policy_candidates
from open_r1.method.groups import Generated, Groups, Rule
from open_r1.method.weighting import count_unweighted, has_weight, proposal_weights, weigh
from open_r1.method.weights import Weighting
from open_r1.rewards.deadline import of_row
from open_r1.schema import POLICY, Answers, Candidate, Failure, Row, Score
from open_r1.training import metrics
from open_r1.training.barrier import Barrier
from open_r1.training.candidate_log import CandidateLog, describe_prompt
from open_r1.training.checkpoints import WholeCheckpoints
from open_r1.training.sharing_trainer import SharingTrainer
from open_r1.training.tally import Tally
from open_r1.training.teachers import Teachers, nobody
from open_r1.training.vllm_engine import pictures_as_trained, see_pictures_once
from open_r1.utils.files import JsonObject

Grade = Callable[[str, str], Score]  # (reply, answer) -> Score
Batch = dict[str, Any]  # TRL's, of one process: tensors by name
Turns = list[dict[str, str]]
LOGP_ARGUMENTS = frozenset(inspect.signature(GRPOTrainer._get_per_token_logps_and_entropies).parameters)
MEAN_OVER_REPLY = ("grpo", "sapo")  # loss types in which a reply's tokens share the weight of one row


def reward_functions(grade: Grade) -> list[Callable[..., list[float]]]:
    """Return R_format and R_accuracy (Eq. 7) as TRL calls them; with a cached `grade` nothing is scored twice."""

    def format_reward(completions: Sequence[Turns], answer: list[str], **_: object) -> list[float]:
        return [grade(reply[0]["content"], true).format for reply, true in zip(completions, answer, strict=True)]

    def accuracy_reward(completions: Sequence[Turns], answer: list[str], **_: object) -> list[float]:
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
        pictures = max((len(row.images) for row in rows.values()), default=0)
        with pictures_as_trained(kwargs["args"].use_vllm, kwargs["processing_class"], pictures):
            super().__init__(*args, **kwargs)
        if self.use_vllm:
            see_pictures_once(self.vllm_generation, self.processing_class)
        self.rows, self.grade = rows, grade
        self.teachers = teachers
        self.G = cast(int, self.num_generations)
        self.N = num_policy_samples or self.G
        self.rule = Rule(selection, max_external, advantage_baseline, scaled=self.scale_rewards != "none")
        self.weighting = weighting
        self.sources = [POLICY, *(teachers.gatherer.names if teachers else ())]
        self.candidate_log = candidate_log
        self.log_completions = False  # `candidate_log` is that table, with the advantages that are trained on
        self.tally = Tally()
        self._inputs: list[JsonObject] = []  # of the batch that is being generated, G rows in a row per prompt
        self._batch_rows: list[Row] = []  # the same as rows of the data
        self._groups = Groups([], [], np.empty((0, 0)))  # what they were answered, and what of it is trained on
        self._logps = torch.empty(0)  # (B, T) of the last log-prob pass
        self._began_at: int | None = None  # batches of earlier starts of this run
        self._barrier = Barrier(self.args.ddp_timeout)

    @property
    def _settings(self) -> Any:
        return self.args  # a GRPOConfig, whose numbers TRL has filled in

    @property
    def _policy(self) -> torch.nn.Module:
        assert self.model is not None
        return self.model

    @property
    def _training(self) -> bool:
        return self._policy.training  # evaluation stays pure policy

    # generation: candidates, rewards, selection

    def _generate_and_score_completions(self, inputs: list[JsonObject]) -> Batch:
        if not self._training:
            return super()._generate_and_score_completions(inputs)
        self._inputs, self._batch_rows = inputs, [self.rows[row["id"]] for row in inputs]
        batch = super()._generate_and_score_completions(inputs)
        sources = [self.sources.index(candidate.source) for candidate in self._groups.kept]
        batch["source"] = torch.tensor(sources, device=batch["advantages"].device)
        batch["advantages"] = self._weighted(batch, self._advantages(batch["advantages"]))
        self._count_generation(batch)
        self._log_candidates(batch)
        return batch

    def _generate(self, prompts: list[Turns]) -> tuple[object, ...]:
        if not self._training:
            return super()._generate(prompts)
        rows_P, step = self._batch_rows[:: self.G], self.state.global_step
        # Teachers answer while the policy samples.
        pending = self.teachers.ask(rows_P, step, self._generations_left) if self.teachers else nobody
        repeated = prompts if self.N == self.G else [p for p in prompts[:: self.G] for _ in range(self.N)]
        generated = Generated(*cast(Any, super()._generate(repeated)))
        if generated.tool_mask is not None or generated.extra_fields:
            raise NotImplementedError("EKIPLTrainer does not support tools, environments or rollout functions")
        own_PN = self._own_candidates(generated)
        gathered = pending(own_PN)
        pools = [
            own + self._external_candidates(row, answers)
            for own, row, answers in zip(own_PN, rows_P, gathered.answers, strict=True)
        ]
        self._count_asking(gathered, pools)
        self._barrier.wait(f"candidates of step {step + 1}")
        groups = Groups.choose(self._with_rewards(pools, prompts), self.G, self.rule)
        if self.teachers and self.weighting.needs_others:
            groups = self.teachers.score(rows_P, groups, step)
        self._groups = groups
        return groups.repack(generated)

    def _own_candidates(self, generated: Generated) -> list[list[Candidate]]:
        """Score the policy's N samples of every prompt."""
        texts, eos = [turns[0]["content"] for turns in generated.completions], self.eos_token_ids
        N = self.N
        return [
            policy_candidates(
                generated.completion_ids[p * N : (p + 1) * N], texts[p * N : (p + 1) * N], eos, self._grader(row)
            )
            for p, row in enumerate(self._batch_rows[:: self.G])
        ]

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

    def _grader(self, row: Row) -> Callable[[str], Score]:
        def grade(reply: str) -> Score:
            with of_row(row.id):
                return self.grade(reply, row.answer)

        return grade

    def _with_rewards(self, pools: list[list[Candidate]], prompts: list[Turns]) -> list[list[Candidate]]:
        """Return the pools with R(o), the weighted sum that TRL makes advantages of: one call for all candidates.

        Rounded to six places, since TRL keeps rewards in single precision and equal ones are to be equal.
        """
        places = [(p, c) for p, pool in enumerate(pools) for c in pool]
        most = max(gather_object([len(places)]))  # rewards are gathered, which takes as many of every process
        firsts, candidates = zip(*(places + places[-1:] * (most - len(places))), strict=True)
        rewards_R = super()._calculate_rewards(
            [self._inputs[p * self.G] for p in firsts],
            [prompts[p * self.G] for p in firsts],
            [[{"role": "assistant", "content": c.text}] for c in candidates],
            [list(c.token_ids) for c in candidates],
        )
        own_R = rewards_R[most * self.accelerator.process_index :][: len(places)].double().cpu()
        summed = (own_R * self.reward_weights.double().cpu()).nansum(dim=1)
        summed[own_R.isnan().all(dim=1)] = math.nan
        rewarded = iter(
            replace(c, rewards_R=tuple(parts_R), weighted_reward=round(reward, 6))
            for (_, c), parts_R, reward in zip(places, own_R.tolist(), summed.tolist(), strict=True)
        )
        return [list(islice(rewarded, len(pool))) for pool in pools]

    def _calculate_rewards(
        self,
        inputs: list[JsonObject],
        prompts: list[Turns],
        completions: list[Turns],
        completion_ids_list: list[list[int]],
    ) -> Tensor:
        """Hand TRL the kept candidates' rewards that selection ranked by; (rows of all processes, R)."""
        if not self._training:
            return super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        rewards_BR = torch.tensor([c.rewards_R for c in self._groups.kept], device=self.accelerator.device)
        return cast(Tensor, self.accelerator.gather(rewards_BR))

    # advantages

    def _advantages(self, advantages_B: Tensor) -> Tensor:
        """Take TRL's advantages where they are those of the method, else the ones against another baseline."""
        if self.rule.baseline != "kept":
            return torch.as_tensor(self._groups.advantages_PG.reshape(-1)).to(advantages_B)
        if self.teachers is None:
            return advantages_B
        # The mean of equal floats can differ from them by an ulp, and 1e-8 / (0 + 1e-4) is not zero.
        dead_B = torch.tensor(self._groups.dead_P).repeat_interleave(self.G)
        return advantages_B.masked_fill(dead_B.to(advantages_B.device), 0.0)

    def _weighted(self, batch: Batch, advantages_B: Tensor) -> Tensor:
        """Weigh the external candidates' advantages by the policy before its update: (B,), (B, 1) or (B, T)."""
        if self.weighting.kind == "uncorrected":
            return advantages_B
        mask_BT, groups = batch["completion_mask"], self._groups
        weighted, weights = weigh(
            self.weighting, advantages_B, lambda: self._sampling_logps(batch), mask_BT, groups.pools, groups.kept_PG
        )
        if weights is not None:
            metrics.count_weights(self.tally, self.weighting, weights, self.G)
        if self.weighting.needs_logprobs and self.weighting.proposal == "own":
            self._count_variation(batch)
        return weighted

    def _sampling_logps(self, batch: Batch) -> Tensor:
        """Log-probs (B, T) under the policy that sampled; TRL leaves them out where the loss pass finds the same."""
        if "old_per_token_logps" in batch:
            return batch["old_per_token_logps"]
        return self._logps_of(batch, batch["completion_ids"], batch["completion_mask"])

    def _logps_of(self, batch: Batch, completion_ids: Tensor, completion_mask: Tensor) -> Tensor:
        """Log-probs (B, T) of completions, which need not be the batch's own, to its prompts."""
        ids = torch.cat([batch["prompt_ids"], completion_ids], dim=1)
        mask = torch.cat([batch["prompt_mask"], completion_mask], dim=1)
        given = {name: batch[name] for name in LOGP_ARGUMENTS & batch.keys()}  # pictures, of any architecture
        for name in given.keys() & {
            "token_type_ids",
            "mm_token_type_ids",
        }:  # those of the batch's own completions behind
            types_BT = given[name][:, : batch["prompt_ids"].shape[1]]
            given[name] = torch.cat([types_BT, torch.zeros_like(completion_ids)], dim=1)
        size = self.args.per_device_train_batch_size
        with torch.no_grad():
            length = completion_ids.shape[1]
            return self._get_per_token_logps_and_entropies(self._policy, ids, mask, length, size, **given)[0]

    # what is counted and written

    def _count_asking(self, gathered: Gathered, pools: list[list[Candidate]]) -> None:
        """Count what came of asking the external models."""
        for name, count in count_unweighted(self.weighting, gathered.answers, pools).items():
            self.tally.sum(f"external/{name}/unweighted", count)
        if self.teachers:
            self.teachers.count(self.tally, gathered)

    def _count_generation(self, batch: Batch) -> None:
        """Count pools, groups and rewards, and take over what TRL has logged of them."""
        groups, rows = self._groups, len(batch["source"])
        metrics.count_sources(self.tally, groups.pools, self.sources)
        metrics.count_samples(self.tally, groups.pools)
        metrics.count_kept(self.tally, groups, self.sources)
        metrics.count_rewards(self.tally, self.reward_func_names, list(groups.kept))
        metrics.count_sampling(self.tally, batch)
        used_BC = batch["advantages"].view(rows, -1) * batch["completion_mask"]
        dead_P = ~used_BC.view(len(groups.pools), -1).any(dim=1)
        self.tally.ratio("dead_groups/update", int(dead_P.sum()), len(dead_P))
        metrics.count_trl(self.tally, self._metrics["train"], rows, rows, per_reply=True)

    def _count_variation(self, batch: Batch) -> None:
        """Estimate TV(pi_old, q) before selection: of at most G external candidates a prompt, the sources in turn."""
        chosen = [c for pool in self._groups.pools for c in _in_turn(pool, self.G)]
        ids = [torch.tensor(c.token_ids) for c in chosen]
        padding = cast(int, self._tokenizer.pad_token_id)
        ids_BT = pad_sequence(ids, batch_first=True, padding_value=padding).to(batch["completion_ids"])
        mask_BT = pad_sequence([torch.ones_like(x) for x in ids], batch_first=True).to(batch["completion_mask"])
        logps_BT = self._logps_of(batch, ids_BT, mask_BT)
        metrics.count_variation(self.tally, proposal_weights(self.weighting.level, chosen, logps_BT, mask_BT))

    def _log_candidates(self, batch: Batch) -> None:
        """Write the pools of this process's prompts where the step is one of those that are written."""
        step = self.state.global_step + 1  # the step that trains on them, as metrics.jsonl counts
        if self.candidate_log is None or not self.candidate_log.due(step):
            return
        mask_BT = batch["completion_mask"]
        weighted_BC = batch["advantages"].view(len(mask_BT), -1)
        advantages_B = (weighted_BC * mask_BT).sum(dim=1) / mask_BT.sum(dim=1).clamp(min=1)
        advantages_PG = advantages_B.view(-1, self.G).tolist()
        groups, names = self._groups, self.reward_func_names
        prompts = zip(self._batch_rows[:: self.G], groups.pools, groups.kept_PG, advantages_PG, strict=True)
        lines = (describe_prompt(step, *prompt, reward_names=names) for prompt in prompts)
        self.candidate_log.write(lines, self.callback_handler.callbacks)

    def _log_metric(self, name: str, value: float) -> None:
        """Take over what a reward function logs: the mean over all its calls."""
        if self._training:
            self.tally.mean(name, [value])
        else:
            super()._log_metric(name, value)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log a line; every metric of training becomes one number here, over all processes."""
        if self._training:
            logged = self._metrics["train"]
            metrics.count_trl(self.tally, logged, 0, 0, per_reply=True)
            logged.update({name: [value] for name, value in self.tally.take().items()})
        super().log(logs, start_time)

    # the sampler's order, and the passes of the loss

    @property
    def _generations_left(self) -> int:
        """How many generations follow the present one; each serves num_iterations passes over its batches."""
        args, loader = self._settings, self.callback_handler.train_dataloader
        assert loader is not None, "there is one in training"
        epoch = metrics.Epoch(len(loader), args.gradient_accumulation_steps)
        if self._began_at is None:
            self._began_at = epoch.batches_before(self.state.global_step)
        left = epoch.batches_before(self.state.max_steps) - self._began_at - self._step
        return math.ceil(left / (self.num_iterations * args.steps_per_generation)) - 1

    def _get_train_sampler(self, dataset: Dataset | None = None) -> Any:
        sampler: Any = super()._get_train_sampler(dataset)
        if self.teachers is None:
            return sampler
        rows = [self.rows[id_] for id_ in cast(Any, self.train_dataset)["id"]]
        of, args = self.accelerator, self._settings
        return self.teachers.watch(sampler, rows, args.generation_batch_size, of.num_processes, of.process_index)

    def _get_per_token_logps_and_entropies(
        self, model: torch.nn.Module, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, ...]:
        if kwargs.get("num_images") is not None and kwargs.get("pixel_values") is None:
            raise RuntimeError("the log-prob pass has images but no pixel_values: the policy would be scored blind")
        result = super()._get_per_token_logps_and_entropies(model, *args, **kwargs)
        self._logps = result[0].detach()
        return result

    def _compute_loss(self, model: torch.nn.Module, inputs: Batch) -> Tensor:
        loss = super()._compute_loss(model, inputs)
        if self._training and "source" in inputs:
            rows_alike = self.loss_type in MEAN_OVER_REPLY
            metrics.count_tokens(self.tally, self.sources, inputs, self._logps, rows_alike)
            rows, tokens = len(inputs["source"]), inputs["completion_mask"].sum().item()
            per_reply = self.importance_sampling_level == "sequence" and inputs["advantages"].numel() == rows
            metrics.count_trl(self.tally, self._metrics["train"], tokens, rows, per_reply)
        return loss


def _in_turn(pool: list[Candidate], count: int) -> list[Candidate]:
    """The first external candidates, one of each source in turn; where there are fewer, the policy's first fills up.

    Example: of p1 a1 a2 a3 b1 b2 and count 4 it is a1 b1 a2 b2.
    """
    sources = dict.fromkeys(c.source for c in pool if c.external)
    turns = zip_longest(*([c for c in pool if c.source == source] for source in sources))
    external = [c for turn in turns for c in turn if c is not None]
    return (external + [pool[0]] * count)[:count]
