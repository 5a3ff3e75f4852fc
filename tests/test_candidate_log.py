"""The log of candidates: what a line says of a pool, what the trainer writes, what the loggers get."""

import json
from pathlib import Path

import pytest
from PIL import Image
from transformers.integrations.integration_utils import TensorBoardCallback, WandbCallback

from open_r1.schema import Candidate, Row, Score
from open_r1.training.candidate_log import COLUMNS, CandidateLog, describe_prompt, table_rows
from test_trainer import Teacher, make_trainer

ROW = Row("train-1", "clevr_math", (Path("1.png"),), "How many?", "3", kind="add")
POOL = [
    Candidate("policy", "a", (1,), Score(0.0, 0.0)),
    Candidate("policy", "b", (1,), Score(0.0, 1.0), truncated=True),
    Candidate("teacher", "c <script>", (1,), Score(1.0, 1.0, full=1.0, partial=1.0)),
    Candidate("teacher", "d", (1,), Score(0.0, 1.0)),
]


def test_a_line_holds_the_prompt_and_every_candidate_kept_or_not():
    line = describe_prompt(7, ROW, POOL, [1, 2], [-0.7, 0.7])
    assert line["step"] == 7 and line["images"] == ["1.png"] and line["answer"] == "3" and line["kind"] == "add"
    told = line["candidates"]
    assert [c["rank"] for c in told] == [3, 1, 0, 2]  # rewards 0, 1, 2, 1: the policy's 1 before the teacher's
    assert [c["kept"] for c in told] == [False, True, True, False]
    assert [c["advantage"] for c in told] == [None, -0.7, 0.7, None]
    assert told[2]["partial"] == 1.0 and "partial" not in told[0]
    assert [c["truncated"] for c in told] == [False, True, False, False]


def test_every_third_step_beginning_with_the_first_and_none_with_zero(tmp_path):
    assert [step for step in range(1, 9) if CandidateLog(tmp_path, every=3).due(step)] == [1, 4, 7]
    assert not any(CandidateLog(tmp_path, every=0).due(step) for step in range(1, 9))


def test_at_most_so_many_prompts_are_written_and_lines_are_appended(tmp_path):
    log = CandidateLog(tmp_path / "c.jsonl", prompts=2)
    for step in (1, 2):
        log.write((describe_prompt(step, ROW, POOL, [1, 2], [-1, 1]) for _ in range(5)), [])
    lines = [json.loads(line) for line in (tmp_path / "c.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 1, 2, 2]


def test_the_trainer_writes_its_pools_with_the_advantages_it_trains_on(tiny_folder, counting_data, tmp_path):
    trainer = make_trainer(
        tiny_folder, counting_data, tmp_path, [Teacher(None, "wrong")], max_completion_length=64, max_steps=2
    )
    trainer.candidate_log = CandidateLog(tmp_path / "candidates.jsonl")
    trainer.train()
    lines = [json.loads(line) for line in (tmp_path / "candidates.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 1, 2, 2]  # two prompts a step
    for line in lines:
        told = line["candidates"]
        assert [c["source"] for c in told] == ["policy"] * 4 + ["teacher"] * 2
        assert [c["kept"] for c in told] == [True, True, True, False, True, False]  # three policy samples tie at 0
        kept = [c["advantage"] for c in told if c["kept"]]
        assert kept == pytest.approx([-0.5, -0.5, -0.5, 1.5], abs=1e-3)  # rewards 0, 0, 0, 2: mean .5, sd 1
        assert Path(line["images"][0]).is_file() and line["id"].startswith("clevr_math-train")


def test_tensorboard_gets_a_table_in_which_text_is_data(tmp_path):
    told = []
    callback = TensorBoardCallback.__new__(TensorBoardCallback)  # its __init__ wants the package
    callback.tb_writer = type("Writer", (), {"add_text": lambda self, *words: told.append(words)})()
    line = describe_prompt(3, ROW, POOL, [1, 2], [-1.0, 1.0])
    CandidateLog(tmp_path / "c.jsonl").write([line], [callback])
    ((name, text, step),) = told
    assert (name, step) == ("candidates", 3)
    assert "<script>" not in text and "&lt;script>" in text and text.count("\n") == 2 + 4


def test_wandb_keeps_the_table_and_its_pictures_offline_without_a_key(tmp_path, monkeypatch):
    import wandb

    for name in ("WANDB_API_KEY", "WANDB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))  # where pictures wait to be synchronised
    picture = tmp_path / "1.png"
    Image.new("RGB", (28, 28), "red").save(picture)
    row = Row("train-1", "clevr_math", (picture,), "How many?", "3")
    line = describe_prompt(1, row, POOL, [1, 2], [-1.0, 1.0])
    settings = wandb.Settings(silent=True, console="off", x_disable_stats=True)
    with wandb.init(mode="offline", dir=tmp_path, project="p", settings=settings) as run:
        CandidateLog(tmp_path / "c.jsonl").write([line], [WandbCallback()])
        files = Path(run.dir)
    tables = list(files.rglob("candidates_*.table.json"))
    assert len(tables) == 1
    table = json.loads(tables[0].read_text())
    assert table["columns"] == ["image 1", *COLUMNS]
    assert [row[1:] for row in table["data"]] == table_rows([line])
    kept = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert picture.read_bytes() in [path.read_bytes() for path in kept]
