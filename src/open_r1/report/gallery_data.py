"""What a gallery shows of a run: its pools from candidates.jsonl, its curves from metrics.jsonl, its pictures."""

import base64
import io
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from open_r1.method.advantages import is_dead
from open_r1.rewards.tags import parse_reply
from open_r1.schema import POLICY, UserError
from open_r1.utils.files import JsonObject, read_jsonl
from open_r1.utils.images import open_picture

PROMPT = ("step", "id", "kind", "images", "problem", "answer")  # keys of a line that the page shows
CANDIDATE = ("source", "text", "reward", "truncated", "rank", "kept", "advantage")
PARTS = ("accuracy", "format", "full", "partial")  # of a reward; trance alone has the last two
CURVE_POINTS = 1000  # a screen shows no more
PICTURE_BYTES = 12_000_000  # of all pictures together as they stand in the page, so that text has room beside them
LARGEST_PICTURE = 64_000  # bytes of one picture, however few there are
SHOWN = ("PNG", "JPEG", "WEBP", "GIF")  # what every browser shows
SIDES = (448, 336, 256, 192, 128, 96)  # pixels of the longer side: the first that is small enough is taken


def read_lines(path: Path) -> tuple[list[JsonObject], int]:
    """Read a JSON lines file that a run may be writing: its objects, and 1 where the last line is cut short, else 0.

    Numbers are rounded to four digits, NaN is None. Raises UserError for any other line that is no object.
    """
    cut = not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
    return [{key: _rounded(part) for key, part in line.items()} for line in read_jsonl(path, cut="drop")], int(cut)


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    return value


def read_pools(run: Path) -> tuple[list[JsonObject], int]:
    """Read what every process of a run wrote of its pools, by step, and count the lines that were cut short.

    Raises:
        UserError: no such folder, no candidates.jsonl in it, nothing in that, or a line that is none of a pool.
    """
    if not run.is_dir():
        raise UserError(f"{run} is no folder; a gallery is made of a run; give RUN=runs/<run>")
    paths = sorted(run.glob("candidates*.jsonl"))
    if not paths:
        rule = "a method with an rl stage writes it unless log_candidates_every is 0"
        raise UserError(f"{run} holds no candidates.jsonl: {rule}; give another run, or train with it set")
    pools: list[JsonObject] = []
    cut = 0
    for path in paths:
        lines, unfinished = read_lines(path)
        cut += unfinished
        for number, line in enumerate(lines, start=1):
            try:
                pools.append(describe_pool(line))
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                rule = "each line is a prompt with its pool (docs/METRICS.md)"
                wrong = f"lacks {error}" if isinstance(error, KeyError) else f"is something else ({error})"
                raise UserError(f"{path}: entry {number} {wrong}; {rule}; delete it") from error
    if not pools:
        raise UserError(f"{run}: candidates.jsonl is empty: no step was written yet; wait for the first one")
    return sorted(pools, key=lambda pool: pool["step"]), cut


def describe_pool(line: JsonObject) -> JsonObject:
    """Add to a line what the page filters by: `dead`, named as in metrics.jsonl, and each candidate's answer (`said`).

    Raises KeyError, TypeError, ValueError or AttributeError for what is no line of candidates.jsonl.
    """
    pool = line["candidates"]
    kept = [c for c in pool if c["kept"]]
    rewards = {
        "before": [c["reward"] for c in pool if c["source"] == POLICY],
        "after": [c["reward"] for c in kept],
        "pool": [c["reward"] for c in pool],
    }
    dead = {when: bool(is_dead(np.array(values, dtype=float))) for when, values in rewards.items()}
    dead["update"] = not any(c["advantage"] for c in kept)
    candidates = [
        {key: c[key] for key in CANDIDATE}
        | {part: c[part] for part in PARTS if part in c}
        | {"said": parse_reply(c["text"]).graded}
        for c in pool
    ]
    return {key: line[key] for key in PROMPT} | {"dead": dead, "candidates": candidates}


def choose(pools: Sequence[JsonObject], steps: Sequence[int], most: int) -> list[JsonObject]:
    """Return the pools of `steps`; of all steps where that is empty, or of as many, evenly spread, as hold `most`.

    The first and the last step are among them. Never more than `most` pools. Raises UserError for a step without any.
    """
    sizes = Counter(pool["step"] for pool in pools)
    if missing := sorted(set(steps) - set(sizes)):
        written = f"{len(sizes)} steps from {min(sizes)} to {max(sizes)}"
        raise UserError(f"steps {missing} were not written; candidates.jsonl has {written}; give some of those")
    wanted = list(steps) or list(sizes)
    for count in range(min(len(wanted), most), 0, -1):
        chosen = {wanted[i] for i in np.linspace(0, len(wanted) - 1, count).round().astype(int)}
        if sum(sizes[step] for step in chosen) <= most:
            break
    return [pool for pool in pools if pool["step"] in chosen][:most]


def read_curves(run: Path) -> list[JsonObject]:
    """What is drawn over the steps: the mean rewards, kept shares and dead groups of metrics.jsonl, if it is there."""
    path = run / "metrics.jsonl"
    lines = read_lines(path)[0] if path.is_file() else []
    thin = lines[:: -(-len(lines) // CURVE_POINTS) or 1]
    names = dict.fromkeys(name for line in thin for name in line if _is_drawn(name))
    return [{"step": line["step"]} | {name: line.get(name) for name in names} for line in thin]


def _is_drawn(metric: str) -> bool:
    head, _, tail = metric.partition("/")
    return head in ("kept_share", "dead_groups") or (head in (POLICY, "kept", "external") and tail.endswith("reward"))


def embed(paths: Iterable[str]) -> tuple[dict[str, int], list[str], list[str]]:
    """Make data URLs of pictures, each once: a path's place among them, they, and the paths that cannot be read."""
    known, urls, lost = {}, [], []
    distinct = dict.fromkeys(paths)
    most = min(LARGEST_PICTURE, PICTURE_BYTES // max(len(distinct), 1))
    for path in tqdm(distinct, desc="pictures", unit="image", delay=2, leave=False):
        try:
            urls.append(data_url(Path(path), most))
        except UserError:
            lost.append(path)
        else:
            known[path] = len(urls) - 1
    return known, urls, lost


def data_url(path: Path, most: int) -> str:
    """A picture as a data URL of at most `most` characters; longer only where 96 pixels do not fit into them.

    Raises UserError where it cannot be read.
    """
    url = ""
    for kind, data in _encodings(path):
        url = f"data:{kind};base64,{base64.b64encode(data).decode()}"
        if len(url) <= most:
            break
    return url


def _encodings(path: Path) -> Iterator[tuple[str, bytes]]:
    """The picture's MIME type and bytes: the file as it is, if a browser shows it, then smaller and smaller ones."""
    picture = open_picture(path)
    if not picture.changes and picture.format in SHOWN and max(picture.image.size) <= SIDES[0]:
        yield Image.MIME[picture.format], path.read_bytes()
    for side in SIDES:
        small, buffer = picture.image.copy(), io.BytesIO()
        small.thumbnail((side, side))
        small.save(buffer, "WEBP", quality=80)
        yield "image/webp", buffer.getvalue()
