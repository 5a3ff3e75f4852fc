"""The store: every reply that was ever bought, found again by what was asked and of whom.

External models are frozen, so a reply is bought once and serves every epoch, seed, policy and ablation. The address of
a question is a hash of its messages, the bytes of its pictures, and the model's `fingerprint`; replies to one address
are numbered by sample. What is asked for changes the address, so replies to different prompts can never be mixed up;
one store holds one instruction per task and prompt kind all the same, lest a changed prompt is bought anew unnoticed.
"""

import functools
import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple, cast

from open_r1.external.provider import Request
from open_r1.external.store.database import Database
from open_r1.schema import Reply, UserError

KEYS_AT_ONCE = 500  # bound variables of one SQL statement
COLUMNS = ", ".join(field.name for field in fields(Reply))


class PromptVersion(NamedTuple):
    """What a run asks with every question, beside the question itself."""

    task: str
    kind: str  # "reasoning" | "direct"
    instruction: str


@dataclass(frozen=True)
class ReplyKey:
    """What is kept with replies, so that they can be listed and graded later."""

    key: bytes
    prompt: PromptVersion
    model: str
    fingerprint: str  # JSON
    row_id: str
    answer: str  # the row's true answer at the time


def reply_key(request: Request, prompt: PromptVersion, model: str, fingerprint: Mapping[str, Any]) -> ReplyKey:
    """Give a request its address; pictures are read once per file and remembered by size and time of change."""
    reads = fingerprint.get("reads", ())  # fields of the row that the model sees beside the messages (scripted ones do)
    content = {
        "messages": request.messages,
        "model": fingerprint,
        "row": {name: getattr(request.row, name) for name in reads},
    }
    key = hashlib.sha256(json.dumps(content, sort_keys=True, default=_digest).encode()).digest()
    return ReplyKey(key, prompt, model, json.dumps(fingerprint, sort_keys=True), request.row.id, request.row.answer)


def _digest(value: Any) -> Any:
    """Stand in for what JSON cannot hold: a picture's path becomes the hash of its bytes, a mapping a dict."""
    if isinstance(value, Path):
        stat = value.stat()
        return {"sha256": _file_digest(value, stat.st_mtime_ns, stat.st_size)}
    if isinstance(value, Mapping):
        return dict(cast(Mapping[str, Any], value))
    raise TypeError(f"a message holds a {type(value).__name__}; text, numbers and pictures' paths can be addressed")


