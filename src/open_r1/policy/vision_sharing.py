"""Each distinct picture is preprocessed once per batch and encoded once per forward pass (`share_vision`).

TRL repeats a prompt and its pictures for every completion of its group, so the image processor and the vision tower run
G times on the same pixels. Sharing their results changes nothing else: the features are repeated instead of the pixels,
and the gradient of a feature is the sum over its repeats. Which pictures are the same is seen from the pixels
themselves: comparing 480k of them takes microseconds where encoding them takes seconds, it needs no index that has to
survive TRL's shuffling and splitting, and two rows about one picture share it too.

Seams: `get_image_features(pixel_values, image_grid_thw)` of transformers' Qwen2-VL and Qwen2.5-VL, and `preprocess` of
their image processor; held by tests/test_sharing.py and tests/test_trl_contract.py.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import BatchFeature, PreTrainedModel
from transformers.image_utils import make_flat_list_of_images
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLModel

from open_r1.utils.files import JsonObject

Backbone = Qwen2VLModel | Qwen2_5_VLModel  # vision tower and language model without head
logger = logging.getLogger(__name__)
PROBES = 64  # values by which a picture is looked up before all of it is compared


def without_adapter(model: PreTrainedModel) -> PreTrainedModel:
    """Return the model that PEFT adapts; another one as it is."""
    adapted = getattr(model, "get_base_model", None)
    return adapted() if adapted else model


def shareable_backbone(model: PreTrainedModel) -> Backbone | None:
    """Return the backbone (vision tower and language model without head), None where it is of another architecture.

    A PEFT model's is that of the model it adapts. The log names the fall-back in one line.
    """
    base = without_adapter(model)
    backbone = base.base_model
    if isinstance(backbone, Qwen2VLModel | Qwen2_5_VLModel):
        return backbone
    logger.warning("%s is neither Qwen2-VL nor Qwen2.5-VL: nothing is shared within its groups", type(base).__name__)
    return None


def distinct_images(pixel_values: torch.Tensor, grid_I3: torch.Tensor) -> tuple[list[int], list[int]]:
    """Find the pictures that occur more than once.

    Args:
        pixel_values: patches of all I pictures, one after the other, (patches, values per patch).
        grid_I3: each picture's patches in time, height and width.

    Returns:
        Of each of the D distinct pictures the place of its first occurrence, and for each of the I pictures which of
        the D it is: pixels 7 7 3 7 give [0, 2] and [0, 0, 1, 0].
    """
    blocks = pixel_values.split(grid_I3.prod(-1).tolist())
    probes = torch.stack([block.flatten()[:: max(1, block.numel() // PROBES)][:PROBES] for block in blocks]).tolist()
    first_D: list[int] = []
    index_I: list[int] = []
    alike: dict[tuple, list[int]] = {}  # by grid and probe: the distinct pictures that may be the same
    for image, (grid, probe) in enumerate(zip(grid_I3.tolist(), probes, strict=True)):
        candidates = alike.setdefault((*grid, *probe), [])
        same = next((d for d in candidates if torch.equal(blocks[first_D[d]], blocks[image])), len(first_D))
        if same == len(first_D):
            candidates.append(same)
            first_D.append(image)
        index_I.append(same)
    return first_D, index_I


def select_images(pixel_values: torch.Tensor, grid_I3: torch.Tensor, chosen: list[int]) -> dict[str, torch.Tensor]:
    """Return `pixel_values` and `image_grid_thw` of the chosen pictures, in that order."""
    blocks = pixel_values.split(grid_I3.prod(-1).tolist())
    return {"pixel_values": torch.cat([blocks[i] for i in chosen]), "image_grid_thw": grid_I3[chosen]}


def share_vision(backbone: Backbone) -> None:
    """Let the backbone encode each distinct picture of a forward pass once, from now on."""
    encode: Callable[..., Any] = backbone.get_image_features

    def get_image_features(
        pixel_values: torch.Tensor, image_grid_thw: torch.Tensor, **kwargs: object
    ) -> BaseModelOutputWithPooling:
        first_D, index_I = distinct_images(pixel_values, image_grid_thw)
        output = encode(**select_images(pixel_values, image_grid_thw, first_D), **kwargs)
        output.pooler_output = tuple(output.pooler_output[d] for d in index_I)  # one tensor of features per picture
        return output

    # As TRL patches `forward`: the module itself stays where it was.
    backbone.get_image_features = get_image_features  # pyright: ignore[reportAttributeAccessIssue]


@contextmanager
def preprocess_once(image_processor: Any) -> Iterator[None]:
    """Inside the block, preprocess each picture object once, however often and in however many calls it is given.

    TRL calls the processor twice per batch, before generation and before the log-probs, with all P G pictures.
    """
    plain: Callable[..., BatchFeature] = image_processor.preprocess
    fetch = image_processor.fetch_images
    done: dict[int, tuple[object, torch.Tensor, torch.Tensor]] = {}  # holds the picture, so that its id stays its own

    def preprocess(images: object, **kwargs: object) -> BatchFeature:
        flat: Any = make_flat_list_of_images(image_processor.fetch_images(images))
        new = list({id(image): image for image in flat if id(image) not in done}.values())
        if new:
            output = plain(new, **kwargs)
            grids = output["image_grid_thw"]
            blocks = output["pixel_values"].split(grids.prod(-1).tolist())
            done.update({id(image): (image, *part) for image, *part in zip(new, blocks, grids, strict=True)})
        parts = [done[id(image)] for image in flat]
        return BatchFeature(
            {
                "pixel_values": torch.cat([pixels for _, pixels, _ in parts]),
                "image_grid_thw": torch.stack([grid for *_, grid in parts]),
            }
        )

    def fetch_images(images: Any) -> Any:
        # TRL gives None for a row without pictures among rows that have some, which transformers refuses
        return fetch([[] if each is None else each for each in images] if isinstance(images, list) else images)

    image_processor.preprocess, image_processor.fetch_images = preprocess, fetch_images
    try:
        yield
    finally:
        # the class's own again; the processor is saved as it was
        del image_processor.preprocess, image_processor.fetch_images


def one_object_per_picture(inputs: list[JsonObject]) -> list[JsonObject]:
    """Return TRL's rows with the pictures of a repeated row being the same objects: the data set opens each anew."""
    pictures: dict[str, object] = {}
    return [
        {**row, "images": pictures.setdefault(row["id"], row["images"])} if "images" in row else row for row in inputs
    ]
