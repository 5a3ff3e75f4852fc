"""Literal keys are refused in settings whatever they are called and look like; what is no key passes."""

import pytest

from open_r1.recipe.merge import RECIPES, read_yaml
from open_r1.schema import UserError, printable
from open_r1.utils.secrets import check_secrets, scrub

LONG = "0123456789abcdefABCDEF"


@pytest.mark.parametrize(
    "recipe",
    [
        {"api_base": f"http://{LONG}@host:8000/v1"},
        {"api_base": "https://me:pw@host/v1"},
        {"api_base": f"https://host/v1?api-key={LONG}"},
        {"api_base": f"https://host/v1?a=1&access_token={LONG}"},
        {"api_base": f"https://host/v1?key={LONG}"},
        {"extra_body": {"extra_headers": {"x-api-key": "short"}}},
        {"extra_body": {"extra_headers": {"Ocp-Apim-Subscription-Key": "short"}}},
        {"extra_body": {"extra_headers": {"Authorization": "Basic bWU6cGFzc3dvcmQ="}}},
        {"extra_body": {"headers": ["Authorization: Basic bWU6cGFzc3dvcmQ="]}},
        {"extra_body": {"apiKey": "short"}},
        {"hub_token": "short"},
        {"passwd": "short"},
        {"db": [{"passphrase": "short"}]},
        *({"note": f"see {shape}"} for shape in (
            f"gsk_{LONG}", f"xai-{LONG}", f"glpat-{LONG}", f"sk-{LONG}", f"hf_{LONG}", f"github_pat_{LONG}",
            f"nvapi-{LONG}", f"AIza{LONG}{LONG}", "ASIA0123456789ABCDEF", "xoxb-1234567890-abc",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "-----BEGIN RSA PRIVATE KEY-----",
        )),
        {"argv": ["--report_to", f"https://{LONG}@host"]},
    ],
)  # fmt: skip
def test_a_key_is_refused_by_name_shape_or_place_in_an_address_and_never_repeated(recipe):
    with pytest.raises(UserError, match="looks like a literal key or token") as error:
        check_secrets(recipe)
    assert LONG not in str(error.value) and "short" not in str(error.value) and "bWU6" not in str(error.value)


def test_what_is_no_key_passes():
    check_secrets(
        {
            "problem_key": "question", "answer_key": "label", "images_key": "image", "id_key": "id",
            "sft": {"eos_token": "<|im_end|>", "pad_token": "<pad>"}, "max_tokens": 5, "tokens_per_minute": 4,
            "key_variable": "OPENAI_API_KEY", "api_base": "http://node7:8000/v1", "model_path": "Qwen/Qwen2-VL-2B",
            "data_path": "/data/risk-free-and-long-enough-name", "hub_token": None,
        }
    )  # fmt: skip
    for path in RECIPES.rglob("*.yaml"):
        check_secrets(read_yaml(path))


def test_a_text_from_elsewhere_loses_the_key_that_was_sent_and_its_escape_codes():
    key = "of-no-known-shape/77"
    said = f"\x1b]0;title\x07no such key {key} or gsk_{LONG} \x1b[31m"
    assert scrub(said, key) == "\\x1b]0;title\\x07no such key *** or *** \\x1b[31m"
    assert scrub("an ordinary text", "", "or") == "an ordinary text"


def test_a_message_to_the_user_holds_no_escape_code():
    assert str(UserError("no file \x1b[2Jx\ud83d.json\nsecond line")) == "no file \\x1b[2Jx\\ud83d.json\nsecond line"
    assert printable("grün 5 °C → ok") == "grün 5 °C → ok"
