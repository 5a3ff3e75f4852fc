"""SharingTrainer: TRL's GRPO that computes once what the rows of a group have in common; off, it is TRL's own.

    share_vision   pictures preprocessed once per batch, encoded once per forward pass      vision_sharing.py
    share_prefix   prompts run once per log-prob and loss pass, completions packed behind   prefix_sharing.py
                   and prefilled once for the N samples of `generate`                       generation_sharing.py

Losses and gradients are the same up to rounding (tests/test_sharing.py); `make bench` says what it saves.
"""

from typing import Any

import torch
from transformers import PreTrainedModel
from trl.trainer.grpo_trainer import GRPOTrainer

from open_r1.policy.prefill_sharing import share_prefill
from open_r1.policy.prefix_sharing import prompts_of_width, share_prefix
from open_r1.policy.vision_sharing import (
    one_object_per_picture,
    preprocess_once,
    share_vision,
    shareable_backbone,
    without_adapter,
)
from open_r1.utils.files import JsonObject


class SharingTrainer(GRPOTrainer):
    """GRPO on Qwen2-VL or Qwen2.5-VL without the G-fold work; any other architecture trains the plain way.

    Args:
        share_vision: see the setting of that name; rows need an `id`, the same for the repeats of a row.
        share_prefix: see the setting of that name.
    """

    def __init__(self, *args: Any, share_vision: bool = False, share_prefix: bool = False, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.preprocess_once = False
        for model in (self.model, self.ref_model):
            if model is not None and (share_vision or share_prefix):
                self._share(self.accelerator.unwrap_model(model), share_vision, share_prefix)

    def _share(self, model: PreTrainedModel, vision: bool, prefix: bool) -> None:
        backbone = shareable_backbone(model)
        if backbone is None:
            return
        if vision:
            share_vision(backbone)
            self.preprocess_once = True
        if prefix:
            share_prefix(backbone)
            share_prefill(without_adapter(model))

    def _generate_and_score_completions(self, inputs: list[JsonObject]) -> JsonObject:
        if not self.preprocess_once:
            return super()._generate_and_score_completions(inputs)
        processor: Any = self.processing_class
        with preprocess_once(processor.image_processor):
            return super()._generate_and_score_completions(one_object_per_picture(inputs))

    def _get_per_token_logps_and_entropies(
        self,
        model: torch.nn.Module,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        *args: object,
        **kwargs: object,
    ) -> tuple[torch.Tensor, ...]:
        with prompts_of_width(input_ids.size(1) - logits_to_keep):  # no effect on a model that does not share
            return super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, *args, **kwargs
            )
