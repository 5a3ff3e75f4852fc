"""The examples in docstrings say what the code does."""

import doctest
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = [path for folder in ("src", "scripts") for path in sorted((ROOT / folder).rglob("*.py"))]
SHOWING = [path for path in FILES if ">>> " in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", SHOWING, ids=lambda path: path.stem)
def test_the_examples_of_a_file_come_out_as_written(path):
    spec = importlib.util.spec_from_file_location(f"shown_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    failed, tried = doctest.testmod(module)
    assert tried > 0 and failed == 0


def test_examples_are_looked_for_where_they_are():
    assert {"provenance", "spatial_answer", "study_learning"} <= {path.stem for path in SHOWING}
