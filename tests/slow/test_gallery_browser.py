"""The gallery in a headless browser: no reply runs, filters filter, and a long page is built as it is seen."""

import re
import shutil
import subprocess

import pytest
from PIL import Image

from commands import status_of
from open_r1.cli.gallery import main
from test_gallery import EVIL, candidate, line, pool_of, write

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium here; apt-get install chromium"),
]
ATTACKS = [EVIL, "<img src=x onerror=\"document.title='hacked'\">", "<svg onload=\"document.title='hacked'\">"]


@pytest.fixture
def browse(tmp_path):
    """Returns browse(page, hash, *options): what Chromium prints of the file after two seconds of its own time."""

    def run(page, hash="", *options):
        command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
        words = ["--window-size=1400,1000", "--virtual-time-budget=2000", *(options or ["--dump-dom"])]
        done = subprocess.run([*command, *words, f"file://{page}{hash}"], capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def page(tmp_path):
    """Three groups: one that teachers made teach, one that selection made equal, one whose replies attack the page."""
    picture = tmp_path / "1.png"
    Image.new("RGB", (84, 84), "red").save(picture)
    saved = pool_of([0, 0], [2, 0], [0, 2], [-0.7, 0.7])
    lost = pool_of([0, 2], [2, 0], [1, 2], [0, 0])
    evil = [candidate(text=text, rank=k, reward=float(k), advantage=k - 1.0) for k, text in enumerate(ATTACKS)]
    pools = [(1, saved, "one"), (1, lost, "two"), (2, evil, "<b>three</b>")]
    run = write(tmp_path / "run", [line(step, pool, [str(picture)], id) for step, pool, id in pools])
    curves = [{"step": step, "policy/reward": step / 2, "kept/reward": 2, "kept_share/t": 0.5} for step in (1, 2)]
    write(run, curves, "metrics.jsonl")
    assert status_of(main, [str(run)]) == 0
    return run / "gallery.html"


def count(dom):
    return re.search(r'id="count"[^>]*>(.*?)<', dom)[1]


def test_a_reply_with_a_script_does_nothing_and_is_read_as_it_was_written(page, browse):
    dom = browse(page, "#step=2")
    assert "<title>run – gallery</title>" in dom and count(dom) == "1 of 3 prompts, 3 of 11 candidates"
    body = dom.split("<main")[1].split("</main>")[0]
    assert "&lt;img src=x onerror=" in body and "&lt;/script&gt;&lt;script&gt;" in body and "&lt;b&gt;three" in body
    assert not re.search(r"<(script|svg|b>three)|<img src=\"?x", body)


def test_filters_show_what_they_say_and_stand_in_the_address(page, browse):
    shown = {
        "": "3 prompts, 11 candidates",
        "#group=saved": "1 of 3 prompts, 4 of 11 candidates",
        "#group=lost": "1 of 3 prompts, 4 of 11 candidates",
        "#source=*&kept=yes": "2 of 3 prompts, 2 of 11 candidates",
        "#source=%3Dt": "2 of 3 prompts, 4 of 11 candidates",
        "#find=ONERROR": "1 of 3 prompts, 1 of 11 candidates",
        "#source=nobody&step=9": "3 prompts, 11 candidates",
    }
    assert {hash: count(browse(page, hash)) for hash in shown} == shown


def test_a_screenshot_shows_curves_and_pictures(page, browse, tmp_path):
    browse(page, "", f"--screenshot={tmp_path / 'page.png'}")
    with Image.open(tmp_path / "page.png") as shot:
        colours = {colour for _, colour in shot.convert("RGB").getcolors(1 << 20)}
    assert (255, 0, 0) in colours and (0, 114, 178) in colours  # the picture; the policy's curve


def test_of_500_prompts_only_those_near_the_window_are_built(tmp_path, browse):
    pool = [candidate(text=f"<think>{'red cube ' * 60}</think><answer>{k}</answer>", rank=k) for k in range(24)]
    run = write(tmp_path / "run", [line(step, pool, id=f"{step}-{p}") for step in range(50) for p in range(10)])
    assert status_of(main, [str(run)]) == 0
    assert (run / "gallery.html").stat().st_size < 20_000_000
    body = browse(run / "gallery.html").split("<main")[1].split("</main>")[0]
    assert body.count("<article") == 500 and 2 <= body.count("<h2") <= 20
    assert body.count("<tr") == 25 * body.count("<h2")  # 24 candidates and the head
