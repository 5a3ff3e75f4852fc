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
