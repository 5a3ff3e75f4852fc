"""The rehearsal's checkpoint: the real tokenizer's ids, the real model's widths."""

from importlib.util import find_spec

import pytest

from open_r1.cli.full_size import SPECIAL, build_tokenizer, configuration, shape_of


@pytest.mark.skipif(find_spec("dashscope") is None, reason="dashscope, an extra, has the tokenizer's ranks")
def test_the_tokenizer_is_qwen2_s_to_the_id_and_teacher_text_gives_words_of_it():
    tokenizer = build_tokenizer()
    assert tokenizer("Hello world").input_ids == [9707, 1879]
    assert [tokenizer.convert_tokens_to_ids(token) for token in SPECIAL] == list(range(151_643, 151_657))
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (151_645, 151_643)
    text = "The answer is 42, größer als 7: 三"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    config = configuration(shape_of("2b", 2), tokenizer)
    assert (config.image_token_id, config.vision_config.depth, config.text_config.num_hidden_layers) == (151_655, 4, 2)


def test_two_layers_of_the_2b_are_441_million_parameters_of_2209():
    assert shape_of("2b", None).parameters == 2_208_985_600
    assert shape_of("2b", 2).parameters == 441_273_856
