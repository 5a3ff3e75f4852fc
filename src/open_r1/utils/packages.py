"""What is installed where a run is trained: a software bill of materials (CycloneDX 1.6), `sbom.json` in its folder."""

import json
import platform
import re
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from open_r1.utils.files import write_json
from open_r1.utils.provenance import git_commit

SBOM = "sbom.json"


def bill_of_materials() -> dict[str, Any]:
    """List every installed Python package with version and licence, and the commit, Python and CUDA that run them."""
    found = {}
    for installed in distributions():  # the first of a name on the path is the one that is imported
        name = re.sub(r"[-_.]+", "-", installed.metadata["Name"] or "").lower()
        if name and name not in found:
            licence = installed.metadata.json.get("license_expression")
            part = {"type": "library", "name": name, "version": installed.version}
            part["purl"] = f"pkg:pypi/{name}@{installed.version}"
            found[name] = part | ({"licenses": [{"expression": licence}]} if licence else {})
    torch = sys.modules.get("torch")
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    versions["cuda"] = str(torch.version.cuda) if torch else "None"
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {"type": "application", "name": "vision-ekipl", "version": git_commit()},
            "properties": [{"name": name, "value": value} for name, value in versions.items()],
        },
        "components": [found[name] for name in sorted(found)],
    }


def write_bill(folder: Path) -> list[str]:
    """Write `folder`/sbom.json and return what an earlier start had in other versions: "torch 2.13.0 (was 2.12.0)"."""
    path, bill = folder / SBOM, bill_of_materials()
    changed = []
    if path.is_file():
        now, then = _versions(bill), _versions(json.loads(path.read_bytes()))
        names = sorted(name for name in now.keys() | then.keys() if now.get(name) != then.get(name))
        changed = [f"{name} {now.get(name, 'none')} (was {then.get(name, 'none')})" for name in names]
    write_json(path, bill)
    return changed


def _versions(bill: dict[str, Any]) -> dict[str, str]:
    """Versions by name: of the packages, the code (its commit), Python and CUDA."""
    parts = [*bill["components"], bill["metadata"]["component"]]
    return {part["name"]: part["version"] for part in parts} | {
        item["name"]: item["value"] for item in bill["metadata"]["properties"]
    }
