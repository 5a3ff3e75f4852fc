"""A checkpoint of the 2B's or 7B's exact configuration with random weights: what a rehearsal trains where no hub is.

Widths, vocabulary, chat format and files are the real model's; with fewer layers only its depth is not. The tokenizer
is built again from the byte-pair ranks that the PyPI package dashscope ships: 151,643 tokens, 151,387 merges.
"""

import base64
import importlib.util
import shutil
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import torch
from transformers import (
    AddedToken,
    GenerationConfig,
    Qwen2Tokenizer,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

from open_r1.policy.tiny import CHAT_TEMPLATE, PATCH
from open_r1.preflight.shape import SHAPES, Shape
from open_r1.schema import UserError
from open_r1.utils.entry import command_parser, run_entry

VISION_BLOCKS = 4  # of a rehearsal with fewer layers
# Behind the 151,643 byte pairs, in this order.
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
           "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
           "<|image_pad|>", "<|video_pad|>")  # fmt: skip


def shape_of(model: str, layers: int | None) -> Shape:
    """The shape of "2b" or "7b", with `layers` text layers and `VISION_BLOCKS` blocks where a number is given."""
    shape = SHAPES[model]
    return shape if layers is None else replace(shape, num_hidden_layers=layers, depth=VISION_BLOCKS)


def write_checkpoint(folder: Path, shape: Shape, seed: int = 0) -> None:
    """Write model and processor of `shape` as the hub holds them, in bfloat16; raises UserError without dashscope."""
    tokenizer = build_tokenizer()
    pixels = {"shortest_edge": PATCH * PATCH * 16, "longest_edge": PATCH * PATCH * 65_536}  # the real model's
    Qwen2VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=pixels),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(size=pixels),
        chat_template=CHAT_TEMPLATE,
    ).save_pretrained(folder)
    torch.manual_seed(seed)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)  # as it is saved; in float32 the 7B would take 33 GB
    try:
        model = Qwen2VLForConditionalGeneration(configuration(shape, tokenizer))
    finally:
        torch.set_default_dtype(before)
    ends = [tokenizer.convert_tokens_to_ids(token) for token in ("<|im_end|>", "<|endoftext|>")]
    model.generation_config = GenerationConfig(  # the instruct models' own
        bos_token_id=ends[1], eos_token_id=ends, pad_token_id=ends[1],
        do_sample=True, temperature=0.01, top_k=1, top_p=0.001,
    )  # fmt: skip
    model.save_pretrained(folder)


def configuration(shape: Shape, tokenizer: Any) -> Qwen2VLConfig:
    """The config.json of the instruct models at this shape."""
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL}
    return Qwen2VLConfig(
        text_config={
            "vocab_size": shape.vocab_size,
            "hidden_size": shape.hidden_size,
            "intermediate_size": shape.intermediate_size,
            "num_hidden_layers": shape.num_hidden_layers,
            "num_attention_heads": shape.num_attention_heads,
            "num_key_value_heads": shape.num_key_value_heads,
            "max_position_embeddings": 32_768,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
            "rms_norm_eps": 1e-6,
            "bos_token_id": ids["<|endoftext|>"],
            "eos_token_id": ids["<|im_end|>"],
            "tie_word_embeddings": shape.tie_word_embeddings,
        },
        vision_config={
            "depth": shape.depth,
            "embed_dim": shape.embed_dim,
            "num_heads": 16,
            "hidden_size": shape.hidden_size,
            "mlp_ratio": shape.mlp_ratio,
            "patch_size": PATCH,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=shape.tie_word_embeddings,
    )


def build_tokenizer() -> Qwen2Tokenizer:
    """Qwen2's tokenizer from its byte-pair ranks; "Hello world" is [9707, 1879]."""
    found = importlib.util.find_spec("dashscope")
    if found is None or found.origin is None:
        raise UserError("the tokenizer's ranks come with the package dashscope; `uv pip install -e '.[rehearse]'`")
    ranks = Path(found.origin).parent / "resources" / "qwen.tiktoken"
    pairs = dict(_rank(line) for line in ranks.read_bytes().splitlines() if line)
    letters = bytes_to_unicode()

    def spelled(token: bytes) -> str:
        return "".join(letters[byte] for byte in token)

    merges = [tuple(spelled(half) for half in _halves(token, pairs)) for token in pairs if len(token) > 1]
    none: Any = None  # of the special tokens yet: their ids follow the order in which they are added
    tokenizer = Qwen2Tokenizer(
        vocab={spelled(token): rank for token, rank in pairs.items()},
        merges=cast(Any, merges),  # its type hint is wrong
        unk_token=none, eos_token=none, pad_token=none, model_max_length=32_768,
    )  # fmt: skip
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL], special_tokens=True)
    tokenizer.eos_token, tokenizer.pad_token = "<|im_end|>", "<|endoftext|>"
    return tokenizer


def _rank(line: bytes) -> tuple[bytes, int]:
    token, rank = line.split()
    return base64.b64decode(token), int(rank)


def _halves(token: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    """The two tokens that the last merge of this one joins: byte-pair encoding with the ranks below its own."""
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        joined = [ranks.get(a + b, len(ranks)) for a, b in pairwise(parts)]
        place = joined.index(min(joined))
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return parts


def main(argv: Sequence[str]) -> None:
    """Write the checkpoint that the command line names."""
    parser = command_parser(__doc__, output="folder to write")
    parser.add_argument("--model", default="2b", choices=("2b", "7b"), help="whose configuration")
    parser.add_argument("--layers", type=int, help=f"text layers, with {VISION_BLOCKS} vision blocks; default: all")
    args = parser.parse_args(argv)
    shape = shape_of(args.model, args.layers)
    temporary = args.output.with_name(args.output.name + ".part")
    shutil.rmtree(temporary, ignore_errors=True)  # of a start that was killed
    write_checkpoint(temporary, shape)
    temporary.rename(args.output)
    print(f"{args.output}: {shape.parameters:,} parameters with random weights")


if __name__ == "__main__":
    run_entry(main)
