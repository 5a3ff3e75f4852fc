"""Decoding without copies of the cache: the same attention, and a model that is left as it was."""

import pytest
import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from open_r1.policy.decoding import ATTENTION, attention, grouped_decoding
from open_r1.policy.loading import load_policy


@pytest.mark.parametrize("queries", [1, 3])
def test_attention_is_that_of_plain_sdpa_up_to_rounding(queries):
    torch.manual_seed(0)
    module = torch.nn.Module()
    module.num_key_value_groups, module.is_causal = 2, True
    query = torch.randn(5, 4, queries, 32)  # 4 query heads share 2 key heads
    key, value = torch.randn(2, 5, 2, 7, 32)
    mask = torch.rand(5, 1, queries, 7) < 0.7
    mask[..., 0] = True
    told = {"dropout": 0.0, "scaling": 32**-0.5}
    plain = sdpa_attention_forward(module, query, key, value, mask, **told)[0]
    torch.testing.assert_close(attention(module, query, key, value, mask, **told)[0], plain)


def test_a_model_attends_as_before_after_the_block_and_after_an_error(tiny_folder):
    model, _ = load_policy(str(tiny_folder))
    text = model.get_decoder()
    with pytest.raises(KeyError), grouped_decoding(model):
        assert text.config._attn_implementation == ATTENTION
        raise KeyError
    assert text.config._attn_implementation == "sdpa"


def test_a_model_that_does_not_attend_by_sdpa_is_left_alone(tiny_folder):
    model, _ = load_policy(str(tiny_folder))
    model.get_decoder().set_attn_implementation("eager")
    with grouped_decoding(model):
        assert model.get_decoder().config._attn_implementation == "eager"
