"""The tiny Qwen2-VL: the real classes, a tokenizer that takes any text, the same weights for the same seed."""

import unicodedata

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import Qwen2VLForConditionalGeneration, Qwen2VLProcessor

from open_r1.policy.tiny import SPECIAL, TAGS, build_model, build_processor
from open_r1.tasks import get_task

TASK = get_task("clevr_math")
PROCESSOR = build_processor(["rest; large red metal cube 1; small blue rubber sphere 2"] * 5, TASK)
TOKENIZER = PROCESSOR.tokenizer


def test_it_is_the_real_qwen2_vl_of_about_a_million_parameters():
    model = build_model(PROCESSOR)
    assert type(model) is Qwen2VLForConditionalGeneration and type(PROCESSOR) is Qwen2VLProcessor
    assert 0.8e6 < sum(p.numel() for p in model.parameters()) < 1.5e6


def test_the_same_seed_gives_the_same_weights():
    one, two, other = (build_model(PROCESSOR, seed) for seed in (0, 0, 1))
    pairs = [list(zip(one.parameters(), m.parameters(), strict=True)) for m in (two, other)]
    assert all(torch.equal(a, b) for a, b in pairs[0])
    assert not all(torch.equal(a, b) for a, b in pairs[1])


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80))
def test_any_text_comes_back_from_its_tokens(text):
    ids = TOKENIZER(text, split_special_tokens=True)["input_ids"]
    normal = unicodedata.normalize("NFC", text)  # Qwen2's tokenizer normalises
    assert TOKENIZER.decode(ids, clean_up_tokenization_spaces=False) == normal


@pytest.mark.parametrize("constant", [*TAGS, *SPECIAL, TASK.instruction, " 7"])
def test_what_is_constant_is_one_token(constant):
    assert len(TOKENIZER(constant)["input_ids"]) == 1


def test_a_prompt_is_short_and_has_one_visual_token_per_28_pixels_square():
    turn = {
        "role": "user",
        "content": [{"type": "image", "image": Image.new("RGB", (84, 84))}, {"type": "text", "text": "How many?"}],
    }
    inputs = PROCESSOR.apply_chat_template(
        [turn], tokenize=True, return_dict=True, add_generation_prompt=True, return_tensors="pt"
    )
    ids = inputs["input_ids"][0].tolist()
    assert ids.count(TOKENIZER.convert_tokens_to_ids("<|image_pad|>")) == 9
    assert inputs["image_grid_thw"].tolist() == [[1, 6, 6]]
    assert TOKENIZER.decode(ids).startswith(
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    )
