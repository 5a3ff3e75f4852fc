"""Candidates: external text is data, one EOS ends a whole reply, what is cut is scored as cut."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, pre_tokenizers
from transformers import Qwen2Tokenizer

from open_r1.method import candidates as candidates_module
from open_r1.method.candidates import encode_as_text, external_candidates, policy_candidates
from open_r1.rewards.tags import format_reply, parse_reply
from open_r1.schema import POLICY, Reply, Score

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
           "<|video_pad|>")  # fmt: skip


def build_tokenizer() -> Qwen2Tokenizer:
    """Bytes and "the", Qwen2-VL's special tokens, and the tags as added tokens that are not special."""
    vocab = {char: i for i, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocab |= {"th": len(vocab), "the": len(vocab) + 1}
    tokenizer = Qwen2Tokenizer(
        vocab=vocab, merges=[("t", "h"), ("th", "e")], eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL], special_tokens=True)
    tokenizer.add_tokens(
        [AddedToken(tag, normalized=False) for tag in ("<think>", "</think>", "<answer>", "</answer>")]
    )
    return tokenizer


TOKENIZER = build_tokenizer()
SPECIAL_IDS = set(TOKENIZER.convert_tokens_to_ids(list(SPECIAL)))
EOS = TOKENIZER.eos_token_id


def grade(text: str) -> Score:
    reply = parse_reply(text)
    return Score(accuracy=float(reply.answer == "4"), format=float(reply.well_formed))


def external(*texts: str, limit: int = 64):
    return external_candidates("gpt", [Reply(text) for text in texts], TOKENIZER, EOS, limit, grade)


def test_the_tokenizer_itself_does_recognise_special_tokens():
    assert SPECIAL_IDS.intersection(TOKENIZER("a<|image_pad|>b")["input_ids"])


@pytest.mark.parametrize("token", SPECIAL)
def test_special_tokens_in_external_text_become_ordinary_text(token):
    (candidate,) = external(f"a{token}b")
    *ids, last = candidate.token_ids
    assert not SPECIAL_IDS.intersection(ids) and last == EOS
    assert candidate.text == f"a{token}b" == TOKENIZER.decode(ids)


def test_encoding_as_text_leaves_the_tokenizer_as_it_was():
    before = TOKENIZER("a<|im_end|>")["input_ids"]
    encode_as_text(["a<|im_end|>"], TOKENIZER)
    assert TOKENIZER("a<|im_end|>")["input_ids"] == before


def test_added_tokens_that_are_not_special_stay_single_tokens_as_in_policy_samples():
    think, end = TOKENIZER.convert_tokens_to_ids(["<think>", "</think>"])
    assert encode_as_text(["<think>the</think>"], TOKENIZER) == [[think, TOKENIZER.convert_tokens_to_ids("the"), end]]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([*SPECIAL, "<|", "|>", "the", "<think>", " ", "é", "数", "😀", "\n", "x"]), max_size=12)
)
def test_no_text_gives_a_special_id_and_the_kept_text_is_what_the_tokens_say(parts):
    for candidate in external("".join(parts), limit=16):
        ids = candidate.token_ids if candidate.truncated else candidate.token_ids[:-1]
        assert len(candidate.token_ids) <= 16 and not SPECIAL_IDS.intersection(ids)
        assert candidate.text == TOKENIZER.decode(list(ids))
        assert candidate.truncated or candidate.token_ids[-1] == EOS


def test_a_whole_reply_is_scored_and_ends_in_exactly_one_eos():
    (candidate,) = external(format_reply("2 + 2", "4"))
    assert candidate.token_ids.count(EOS) == 1 and candidate.token_ids[-1] == EOS
    assert candidate.score == Score(accuracy=1, format=1) and candidate.score.reward == 2
    assert candidate.source == "gpt" and candidate.external and not candidate.truncated


def test_a_reply_fits_only_with_its_eos():
    # five byte tokens: with EOS six
    (whole,), (cut,) = external("abcde", limit=6), external("abcde", limit=5)
    assert len(whole.token_ids) == 6 and not whole.truncated
    assert len(cut.token_ids) == 5 and cut.truncated and EOS not in cut.token_ids and cut.text == "abcde"


def test_a_reply_that_is_cut_is_scored_as_cut():
    text = format_reply("2 + 2", "4")
    length = len(external(text)[0].token_ids)
    (cut,) = external(text, limit=length - 3)  # loses </answer> and the 4
    assert cut.truncated and cut.score == Score(accuracy=0, format=0) and text.startswith(cut.text)


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_a_reply_that_its_model_did_not_finish_is_no_whole_reply(reason):
    reply = Reply("<think>2 + 2", finish_reason=reason)
    (candidate,) = external_candidates("gpt", [reply], TOKENIZER, EOS, 64, grade)
    assert candidate.truncated and EOS not in candidate.token_ids and candidate.text == "<think>2 + 2"


def test_order_and_number_of_replies_are_kept():
    assert [c.text for c in external("1", "22", "1")] == ["1", "22", "1"] and external() == []


def test_log_probs_are_kept_token_by_token_where_the_tokenisations_agree_and_whole_where_they_do_not():
    ids = encode_as_text(["1 2 1 2"], TOKENIZER)[0]
    assert len(ids) > 3

    def kept(given, limit=64, **changes):
        reply = Reply("1 2 1 2", logprobs=given, **changes)
        return external_candidates("vllm", [reply], TOKENIZER, EOS, limit, grade)[0].logprobs

    own, foreign = (-0.5,) * len(ids), (-0.5, -1.0)
    assert kept(None) is None and kept((float("nan"), *foreign)) is None
    assert kept((*own, -2.0)) == (*own, -2.0)  # with its end
    assert kept(own) == (*own, 0.0)  # without: the end counts as certain
    assert kept(own, finish_reason="length") == own
    assert kept((*own, -2.0), limit=3) == own[:3]
    assert kept(foreign) == foreign and kept(foreign, limit=3) is None  # cut, and nobody knows where


def test_half_a_surrogate_pair_is_replaced():
    assert external("1\ud8002")[0].text == "1?2"


def test_ten_megabytes_of_text_cost_no_more_than_what_is_kept_of_them(monkeypatch):
    encoded = []
    monkeypatch.setattr(
        candidates_module, "encode_as_text", lambda texts, _: encoded.extend(texts) or encode_as_text(texts, TOKENIZER)
    )
    candidates = external(*("the cat " * 1_250_000, "1" * 10_000_000, " " * 10_000_000), limit=512)
    assert len(encoded) == 3 and max(map(len, encoded)) < 100_000
    assert [(len(c.token_ids), c.truncated) for c in candidates] == [(512, True)] * 3


def test_policy_samples_keep_their_ids_and_are_truncated_without_an_end():
    whole, cut, empty = policy_candidates(
        [[7, 8, EOS], [7, 8, 9], []], ["<answer>4</answer>", "five", ""], {EOS, 0}, grade
    )
    assert whole.token_ids == (7, 8, EOS) and whole.source == POLICY and not whole.external and not whole.truncated
    assert whole.score.accuracy == 1 and cut.score.accuracy == 0
    assert cut.truncated and empty.truncated


def test_ids_and_texts_of_different_number_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        policy_candidates([[1], [2]], ["a"], {EOS}, grade)