@functools.lru_cache(maxsize=2**17)
def _file_digest(path: Path, mtime_ns: int, size: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Store:
    """Replies by address. Reads and writes are committed at once; see `Database` for sharing and for errors."""

    def __init__(self, database: Database):
        """Serve the replies of an open file."""
        self.database = database

    def declare(self, prompt: PromptVersion) -> None:
        """Say with which instruction this run asks.

        Raises:
            UserError: the store's replies of this task and prompt kind are to another instruction.
        """
        known = self.database.rows(
            "select instruction from prompts where task = ? and kind = ?", (prompt.task, prompt.kind)
        )
        if known and known[0][0] != prompt.instruction:
            raise UserError(
                f"store {self.database.path} holds replies of {prompt.task} to another {prompt.kind} prompt"
                f" ('{known[0][0].strip()[:40]}...', now '{prompt.instruction.strip()[:40]}...'); every prompt would be"
                " bought anew; name another store_path for the new prompt"
            )

    def replies(self, keys: Sequence[bytes]) -> dict[bytes, list[Reply]]:
        """Look addresses up; those without replies are left out. Replies come in the order of their samples."""
        found: dict[bytes, list[Reply]] = {}
        for start in range(0, len(keys), KEYS_AT_ONCE):
            part = keys[start : start + KEYS_AT_ONCE]
            statement = (
                f"select key, sample, {COLUMNS} from requests join replies on request = requests.id"
                f" where key in ({', '.join('?' * len(part))})"
            )
            # Sorted here, where it costs nothing: SQLite would copy the texts to do it.
            for key, rows in groupby(sorted(self.database.rows(statement, part), key=itemgetter(0, 1)), itemgetter(0)):
                found[key] = [_reply(row[2:]) for row in rows]
        return found

    def samples(self, key: bytes) -> list[int]:
        """The numbers of the samples that are there, in order; an import of an earlier version may have left gaps."""
        statement = "select sample from requests join replies on request = requests.id where key = ? order by sample"
        return [sample for (sample,) in self.database.rows(statement, (key,))]

    def everything(self, task: str | None = None) -> Iterator[tuple[ReplyKey, list[Reply]]]:
        """Every question with its replies, in the order in which questions were first asked; of one task or of all."""
        ((last,),) = self.database.rows("select ifnull(max(id), 0) from requests")
        statement = (
            f"select key, task, kind, instruction, name, fingerprint, row_id, answer, {COLUMNS} from requests"
            " join prompts on prompt = prompts.id join models on model = models.id"
            " join replies on request = requests.id"
            " where requests.id between ? and ? and (? is null or task = ?) order by request, sample"
        )
        for first in range(1, last + 1, KEYS_AT_ONCE):  # a part at a time: a store may be larger than the memory
            rows = self.database.rows(statement, (first, first + KEYS_AT_ONCE - 1, task, task))
            for (key, *about), found in groupby(rows, key=lambda row: row[:8]):
                asked = ReplyKey(key, PromptVersion(*about[:3]), *about[3:])
                yield asked, [_reply(row[8:]) for row in found]

    def count(self, task: str | None = None) -> int:
        """How many replies there are, of one task or of all."""
        joined = "replies join requests on request = requests.id join prompts on prompt = prompts.id"
        ((number,),) = self.database.rows(f"select count(*) from {joined} where ? is null or task = ?", (task, task))
        return number

    def add(self, entries: Iterable[tuple[ReplyKey, int, Sequence[Reply]]]) -> int:
        """Keep replies in one commit and return how many were new.

        Args:
            entries: of each question the first sample's number and the replies; a sample that is there already stays.
        """
        marks = ", ".join("?" * (2 + len(fields(Reply))))
        with self.database.write():
            rows = [
                (self._request(asked), first + i, *_values(reply))
                for asked, first, replies in entries
                for i, reply in enumerate(replies)
            ]
            ((before,),) = self.database.rows("select total_changes()")
            self.database.many(f"insert or ignore into replies (request, sample, {COLUMNS}) values ({marks})", rows)
            ((after,),) = self.database.rows("select total_changes()")
        return after - before

    def _request(self, asked: ReplyKey) -> int:
        """The number of a question, made where it is new."""
        found = self.database.rows("select id from requests where key = ?", (asked.key,))
        if found:
            return found[0][0]
        prompt = self._id("prompts", ("task", "kind", "instruction"), asked.prompt)
        model = self._id("models", ("name", "fingerprint"), (asked.model, asked.fingerprint))
        insert = "insert into requests (key, prompt, model, row_id, answer) values (?, ?, ?, ?, ?) returning id"
        about = (encodable(asked.row_id), encodable(asked.answer))
        return self.database.rows(insert, (asked.key, prompt, model, *about))[0][0]

    def _id(self, table: str, columns: tuple[str, ...], values: tuple[str, ...]) -> int:
        """The number of a prompt or model, made where it is new."""
        values = tuple(map(encodable, values))
        same = " and ".join(f"{column} = ?" for column in columns)
        found = self.database.rows(f"select id from {table} where {same}", values)
        if found:
            return found[0][0]
        marks = ", ".join("?" * len(columns))
        insert = f"insert into {table} ({', '.join(columns)}) values ({marks}) returning id"
        return self.database.rows(insert, values)[0][0]


def encodable(text: str) -> str:
    """Half a surrogate pair, which JSON can bring and SQLite cannot hold, becomes '?'."""
    return text.encode(errors="replace").decode()


def _values(reply: Reply) -> tuple[Any, ...]:
    """A reply as its row."""
    logprobs = None if reply.logprobs is None else array("d", reply.logprobs).tobytes()
    return tuple(
        {**vars(reply), "text": encodable(reply.text), "logprobs": logprobs}[field.name] for field in fields(Reply)
    )


def _reply(values: Sequence[Any]) -> Reply:
    *plain, logprobs = values
    return Reply(*plain, logprobs=None if logprobs is None else tuple(array("d", logprobs)))
