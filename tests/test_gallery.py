"""`make gallery`: what the page holds, that text stays data, how large it may be, and what is refused."""

import json
import random
import re
from pathlib import Path

import pytest
from PIL import Image

from commands import status_of
from open_r1.cli.gallery import main
from open_r1.report import gallery
from open_r1.report.gallery_data import choose, data_url, describe_pool, read_curves, read_pools

EVIL = "</script><script>document.title='hacked'</script><!-- \u2028 @SCRIPT@ <answer>3</answer>"


def candidate(source="policy", reward: float | None = 0.0, kept=True, advantage=0.0, text="a", rank=0):
    parts = {"accuracy": reward and 1.0, "format": reward and 1.0, "truncated": False, "rank": rank}
    return {"source": source, "text": text, "reward": reward, "kept": kept, "advantage": advantage, **parts}


def line(step=1, pool=None, images=(), id="train-1"):
    prompt = {"step": step, "id": id, "kind": None, "images": list(images), "problem": "How many?", "answer": "3"}
    return prompt | {"candidates": pool or [candidate()]}


def write(run: Path, lines, name="candidates.jsonl") -> Path:
    run.mkdir(exist_ok=True)
    (run / name).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return run


def embedded(page: bytes) -> dict:
    return json.loads(page.decode().split('<script type="application/json" id="data">')[1].split("</script>")[0])


def pool_of(own, external, kept, advantages):
    rewards = [*own, *external]
    told = dict(zip(kept, advantages, strict=True))
    return [
        candidate("policy" if k < len(own) else "t", reward, k in told, told.get(k)) for k, reward in enumerate(rewards)
    ]


@pytest.mark.parametrize(
    ("own", "external", "kept", "advantages", "dead"),
    [
        ([0, 0], [2, 0], [0, 2], [-0.7, 0.7], "before"),  # a teacher made it teach
        ([0, 2], [2, 0], [1, 2], [0, 0], "after update"),  # selection made it equal
        ([1, 1], [1, 1], [0, 1], [0, 0], "before after pool update"),
        ([0, 1], [2, 0], [1, 2], [-0.7, 0.7], ""),
        ([0, 2], [2, 0], [1, 2], [0.5, 0.5], "after"),  # advantage_baseline: pool
        ([0, None], [2, 0], [0, 2], [-0.7, 0.7], "before"),  # an unscored candidate is not counted
    ],
)
def test_the_filters_know_dead_groups_as_metrics_jsonl_names_them(own, external, kept, advantages, dead):
    found = describe_pool(line(pool=pool_of(own, external, kept, advantages)))["dead"]
    assert {when for when, is_so in found.items() if is_so} == set(dead.split())


def test_text_of_models_is_data_that_nothing_in_the_page_takes_for_markup(tmp_path):
    data = gallery.gather(write(tmp_path / "run", [line(pool=[candidate(text=EVIL), candidate(text="\ud800 half")])]))
    page = gallery.render(data)
    plain = gallery.render(data | {"groups": []})
    assert page.count(b"<") == plain.count(b"<")  # the replies brought no bracket at all
    told = embedded(page)["groups"][0]["candidates"]
    assert told[0]["text"] == EVIL and told[0]["said"] == "3" and told[1]["text"] == "\ud800 half"


