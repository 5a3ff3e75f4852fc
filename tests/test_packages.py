"""The bill of materials in a run's folder: every package once, as it is imported; what has changed is named."""

import json
import platform
from importlib.metadata import version

from open_r1.utils.packages import SBOM, write_bill


def test_a_bill_lists_every_package_once_and_says_what_an_earlier_start_had_otherwise(tmp_path):
    assert write_bill(tmp_path) == []
    bill = json.loads((tmp_path / SBOM).read_text())
    parts = {part["name"]: part for part in bill["components"]}
    assert len(parts) == len(bill["components"]) > 50 and (bill["bomFormat"], bill["specVersion"]) == (
        "CycloneDX",
        "1.6",
    )
    for name in ("torch", "trl", "transformers", "math-verify"):
        assert parts[name]["version"] == version(name)
        assert parts[name]["purl"] == f"pkg:pypi/{name}@{version(name)}"
    assert {"name": "python", "value": platform.python_version()} in bill["metadata"]["properties"]
    assert write_bill(tmp_path) == []
    parts["trl"]["version"] = "0.1"
    bill["components"] = [part for name, part in parts.items() if name != "torch"]
    (tmp_path / SBOM).write_text(json.dumps(bill))
    assert write_bill(tmp_path) == [f"torch {version('torch')} (was none)", f"trl {version('trl')} (was 0.1)"]
