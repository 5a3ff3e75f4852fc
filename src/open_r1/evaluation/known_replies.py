"""Cache of evaluation replies, keyed by weights, prompts, pictures, sampling and seed.

Every method and every start of a task begins with the same policy, and evaluates it on the same questions. Its replies
are cached in data/evaluations under the hash of what they follow from, and graded again; deleting the folder is safe.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import torch

from open_r1.data.prompts import prompt_text
from open_r1.evaluation import policy_replies
from open_r1.evaluation.policy_replies import Sampling
from open_r1.policy import decoding, prefill_sharing
from open_r1.policy.loading import ADAPTER
from open_r1.recipe.settings import PromptKind
from open_r1.schema import Row
from open_r1.tasks import Task
from open_r1.utils import images
from open_r1.utils.files import write_json
from open_r1.utils.provenance import ROOT

FOLDER = ROOT / "data" / "evaluations"
# A change in how a policy is asked, or in what it sees, makes all cached replies unknown.
HASHED_MODULES = (policy_replies, decoding, prefill_sharing, images)
LIBRARIES = ("torch", "torchvision", "transformers", "tokenizers", "pillow")


def policy_digest(path: str, device: str, max_pixels: int) -> str | None:
    """Hash a checkpoint folder's files and what computes with them; None where not all weights lie in it."""
    folder = Path(path)
    if not folder.is_dir() or (folder / ADAPTER).is_file():  # a hub id; an adapter, whose base lies elsewhere
        return None
    setup = [device, str(torch.get_num_threads()), str(max_pixels), *(version(name) for name in LIBRARIES)]
    digest = hashlib.sha256(json.dumps(setup).encode())
    code = [Path(str(module.__file__)) for module in HASHED_MODULES]
    for file in [*code, *sorted(part for part in folder.iterdir() if part.is_file())]:
        with file.open("rb") as content:
            digest.update(f"{file.name} {hashlib.file_digest(content, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def place(policy: str, rows: Sequence[Row], task: Task, kind: PromptKind, sampling: Sampling) -> Path:
    """Where the policy's replies to these rows lie: named by the hash of policy, prompts, pictures and sampling."""
    digest = hashlib.sha256(json.dumps([policy, asdict(sampling)]).encode())
    for row in rows:
        pictures = [hashlib.sha256(image.read_bytes()).hexdigest() for image in row.images]
        digest.update(json.dumps([row.id, prompt_text(row, task, kind), pictures]).encode())
    return FOLDER / f"{digest.hexdigest()[:32]}.json"


def read(path: Path, rows: Sequence[Row]) -> list[tuple[Row, str]] | None:
    """Return the rows with their replies in the order they once came in; None where they are not cached."""
    if not path.is_file():
        return None
    by_id = {row.id: row for row in rows}
    return [(by_id[id_], reply) for id_, reply in json.loads(path.read_text(encoding="utf-8"))]


def keep(path: Path, replies: Iterable[tuple[Row, str]]) -> Iterator[tuple[Row, str]]:
    """Pass the replies on as they come, and cache them when all are there."""
    replied = []
    for row, reply in replies:
        replied.append((row.id, reply))
        yield row, reply
    write_json(path, replied)
