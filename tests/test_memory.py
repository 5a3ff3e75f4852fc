"""The memory arithmetic: exact parameters, and numbers that can be followed by hand."""

import json
import struct
from math import prod
from pathlib import Path

import pytest

from open_r1.preflight.memory import (  # fmt: skip
    AUTOCAST,
    DEEPSPEED,
    FLOAT32,
    GIB,
    RESERVE,
    SHARDINGS,
    ZERO_BUCKET,
    Load,
    Setup,
    layer_bytes,
    training_memory,
    update_peak,
)
from open_r1.preflight.shape import SHAPES, adapter_parameters, read_shape
from open_r1.recipe.settings import recipe_names
from open_r1.schema import UserError

ROOT = Path(__file__).resolve().parents[1]
LOAD = Load(rows=2, generated=16, pictures=1, patches=2448, text_tokens=200, completion_tokens=512)
P2, P7 = 2_208_985_600, 8_291_375_616  # parameters of Qwen2-VL-2B and 7B as their model cards say


def test_the_number_of_parameters_is_exact_for_the_2b_the_7b_and_the_tiny_policy():
    assert SHAPES["2b"].parameters == P2 and SHAPES["7b"].parameters == P7
    base = ROOT / "bases" / "clevr_math"
    with (base / "model.safetensors").open("rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    header.pop("__metadata__", None)
    assert read_shape(base).parameters == sum(prod(tensor["shape"]) for tensor in header.values())


def test_another_model_s_config_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"hidden_size": 8}')
    with pytest.raises(UserError, match=r"config.json has no vocab_size; it must be a Qwen2-VL's"):
        read_shape(tmp_path)


def test_a_row_of_480k_pixels_has_612_picture_tokens():
    assert LOAD.prompt_tokens == 200 + 612 and LOAD.tokens == 1324


def test_one_process_holds_20_bytes_per_parameter_and_without_reference_16():
    need = training_memory(SHAPES["2b"], LOAD, Setup(AUTOCAST, "ddp", 1))
    assert {name: size / P2 for name, size in need.stays.items() if size and name != "reserve"} == {
        "weights": 4, "optimizer": 8, "reference": 4,
    }  # fmt: skip
    assert need.peaks["optimizer step"] == 4 * P2 and need.stays["reserve"] == RESERVE
    alone = training_memory(SHAPES["2b"], LOAD, Setup(AUTOCAST, "ddp", 1, reference=False))
    assert need.total - alone.total == 4 * P2


def test_zero_shares_what_it_says_among_the_processes():
    two, three = (training_memory(SHAPES["7b"], LOAD, Setup(DEEPSPEED, name, 8)) for name in ("zero2", "zero3"))
    assert two.stays["weights"] == 2 * P7 and three.stays["weights"] == 2 * P7 / 8
    assert two.stays["optimizer"] == three.stays["optimizer"] == 12 * P7 / 8  # moments and the float32 weights
    assert two.peaks["optimizer step"] == (2 + 4) * P7 / 8
    assert three.peaks["generation"] - two.peaks["generation"] == 2 * P7  # gathered whole to sample
    away = training_memory(SHAPES["7b"], LOAD, Setup(DEEPSPEED, "zero3_offload", 8))
    assert away.stays["optimizer"] == 0 and away.peaks["optimizer step"] == 0
    assert three.peaks["update"] - away.peaks["update"] == 2 * P7 / 8 and ZERO_BUCKET == 1e9


def test_every_accelerate_configuration_is_known():
    assert set(SHARDINGS) == set(recipe_names("accelerate_configs"))


def test_a_decoder_layer_of_the_2b_keeps_what_can_be_counted():
    # float32: 10 x 1536 for norms and attention, 2 x 256 for keys and values, 4 x 8960 for the MLP
    kept, extra = layer_bytes(SHAPES["2b"], FLOAT32)
    assert kept == 4 * (10 * 1536 + 2 * 256 + 4 * 8960) and extra == 4 * (2 * 8960 + 2 * 1536)


def test_checkpointing_keeps_one_input_per_layer():
    shape = SHAPES["2b"]
    keeps, recomputes = (update_peak(shape, LOAD, Setup(AUTOCAST, "ddp", 1, checkpointing=on)) for on in (False, True))
    assert keeps > 4 * recomputes
    inputs = 28 * 2 * LOAD.tokens * 1536 * 4 + 32 * 2 * 2448 * 1280 * 2  # of the layers, of the vision blocks
    assert inputs < recomputes < inputs + 6 * GIB


def test_twice_the_rows_need_twice_the_activations_and_no_more_weights():
    one = training_memory(SHAPES["2b"], LOAD, Setup(FLOAT32, "ddp", 1, on_gpu=False))
    two = training_memory(SHAPES["2b"], Load(**{**vars(LOAD), "rows": 4}), Setup(FLOAT32, "ddp", 1, on_gpu=False))
    assert one.stays == two.stays and one.peaks["update"] < two.peaks["update"] < 2 * one.peaks["update"]


def test_vllm_takes_its_share_and_leaves_no_generation_to_transformers():
    need = training_memory(SHAPES["2b"], LOAD, Setup(AUTOCAST, "ddp", 1, generates=False, vllm=24 * GIB))
    assert need.stays["vLLM"] == 24 * GIB and need.peaks["generation"] == 0


def test_an_adapter_holds_a_frozen_base_in_bfloat16_and_trains_what_it_adds():
    """Rank 64 on all seven projections of the 2B's 28 layers: 64 x (inputs + outputs) each."""
    sizes = 2 * 1536 + 2 * (1536 + 256) + 2 * 1536 + 3 * (1536 + 8960)
    adapter = adapter_parameters(SHAPES["2b"], 64)
    assert adapter == 28 * 64 * sizes == 73_859_072
    need = training_memory(SHAPES["2b"], LOAD, Setup(AUTOCAST, "ddp", 1, adapter=adapter))
    assert need.stays["weights"] == 2 * P2 + 4 * adapter and need.stays["optimizer"] == 8 * adapter
    assert need.stays["reference"] == 0 and need.peaks["optimizer step"] == 4 * adapter
    whole = training_memory(SHAPES["2b"], LOAD, Setup(AUTOCAST, "ddp", 1))
    assert need.total < 0.45 * whole.total
    shared = training_memory(SHAPES["7b"], LOAD, Setup(DEEPSPEED, "zero3", 8, adapter=8000))
    assert shared.stays["weights"] == 2 * (P7 + 8000) / 8


def test_an_unknown_target_of_an_adapter_is_refused():
    with pytest.raises(UserError, match=r"q_prj.*did you mean 'q_proj'"):
        adapter_parameters(SHAPES["2b"], 8, ["q_prj"])


def test_peft_adds_as_many_parameters_as_are_counted(tiny_folder):
    from peft import LoraConfig, get_peft_model

    from open_r1.policy.loading import load_policy
    from open_r1.recipe.settings import LORA_TARGETS

    model = get_peft_model(load_policy(str(tiny_folder))[0], LoraConfig(r=8, target_modules=list(LORA_TARGETS)))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == adapter_parameters(read_shape(tiny_folder), 8)
