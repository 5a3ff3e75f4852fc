"""EKIPLConfig: TRL's GRPOConfig made from a recipe; what the trainer reads beside the recipe.

Importing this takes TRL's ten seconds; the recipe and its rules (`recipe/rules.py`) do not need it.
"""

import os
from pathlib import Path

from accelerate.utils import parse_flag_from_env
from trl.trainer.grpo_config import GRPOConfig

from open_r1.method.weights import Weighting
from open_r1.policy.sharding import deepspeed_on_cpu
from open_r1.recipe.merge import read_yaml
from open_r1.recipe.rules import Recipe, check_recipe
from open_r1.schema import UserError
from open_r1.utils.files import JsonObject


class EKIPLConfig(GRPOConfig):
    """GRPOConfig with TRL's keys of a recipe, and the recipe itself: `EKIPLConfig(beta=0.01, selection="top_g")`.

    `gradient_accumulation_steps` is what this number of processes needs; the project's own settings are read from
    `recipe`.

    Raises:
        UserError: a value that breaks a rule, ours or those of TRL and transformers.
    """

    recipe: Recipe

    def __init__(self, **keys: object) -> None:
        """Check the project's rules before TRL's, whose messages name no remedy."""
        processes = int(os.environ.get("WORLD_SIZE", "1"))  # set by accelerate and torchrun
        self.recipe = check_recipe(keys, processes)
        rows, micro_batches = self.recipe.step(processes)
        step: JsonObject = {"per_device_train_batch_size": rows, "gradient_accumulation_steps": micro_batches}
        if self.recipe.use_cpu and parse_flag_from_env("ACCELERATE_USE_DEEPSPEED"):
            # transformers' own use_cpu would win over DeepSpeed: each process would train alone.
            step |= {"use_cpu": False, "ddp_backend": "gloo"}
        try:
            with deepspeed_on_cpu():
                super().__init__(**(self.recipe.for_trl() | step))
        except ValueError as error:  # how transformers and TRL refuse a value
            raise UserError(" ".join(str(error).split())) from error

    def to_dict(self) -> JsonObject:
        """What trackers are given as the run's settings."""
        own = self.recipe.model_dump(include=set(Recipe.own_keys()))
        return own | super().to_dict()


def weighting_of(recipe: Recipe) -> Weighting:
    """How external candidates are weighted."""
    return Weighting(
        recipe.external_weight,
        recipe.weight_level,
        recipe.weight_proposal,
        recipe.luffy_gamma,
        recipe.sft_coef,
        recipe.weight_max,
    )


def load_config(path: str | Path) -> EKIPLConfig:
    """Read a merged recipe, as launch.py wrote it; the run's folder is the one that it lies in, also after a move.

    Raises:
        UserError: no such file, an unknown key, or a value that breaks a rule.
    """
    try:
        return EKIPLConfig(**(read_yaml(Path(path)) | {"output_dir": str(Path(path).parent)}))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
