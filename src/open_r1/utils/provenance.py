"""Where a number comes from: the commit, the machine, the memory and the seconds that stand beside every result."""

import hashlib
import os
import platform
import resource
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TypedDict

from open_r1.utils.files import write_json

ROOT = Path(__file__).resolve().parents[3]


class ResultLine(TypedDict):
    """One line of docs/RESULTS.md, as it stands in results/*.json."""

    label: str
    value: float | None
    unit: str
    target: str | None


def git_commit(root: Path = ROOT) -> str:
    """The commit that `root` stands at, "-dirty" where tracked files differ from it; "unknown" outside git."""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (FileNotFoundError, subprocess.CalledProcessError):  # no git program; no repository
        return "unknown"


def peak_rss_mib() -> float:
    """Largest resident memory of this process so far, in MiB."""
    unit = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss is in bytes on macOS, in KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def hardware() -> dict[str, str | float | None]:
    """What a number was measured on, e.g. {"cpu": "AMD EPYC", "cores": 2, "ram_gib": 23.5}."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    ram = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    torch = sys.modules.get("torch")  # whoever measures on a GPU has loaded it
    gpu = {"gpu": torch.cuda.get_device_name()} if torch and torch.cuda.is_available() else {}
    return {"cpu": names[0] if names else platform.machine(), "cores": os.cpu_count(), "ram_gib": round(ram, 1), **gpu}


def weights_digest(folder: Path) -> str | None:
    """Which weights a checkpoint in one file holds: twelve hexadecimal digits; None for shards and for hub ids."""
    path = folder / "model.safetensors"
    if not path.is_file():
        return None
    with path.open("rb") as file:  # of any size
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def install_seconds() -> float | None:
    """Seconds that `make install` took, as it left them in the virtual environment; None for another installation."""
    path = Path(sys.prefix) / ".install_seconds"
    return float(path.read_text()) if path.is_file() else None


def figure(label: str, value: float | None, unit: str, target: str | None = None) -> ResultLine:
    """One line of docs/RESULTS.md; `target` is a rule such as ">= 20". What is measured gets four digits, an int all.

    The value None says that what is counted never came to be.

    >>> figure("eval", 95.4237, "replies/s", ">= 20")
    {'label': 'eval', 'value': 95.42, 'unit': 'replies/s', 'target': '>= 20'}
    >>> figure("parameters", 27_123_456, "")["value"]
    27123456
    """
    shown = value if value is None or isinstance(value, int) else float(f"{value:.4g}")
    return {"label": label, "value": shown, "unit": unit, "target": target}


def write_figures(path: Path, name: str, figures: list[ResultLine], **more: object) -> None:
    """Write a benchmark's results file: its figures with the command line, commit and machine that made them."""
    origin = {"command": shlex.join(["python", *sys.argv]), "commit": git_commit(), "hardware": hardware()}
    write_json(path, {"name": name, **origin, "figures": figures, **more})
