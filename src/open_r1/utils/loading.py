"""Loading a policy: model and processor from a folder or the hub, with one clear line where that cannot be."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoProcessor, Qwen2VLForConditionalGeneration

from open_r1.schema import UserError

ARCHITECTURE = "Qwen2VLForConditionalGeneration"


def load_policy(path: str, max_pixels: int | None = None) -> tuple[Any, Any]:
    """Return (model, processor) of the Qwen2-VL checkpoint at `path`, a folder or a hub id.

    The weights are float32, also where the recipe says `bf16: true`: updates of 5e-7 would be rounded away in bfloat16
    weights, so the training computes in bfloat16 on float32 weights (autocast).

    Raises UserError where the folder holds another architecture, is half written, or the hub cannot be reached.
    """
    folder = Path(path)
    if folder.is_dir():
        _check_folder(folder)
    try:
        processor = AutoProcessor.from_pretrained(path)
        model = Qwen2VLForConditionalGeneration.from_pretrained(path, dtype=torch.float32)
    except OSError as error:
        first = str(error).splitlines()[0]
        raise UserError(
            f"model '{path}' cannot be loaded ({first}); give a folder with a Qwen2-VL checkpoint as MODEL_PATH=..."
        ) from error
    if max_pixels is not None:
        processor.image_processor.size["longest_edge"] = max_pixels
    processor.tokenizer.padding_side = "left"
    return model, processor


def _check_folder(folder: Path) -> None:
    """Refuse what is no Qwen2-VL checkpoint before anything large is read."""
    config = folder / "config.json"
    if not config.is_file():
        raise UserError(
            f"{folder}: no config.json; a checkpoint folder has config.json, weights and the processor's files"
        )
    named = json.loads(config.read_text()).get("architectures") or []
    if ARCHITECTURE not in named:
        raise UserError(
            f"{config}: architecture {', '.join(named) or 'not named'}; the policy must be {ARCHITECTURE};"
            " give another folder as MODEL_PATH=..."
        )
    if not any(folder.glob("*.safetensors")):
        raise UserError(
            f"{folder}: no *.safetensors weights beside config.json; the checkpoint is half written, copy it again"
        )
