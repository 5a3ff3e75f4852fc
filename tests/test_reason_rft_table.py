"""Our graders against what Reason-RFT's own code gave; docs/DATA.md gives the reason of every name listed here."""

import json
from pathlib import Path

import pytest

from open_r1.rewards.math_answer import grade_math, grade_spatial
from open_r1.rewards.spatial_answer import _FUNCTION
from open_r1.rewards.tags import parse_reply

CASES = Path(__file__).resolve().parent / "data" / "reason_rft_scores.json"

TABLE_DISAGREES = {
    'hedge "5 or 6": eval accepts 6': 0,
    '"14" for 14 π: eval ignores the π': 0,
    '"(A)" for A': 1,
    '"A. 12" for A': 1,
    "choice lower case": 1,
    'trance "double quotes" -> nothing parsed': 1,
    "trance quoted id -> nothing parsed": 1,
    "trance front-left (hyphen) -> nothing parsed": 1,
    "trance MULTI-LINE answer + guess in think: eval counts the think too": 1,
}
FORMAT_DISAGREES = {"two answer tags: first one counts": 0}
PARSED_BY_US_ONLY = {name for name in TABLE_DISAGREES if name.endswith("nothing parsed")}


@pytest.fixture(scope="module")
def cases():
    return json.loads(CASES.read_text(encoding="utf-8"))


def score(case, setting):
    grade = grade_spatial if case["variant"].startswith("trance") else grade_math
    return grade(case["completion"], case["answer"], setting)


def test_the_published_table_score_is_ours_except_for_the_listed_cases(cases):
    differing = {}
    for case in cases:
        ours = score(case, "partial" if case["variant"].startswith("trance") else "exact").accuracy
        if ours != pytest.approx(case["table_score"]):
            assert differing.setdefault(case["case"], ours) == ours
    assert len(cases) == 139
    assert differing == TABLE_DISAGREES


def test_the_format_score_is_theirs_except_for_the_listed_cases(cases):
    assert {
        case["case"]: score(case, "partial" if case["variant"].startswith("trance") else "exact").format
        for case in cases
        if parse_reply(case["completion"]).well_formed != case["train_format"]
    } == FORMAT_DISAGREES


def test_the_tolerant_setting_is_their_mathematical_reward_except_where_the_truth_is_zero(cases):
    tolerant = [case for case in cases if case["variant"] == "geomath_tolerant"]
    assert len(tolerant) > 10
    for case in tolerant:
        expected = 1 if case["answer"] == "0" else case["train_accuracy"]
        assert score(case, "tolerant").accuracy == pytest.approx(expected)


@pytest.mark.parametrize("setting", ["full", "partial"])
def test_their_spatial_training_reward_is_ours_times_their_repetition_factor(cases, setting):
    spatial = [case for case in cases if case["variant"] == f"trance_{setting}"]
    assert len(spatial) > 10
    for case in spatial:
        if case["case"] in PARSED_BY_US_ONLY:
            continue
        said = _FUNCTION.findall(parse_reply(case["completion"]).answer or case["completion"])
        factor = len(set(said)) / len(said) if said else 1
        assert score(case, setting).accuracy * factor == pytest.approx(case["train_accuracy"])
