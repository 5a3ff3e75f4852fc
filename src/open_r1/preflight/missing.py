"""What a recipe needs that this machine does not have: GPU, packages, weights, data, keys. Looks, changes nothing."""

import importlib.util
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from shutil import which

import httpx
from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import HFValidationError

from open_r1.external.hosted.ready import lacking
from open_r1.external.store.database import Database
from open_r1.external.store.replies import PromptVersion, Store
from open_r1.policy.checkpoint import ADAPTER, no_checkpoint
from open_r1.preflight.fit import accelerate_config, need_of, refusal
from open_r1.preflight.memory import GIB
from open_r1.recipe.rules import Recipe
from open_r1.recipe.trl import lacking_packages
from open_r1.schema import UserError
from open_r1.tasks import get_task
from open_r1.utils.hub import default_folder


def gpus() -> list[float]:
    """Memory of each visible GPU in GiB, asked of nvidia-smi; importing torch would take seconds."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if which("nvidia-smi") is None or visible in ("", "-1"):
        return []
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    answer = subprocess.run(query, capture_output=True, text=True, check=False)
    if answer.returncode != 0:  # the program is there without a driver: no GPU to use
        return []
    # The limit names devices by index or UUID; only how many matters here.
    memory = [float(line) / 1024 for line in answer.stdout.split("\n") if line.strip().isdigit()]
    return memory if visible is None else memory[: len(visible.split(","))]


def missing(recipe: Recipe, processes: int, gpus_gib: list[float]) -> list[str]:
    """List what has to be there before the run can start, one line each: what, and the remedy."""
    return [
        *_missing_gpu(recipe, processes, gpus_gib),
        *_missing_packages(recipe, processes),
        *_missing_weights(recipe),
        *_missing_data(recipe),
        *_missing_key(recipe),
        *_unusable_store(recipe),
        *_missing_models(recipe),
    ]


def _missing_gpu(recipe: Recipe, processes: int, gpus_gib: list[float]) -> Iterator[str]:
    if recipe.use_cpu:
        return
    gib = min(gpus_gib, default=0)
    need = need_of(recipe, processes, gib).total / GIB
    if not gpus_gib:
        yield f"GPU: none is visible; MODEL={recipe.model} needs {need:.0f} GiB on each of {processes}; or use tiny"
    elif need > gib:
        yield f"GPU memory: {refusal(recipe, processes, gib)}; `make plan` shows the parts"


def _missing_packages(recipe: Recipe, processes: int) -> Iterator[str]:
    wanted = {
        "deepspeed": (accelerate_config(recipe, processes) or "").startswith("zero"),
        "vllm": recipe.use_vllm,
        "flash_attn": recipe.policy_options.get("attn_implementation") == "flash_attention_2",
    }
    for name, needed in wanted.items():
        if needed and importlib.util.find_spec(name) is None:
            yield f"package {name}: not installed; run `make install-gpu`"
    yield from lacking_packages(recipe)


def _missing_weights(recipe: Recipe) -> Iterator[str]:
    path = recipe.untrained if recipe.model_path or recipe.base_path else ""
    if not path:
        if recipe.model != "tiny":
            yield f"weights: model_path is empty; give MODEL_PATH=folder or hub id for MODEL={recipe.model}"
        return
    if why := no_checkpoint(path):
        yield f"weights: {path}: {why}; give MODEL_PATH=folder with a checkpoint"
    elif Path(path).exists():
        if not any((Path(path) / name).is_file() for name in ("config.json", ADAPTER)):
            yield f"weights: {path} holds no config.json; give the folder that save_pretrained wrote"
    elif recipe.model == "tiny":
        yield f"weights: no folder {path}, and MODEL=tiny downloads nothing; leave it out for the built-in base"
    elif not _cached(path) and (problem := _unreachable(path, "model")):
        yield f"weights: {path} is no folder, not in the hub cache, and {problem}; give MODEL_PATH=folder"


def _missing_data(recipe: Recipe) -> Iterator[str]:
    for path in (recipe.data_path, recipe.test_path):
        if not path or Path(path).exists() or default_folder(path).exists():
            continue
        if recipe.model == "tiny":
            yield f"data: no folder or file {path}, and MODEL=tiny downloads nothing; leave it out for synthetic data"
        elif problem := _unreachable(path, "dataset"):
            yield f"data: {path} is neither here nor in data/, and {problem}; run `make download` or give a folder"


def _missing_key(recipe: Recipe) -> Iterator[str]:
    if "wandb" not in recipe.trackers:
        return
    offline = os.environ.get("WANDB_MODE") in ("offline", "disabled")
    if not (offline or os.environ.get("WANDB_API_KEY") or (Path.home() / ".netrc").is_file()):
        yield "key: report_to names wandb but WANDB_API_KEY is not set; set it, or WANDB_MODE=offline"


def _missing_models(recipe: Recipe) -> list[str]:
    if recipe.store_read_only:  # nobody is asked
        return []
    return lacking(recipe.external_models)


def _unusable_store(recipe: Recipe) -> Iterator[str]:
    path = recipe.store_path
    if not path or not recipe.external_models or not (Path(path).exists() or recipe.store_read_only):
        return
    task, kind = get_task(recipe.task), recipe.prompt_kind
    try:
        database = Database(path, read_only=True)
        try:
            Store(database).declare(PromptVersion(task.name, kind, task.instruction_for(kind)))
        finally:
            database.close()
    except UserError as error:
        yield str(error)


def _cached(repo: str) -> bool:
    try:
        return isinstance(try_to_load_from_cache(repo, "config.json"), str)
    except HFValidationError:  # a path that no repository can be called: then it is not in the cache
        return False


def _unreachable(repo: str, kind: str) -> str:
    """Say in a few words why the hub cannot hand out `repo`; "" when it can."""
    try:
        HfApi().repo_info(repo, repo_type=kind, timeout=5)
    except HFValidationError:
        return "it is not of the form owner/name"
    except OfflineModeIsEnabled:
        return "HF_HUB_OFFLINE is set"
    except HfHubHTTPError as error:
        return f"the hub answers {error.response.status_code} for it"
    except (httpx.HTTPError, OSError):
        return "the hub cannot be reached"
    return ""
