"""A run as one HTML file, to be opened from disk.

Per prompt its pictures, question, answer and every candidate with source, reward, rank, kept or not, and advantage. The
page fetches nothing and forbids itself to (its content security policy names its own style and script by hash), and
what models said goes into it as JSON, never as markup.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from open_r1.report.gallery_data import choose, embed, read_curves, read_pools
from open_r1.schema import POLICY, UserError
from open_r1.utils.files import JsonObject

PAGE = Path(__file__).with_name("page")
MAX_BYTES = 20_000_000  # of a page: what a browser opens at once and a mail still takes
PROMPTS = 500
TEXT_LENGTHS = (100_000, 8000, 4000, 2000, 1000, 500, 250)  # characters per text: the first that fits is taken


def gather(run: Path, steps: Sequence[int] = (), prompts: int = PROMPTS) -> JsonObject:
    """Return what the page holds: run, sources, notes, curves, pictures, and a group per prompt of the chosen steps.

    Raises UserError for a run without candidates.jsonl and for steps that were not written.
    """
    pools, cut = read_pools(run)
    chosen = choose(pools, steps, prompts)
    known, pictures, lost = embed(path for pool in chosen for path in pool["images"])
    groups = [
        {key: value for key, value in pool.items() if key != "images"}
        | {"pictures": [known.get(path) for path in pool["images"]]}
        for pool in chosen
    ]
    notes = []
    if len(chosen) < len(pools):
        notes.append(f"{len(chosen)} of the {len(pools)} prompts in candidates.jsonl")
    if cut:
        notes.append(f"{cut} line cut short by a stop was left out")
    if lost:
        notes.append(f"{len(lost)} pictures could not be read, the first of them {lost[0]}")
    named = {c["source"] for pool in chosen for c in pool["candidates"]}
    return {
        "run": run.resolve().name,
        "sources": [POLICY, *sorted(named - {POLICY})],
        "written": sorted({pool["step"] for pool in chosen}),
        "notes": notes,
        "curves": read_curves(run),
        "pictures": pictures,
        "groups": groups,
    }


def render(data: JsonObject) -> bytes:
    """Put data, style and script into the page. Nothing in the data can end the script element that holds it."""
    style = (PAGE / "gallery.css").read_text(encoding="utf-8")
    script = "".join((PAGE / name).read_text(encoding="utf-8") for name in ("curves.js", "gallery.js"))
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    page = (PAGE / "gallery.html").read_text(encoding="utf-8")
    parts = {"@STYLE_HASH@": _hash(style), "@SCRIPT_HASH@": _hash(script), "@STYLE@": style, "@SCRIPT@": script}
    for mark, part in (parts | {"@DATA@": text}).items():  # the data last: a reply may hold any mark
        page = page.replace(mark, part)
    return page.encode("utf-8", "backslashreplace")  # half a surrogate pair becomes its own JSON escape


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def shrink_to(data: JsonObject, most: int = MAX_BYTES) -> tuple[bytes, int | None]:
    """Return the page in at most `most` bytes, and the length that longer texts were cut to in their middle, if any.

    Raises UserError where even the shortest texts do not fit.
    """
    lengths = [len(c["text"]) for group in data["groups"] for c in group["candidates"]]
    longest, page = max(lengths), b""
    for length in TEXT_LENGTHS:
        if length > TEXT_LENGTHS[-1] and sum(min(length, own) for own in lengths) > most:
            continue  # a character takes at least a byte
        cut = longest > length
        note = f"texts above {length} characters are cut in their middle"
        groups = [shorten(group, length) for group in data["groups"]]
        page = render(data | {"groups": groups, "notes": data["notes"] + [note] * cut})
        if len(page) <= most:
            return page, length if cut else None
    raise UserError(
        f"the page has {len(page):,} bytes, and at most {most:,} may be; give fewer with --prompts or --steps"
    )


def shorten(value: object, length: int) -> object:
    """Cut the middle out of every text longer than `length` characters, wherever it stands, and say how much."""
    if isinstance(value, dict):
        return {key: shorten(part, length) for key, part in value.items()}
    if isinstance(value, list):
        return [shorten(part, length) for part in value]
    if isinstance(value, str) and len(value) > length:
        half = length // 2
        return f"{value[:half]} [... {len(value) - 2 * half:,} characters left out ...] {value[-half:]}"
    return value