def test_the_page_names_its_own_style_and_script_by_hash_and_may_load_nothing_else(tmp_path):
    page = gallery.render(gallery.gather(write(tmp_path / "run", [line()]))).decode()
    assert not re.search(r"@[A-Z_]+@", page)
    assert "default-src 'none'; img-src data:" in page
    for tag in ("style", "script"):
        (body,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert f"{tag}-src '{gallery._hash(body)}'" in page
    script = "".join((gallery.PAGE / name).read_text() for name in ("curves.js", "gallery.js"))
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|fetch\(|https?://(?!www\.w3\.org/2000/svg)",
        script,
    )


def test_each_picture_is_embedded_once_as_it_is_where_it_is_small(tmp_path):
    small, lost = tmp_path / "1.png", tmp_path / "gone.png"
    Image.new("RGB", (28, 28), "red").save(small)
    lines = [line(1, images=[str(small)]), line(2, images=[str(small), str(lost)], id="train-2")]
    data = gallery.gather(write(tmp_path / "run", lines))
    assert [group["pictures"] for group in data["groups"]] == [[0], [0, None]]
    assert len(data["pictures"]) == 1 and data["pictures"][0] == data_url(small, 64_000)
    assert data["pictures"][0].startswith("data:image/png;base64,")
    assert data["notes"] == [f"1 pictures could not be read, the first of them {lost}"]


def test_a_large_picture_is_scaled_down_until_it_is_small_enough(tmp_path):
    noise, rng = tmp_path / "noise.png", random.Random(0)
    Image.frombytes("RGB", (600, 300), rng.randbytes(600 * 300 * 3)).save(noise)
    longest = [len(data_url(noise, most)) for most in (1_000_000, 64_000, 24_000)]
    assert longest[1] <= 64_000 and longest[2] <= 24_000 < longest[0]


def test_500_prompts_of_24_long_replies_with_two_pictures_each_stay_below_20_mb(tmp_path):
    rng = random.Random(0)
    words = ["<think>", "red", "cube", "\u00e9", "metal", "\n", '"so"', "<", "3", "</think>"]
    texts = ["".join(f"{rng.choice(words)} " for _ in range(500)) for _ in range(50)]
    pool = [candidate(text=texts[k], rank=k) for k in range(24)]
    group = describe_pool(line(pool=pool)) | {"pictures": [0, 1]}
    pictures = ["data:image/webp;base64," + "A" * 12_000] * 1000  # as many as embed() makes of 12,000,000 bytes
    data = {"run": "r", "sources": ["policy"], "written": [1], "notes": [], "curves": [], "pictures": pictures}
    page, length = gallery.shrink_to(data | {"groups": [group] * 500})
    assert 12_000_000 < len(page) <= 20_000_000
    assert length in gallery.TEXT_LENGTHS and length < 2500
    told = embedded(page)
    assert f"texts above {length} characters are cut" in told["notes"][0]
    assert "characters left out ...]" in told["groups"][0]["candidates"][0]["text"]


def test_texts_are_cut_in_the_middle_and_what_is_left_out_is_counted():
    assert gallery.shorten(["abcdefghij", {"k": "abcd", "n": 7}], 4) == [
        "ab [... 6 characters left out ...] ij",
        {"k": "abcd", "n": 7},
    ]


def test_of_many_steps_as_many_are_shown_as_hold_the_prompts_the_first_and_the_last_among_them():
    pools = [{"step": step, "id": k} for step in range(1, 11) for k in range(3)]
    assert sorted({pool["step"] for pool in choose(pools, [], 500)}) == list(range(1, 11))
    assert sorted({pool["step"] for pool in choose(pools, [], 10)}) == [1, 5, 10]  # 9 prompts; 4 steps had 12
    assert [pool["step"] for pool in choose(pools, [2, 9], 500)] == [2] * 3 + [9] * 3
    assert len(choose(pools, [], 2)) == 2  # not even one step's


def test_every_process_s_file_is_read_and_a_half_last_line_is_counted(tmp_path):
    run = write(tmp_path / "run", [line(1), line(2)])
    write(run, [line(1, id="other")], "candidates-1.jsonl")
    with (run / "candidates.jsonl").open("a") as file:
        file.write('{"step": 3, "id": "tr')
    pools, cut = read_pools(run)
    assert [(pool["step"], pool["id"]) for pool in pools] == [(1, "other"), (1, "train-1"), (2, "train-1")]
    assert cut == 1 and gallery.gather(run)["notes"] == ["1 line cut short by a stop was left out"]


def test_the_curves_are_those_of_metrics_jsonl_with_a_gap_for_null(tmp_path):
    lines = [
        {"step": 1, "loss": 0.1, "policy/reward": 0.123456, "external/t/reward": None, "external/t/failures": 1},
        {"step": 2, "loss": 0.1, "policy/reward": 0.5, "external/t/reward": 2.0, "kept_share/t": 0.25},
    ]
    assert read_curves(write(tmp_path / "run", lines, "metrics.jsonl")) == [
        {"step": 1, "policy/reward": 0.1235, "external/t/reward": None, "kept_share/t": None},
        {"step": 2, "policy/reward": 0.5, "external/t/reward": 2.0, "kept_share/t": 0.25},
    ]
    assert read_curves(tmp_path) == []


def test_the_command_writes_the_page_into_the_run_s_folder(tmp_path, capsys):
    run = write(tmp_path / "run", [line(1), line(2)])
    assert status_of(main, [str(run), "--steps", "2"]) == 0
    data = embedded((run / "gallery.html").read_bytes())
    assert data["written"] == [2] and data["sources"] == ["policy"]
    assert (
        "1 of the 2 prompts" in (out := capsys.readouterr().out) and f"{run}/gallery.html  (1 prompts, 0.0 MB)" in out
    )


def test_what_cannot_be_shown_is_one_line(tmp_path, capsys):
    def refused(*words):
        assert status_of(main, [*map(str, words)]) == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        return told

    run = tmp_path / "run"
    assert "is no folder" in refused(run)
    run.mkdir()
    assert "holds no candidates.jsonl" in refused(run)
    write(run, [])
    assert "is empty" in refused(run)
    write(run, [line(1), {"step": 2}])
    assert "candidates.jsonl: entry 2 lacks 'candidates'" in refused(run)
    write(run, [line(1, pool=[candidate(text=None)])])
    assert "entry 1 is something else" in refused(run)
    (run / "candidates.jsonl").write_text("half\n" + json.dumps(line(1)) + "\n")
    assert "candidates.jsonl:1 is no JSON object" in refused(run)
    write(run, [line(1), line(5)])
    assert "steps [2] were not written; candidates.jsonl has 2 steps from 1 to 5" in refused(run, "--steps", 1, 2)
    assert "--prompts is 0" in refused(run, "--prompts", 0)
