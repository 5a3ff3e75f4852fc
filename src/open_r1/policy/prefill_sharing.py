"""Generation reads each distinct prompt once and lets its N continuations start from there.

transformers' `generate` runs the prompt, pictures and all, for every one of the N samples. The cache it leaves is the
same N times; so it is computed once per distinct prompt and repeated. Logits are the same up to rounding and random
numbers are drawn in the same order.

Seams: `GenerationMixin._prefill(input_ids, generation_config, model_kwargs, ...)`, private, and
`DynamicCache.batch_select_indices`; held by tests/test_sharing.py and tests/test_trl_contract.py.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import DynamicCache, GenerationConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from open_r1.policy.prefix_sharing import distinct_prompts
from open_r1.policy.vision_sharing import shareable_backbone, without_adapter

PER_ROW = ("attention_mask", "position_ids", "mm_token_type_ids")  # (..., rows, columns)


def share_prefill(model: Any) -> None:
    """Let `model.generate` run each distinct prompt once.

    Args:
        model: a Qwen2-VL or Qwen2.5-VL with its head, not wrapped by PEFT.
    """
    prefill: Callable[..., Any] = model._prefill

    def shared_prefill(
        input_ids: torch.Tensor, generation_config: GenerationConfig, model_kwargs: dict[str, Any], **kwargs: object
    ) -> CausalLMOutputWithPast:
        cache = model_kwargs.get("past_key_values")
        plain_cache = type(cache) is DynamicCache and cache.get_seq_length() == 0
        if model_kwargs.get("pixel_values") is None or not plain_cache or generation_config.prefill_chunk_size:
            return prefill(input_ids, generation_config, model_kwargs, **kwargs)
        first_U, prompt_of_B, images = distinct_prompts(
            model.base_model,
            input_ids,
            model_kwargs["attention_mask"],
            model_kwargs["pixel_values"],
            model_kwargs["image_grid_thw"],
        )
        if len(first_U) == len(prompt_of_B):
            return prefill(input_ids, generation_config, model_kwargs, **kwargs)
        narrow = {
            key: model_kwargs[key].index_select(-2, first_U) for key in PER_ROW if model_kwargs.get(key) is not None
        }
        output = prefill(input_ids[first_U], generation_config, {**model_kwargs, **narrow, **images}, **kwargs)
        output.logits = output.logits[prompt_of_B]
        output.past_key_values.batch_select_indices(prompt_of_B)
        return output

    model._prefill = shared_prefill


@contextmanager
def prefill_shared(model: PreTrainedModel) -> Iterator[None]:
    """Inside the block `model.generate` runs each distinct prompt once, where the architecture is one that can."""
    model = without_adapter(model)
    if "_prefill" in vars(model) or shareable_backbone(model) is None:  # the trainer has patched it already
        yield
        return
    share_prefill(model)
    try:
        yield
    finally:
        del model._prefill
