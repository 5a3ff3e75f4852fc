"""What is checked before a real model is asked: one clear line each, and nothing sent but a look at the server."""

import json
import re

import pytest

from fault_server import FaultServer
from open_r1.external.build import build_providers
from open_r1.external.hosted.prices import image_tokens, price, price_table, prompt_tokens
from open_r1.external.hosted.ready import lacking
from open_r1.recipe.merge import merge_recipe
from open_r1.recipe.rules import check_recipe
from open_r1.recipe.settings import RECIPES, ExternalModelConfig, recipe_names
from open_r1.schema import UserError

HOSTED = {"name": "t", "provider": "litellm"}
FREE = {"usd_per_million_in": 0, "usd_per_million_out": 0}


def entry(**changes) -> dict:
    plain = {"name": "t", "provider": "litellm", "model": "gpt-4o", "key_variable": "TEACHER_KEY"}
    return {key: value for key, value in {**plain, **changes}.items() if value is not None}


def lines(**changes) -> list[str]:
    return lacking([ExternalModelConfig(**entry(**changes))])


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("TEACHER_KEY", "sk-something-secret-and-long")


def test_a_known_model_with_its_key_lacks_nothing():
    assert lines() == [] and lines(model="openai/gpt-4o") == [] and lines(model="gemini/gemini-2.5-pro") == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "gpt-4oo"}, "litellm knows no model 'gpt-4oo'.*did you mean 'gpt-4o"),
        ({"model": "gemini/gemini-1.5-pro"}, "litellm knows no model 'gemini/gemini-1.5-pro'"),
        ({"model": "text-embedding-3-small"}, "is no chat model"),
        ({"key_variable": "NO_SUCH_KEY"}, "environment variable NO_SUCH_KEY is not set; export it"),
        ({"key_variable": None}, "a hosted model needs a key; give key_variable"),
        ({"api_base": "http://127.0.0.1:9/v1", "model": "hosted_vllm/x"}, "no price is known for 'hosted_vllm/x'"),
        (
            {
                "api_base": "http://127.0.0.1:9/v1",
                "usd_per_million_in": 0,
                "usd_per_million_out": 0,
                "model": "openai/x",
            },
            "api_base http://127.0.0.1:9/v1 cannot be reached",
        ),
    ],
)
def test_each_lack_is_one_line_with_its_remedy(changes, said):

    first = lines(**changes)[0]
    assert re.search(said, first) and "\n" not in first and "sk-something" not in first


def test_a_server_that_serves_another_model_is_noticed():
    with FaultServer() as server:
        free = {"api_base": server.url} | FREE
        assert lines(model="hosted_vllm/m", **free) == []
        [line] = lines(model="hosted_vllm/other", **free)
        assert line.endswith("serves m, not 'other'; correct model")
        assert server.asked == []
        with pytest.raises(UserError, match="serves m, not 'other'"):
            build_providers([ExternalModelConfig(**entry(model="hosted_vllm/other", **free))], 0, 10**6)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": None}, "model is empty"),
        ({"key_variable": "3f9a0c77b1e24d5ab6c8"}, "key_variable is no name of an environment variable"),
        ({"key_variable": "sk-abcdefghijklmnopqrstuvwx"}, "looks like a literal key"),
        ({"api_key": "x"}, "looks like a literal key"),
        ({"extra_body": {"headers": {"Authorization": "Bearer abcdefghijklmnopqrstu"}}}, "looks like a literal key"),
        ({"api_base": "http://me:password@host/v1"}, "looks like a literal key"),
        ({"api_base": "host:8000"}, "api_base is 'host:8000'; it must begin with http"),
        ({"extra_body": {"n": 4}}, "extra_body holds 'n'"),
        ({"temperature": -0.5}, "temperature is -0.5; it must be 0 or more"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"concurrency": 0}, "concurrency is 0"),
        ({"usd_per_million_in": 1.0}, "one price of two"),
        ({"accuracy": 0.5}, "accuracy is read by provider 'scripted'"),
        ({"provider": "scripted"}, "is read by provider 'litellm'"),
    ],
)
def test_a_bad_setting_is_refused_in_one_line_without_repeating_a_key(changes, said):
    recipe = {**merge_recipe("clevr_math", "tiny", "ekipl"), "external_models": [entry(**changes)]}
    with pytest.raises(UserError) as error:
        check_recipe(recipe)
    message = str(error.value)
    assert said in message and "\n" not in message
    assert "3f9a0c" not in message and "abcdefghijkl" not in message and "password" not in message


