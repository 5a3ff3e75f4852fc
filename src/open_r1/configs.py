"""EKIPLConfig: TRL's GRPOConfig with the project's settings and rules; what the trainer and the entries read.

Importing this takes TRL's ten seconds. `settings.py` (fields), `recipe.py` (merging) and `checks.py` (rules) do not.
"""

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from trl.trainer.grpo_config import GRPOConfig

from open_r1.method.weights import Weighting
from open_r1.recipe.merge import check_keys, read_yaml
from open_r1.recipe.rules import PASS_RATE, check_recipe
from open_r1.recipe.settings import Settings
from open_r1.recipe.step import cut_step
from open_r1.schema import UserError
from open_r1.tasks import get_task


@dataclass
class EKIPLConfig(Settings, GRPOConfig):
    """Everything one run is told. `num_generations` is G; `external_models: []` makes the run plain GRPO.

    After construction `num_policy_samples`, `grader_setting` and `eval_setting` are never empty, and
    `gradient_accumulation_steps` is what this number of processes needs.

    Raises:
        UserError: a value that breaks a rule of `checks.py`.
    """

    def __post_init__(self) -> None:
        """Check the project's rules before TRL's, whose messages name no remedy, then fill in what was left empty."""
        processes = int(os.environ.get("WORLD_SIZE", "1"))  # set by accelerate and torchrun
        check_recipe({field.name: getattr(self, field.name) for field in fields(self)}, processes)
        self.per_device_train_batch_size, self.gradient_accumulation_steps = cut_step(vars(self), processes)
        self.num_policy_samples = self.num_samples
        settings = get_task(self.task).settings
        self.grader_setting = self.grader_setting or settings[0]
        # Published TRANCE numbers are means of the partial score (docs/DATA.md).
        self.eval_setting = self.eval_setting or ("partial" if "partial" in settings else settings[0])
        super().__post_init__()

    @property
    def ask_below(self) -> float | None:
        """The policy's pass rate below which external models are asked about a prompt; None: always."""
        return None if isinstance(self.external_when, str) else self.external_when[PASS_RATE]

    @property
    def weighting(self) -> Weighting:
        """How external candidates are weighted."""
        return Weighting(self.external_weight, self.weight_level, self.weight_proposal, self.luffy_gamma, self.sft_coef)

    @property
    def pool_size(self) -> int:
        """K, the candidates per prompt when every external call succeeds."""
        return self.num_samples + sum(model.n or 0 for model in self.teachers)


def load_config(path: str | Path) -> EKIPLConfig:
    """Read a merged recipe, as launch.py wrote it; the run's folder is the one that it lies in, also after a move.

    Raises:
        UserError: no such file, an unknown key, or a value that breaks a rule.
    """
    recipe: dict[str, Any] = read_yaml(Path(path))
    check_keys(list(recipe), str(path))
    recipe["output_dir"] = str(Path(path).parent)
    try:
        return EKIPLConfig(**recipe)
    except UserError:
        raise
    except ValueError as error:  # how transformers and TRL refuse a value, e.g. a save_strategy that does not exist
        raise UserError(f"{path}: {' '.join(str(error).split())}") from error
