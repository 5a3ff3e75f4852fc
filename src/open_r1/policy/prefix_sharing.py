"""Each distinct prompt of a batch runs through the language model once, its completions packed behind it.

TRL scores G rows "prompt, completion" per group; the prompts, pictures and all, are the same G times, and rows are
padded to the longest. Here a batch becomes one row of tokens,

    prompt 1 | ... | prompt U | completion 1 | ... | completion B          (U distinct prompts, B rows, no padding)

in which a token attends to what stands before it in its own prompt or completion, and a completion to all of its
prompt. Positions (mrope) are those the tokens have in the padded batch, so every hidden state, log-prob and gradient is
the same up to rounding. It is done inside the backbone's `forward`: TRL's log-prob and loss code runs unchanged.

Seams: the backbone's `forward` and `get_rope_index`, the text model taking a prepared `attention_mask` mapping, and
transformers' AttentionInterface; held by tests/test_sharing.py and tests/test_trl_contract.py.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.modeling_outputs import BaseModelOutputWithPast

from open_r1.policy import decoding
from open_r1.policy.vision_sharing import Backbone, distinct_images, select_images

logger = logging.getLogger(__name__)
ATTENTION = "sdpa_shared_prompts"  # its name in transformers; decoding.py's wherever nothing is packed
_prompt_width: ContextVar[int | None] = ContextVar("prompt_width", default=None)


@contextmanager
def prompts_of_width(columns: int) -> Iterator[None]:
    """Inside the block, forward passes hold prompts in their first `columns` columns, completions in the others."""
    token = _prompt_width.set(columns)
    try:
        yield
    finally:
        _prompt_width.reset(token)


def distinct_prompts(
    backbone: Backbone,
    ids_BP: torch.Tensor,
    mask_BP: torch.Tensor,
    pixel_values: torch.Tensor,
    grid_I3: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Find the rows whose prompts are the same in every token and every pixel.

    Returns:
        The first row of each distinct prompt (U,), which of them each row has (B,), and the pictures of those U rows
        as `select_images` gives them.
    """
    index_I = distinct_images(pixel_values, grid_I3)[1]
    tokens_I = grid_I3.prod(-1) // backbone.visual.spatial_merge_size**2
    tokens_B = (ids_BP == backbone.config.image_token_id).sum(1)
    row_I = torch.searchsorted(tokens_B.cumsum(0), tokens_I.cumsum(0)).tolist()  # pictures stand in the rows' order
    images_B: list[list[int]] = [[] for _ in ids_BP]
    for image, row in enumerate(row_I):
        images_B[row].append(image)

    first_U: list[int] = []
    index_B: list[int] = []
    known: dict[tuple, int] = {}
    rows = zip(ids_BP.tolist(), mask_BP.tolist(), images_B, strict=True)
    for row, (ids, mask, images) in enumerate(rows):
        prompt = known.setdefault((*ids, *mask, *(index_I[i] for i in images)), len(known))
        if prompt == len(first_U):
            first_U.append(row)
        index_B.append(prompt)
    chosen = [image for row in first_U for image in images_B[row]]
    as_tensor = ids_BP.new_tensor
    return as_tensor(first_U), as_tensor(index_B), select_images(pixel_values, grid_I3, chosen)


@dataclass(frozen=True)
class Segments:
    """Rows of different lengths inside the one packed row.

    Attributes:
        place_RS: where token s of row r lies in the packed row; past the row's end any place.
        inside_RS: whether row r has a token s.
    """

    place_RS: torch.Tensor
    inside_RS: torch.Tensor

    @classmethod
    def of(cls, lengths_R: torch.Tensor, start: int, total: int) -> "Segments":
        """Lay rows of these lengths one after the other from `start`, in a packed row of `total` tokens."""
        steps_S = torch.arange(max(1, int(lengths_R.max())), device=lengths_R.device)
        begin_R1 = (start + lengths_R.cumsum(0) - lengths_R)[:, None]
        return cls((begin_R1 + steps_S).clamp(max=total - 1), steps_S < lengths_R[:, None])

    @property
    def causal_RSS(self) -> torch.Tensor:
        """Which of its own row's tokens each token sees: those up to itself."""
        S = self.inside_RS.size(1)
        return self.inside_RS[:, None] & self.inside_RS.new_ones(S, S).tril()


