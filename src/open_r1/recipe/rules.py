"""The recipe: our settings and TRL's as one typed object, with the rules between the two.

Checked before anything heavy is imported, by `launch.py` on the merged mapping and by `EKIPLConfig` on what it reads
back, so that a recipe that was edited by hand meets the same rules.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Self

from pydantic import PrivateAttr, model_validator

from open_r1.recipe.keys import check_type, grpo_keys
from open_r1.recipe.settings import GRACE_S, ExternalModelConfig, Settings
from open_r1.recipe.step import Step, check_batch, cut_step
from open_r1.recipe.trl import REFUSED_IN_RL, TRLSettings, check_refused, plain_no
from open_r1.schema import UserError
from open_r1.utils.files import JsonObject
from open_r1.utils.names import unknown_name
from open_r1.utils.secrets import check_secrets

SHARDED = ("zero3", "zero3_offload", "fsdp2")  # where no process has a whole reference to save
RENAMED = {"eval_batch_size": "eval_rows_at_once"}  # transformers has a property of the old name


class Recipe(Settings, TRLSettings):
    """Everything that a run reads its settings from. `num_generations` is G; without external models it is plain GRPO.

    `Recipe.read(mapping)` makes one; TRL's keys that have no attribute here are in `given()`.
    """

    _given: JsonObject = PrivateAttr(default_factory=JsonObject)

    @classmethod
    def read(cls, values: Mapping[str, object], where: str = "") -> Self:
        """Check what was given; a key that is absent has its default.

        Raises:
            UserError: one line for the first rule that is broken.
        """
        check_secrets(values)
        check_keys(values, where)
        values = plain_no(values)
        check_refused(values, grpo_keys(), REFUSED_IN_RL)
        for key in values.keys() - cls.model_fields.keys():
            check_type(values[key], grpo_keys()[key].types, key)
        recipe = super().read(values, where)
        recipe._given = dict(values)
        recipe._check_vllm()  # it asks what was given
        return recipe

    def given(self) -> JsonObject:
        """What was given, as it was given: this is what a run's recipe.yaml holds."""
        return dict(self._given)

    def with_defaults(self) -> JsonObject:
        """Plain values of every key that was given or has an attribute here; of the setting `sft` the given ones."""
        handed_on = {"sft": self.sft.given(), "lora": self.lora.given() if self.lora else {}}
        models = {"external_models": [model.model_dump() for model in self.external_models]}
        return self.model_dump() | self._given | handed_on | models

    def changed(self, **values: object) -> Self:
        """The recipe with some settings changed; raises UserError where they break a rule."""
        return type(self).read(self._given | values)

    @classmethod
    def own_keys(cls) -> frozenset[str]:
        """The keys that are not TRL's."""
        return frozenset(Settings.model_fields) - grpo_keys().keys()

    def for_trl(self) -> JsonObject:
        """What was given of TRL's keys, and what `loss_level` makes of them (docs/METHOD.md)."""
        uncorrected = {"vllm_importance_sampling_correction": False} if self.use_vllm and self.cuts else {}
        of_reply = {"importance_sampling_level": "sequence", "loss_type": "luspo"} if self.loss_level == "reply" else {}
        return {key: value for key, value in self._given.items() if key not in self.own_keys()} | of_reply | uncorrected

    @property
    def num_samples(self) -> int:
        """N, the policy's candidates per prompt."""
        return self.num_policy_samples or self.num_generations

    @cached_property
    def teachers(self) -> list[ExternalModelConfig]:
        """The external models in the recipe's order, each with its N."""
        default = self.num_external_samples or self.num_samples
        return [model if model.n else model.model_copy(update={"n": default}) for model in self.external_models]

    @property
    def pool_size(self) -> int:
        """K, the candidates per prompt when every external call succeeds."""
        return self.num_samples + sum(model.n or 0 for model in self.teachers)

    @property
    def trackers(self) -> list[str]:
        """Where metrics go beside the run's folder."""
        named = [self.report_to] if isinstance(self.report_to, str) else self.report_to or []
        return [name for name in named if name != "none"]

    @property
    def policy_options(self) -> dict[str, str]:
        """What loading the policy is given beside its path: `attn_implementation` and `revision` where they are set."""
        return dict(self.model_init_kwargs) if isinstance(self.model_init_kwargs, dict) else {}

    @property
    def cuts(self) -> list[str]:
        """What cuts the distribution that the policy samples from, beside its temperature."""
        off = {"top_p": self.top_p == 1, "top_k": self.top_k == 0, "min_p": not self.min_p}
        return [f"{key} = {getattr(self, key)}" for key, is_off in off.items() if not is_off]

    @property
    def half_precision(self) -> bool:
        """Whether products are computed in 16 bits; TRL takes bfloat16 where nothing is said."""
        return self.fp16 or self.bf16 is not False

    def step(self, processes: int) -> Step:
        """How one optimizer step is cut; raises UserError where it cannot be."""
        return cut_step(self, processes)

    def prompts_of_a_step(self, processes: int) -> float:
        """New prompts of one optimizer step, over all processes; a part of one where a batch is used several times."""
        step = self.step(processes)
        return step.rows * step.micro_batches * processes / self.num_generations / self.num_iterations

    def check_processes(self, processes: int) -> None:
        """Check what depends on how many processes train; raises UserError."""
        self.prompts_per_generation(processes)
        if self.sync_ref_model and processes > 1 and self.accelerate_config in SHARDED:
            raise UserError(
                f"sync_ref_model is true with accelerate_config {self.accelerate_config}; the moving reference is in"
                " the checkpoints only where each process holds all of it; set accelerate_config: zero2 or ddp"
            )

    def prompts_per_generation(self, processes: int) -> int:
        """Prompts that each process generates for at once; raises UserError where groups would not be whole."""
        return check_batch(self, processes)

    @model_validator(mode="after")
    def _check_deadline(self) -> Self:
        if self.external_deadline_s + GRACE_S >= self.ddp_timeout:
            raise UserError(
                f"external_deadline_s is {self.external_deadline_s}; with {GRACE_S:g} s of grace it must stay below"
                f" ddp_timeout = {self.ddp_timeout}, or processes that wait would be given up; raise ddp_timeout"
            )
        return self

    def _check_vllm(self) -> None:
        """TRL's importance-sampling correction sets vLLM's log-probs after top-p, top-k and min-p beside those before.

        It multiplies the update of a reply by their ratio: at a kept mass of 0.97 a token, 200 tokens make 0.002.
        External candidates have no such ratio.
        """
        if self.use_vllm and self._given.get("vllm_importance_sampling_correction") and self.cuts:
            raise UserError(
                f"use_vllm with {', '.join(self.cuts)}: vLLM's log-probs are those after the cut, and TRL's correction"
                " would scale the policy's own replies down by the mass that was cut at each token; leave"
                " vllm_importance_sampling_correction out, which turns it off"
            )

    @model_validator(mode="after")
    def _check_group(self) -> Self:
        """N, K and G against one another."""
        group, pool, cap = self.num_generations, self.pool_size, self.max_external
        if group > pool:
            raise UserError(
                f"num_generations (G) is {group} but the pool holds K = {pool} candidates per prompt; G must be at most"
                " K; lower num_generations or raise num_policy_samples"
            )
        if self.num_samples < group and not self.external_required:
            raise UserError(
                f"num_policy_samples (N) is {self.num_samples}, fewer than num_generations (G) = {group}: a failing"
                " external model would leave a group short; raise num_policy_samples, or set external_required to stop"
                " at a failure"
            )
        if cap is not None and not 0 <= cap <= group:
            raise UserError(f"max_external is {cap}; a group holds 0 to num_generations = {group}; leave it out")
        if cap is not None and self.num_samples + cap < group:
            raise UserError(
                f"max_external is {cap} and num_policy_samples (N) {self.num_samples}: together fewer than"
                f" num_generations (G) = {group}; raise one of them"
            )
        return self

    @model_validator(mode="after")
    def _check_reward(self) -> Self:
        """One reward ranks candidates and makes advantages: the weighted sum."""
        weights = self.reward_weights
        if weights is not None and len(weights) != 2:
            raise UserError(
                f"reward_weights is {weights}; a reply has two rewards, format and accuracy, in this order; write two"
                " numbers"
            )
        if self.multi_objective_aggregation != "sum_then_normalize" and self.pool_size > self.num_generations:
            raise UserError(
                f"multi_objective_aggregation is {self.multi_objective_aggregation!r}, but candidates are ranked by the"
                " weighted sum of their rewards, and advantages are made of it too; leave it out, or train without"
                " external models and with num_policy_samples = num_generations"
            )
        return self

    @model_validator(mode="after")
    def _check_adapter(self) -> Self:
        if self.sync_ref_model and self.lora is not None:
            raise UserError(
                "sync_ref_model is true with lora; an adapter's reference is the base without it, which does not move;"
                " leave one of the two out"
            )
        return self

    @model_validator(mode="after")
    def _check_baseline(self) -> Self:
        """Advantages against another mean than the kept candidates' are ours, and know one way to scale."""
        if self.advantage_baseline == "kept":
            return self
        for key, value, valid in (
            ("scale_rewards", self.scale_rewards, ("group", "none")),
            ("multi_objective_aggregation", self.multi_objective_aggregation, ("sum_then_normalize",)),
        ):
            if value not in valid:
                rule = f"with advantage_baseline '{self.advantage_baseline}', which knows the sum of the rewards"
                raise UserError(
                    f"{key} is {value!r} {rule} per group only; leave {key} out, or set advantage_baseline to kept"
                )
        return self

    @model_validator(mode="after")
    def _check_loss_type(self) -> Self:
        if self.loss_level == "reply" and self.loss_type not in (grpo_keys()["loss_type"].default, "grpo", "luspo"):
            raise UserError(
                f"loss_type is {self.loss_type!r}, but loss_level 'reply' sums over the tokens of a reply's one ratio"
                " (TRL's luspo); set loss_type: grpo, or set loss_level: token"
            )
        return self


def check_recipe(values: Mapping[str, object], processes: int = 1) -> Recipe:
    """Read a recipe for so many processes, each of which must hold whole groups.

    Raises:
        UserError: one line for the first rule that is broken.
    """
    recipe = Recipe.read(values)
    recipe.check_processes(processes)
    return recipe


def check_keys(keys: Mapping[str, object] | list[str], where: str) -> None:
    """Raise UserError with the nearest valid key for the first key that nothing reads."""
    for key in keys:
        if key in RENAMED:
            raise UserError(f"the key {key}{' in ' + where if where else ''} is called {RENAMED[key]} now; rename it")
        if key not in Recipe.known_keys():
            raise unknown_name("key", str(key), Recipe.known_keys(), where)
