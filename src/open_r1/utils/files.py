"""Files."""

import json
import math
from pathlib import Path
from typing import Any


def take_back(path: Path, step: float = math.inf) -> list[dict[str, Any]]:
    """Keep the lines of a JSON lines file up to `step`, which training goes on from, and return them."""
    # The line that a kill cut short has no end; it is of a step after the checkpoint.
    whole = [line for line in path.read_text(encoding="utf-8").splitlines(True) if line.endswith("\n")]
    kept = [line for line in whole if json.loads(line)["step"] <= step]
    aside = path.with_suffix(".part")
    aside.write_text("".join(kept), encoding="utf-8")
    aside.replace(path)
    return [json.loads(line) for line in kept]
