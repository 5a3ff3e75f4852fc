"""Candidates: replies of the policy and of external models as scored token sequences in one pool.

External text is data. It is encoded without special-token parsing: a reply that holds "<|image_pad|>" or "<|im_end|>"
becomes ordinary text tokens, since the real ones would break the match of images and features or end the turn early.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from open_r1.schema import POLICY, Candidate, Reply, Score

if TYPE_CHECKING:  # importing transformers takes seconds
    from transformers import PreTrainedTokenizerBase

Grade = Callable[[str], Score]  # a task's grader with the row's answer and the training setting filled in
MAX_CHARS_PER_TOKEN = 64  # more text than this per kept token is never read; few of Qwen2's tokens are longer


def policy_candidates(
    completion_ids: Sequence[Sequence[int]], texts: Sequence[str], eos_token_ids: Collection[int], grade: Grade
) -> list[Candidate]:
    """Score the policy's own samples of one prompt; ids and texts are taken as TRL hands them over.

    Args:
        completion_ids: N sampled sequences without padding, each with its EOS where it ended by itself.
        texts: the same N, decoded without special tokens.
        eos_token_ids: every id that ends a reply; a sample that ends in none of them was cut (`truncated`).
        grade: scores one text.
    """
    return [
        Candidate(POLICY, text, tuple(ids), grade(text), truncated=not ids or ids[-1] not in eos_token_ids)
        for ids, text in zip(completion_ids, texts, strict=True)
    ]


def external_candidates(
    source: str,
    replies: Sequence[Reply],
    tokenizer: "PreTrainedTokenizerBase",
    eos_token_id: int,
    max_completion_length: int,
    grade: Grade,
) -> list[Candidate]:
    """Encode and score one external model's replies to one prompt, in order.

    A whole reply ends in exactly one EOS. One that does not fit into `max_completion_length` tokens with its EOS is cut
    to that many, has no EOS and is `truncated`, as a policy sample of that length would be; so is one that the model
    itself did not finish (finish_reason "length" or "content_filter"). Text and score are always those of the tokens
    that are kept, decoded again: what is trained on is what was scored. Blank replies do not get here, the pool of
    external models drops and counts them.

    Args:
        source: the external model's name.
        replies: its replies.
        tokenizer: the policy's.
        eos_token_id: the id that ends a reply of the policy.
        max_completion_length: most tokens of a candidate, EOS included.
        grade: scores one text.
    """
    if not replies:
        return []
    readable = MAX_CHARS_PER_TOKEN * max_completion_length  # bounds the work on a reply of any length
    ids_NT = encode_as_text([reply.text[:readable] for reply in replies], tokenizer)
    candidates: list[Candidate] = []
    for reply, ids in zip(replies, ids_NT, strict=True):
        whole = reply.finish_reason == "stop" and len(reply.text) <= readable and len(ids) < max_completion_length
        kept = ids if whole else ids[:max_completion_length]
        text = str(tokenizer.decode(kept, clean_up_tokenization_spaces=False))  # pyright: ignore[reportUnknownMemberType]
        token_ids = (*kept, eos_token_id) if whole else tuple(kept)
        cut = len(kept) < len(ids) or len(reply.text) > readable
        logprobs = _logprobs(reply.logprobs, len(ids), len(token_ids), cut)
        candidates.append(Candidate(source, text, token_ids, grade(text), truncated=not whole, logprobs=logprobs))
    return candidates


def _logprobs(given: Sequence[float] | None, encoded: int, length: int, cut: bool) -> tuple[float, ...] | None:
    """Log-probs of the `length` tokens that are kept of a reply whose text is `encoded` tokens of the policy's."""
    if given is None or not all(map(math.isfinite, given)):
        return None
    if len(given) - encoded not in (0, 1) and cut:
        return None  # how many of a foreign tokenisation's tokens are left is not known
    return _aligned(given, encoded, length)


def _aligned(given: Sequence[float], encoded: int, length: int) -> tuple[float, ...]:
    """Token by token the policy's where it may be; an end that was not reported counts as certain."""
    return (*given, 0.0)[:length] if len(given) - encoded in (0, 1) else tuple(given)


def scored_by(candidate: Candidate, logprobs: Mapping[str, Sequence[float]]) -> Candidate:
    """Return the candidate with the log-probs of external models that did not write it, by their names."""
    length = len(candidate.token_ids)
    encoded = length if candidate.truncated else length - 1
    return replace(candidate, others={name: _aligned(given, encoded, length) for name, given in logprobs.items()})


def encode_as_text(texts: Sequence[str], tokenizer: "PreTrainedTokenizerBase") -> list[list[int]]:
    """Encode without adding or recognising special tokens; added tokens that are not special stay single tokens."""
    texts = [text.encode(errors="replace").decode() for text in texts]  # JSON can bring half a surrogate pair
    ids_NT = tokenizer(texts, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
    special = {id_ for id_, token in tokenizer.added_tokens_decoder.items() if token.special}
    assert not any(special.intersection(ids) for ids in ids_NT), "a special token was encoded from text"
    return ids_NT