@pytest.mark.parametrize("name", [*sorted({*recipe_names("teachers")} - {"bought"}), "gpt-4o-gemini,bought"])
@pytest.mark.parametrize("model", ["tiny", "2b"])
def test_every_recipe_of_teachers_keeps_every_rule_and_leaves_the_baseline_alone(name, model):
    for method in ("ekipl", "grpo"):
        recipe = merge_recipe("trance", model, method, teachers=name)
        check_recipe(recipe, 8)
        assert bool(recipe["external_models"]) == (method == "ekipl")
        assert all(teacher["provider"] != "scripted" for teacher in recipe["external_models"])


def test_prices_in_the_recipes_are_those_of_litellm_s_table():
    [gpt, gemini] = merge_recipe("trance", "2b", "ekipl", teachers="gpt-4o-gemini")["external_models"]
    for teacher in (gpt, gemini):
        table = price_table()[teacher["model"]]
        assert teacher["usd_per_million_in"] == pytest.approx(1e6 * table["input_cost_per_token"])
        assert teacher["usd_per_million_out"] == pytest.approx(1e6 * table["output_cost_per_token"])


def test_an_unknown_recipe_of_teachers_is_named_with_the_nearest():
    with pytest.raises(UserError, match=r"unknown teachers 'vlm'; valid: .*did you mean 'vllm'"):
        merge_recipe("trance", "2b", "ekipl", teachers="vlm")
    assert (RECIPES / "teachers").is_dir()


def test_a_recipe_of_teachers_may_lie_anywhere(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("teachers: [{name: mine, provider: litellm, model: gpt-4o, key_variable: MY_KEY}]\n")
    recipe = merge_recipe("trance", "2b", "ekipl", teachers=f"{mine},bought")
    assert recipe["external_models"][0]["name"] == "mine" and recipe["store_read_only"]
    with pytest.raises(UserError, match=r"no recipe .*none\.yaml; give an existing YAML file"):
        merge_recipe("trance", "2b", "ekipl", teachers=str(tmp_path / "none.yaml"))


def test_prices_are_dollars_per_token_cached_tokens_cheaper_and_unknown_ones_none():
    gpt = price(ExternalModelConfig(**HOSTED, model="gpt-4o"))
    assert gpt is not None
    assert gpt.usd({"prompt_tokens": 1000, "completion_tokens": 100}) == pytest.approx(0.0025 + 0.001)
    cached = {"prompt_tokens": 1000, "completion_tokens": 0, "prompt_tokens_details": {"cached_tokens": 400}}
    assert gpt.usd(cached) == pytest.approx(600 * 2.5e-6 + 400 * 1.25e-6)
    assert gpt.usd({"prompt_tokens": 5}) is None
    assert price(ExternalModelConfig(**HOSTED, model="hosted_vllm/x")) is None
    assert price(ExternalModelConfig(**HOSTED, model="gpt-4o", api_base="http://x")) is None  # not OpenAI's own
    own = ExternalModelConfig(**HOSTED, model="hosted_vllm/x", usd_per_million_in=0.0, usd_per_million_out=2.0)
    assert price(own).usd({"prompt_tokens": 9, "completion_tokens": 3}) == pytest.approx(6e-6)


def test_tokens_of_pictures_follow_the_providers_rules():
    assert image_tokens("gpt-4o", 1024, 1024) == 85 + 4 * 170  # OpenAI's own example: 765
    assert image_tokens("gpt-4o", 2048, 4096) == 85 + 6 * 170  # and 1105
    assert image_tokens("gpt-4o-mini", 84, 84) == 2833 + 5667
    assert image_tokens("claude-sonnet-4-5", 1000, 750) == 1000
    assert image_tokens("hosted_vllm/Qwen2.5-VL", 840, 560) >= 600  # 30 x 20 tokens of 28 x 28 pixels
    assert prompt_tokens("gpt-4o", "x" * 100, [(84, 84)]) == 50 + 32 + 255


def test_the_price_table_needs_no_import_of_litellm():
    import subprocess
    import sys

    code = "import sys, open_r1.external.hosted.ready as r; r.price_table(); print('litellm' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(run.stdout.lower()) is False


def test_weights_that_need_log_probs_are_refused_with_a_model_whose_api_has_none():
    silent, telling = (ExternalModelConfig(**entry(model=name)) for name in ("claude-opus-4-5", "gpt-4o"))
    with pytest.raises(UserError, match="the API of 'claude-opus-4-5' returns no log-probs") as error:
        build_providers([silent], 0, 480_000, logprobs=True)
    assert "\n" not in str(error.value)
    assert len(build_providers([telling], 0, 480_000, logprobs=True)) == len(build_providers([silent], 0, 480_000)) == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "gpt-5", "temperature": 0.7}, "gpt-5 doesn't support temperature=0.7"),
        ({"model": "o3", "top_p": 0.9}, r"does not support parameters: \['top_p'\]"),
        ({"model": "gpt-4o", "extra_body": {"reasoning_effort": "low"}}, "reasoning_effort"),
        ({"model": "gpt-4o", "max_tokens": 10**6}, "max_tokens is 1,000,000, and 'gpt-4o' gives at most 16,384"),
    ],
)
def test_a_setting_that_the_model_refuses_is_named_before_anything_is_sent(changes, said):
    [line] = lines(**changes)
    assert re.search(said, line) and "\n" not in line and "drop" not in line


