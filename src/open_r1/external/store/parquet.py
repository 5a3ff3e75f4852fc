"""Parquet in and out: a bought set of replies to hand on, or to reproduce a run from after its teachers are retired.

One file holds one task, a row per reply, with everything that the store keeps: address, model and its settings, row,
true answer, sample number, reply. What is taken over passes a schema, row by row, before the store is touched.
"""

import json
from collections import defaultdict
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as untyped_arrow  # pyright: ignore[reportMissingTypeStubs]
import pyarrow.parquet as untyped_parquet  # pyright: ignore[reportMissingTypeStubs]
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from tqdm import tqdm

from open_r1.external.store.replies import PromptVersion, ReplyKey, Store
from open_r1.schema import Reply, UserError
from open_r1.utils.files import replacing

arrow: Any = untyped_arrow
parquet: Any = untyped_parquet

FORMAT = b"open-r1 replies, version 1"  # under the key "format" of the file's metadata
ROWS_AT_ONCE = 16_000
QUESTIONS_AT_ONCE = 2_000
SHOWN = 3  # bad rows that are named
SCHEMA = arrow.schema(
    {
        "key": arrow.binary(),
        "task": arrow.string(),
        "prompt_kind": arrow.string(),
        "instruction": arrow.string(),
        "model": arrow.string(),
        "fingerprint": arrow.string(),  # JSON: the settings that make a reply
        "row_id": arrow.string(),
        "answer": arrow.string(),  # the row's true answer
        "sample": arrow.int64(),
        "text": arrow.string(),
        "finish_reason": arrow.string(),
        "prompt_tokens": arrow.int64(),
        "completion_tokens": arrow.int64(),
        "cost_usd": arrow.float64(),
        "latency_s": arrow.float64(),
        "logprobs": arrow.list_(arrow.float64()),
    },
    metadata={b"format": FORMAT},
)


def _mapping(text: str) -> str:
    if not isinstance(json.loads(text), dict):
        raise ValueError("must be a JSON mapping")
    return text


Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, lt=2**62)]


class _Row(BaseModel):
    """One row of a file, as it must be."""

    model_config = ConfigDict(strict=True, extra="forbid")

    key: Annotated[bytes, Field(min_length=1, max_length=64)]
    task: str
    prompt_kind: str
    instruction: str
    model: Annotated[str, Field(min_length=1)]
    fingerprint: Annotated[str, AfterValidator(_mapping)]
    row_id: str
    answer: str
    sample: Count
    text: str
    finish_reason: Literal["stop", "length", "content_filter"]
    prompt_tokens: Count | None
    completion_tokens: Count | None
    cost_usd: Amount | None
    latency_s: Amount | None
    logprobs: list[Annotated[float, Field(le=0, allow_inf_nan=False)]] | None

    @property
    def prompt(self) -> PromptVersion:
        """Which prompt it is a reply to."""
        return PromptVersion(self.task, self.prompt_kind, self.instruction)

    @property
    def reply_key(self) -> ReplyKey:
        """What was asked of whom."""
        return ReplyKey(self.key, self.prompt, self.model, self.fingerprint, self.row_id, self.answer)

    @property
    def reply(self) -> Reply:
        """What was said."""
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(Reply)}
        values["logprobs"] = None if self.logprobs is None else tuple(self.logprobs)
        return Reply(**values)


def export_parquet(store: Store, task: str, path: Path) -> int:
    """Write all replies of a task to `path`, renamed when whole; returns how many there are.

    Raises:
        UserError: the store has no reply of the task, or the place cannot be written.
    """
    if not (total := store.count(task)):
        raise UserError(f"store {store.database.path} holds no replies of {task}, so there is nothing to export")
    everything = store.everything(task)
    bar = tqdm(total=total, desc="exporting", unit="reply", delay=2)
    try:
        with bar, replacing(path) as part, parquet.ParquetWriter(part, SCHEMA) as file:
            while questions := list(islice(everything, QUESTIONS_AT_ONCE)):
                rows = [_row(asked, i, reply) for asked, replies in questions for i, reply in enumerate(replies)]
                file.write_table(arrow.Table.from_pylist(rows, schema=SCHEMA))
                bar.update(len(rows))
    except OSError as error:
        raise UserError(f"cannot write {path}: {error}; give a file in a folder with room for it") from error
    return total


