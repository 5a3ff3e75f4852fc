"""Fetch a data set from the Hugging Face hub into a folder; a second call continues where the first broke off."""

import json
import logging
import re
from pathlib import Path

from open_r1.schema import UserError
from open_r1.utils.files import write_json
from open_r1.utils.unpack import unpack

DATASET = "tanhuajie2001/Reason-RFT-CoT-Dataset"
DONE = "download.json"  # in the data folder, once everything is there: {"repo": ..., "revision": ...}
OUR_FOLDERS = ("bases", "data", "evals", "reports", "runs")  # whether they are there yet or not
TIMEOUT_S = 8.0  # for the first answer of the hub

logger = logging.getLogger(__name__)


def is_hub_id(path: str | Path) -> bool:
    """Whether `path` can only mean a data set on the hub: owner/name, where no such path and no folder `owner` exists.

    >>> is_hub_id("tanhuajie2001/Reason-RFT-CoT-Dataset")
    True

    "data/clevr_math-tiny" is a missing folder, not a data set of a user "data": data/, like runs/, is a place of ours.

    >>> is_hub_id("runs/nope")
    False
    """
    text = str(path)
    if text.split("/")[0] in OUR_FOLDERS:
        return False
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", text) or text.endswith((".json", ".jsonl")):
        return False
    return not Path(text).exists() and not Path(text).parent.exists()


def default_folder(repo: str) -> Path:
    """Where a data set of the hub is put: data/<name>."""
    return Path("data") / repo.split("/")[-1]


def fetch(repo: str, folder: Path | None = None) -> Path:
    """Download `repo` into `folder` (default data/<name>), unpack its pictures, and return the folder.

    A folder that was completed before is returned at once, without network. Several processes may call it at the same
    time: one works, the others wait.

    Raises:
        UserError: no such data set, no network, offline mode, a broken download or archive, or a folder that holds
            another data set.
    """
    folder = folder or default_folder(repo)
    if is_complete(folder, repo):
        return folder
    revision, names = _look_up(repo, folder)  # before the folder is made: a failed try leaves nothing behind
    from huggingface_hub.utils import WeakFileLock

    folder.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(folder / ".download.lock"):
        if not is_complete(folder, repo):
            logger.info("downloading %s into %s", repo, folder)
            _download(repo, folder, revision, names)
            unpack_images(folder)
            write_json(folder / DONE, {"repo": repo, "revision": revision})
    return folder


def is_complete(folder: Path, repo: str) -> bool:
    """Whether `fetch` has completed `folder`; raises UserError if it did so for another data set."""
    if not (folder / DONE).is_file():
        return False
    held = json.loads((folder / DONE).read_text())["repo"]
    if held != repo:
        raise UserError(f"{folder} holds {held}, not {repo}; one folder holds one data set; give another --output")
    return True


def unpack_images(folder: Path) -> None:
    """Unpack train_images.zip and test_images.zip, found in `folder` or its images/, into images/train_images etc."""
    for name in ("train_images", "test_images"):
        for archive in (folder / f"{name}.zip", folder / "images" / f"{name}.zip"):
            if archive.is_file():
                unpack(archive, folder / "images" / name)


def _look_up(repo: str, folder: Path) -> tuple[str, list[str]]:
    """Ask the hub for the newest revision and its file names, so that a missing network is known in seconds.

    `snapshot_download` alone would wait for a mute hub without limit and, without network, take a folder with half
    the files for the whole data set.
    """
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        info = HfApi().dataset_info(repo, timeout=TIMEOUT_S)
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise UserError(
            f"no data set '{repo}' can be read on the hub ({_first_line(error)}); check the name owner/name, or log in"
            " with `hf auth login` if it is private"
        ) from error
    except (httpx.HTTPError, OSError) as error:
        raise UserError(
            f"the hub cannot be reached for {repo} ({_first_line(error)}); downloading needs the network: run `make"
            f" download` on a machine that has it, copy its folder {folder} here, and give DATA_PATH={folder}"
        ) from error
    return info.sha or "main", [file.rfilename for file in info.siblings or []]


def _download(repo: str, folder: Path, revision: str, names: list[str]) -> None:
    import httpx
    from huggingface_hub import snapshot_download

    again = "run the same command again: it continues with what is missing"
    try:
        snapshot_download(repo, repo_type="dataset", revision=revision, local_dir=folder)
    except (httpx.HTTPError, OSError) as error:
        raise UserError(f"the download of {repo} into {folder} broke off ({_first_line(error)}); {again}") from error
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"the download of {repo} into {folder} is not whole: {len(missing)} of {len(names)} files are missing,"
            f" first {missing[0]}; {again}"
        )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
