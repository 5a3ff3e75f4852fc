"""Attention of `generate`'s newest token without copying the cache.

With one query per row, transformers' SDPA repeats keys and values for every query head that shares them, at every token
of a reply. Here the query heads of a key head become its queries instead: the same sums, and nothing is copied.

Seams: transformers' AttentionInterface, and a text model's `set_attn_implementation`; held by tests/test_decoding.py.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

ATTENTION = "sdpa_grouped_decoding"  # its name in transformers


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """SDPA as transformers calls it, (rows, heads, queries, size); one query per row is attended by `attend_one`."""
    if query.size(2) == 1:
        return attend_one(query, key, value, attention_mask, dropout, scaling), None
    return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)


def attend_one(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    dropout: float,
    scaling: float | None,
) -> torch.Tensor:
    """Attention of each row's newest token, (rows, heads, 1, size); returns (rows, 1, heads, size)."""
    of_key_head = query.reshape(query.size(0), key.size(1), -1, query.size(3))
    attend = torch.nn.functional.scaled_dot_product_attention
    output = attend(of_key_head, key, value, mask, dropout_p=dropout, scale=scaling)
    return output.reshape(query.size(0), 1, query.size(1), -1)


AttentionInterface.register(ATTENTION, attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


@contextmanager
def grouped_decoding(model: PreTrainedModel) -> Iterator[None]:
    """Inside the block the model decodes this way, if it attends by plain SDPA; afterwards as before."""
    text = model.get_decoder()
    if text.config._attn_implementation != "sdpa":
        yield
        return
    text.set_attn_implementation(ATTENTION)
    try:
        yield
    finally:
        text.set_attn_implementation("sdpa")
