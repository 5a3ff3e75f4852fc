"""Loading a policy: model and processor from a folder or the hub, with one clear line where that cannot be."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoProcessor, Qwen2VLForConditionalGeneration, Qwen2VLProcessor

from open_r1.policy.checkpoint import ADAPTER, checkpoint_faults
from open_r1.schema import UserError
from open_r1.utils.files import JsonObject

Policy = tuple[Qwen2VLForConditionalGeneration, Qwen2VLProcessor]


def load_policy(path: str, max_pixels: int | None = None, **options: Any) -> Policy:
    """Return (model, processor) of the Qwen2-VL checkpoint at `path`, a folder or a hub id.

    The weights are float32, also where the recipe says `bf16: true`: updates of 5e-7 would be rounded away in bfloat16
    weights, so the training computes in bfloat16 on float32 weights (autocast).

    A folder that holds a LoRA adapter is loaded with the base that it names, and merged into it. `options` are those of
    the recipe's model_init_kwargs: attn_implementation, and the revision of a hub id.

    Raises UserError where the folder holds another architecture, is half written, or the hub cannot be reached, and for
    an adapter whose base is not there.
    """
    folder = Path(path)
    if (folder / ADAPTER).is_file():
        return _load_adapter(folder, max_pixels, options)
    if folder.is_dir():
        for fault in checkpoint_faults(folder):
            raise UserError(fault)
    try:
        processor = AutoProcessor.from_pretrained(path, revision=options.get("revision", "main"))
        model = Qwen2VLForConditionalGeneration.from_pretrained(path, dtype=torch.float32, **options)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:  # a file of it is cut or foreign
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"model '{path}' cannot be loaded ({first}); give a folder with a Qwen2-VL checkpoint as MODEL_PATH=..."
        ) from error
    if max_pixels is not None:
        processor.image_processor.size["longest_edge"] = max_pixels
    processor.tokenizer.padding_side = "left"
    return model, processor


def _load_adapter(folder: Path, max_pixels: int | None, options: JsonObject) -> Policy:
    """Load the base that the adapter names and merge the adapter into its weights."""
    from peft import PeftModel

    base = json.loads((folder / ADAPTER).read_text()).get("base_model_name_or_path")
    if not base:
        raise UserError(
            f"{folder / ADAPTER} names no base; an adapter is nothing without it: add base_model_name_or_path"
        )
    if not any(folder.glob("adapter_model.*")):
        raise UserError(f"{folder}: no adapter_model.safetensors beside {ADAPTER}; it is half written, copy it again")
    try:
        model, processor = load_policy(base, max_pixels, **options)
    except UserError as error:
        rule = f"an adapter is loaded with its base; put it there or change base_model_name_or_path in {ADAPTER}"
        raise UserError(f"{folder} is an adapter of '{base}', which cannot be loaded ({error}): {rule}") from error
    model = PeftModel.from_pretrained(model, str(folder)).merge_and_unload()
    model.name_or_path = model.config._name_or_path = str(folder.resolve())  # the base of an adapter trained on this
    return model, processor
