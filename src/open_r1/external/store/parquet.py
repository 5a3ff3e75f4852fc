"""Parquet in and out: a bought set of replies to hand on, or to reproduce a run from after its teachers are retired.

One file holds one task, a row per reply, with everything that the store keeps: address, model and its settings, row,
true answer, sample number, reply.
"""

from contextlib import suppress
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from open_r1.external.store.replies import PromptVersion, ReplyKey, Store
from open_r1.schema import Reply, UserError

FORMAT = b"open-r1 replies, version 1"  # under the key "format" of the file's metadata
QUESTIONS_AT_ONCE = 2_000
SCHEMA = pa.schema(
    {
        "key": pa.binary(),
        "task": pa.string(),
        "prompt_kind": pa.string(),
        "instruction": pa.string(),
        "model": pa.string(),
        "fingerprint": pa.string(),  # JSON: the settings that make a reply
        "row_id": pa.string(),
        "answer": pa.string(),  # the row's true answer
        "sample": pa.int64(),
        "text": pa.string(),
        "finish_reason": pa.string(),
        "prompt_tokens": pa.int64(),
        "completion_tokens": pa.int64(),
        "cost_usd": pa.float64(),
        "latency_s": pa.float64(),
        "logprobs": pa.list_(pa.float64()),
    },
    metadata={b"format": FORMAT},
)


def export_parquet(store: Store, task: str, path: Path) -> int:
    """Write all replies of a task to `path`, aside first and renamed when whole; returns how many there are.

    Raises:
        UserError: the store has no reply of the task, or the place cannot be written.
    """
    if not (total := store.count(task)):
        raise UserError(f"store {store.database.path} holds no replies of {task}, so there is nothing to export")
    aside = path.with_name(path.name + ".part")
    everything = store.everything(task)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tqdm(total=total, desc="exporting", unit="reply", delay=2) as bar, pq.ParquetWriter(aside, SCHEMA) as file:
            while part := list(islice(everything, QUESTIONS_AT_ONCE)):
                rows = [_row(asked, sample, reply) for asked, told in part for sample, reply in enumerate(told)]
                file.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
                bar.update(len(rows))
        aside.replace(path)
    except OSError as error:
        with suppress(OSError):
            aside.unlink()
        raise UserError(f"cannot write {path}: {error}; give a file in a folder with room for it") from error
    return total


def import_parquet(store: Store, path: Path, task: str, instructions: dict[str, str]) -> tuple[int, int]:
    """Take over the replies of a Parquet file.

    Args:
        store: where they go; replies that are there already stay.
        path: what `export_parquet` wrote.
        task: whose replies the file must hold.
        instructions: the task's present instruction by prompt kind; replies to another would never be found.

    Returns:
        How many replies were new, and how many the file holds.

    Raises:
        UserError: no such file, no such format, another task, or another instruction; then nothing was taken over.
    """
    file = _checked(path)
    columns = ["task", "prompt_kind", "instruction"]
    held = pq.read_table(path, columns=columns).group_by(columns).aggregate([]).to_pylist()
    for prompt in [PromptVersion(*(row[name] for name in columns)) for row in held]:
        if prompt.task != task:
            raise UserError(f"{path} holds replies of task {prompt.task}, not of {task}; give TASK={prompt.task}")
        if prompt.instruction != instructions.get(prompt.kind):
            raise UserError(
                f"{path} holds replies to another {prompt.kind} prompt of {task} than the present one, so that no run"
                " would find them; use the code that made the file, or collect anew"
            )
        store.declare(prompt)
    new = 0
    with tqdm(total=file.metadata.num_rows, desc="importing", unit="reply", delay=2) as bar:
        for batch in file.iter_batches(8 * QUESTIONS_AT_ONCE):
            new += store.add([_entry(row) for row in batch.to_pylist()])
            bar.update(batch.num_rows)
    return new, file.metadata.num_rows


def _checked(path: Path) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(
            f"{path} cannot be read as Parquet ({str(error).splitlines()[0]}); give another file"
        ) from error
    if (file.schema_arrow.metadata or {}).get(b"format") != FORMAT or file.schema_arrow.names != SCHEMA.names:
        found = ", ".join(file.schema_arrow.names[:4])
        raise UserError(
            f"{path} is no export of replies that this code reads ('{FORMAT.decode()}'; its columns begin {found});"
            " make one with `make store OUTPUT=x.parquet`"
        )
    return file


def _row(asked: ReplyKey, sample: int, reply: Reply) -> dict[str, Any]:
    """One reply as a row of the file; `_entry` is the way back."""
    about = vars(asked) | {"prompt_kind": asked.prompt.kind} | asked.prompt._asdict()
    return {name: value for name, value in (about | {"sample": sample} | vars(reply)).items() if name in SCHEMA.names}


def _entry(row: dict[str, Any]) -> tuple[ReplyKey, int, list[Reply]]:
    """One row of the file as `Store.add` takes it."""
    prompt = PromptVersion(row["task"], row["prompt_kind"], row["instruction"])
    asked = ReplyKey(row["key"], prompt, row["model"], row["fingerprint"], row["row_id"], row["answer"])
    logprobs = None if row["logprobs"] is None else tuple(row["logprobs"])
    reply: dict[str, Any] = {field.name: row[field.name] for field in fields(Reply)} | {"logprobs": logprobs}
    return asked, row["sample"], [Reply(**reply)]
