"""`make plan`: what it prints, what it refuses, and that its remedies work."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from open_r1.cli import plan
from open_r1.preflight import estimate
from open_r1.preflight.fit import accelerate_config, fewest_gpus, fits, need_of, refusal, remedy
from open_r1.preflight.memory import GIB
from open_r1.recipe.merge import merge_recipe
from open_r1.recipe.rules import Recipe
from open_r1.schema import UserError

ROOT = Path(__file__).resolve().parents[1]


def recipe(task: str = "trance", model: str = "7b", *overrides: str) -> Recipe:
    return Recipe.read(merge_recipe(task, model, "ekipl", list(overrides)))


def test_the_paper_s_machine_trains_both_models_as_the_recipes_are():
    for model in ("2b", "7b"):
        for task in ("clevr_math", "geomath", "trance"):
            assert fits(recipe(task, model), 8, 80)


@pytest.mark.parametrize(("model", "gpus", "gib"), estimate.TABLE)
def test_a_remedy_fits_keeps_the_rules_and_the_prompts_of_a_step(model, gpus, gib):
    given = recipe("trance", model)
    changed = {} if fits(given, gpus, gib) else remedy(given, gpus, gib)
    if changed is None:
        assert need_of(given, gpus, gib).total > gib * GIB and fewest_gpus(given, gib) not in range(1, gpus + 1)
        return
    other = given.changed(**changed)
    step = other.step(gpus)
    assert other.prompts_per_generation(gpus) > 0
    assert need_of(other, gpus, gib).total <= gib * GIB and step.rows * step.micro_batches * gpus == 128
    assert set(changed) <= {"steps_per_generation", "per_device_train_batch_size", "accelerate_config"}


def test_what_does_not_fit_is_refused_in_one_line_that_names_the_setting_or_the_gpus(capsys):
    with pytest.raises(UserError) as error:
        plan.main(["--task", "trance", "--model", "7b", "--gpus", "4", "--mem", "40"])
    assert str(error.value).startswith("MODEL=7b needs ") and "\n" not in str(error.value)
    assert str(error.value).endswith('set ARGS="--accelerate_config zero3_offload"')
    assert "the highest moment" in capsys.readouterr().out  # the parts stand above the refusal
    adapters = 'or train adapters: ARGS="--lora.r 64 --steps_per_generation 4"'
    assert refusal(recipe(), 1, 24).endswith(f"take GPUS=8, {adapters}")
    assert refusal(recipe(), 1, 4).endswith("take GPUs with more memory")


def test_the_plan_says_tokens_steps_and_dollars(capsys):
    plan.main(["--task", "trance", "--model", "2b", "--gpus", "8", "--mem", "80", "--num_train_rows", "1600"])
    text = capsys.readouterr().out
    assert "one step: 16 prompts x 8 = 128 rows, 2 x 8 on each GPU" in text
    assert "(2 x 612 for pictures)" in text  # 480,000 pixels are 2,448 patches, 4 to a token
    assert "training: 100 steps" in text  # 1,600 rows once, 16 a step
    assert "scripted, $0; hosted ones would be about $32 to $96" in text  # 2 models x 1,600 x $0.01 to $0.03


def test_hosted_teachers_are_billed_and_not_taken_for_scripted_ones(capsys):
    plan.main(["--task", "geomath", "--model", "2b", "--teachers", "gpt-4o-gemini"])
    assert "about $90 to $270" in capsys.readouterr().out  # 2 models x 4,500 prompts x $0.01 to $0.03


def test_the_parts_add_up_to_the_sum(capsys):
    plan.main(["--task", "clevr_math", "--model", "2b"])
    lines = capsys.readouterr().out.splitlines()
    amounts = [float(found[1]) for line in lines if (found := re.match(r"  [a-zA-Z ]+ +([0-9.]+)$", line))]
    peaks = [float(found[1]) for line in lines if (found := re.match(r"  \+ [a-z ]+ +([0-9.]+)", line))]
    total = next(float(line.split()[2]) for line in lines if "in all" in line)
    assert total == pytest.approx(sum(amounts) + max(peaks), abs=0.4)


def test_one_process_is_launched_by_accelerate_only_where_the_host_keeps_the_optimizer():
    assert accelerate_config(recipe(), 1) is None and accelerate_config(recipe(), 4) == "zero3"
    assert accelerate_config(recipe("trance", "7b", "accelerate_config=zero3_offload"), 1) == "zero3_offload"
    assert (
        accelerate_config(recipe("trance", "tiny"), 1) is None
        and accelerate_config(recipe("trance", "tiny"), 2) == "ddp"
    )


def test_pictures_of_half_the_size_and_vllm_on_a_server_need_less():
    whole = need_of(recipe(), 8, 80)
    half = need_of(recipe("trance", "7b", "max_pixels=240000"), 8, 80)
    assert half.peaks["update"] < whole.peaks["update"] and half.stays == whole.stays
    served = need_of(recipe("trance", "7b", "use_vllm=true", "vllm_mode=server"), 8, 80)
    assert served.peaks["generation"] == 0 and served.stays["vLLM"] == 0
    colocated = need_of(recipe("trance", "7b", "use_vllm=true"), 8, 80)
    assert colocated.stays["vLLM"] == pytest.approx(0.3 * 80 * GIB)


def test_the_table_of_the_docs_is_what_the_arithmetic_gives():
    assert estimate.hardware_table() in (ROOT / "docs" / "HARDWARE.md").read_text()


def test_impossible_amounts_are_refused():
    with pytest.raises(UserError, match="both must be above 0"):
        plan.main(["--gpus", "0"])


@pytest.mark.slow
def test_the_arithmetic_is_held_against_a_real_training():
    """scripts/benchmark_plan.py on its smallest model: what every process has varies by 60 MiB of 200 between runs."""
    script = str(ROOT / "scripts/benchmark_plan.py")
    done = subprocess.run(
        [sys.executable, script, "--measure", "1"], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["parameters"]["predicted"] == told["parameters"]["measured"]
    assert 0.5 < told["update"]["predicted"] / told["update"]["measured"] < 1.5