def import_parquet(store: Store, path: Path, task: str, instructions: dict[str, str]) -> tuple[int, int]:
    """Take over the replies of a Parquet file, all of them in one commit, after every row was checked.

    Args:
        store: where they go; replies that are there already stay.
        path: what `export_parquet` wrote.
        task: whose replies the file must hold.
        instructions: the task's present instruction by prompt kind; replies to another would never be found.

    Returns:
        How many replies were new, and how many the file holds.

    Raises:
        UserError: no such file, no such format, another task, another instruction, or rows that no store can hold; then
            nothing was taken over.
    """
    total = _check(store, path, task, instructions)
    new = 0
    with store.database.write(), tqdm(total=total, desc="importing", unit="reply", delay=2) as bar:
        for batch in _batches(path):
            rows = [_Row.model_validate(row) for row in batch]
            new += store.add([(row.reply_key, row.sample, [row.reply]) for row in rows])
            bar.update(len(rows))
    return new, total


def _check(store: Store, path: Path, task: str, instructions: dict[str, str]) -> int:
    """Read every row of the file and return their number; raises UserError as `import_parquet` does."""
    bad: list[str] = []
    keys: dict[bytes, ReplyKey] = {}
    samples: defaultdict[bytes, list[int]] = defaultdict(list)
    number = -1
    for number, values in enumerate(row for batch in _batches(path) for row in batch):
        try:
            row = _Row.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            bad.append(f"row {number}: {first['loc'][0]}: {first['msg'].lower()}")
            continue
        _check_prompt(store, path, row.prompt, task, instructions)
        if keys.setdefault(row.key, row.reply_key) != row.reply_key:
            bad.append(f"row {number}: another question under the key of an earlier row")
        samples[row.key].append(row.sample)
    bad += _gaps(store, keys, samples)
    if bad:
        more = f"; and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        raise UserError(
            f"{path}: {len(bad)} faults in {number + 1} rows: {'; '.join(bad[:SHOWN])}{more}; nothing was taken over;"
            " export the file anew with `make store OUTPUT=x.parquet`"
        )
    return number + 1


def _check_prompt(store: Store, path: Path, prompt: PromptVersion, task: str, instructions: dict[str, str]) -> None:
    if prompt.task != task:
        raise UserError(f"{path} holds replies of task {prompt.task}, not of {task}; give TASK={prompt.task}")
    if prompt.instruction != instructions.get(prompt.kind):
        raise UserError(
            f"{path} holds replies to another {prompt.kind} prompt of {task} than the present one, so that no run"
            " would find them; use the code that made the file, or collect anew"
        )
    store.declare(prompt)


def _gaps(store: Store, keys: dict[bytes, ReplyKey], samples: dict[bytes, list[int]]) -> Iterator[str]:
    """Name questions whose samples are not 0, 1, 2, ... once each, with those that the store has already."""
    for key, numbers in samples.items():
        if len(set(numbers)) < len(numbers):
            yield f"id '{keys[key].row_id}' of {keys[key].model}: a sample number comes twice"
        together = {*numbers, *store.samples(key)} if max(numbers) >= len(set(numbers)) else set(numbers)
        if max(numbers) >= len(together):
            yield f"id '{keys[key].row_id}' of {keys[key].model}: sample {max(numbers)} without all before it"


def _batches(path: Path) -> Iterator[list[dict[str, Any]]]:
    """The file's rows, as Python values, a part at a time."""
    with _readable(path):
        file = parquet.ParquetFile(path)
    metadata: dict[bytes, bytes] = file.schema_arrow.metadata or {}
    if metadata.get(b"format") != FORMAT or file.schema_arrow.names != SCHEMA.names:
        found = ", ".join(file.schema_arrow.names[:4])
        raise UserError(
            f"{path} is no export of replies that this code reads ('{FORMAT.decode()}'; its columns begin {found});"
            " make one with `make store OUTPUT=x.parquet`"
        )
    batches = file.iter_batches(ROWS_AT_ONCE)
    while True:
        with _readable(path):
            batch = next(batches, None)
            rows: list[dict[str, Any]] = [] if batch is None else batch.to_pylist()
        if batch is None:
            return
        yield rows


@contextmanager
def _readable(path: Path) -> Generator[None, None, None]:
    """What Arrow says of a file that is no Parquet, or a damaged one, in one line."""
    try:
        yield
    except (OSError, ValueError, arrow.ArrowException) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} cannot be read as Parquet ({reason}); give another file") from error


def _row(asked: ReplyKey, sample: int, reply: Reply) -> dict[str, Any]:
    """One reply as a row of the file."""
    about = vars(asked) | {"prompt_kind": asked.prompt.kind} | asked.prompt._asdict()
    return {name: value for name, value in (about | {"sample": sample} | vars(reply)).items() if name in SCHEMA.names}
