"""Shared parts of the tests: a folder of tiny synthetic rows and a freshly initialised tiny Qwen2-VL."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors: two threads gain nothing and crawl on a busy machine
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session")
def counting_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight training rows and four of each test set of the counting task, tiny size."""
    from open_r1.synthetic.write import write_dataset

    folder = tmp_path_factory.mktemp("data") / "clevr_math"
    write_dataset("clevr_math", folder, "tiny", seed=0, counts={"train": 8, "id": 4, "ood": 4}, workers=1)
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder of a freshly initialised tiny Qwen2-VL for the counting task."""
    from open_r1.policy.tiny import build_model, build_processor
    from open_r1.tasks import get_task

    folder = tmp_path_factory.mktemp("tiny")
    processor = build_processor(["rest; large red metal cube 1; small blue rubber sphere 2"], get_task("clevr_math"))
    build_model(processor).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


SHORT = [
    *("num_train_rows=8", "num_test_rows=4", "num_generations=4", "per_device_train_batch_size=8", "warmup_steps=0"),
    *(
        "max_completion_length=48",
        "eval_max_completion_length=4",
        "disable_tqdm=true",
        "prompts_per_step=2",
    ),
]


@pytest.fixture
def config_of(tiny_folder, counting_data, tmp_path):
    """Returns make(method, *overrides): the method's tiny recipe on eight rows, from an untrained base."""

    def make(method: str, *overrides: str):
        from open_r1.configs import EKIPLConfig
        from open_r1.recipe.merge import merge_recipe

        places = [f"data_path={counting_data}", f"base_path={tiny_folder}", f"output_dir={tmp_path / 'run'}"]
        return EKIPLConfig(**merge_recipe("clevr_math", "tiny", method, [*SHORT, *places, *overrides]))

    return make
