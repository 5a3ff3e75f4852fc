"""How much memory one process of a training run needs: arithmetic over the model's shape, no library asked.

What stays: weights, optimizer state, reference, vLLM's share. What comes and goes, so that only the largest counts:
generation (gathered weights, keys and values, the pictures), the update (gradients, the inputs of every layer, one
layer computed again, the LM head's tile), the optimizer's step (gradients, and copies).

Parameters are exact. Activations are counted tensor by tensor from the forward passes of `Qwen2VLDecoderLayer` and
`Qwen2VLVisionBlock` and of TRL's fused LM head; `scripts/benchmark_plan.py` holds them against measured memory.
"""

from dataclasses import dataclass
from typing import NamedTuple

from open_r1.preflight.shape import PATCH_VALUES, PATCHES_PER_TOKEN, Shape

GIB = 2**30
RESERVE = 2 * GIB  # CUDA context, communication, fragmentation: assumed, not measured
HEAD_TOKENS, HEAD_COLUMNS = 4096, 32_768  # the tile in which TRL's fused LM head computes logits, in float32
SAMPLING_COPIES = 5  # of the next token's logits: temperature, top-k, top-p (sorted, with indices), softmax
ZERO_BUCKET = 2 * 5e8  # bytes that DeepSpeed reduces at once
ZERO3_LIVE = 2 * 1e9  # bytes of weights that ZeRO-3 keeps gathered at once


class Precision(NamedTuple):
    """Bytes per number: in matrix products, in the stream between layers, of a weight or gradient, of its copies."""

    compute: int
    stream: int
    weight: int
    master: int  # DeepSpeed's float32 copy of a weight
    cast: int  # autocast's copy of a weight, alive until a forward pass ends


FLOAT32 = Precision(compute=4, stream=4, weight=4, master=0, cast=0)
AUTOCAST = Precision(compute=2, stream=4, weight=4, master=0, cast=2)
DEEPSPEED = Precision(compute=2, stream=2, weight=2, master=4, cast=0)


class Sharding(NamedTuple):
    """What an accelerate configuration shares among the processes, so that each holds 1/n of it."""

    weights: bool = False
    optimizer: bool = False  # and gradients
    offload: bool = False  # gradients, moments and masters in the host's memory


SHARDINGS = {  # by the names in recipes/accelerate_configs; one process shares nothing
    "cpu": Sharding(),
    "ddp": Sharding(),
    "zero2": Sharding(optimizer=True),
    "zero3": Sharding(weights=True, optimizer=True),
    "zero3_offload": Sharding(weights=True, optimizer=True, offload=True),
    "fsdp2": Sharding(weights=True, optimizer=True),
}


