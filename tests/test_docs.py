"""What the pages name is there: modules and functions, files, packages."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md")), ROOT / "slurm" / "README.md"]
OF_THEIR_DAY = {"LOG.md", "CHANGELOG.md"}  # entries say what was there when they were written
EXAMPLES = {"recipes/methods/bottom_g.yaml"}  # what a reader makes
CURRENT = [page for page in PAGES if page.name not in OF_THEIR_DAY]


def resolve(name: str) -> object:
    """A dotted name: the longest module, then attributes."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: page.name)
def test_every_dotted_name_of_ours_can_be_imported(page):
    for name in sorted(set(re.findall(r"\bopen_r1(?:\.\w+)+", page.read_text(encoding="utf-8")))):
        resolve(name)


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: page.name)
def test_every_file_that_a_page_names_or_links_to_is_there(page):
    text = page.read_text(encoding="utf-8")
    named = re.findall(
        r"(?<![\w/.<])(?:src|scripts|recipes|tests|slurm|results|docs)/[\w./-]+\.(?:py|yaml|md|json|slurm|txt)\b", text
    )
    linked = [link for link in re.findall(r"\]\(([^)#\s]+)\)", text) if "://" not in link]
    missing = [name for name in named if name not in EXAMPLES and not (ROOT / name).exists()]
    missing += [link for link in linked if not (page.parent / link).exists()]
    assert missing == []


def test_the_tree_in_the_readme_names_every_package_and_every_module_beside_them():
    tree = (ROOT / "README.md").read_text(encoding="utf-8").split("## Where things are")[1].split("```")[1]
    source = ROOT / "src" / "open_r1"
    packages = {f"{path.name}/" for path in source.iterdir() if (path / "__init__.py").is_file()}
    modules = {path.name for path in source.glob("*.py")} - {"__init__.py"}
    assert {name for name in packages | modules if name not in tree} == set()