class Packed:
    """The packed row of a batch: what attends to what. Stands where transformers hands an attention mask through."""

    def __init__(self, prompt_lengths_U: torch.Tensor, lengths_B: torch.Tensor, prompt_of_B: torch.Tensor):
        prompt_total = int(prompt_lengths_U.sum())
        total = prompt_total + int(lengths_B.sum())
        prompts = Segments.of(prompt_lengths_U, 0, total)
        replies = Segments.of(lengths_B, prompt_total, total)
        before_BCP = prompts.inside_RS[prompt_of_B, None].expand(-1, replies.inside_RS.size(1), -1)
        keys_BT = torch.cat([prompts.place_RS[prompt_of_B], replies.place_RS], dim=1)
        mask_BCT = torch.cat([before_BCP, replies.causal_RSS], dim=2)
        self.parts = [  # (places of the queries, places of the keys, mask, which queries there are)
            (part.place_RS, keys, mask[:, None], part.inside_RS.flatten().nonzero()[:, 0])
            for part, keys, mask in (
                (prompts, prompts.place_RS, prompts.causal_RSS),
                (replies, keys_BT, mask_BCT),
            )
        ]

    def attend(
        self, module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **kwargs: Any
    ) -> torch.Tensor:
        """Attention of (1, heads, L, size) queries; returns (1, L, heads, size) as `sdpa_attention_forward` does."""

        def rows(states: torch.Tensor, place_RS: torch.Tensor) -> torch.Tensor:
            return states[0].index_select(1, place_RS.flatten()).unflatten(1, place_RS.shape).transpose(0, 1)

        outputs = []
        for queries, keys, mask, there in self.parts:
            states = (rows(query, queries), rows(key, keys), rows(value, keys))
            output = sdpa_attention_forward(module, *states, mask, **kwargs)[0]
            outputs.append(output.flatten(0, 1).index_select(0, there))
        return torch.cat(outputs)[None]


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | Packed | None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    if isinstance(attention_mask, Packed):
        return attention_mask.attend(module, query, key, value, **kwargs), None
    return decoding.attention(module, query, key, value, attention_mask, **kwargs)


AttentionInterface.register(ATTENTION, _attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


def share_prefix(backbone: Backbone) -> None:
    """Let the backbone run each distinct prompt once wherever `prompts_of_width` says what the prompts are."""
    text = backbone.language_model
    if text.config._attn_implementation != "sdpa" or text.has_sliding_layers:
        logger.warning("prompts are shared under plain SDPA attention only, not %s", text.config._attn_implementation)
        return
    text.set_attn_implementation(ATTENTION)
    forward: Callable[..., Any] = backbone.forward
    rope_index: Callable[..., tuple[torch.Tensor, torch.Tensor]] = backbone.get_rope_index

    def packed_forward(
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        image_grid_thw: torch.Tensor | None = None,
        mm_token_type_ids: torch.Tensor | None = None,
        **kwargs: object,
    ) -> BaseModelOutputWithPast:
        width = _prompt_width.get()
        if width is None or pixel_values is None:
            images = {"pixel_values": pixel_values, "image_grid_thw": image_grid_thw}
            return forward(input_ids, attention_mask, **images, mm_token_type_ids=mm_token_type_ids, **kwargs)
        assert input_ids is not None and attention_mask is not None and image_grid_thw is not None
        assert mm_token_type_ids is not None  # what Qwen2-VL's processor gives with pictures
        ids_BP, mask_BP, valid_BC = input_ids[:, :width], attention_mask[:, :width], attention_mask[:, width:].bool()
        first_U, prompt_of_B, images = distinct_prompts(backbone, ids_BP, mask_BP, pixel_values, image_grid_thw)
        valid_UP = mask_BP[first_U].bool()
        position_3UP, delta_U1 = rope_index(
            ids_BP[first_U], mm_token_type_ids[first_U, :width], images["image_grid_thw"], attention_mask=valid_UP
        )
        # Text goes on one by one after the prompt's last position, the same in all three axes of mrope.
        next_B1 = (valid_UP.sum(1, keepdim=True) + delta_U1)[prompt_of_B]
        position_BC = next_B1 + valid_BC.cumsum(1) - 1
        reply_3L = position_BC[valid_BC].expand(3, -1)
        output = forward(
            input_ids=torch.cat([ids_BP[first_U][valid_UP], input_ids[:, width:][valid_BC]])[None],
            attention_mask=dict.fromkeys(
                text.config.layer_types or (), Packed(valid_UP.sum(1), valid_BC.sum(1), prompt_of_B)
            ),
            position_ids=torch.cat([position_3UP[:, valid_UP], reply_3L], dim=1)[:, None],
            **images,
            **kwargs,
        )
        # Back to the padded batch: rows of one group read the same hidden states of their prompt.
        prompt_place_UP = (valid_UP.flatten().cumsum(0) - 1).clamp(min=0).view_as(valid_UP)
        reply_place_BC = valid_UP.sum() + (valid_BC.flatten().cumsum(0) - 1).clamp(min=0).view_as(valid_BC)
        place_BS = torch.cat([prompt_place_UP[prompt_of_B], reply_place_BC], dim=1)
        hidden = output.last_hidden_state[0]
        place = place_BS.flatten().clamp(max=hidden.size(0) - 1)
        output.last_hidden_state = hidden.index_select(0, place).view(*place_BS.shape, -1)
        return output

    backbone.forward = packed_forward  # pyright: ignore[reportAttributeAccessIssue]