@dataclass(frozen=True)
class Load:
    """What one process works on: counts of rows, pictures, patches and tokens."""

    rows: int  # in one forward and backward pass
    generated: int  # rows sampled at once
    pictures: int  # per row
    patches: int  # per picture
    text_tokens: int  # per prompt, without the pictures
    completion_tokens: int

    @property
    def prompt_tokens(self) -> int:
        """Tokens of a prompt with its pictures."""
        return self.text_tokens + self.pictures * self.patches // PATCHES_PER_TOKEN

    @property
    def tokens(self) -> int:
        """Tokens of a row: prompt and completion."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True)
class Setup:
    """How the run is set up; `vllm` is the bytes that a colocated vLLM takes for itself."""

    precision: Precision
    sharding: str
    processes: int
    reference: bool = True
    checkpointing: bool = True
    fused_optimizer: bool = True
    generates: bool = True  # False where vLLM samples
    in_turn: bool = False  # rows are sampled while gradients of the same step wait already
    vllm: float = 0
    on_gpu: bool = True
    adapter: int | None = None  # parameters of LoRA's matrices, where they alone are trained

    @property
    def numbers(self) -> Precision:
        """`precision`, or with an adapter that of frozen weights: held as they are multiplied, and so is the stream."""
        p = self.precision
        return p if self.adapter is None else p._replace(stream=p.compute, weight=p.compute, cast=0)


@dataclass(frozen=True)
class Need:
    """Bytes per process: what stays, and the peaks on top of it, of which one at a time."""

    stays: dict[str, float]
    peaks: dict[str, float]

    @property
    def total(self) -> float:
        """Bytes at the highest moment."""
        return sum(self.stays.values()) + max(self.peaks.values())


def training_memory(shape: Shape, load: Load, setup: Setup) -> Need:
    """Bytes that each process needs to train a model of this shape, or an adapter on it."""
    p, shared = setup.numbers, SHARDINGS[setup.sharding]
    trained = shape.parameters if setup.adapter is None else setup.adapter
    moved = setup.precision.weight  # bytes of a weight that is trained, and of its gradient
    weights = p.weight * shape.parameters + moved * (setup.adapter or 0)
    reference = p.weight * shape.parameters if setup.reference and setup.adapter is None else 0  # else the base itself
    deepspeed = setup.sharding.startswith("zero") and p.master > 0

    def share(whole: float, part: bool) -> float:
        return whole / setup.processes if part else whole

    optimized = (
        0 if shared.offload else share(trained, shared.optimizer)
    )  # parameters whose state is not in the host's memory
    stays = {
        "weights": share(weights, shared.weights),
        "optimizer": (8 + p.master) * optimized,  # Adam's two moments in float32
        "reference": share(reference, shared.weights),
        "vLLM": setup.vllm,
        "reserve": RESERVE if setup.on_gpu else 0,
    }
    gathered = weights if shared.weights else 0
    gradients = moved * optimized
    unfused = setup.on_gpu and not setup.fused_optimizer  # torch's loop over all weights at once copies a moment
    copies = (4 if deepspeed else 0) + (4 if unfused else 0)  # DeepSpeed's gradients in float32
    sampling = generation_peak(shape, load, p) + gathered + (gradients if setup.in_turn else 0)
    bucket = ZERO_BUCKET if deepspeed else 0
    peaks = {
        "generation": sampling if setup.generates else 0,
        "update": gradients + bucket + min(gathered, ZERO3_LIVE) + update_peak(shape, load, setup),
        "optimizer step": gradients + copies * optimized,
    }
    return Need(stays, peaks)


def layer_bytes(shape: Shape, p: Precision) -> tuple[int, int]:
    """Bytes per token that one decoder layer keeps for its backward pass, and that the backward pass adds."""
    H, I, kv = shape.hidden_size, shape.intermediate_size, shape.kv_size  # noqa: E741
    norms = 5 * H  # two norms keep the normed and the scaled stream, and between them stands the sum
    # attention: rotated queries, keys and values repeated to H, its output twice; MLP: gate, silu, up, product
    kept = p.stream * norms + p.compute * (5 * H + 2 * kv + 4 * I)
    return kept, p.compute * 2 * I + p.stream * 2 * H


def block_bytes(shape: Shape, p: Precision) -> tuple[int, int]:
    """The same per patch and block of the vision tower."""
    D, wide = shape.embed_dim, shape.embed_dim * shape.mlp_ratio
    # two norms, qkv, rotated queries and keys, attention's output twice, the sum; fc1, sigmoid, activation
    return p.compute * (10 * D + 3 * wide), p.compute * (2 * wide + 2 * D)


def update_peak(shape: Shape, load: Load, setup: Setup) -> float:
    """Bytes of activations at the highest moment of a forward and backward pass over `load.rows` rows."""
    p, H = setup.numbers, shape.hidden_size
    tokens, patches = load.rows * load.tokens, load.rows * load.pictures * load.patches
    layer_kept, layer_extra = layer_bytes(shape, p)
    block_kept, block_extra = block_bytes(shape, p)
    layer, block = layer_kept * tokens, block_kept * patches
    if setup.checkpointing:  # a layer keeps its input; the rest is computed again, for one layer at a time
        text = shape.num_hidden_layers * tokens * H * p.stream
        vision = shape.depth * patches * shape.embed_dim * p.compute
    else:
        text, vision = shape.num_hidden_layers * layer, shape.depth * block
        layer = block = 0
    if setup.adapter is not None:  # on the language model alone: the vision tower keeps nothing for a backward pass
        vision, block, block_extra = 0, block_kept * patches, 0
    pixels = load.generated * load.pictures * load.patches * PATCH_VALUES * 4  # all that was generated waits its turn
    moments = {
        "end of the forward pass": text + vision + p.cast * shape.parameters,
        "head": text + vision + head_peak(shape, tokens, setup),
        "a decoder layer": text + vision + layer + layer_extra * tokens,
        "a vision block": vision + block + block_extra * patches,
    }
    return pixels + max(moments.values())


def head_peak(shape: Shape, tokens: int, setup: Setup) -> float:
    """Bytes of the fused LM head's backward: a tile of logits, the gradients of head and stream in float32."""
    copies = 1 if setup.on_gpu else 8  # Triton works in place; torch's steps on a CPU each make a tile
    tile = min(tokens, HEAD_TOKENS) * min(shape.vocab_size, HEAD_COLUMNS) * 4
    head = 4 * shape.vocab_size * shape.hidden_size if setup.adapter is None else 0  # a frozen head has no gradient
    return copies * tile + head + 3 * 4 * tokens * shape.hidden_size


def generation_peak(shape: Shape, load: Load, p: Precision) -> float:
    """Bytes that sampling with transformers takes: keys and values of every row, and the pass over the prompts."""
    H, wide = shape.hidden_size, shape.embed_dim * shape.mlp_ratio
    prompts, patches = load.generated * load.prompt_tokens, load.generated * load.pictures * load.patches
    cache = load.generated * load.tokens * shape.kv_size * (p.stream + p.compute)  # of one layer
    text = prompts * (4 * p.stream * H + 3 * p.compute * shape.intermediate_size)
    vision = patches * p.compute * (6 * shape.embed_dim + 3 * wide)
    sampling = SAMPLING_COPIES * 4 * load.generated * shape.vocab_size
    pixels = patches * PATCH_VALUES * 4
    layers = shape.num_hidden_layers
    filled = cache * layers * load.prompt_tokens / load.tokens
    last = cache * (layers + 1) + sampling  # appending to one layer's cache makes it anew
    return pixels + p.cast * shape.parameters + max(vision, text + filled, last)
