"""Loading a policy: model and processor from a folder or the hub, with one clear line where that cannot be."""

import atexit
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoProcessor, Qwen2VLForConditionalGeneration, Qwen2VLProcessor

from open_r1.policy.checkpoint import ADAPTER, checkpoint_faults
from open_r1.policy.sharding import whole_weights
from open_r1.schema import UserError
from open_r1.utils.files import JsonObject

Policy = tuple[Qwen2VLForConditionalGeneration, Qwen2VLProcessor]


def precision(bf16: bool | None) -> torch.dtype:
    """In which weights that are not trained are held, by the recipe's `bf16`."""
    return torch.bfloat16 if bf16 else torch.float32


def load_policy(path: str, max_pixels: int | None = None, dtype: torch.dtype = torch.float32, **options: Any) -> Policy:
    """Return (model, processor) of the Qwen2-VL checkpoint at `path`, a folder or a hub id.

    Weights that are trained are float32, also where the recipe says `bf16: true`: updates of 5e-7 would be rounded away
    in bfloat16 weights, so the training computes in bfloat16 on float32 weights (autocast).

    A folder that holds a LoRA adapter is loaded with the base that it names, and merged into it.

    Args:
        path: folder or hub id.
        max_pixels: pictures are scaled down to at most this many; None leaves the processor's own limit.
        dtype: of the weights; bfloat16 for a policy that is only asked, or whose weights are frozen below an adapter.
        options: those of the recipe's model_init_kwargs: attn_implementation, and the revision of a hub id.

    Raises UserError where the folder holds another architecture, is half written, or the hub cannot be reached, and for
    an adapter whose base is not there.
    """
    folder = Path(path)
    if (folder / ADAPTER).is_file():
        return _load_adapter(folder, max_pixels, dtype, options)
    if folder.is_dir():
        for fault in checkpoint_faults(folder):
            raise UserError(fault)
    try:
        processor = AutoProcessor.from_pretrained(path, revision=options.get("revision", "main"))
        model = Qwen2VLForConditionalGeneration.from_pretrained(path, dtype=dtype, **options)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:  # a file of it is cut or foreign
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"model '{path}' cannot be loaded ({first}); give a folder with a Qwen2-VL checkpoint as MODEL_PATH=..."
        ) from error
    if max_pixels is not None:
        processor.image_processor.size["longest_edge"] = max_pixels
    processor.tokenizer.padding_side = "left"
    return model, processor


def whole_checkpoint(path: str) -> str:
    """Return `path`, or where it holds an adapter a folder with the base that it is merged into; gone at exit."""
    if not (Path(path) / ADAPTER).is_file():
        return path
    merged = tempfile.mkdtemp(prefix="merged-")
    atexit.register(shutil.rmtree, merged, ignore_errors=True)
    for part in load_policy(path):
        part.save_pretrained(merged)
    return merged


def _load_adapter(folder: Path, max_pixels: int | None, dtype: torch.dtype, options: JsonObject) -> Policy:
    """Load the base that the adapter names and merge the adapter into its weights, in float32 whatever `dtype` is."""
    from peft import PeftModel

    base = json.loads((folder / ADAPTER).read_text()).get("base_model_name_or_path")
    if not base:
        raise UserError(
            f"{folder / ADAPTER} names no base; an adapter is nothing without it: add base_model_name_or_path"
        )
    if not any(folder.glob("adapter_model.*")):
        raise UserError(f"{folder}: no adapter_model.safetensors beside {ADAPTER}; it is half written, copy it again")
    try:
        with whole_weights():  # nothing can be merged into a part of a weight
            model, processor = load_policy(base, max_pixels, **options)
    except UserError as error:
        rule = f"an adapter is loaded with its base; put it there or change base_model_name_or_path in {ADAPTER}"
        raise UserError(f"{folder} is an adapter of '{base}', which cannot be loaded ({error}): {rule}") from error
    model = PeftModel.from_pretrained(model, str(folder)).merge_and_unload().to(dtype)
    model.name_or_path = model.config._name_or_path = str(folder.resolve())  # the base of an adapter trained on this
    return model, processor
