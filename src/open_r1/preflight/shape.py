"""The sizes of a Qwen2-VL, from its config.json or built in for 2B and 7B, and its exact number of parameters."""

import json
from collections.abc import Collection
from dataclasses import dataclass, fields
from pathlib import Path

from open_r1.recipe.settings import LORA_TARGETS
from open_r1.schema import UserError
from open_r1.utils.names import unknown_name

PATCH = 14  # pixels; two frames of 14 x 14 x 3 enter the vision tower per patch, 2 x 2 patches make one token
PATCH_VALUES, PATCHES_PER_TOKEN = 2 * 3 * PATCH**2, 4


@dataclass(frozen=True)
class Shape:
    """The sizes of a Qwen2-VL that its memory follows from; the names are those of its config.json."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    tie_word_embeddings: bool
    depth: int
    embed_dim: int
    mlp_ratio: int

    @property
    def kv_size(self) -> int:
        """Width of the keys, and of the values."""
        return self.hidden_size // self.num_attention_heads * self.num_key_value_heads

    @property
    def text_parameters(self) -> int:
        """Parameters of the language model, with its embedding and head."""
        H, I, kv = self.hidden_size, self.intermediate_size, self.kv_size  # noqa: E741
        layer = (H * H + H) + 2 * (H * kv + kv) + H * H + 3 * H * I + 2 * H  # q, k and v, o, MLP, norms
        heads = 1 if self.tie_word_embeddings else 2
        return heads * self.vocab_size * H + self.num_hidden_layers * layer + H

    @property
    def vision_parameters(self) -> int:
        """Parameters of the vision tower and its merger."""
        D, wide = self.embed_dim, self.embed_dim * self.mlp_ratio
        block = 4 * D + (3 * D * D + 3 * D) + (D * D + D) + (2 * D * wide + wide + D)  # norms, qkv, proj, MLP
        merged = PATCHES_PER_TOKEN * D
        merger = 2 * D + (merged * merged + merged) + (merged * self.hidden_size + self.hidden_size)
        return PATCH_VALUES * D + self.depth * block + merger

    @property
    def parameters(self) -> int:
        """All parameters; 2,208,985,600 for the 2B."""
        return self.text_parameters + self.vision_parameters


def adapter_parameters(shape: Shape, rank: int, targets: Collection[str] = LORA_TARGETS) -> int:
    """Parameters of LoRA's matrices on these projections of every decoder layer: rank x (inputs + outputs) each.

    Raises UserError for a target that is none of them: what it would match is PEFT's to say, not arithmetic's.
    """
    H, I, kv = shape.hidden_size, shape.intermediate_size, shape.kv_size  # noqa: E741
    sizes = {"q_proj": 2 * H, "k_proj": H + kv, "v_proj": H + kv, "o_proj": 2 * H}
    sizes |= {"gate_proj": H + I, "up_proj": H + I, "down_proj": I + H}
    for target in targets:
        if target not in sizes:
            raise unknown_name("lora.target_modules", target, sizes)
    return shape.num_hidden_layers * rank * sum(sizes[target] for target in targets)


QWEN2_VL_VISION = {"depth": 32, "embed_dim": 1280, "mlp_ratio": 4}
SHAPES = {  # Qwen2-VL-2B-Instruct and Qwen2-VL-7B-Instruct, as their config.json says
    "2b": Shape(151_936, 1536, 8960, 28, 12, 2, True, **QWEN2_VL_VISION),
    "7b": Shape(152_064, 3584, 18_944, 28, 28, 4, False, **QWEN2_VL_VISION),
}


def read_shape(folder: Path) -> Shape:
    """Read the shape of the checkpoint in `folder`; raises UserError where its config.json is no Qwen2-VL's."""
    config = json.loads((folder / "config.json").read_text())
    text, vision = config.get("text_config", config), config.get("vision_config", {})
    sizes = {**vision, **text, "tie_word_embeddings": config.get("tie_word_embeddings", True)}
    missing = [field.name for field in fields(Shape) if field.name not in sizes]
    if missing:
        raise UserError(f"{folder}/config.json has no {missing[0]}; it must be a Qwen2-VL's; give another MODEL_PATH")
    return Shape(**{field.name: sizes[field.name] for field in fields(Shape)})