def test_settings_that_a_model_takes_are_no_fault():
    for changes in (
        {"model": "gpt-5", "temperature": 1.0, "max_tokens": 4096},
        {"model": "o3", "extra_body": {"reasoning_effort": "low"}},
        {"model": "gemini/gemini-2.5-pro", "temperature": 1.0, "top_p": 0.9},
    ):
        assert lines(**changes) == []


@pytest.mark.parametrize("slip", ["", "/", "/v1/chat/completions", "/v1/chat/completions/"])
def test_an_address_without_its_v1_or_with_too_much_is_noticed_and_the_right_one_said(slip):
    with FaultServer() as server:
        [line] = lines(model="hosted_vllm/m", api_base=server.url.removesuffix("/v1") + slip, **FREE)
    assert f"write api_base: {server.url}" in line and server.asked == []


def test_an_address_where_nothing_is_found_is_noticed_and_one_that_tells_no_models_is_not():
    with FaultServer() as server:
        [line] = lines(model="hosted_vllm/m", api_base=f"{server.url}/nothing", **FREE)
        assert "answers 404 for /models and /chat/completions" in line
    with FaultServer(models=None) as server:
        assert lines(model="hosted_vllm/m", api_base=server.url, **FREE) == []


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ((503, "starting"), "answers HTTP 503; wait until the server is ready"),
        ((401, "no"), r"refuses the key \(HTTP 401\)"),
        ((307, "http://elsewhere/v1/models"), "redirects to http://elsewhere/v1, where nothing is sent unasked"),
        ((200, '{"data": [{"id": "\\u001b[2Jx"}]}'), r"serves \\x1b\[2Jx, not 'm'"),
        ((200, "[" * 10**5), None),
        ((200, '{"data": 7}'), None),
        ((200, "<html>"), None),
    ],
)
def test_what_a_server_says_of_its_models_passes_a_schema(models, said):
    with FaultServer(models=models) as server:
        found = lines(model="hosted_vllm/m", api_base=server.url, **FREE)
    assert (found == []) if said is None else (len(found) == 1 and re.search(said, found[0])), found


def test_a_server_that_answers_for_ever_is_waited_for_no_longer_than_allowed(monkeypatch):
    monkeypatch.setattr("open_r1.external.hosted.probe.REACH_S", 0.3)
    with FaultServer(models=(200, "trickle")) as server:
        assert lines(model="hosted_vllm/m", api_base=server.url, **FREE) == []  # and it returns


@pytest.mark.parametrize("key", ["sk-with-line-end-0123456789\n", "sk-with blank-0123456789", "schlüssel-0123456789"])
def test_a_key_that_cannot_be_sent_is_refused_without_repeating_it(monkeypatch, key):
    monkeypatch.setenv("TEACHER_KEY", key)
    [line] = lines()
    assert "the key in TEACHER_KEY holds a line end, a blank" in line and key.strip() not in line
