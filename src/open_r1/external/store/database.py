"""The SQLite file that holds bought replies and the ledger: its tables, its transactions, its errors in one line each.

Write-ahead logging lets several processes of one machine share the file. A commit survives kill -9 at any moment; with
`synchronous = normal` a power cut may take back the last commits, but never damages the file.
"""

import os
import shutil
import sqlite3
import threading
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from open_r1.schema import UserError
from open_r1.utils.files import replacing

SCHEMA = 1  # PRAGMA user_version; another version is refused
APPLICATION = 0x454B4950  # "EKIP", PRAGMA application_id: tells our files from other programs' SQLite files
MAGIC = b"SQLite format 3\0"  # how every SQLite file begins
BUSY_S = 30.0  # how long a transaction waits for those of other processes
MIN_FREE_BYTES = 64 * 2**20  # with less room nothing is bought: what is in flight must still fit

TABLES = """
create table prompts (id integer primary key, task text not null, kind text not null, instruction text not null,
    unique (task, kind));
create table models (id integer primary key, name text not null, fingerprint text not null,
    unique (name, fingerprint));
create table requests (id integer primary key, key blob not null unique, prompt integer not null references prompts,
    model integer not null references models, row_id text not null, answer text not null);
create table replies (id integer primary key, request integer not null references requests, sample integer not null,
    text text not null, finish_reason text not null, prompt_tokens integer, completion_tokens integer, cost_usd real,
    latency_s real, logprobs blob, unique (request, sample));
create table open_calls (id integer primary key, key blob not null unique, model text not null, nanos integer not null,
    owner text not null);
create table spent (model text primary key, nanos integer not null default 0, in_doubt integer not null default 0,
    calls integer not null default 0);
"""


class Database:
    """One open file. Threads may share it; each transaction has it to itself."""

    def __init__(self, path: str | Path, read_only: bool = False):
        """Open the file, made where it is missing unless `read_only`; then it must not change meanwhile.

        Raises:
            UserError: it cannot be opened, is no store, is one of another schema version, or does not exist.
        """
        self.path, self.read_only = Path(path), read_only
        self._lock = threading.RLock()
        if read_only and not self.path.is_file():
            raise UserError(f"store {self.path} does not exist, and it is to be read only; `make collect` fills one")
        with self._in_one_line():
            if not self.path.exists():
                _make(self.path)
            self._check_header()
            self._connection = self._open()
            try:
                self._check_version()
                if not read_only:
                    self._connection.execute("pragma journal_mode = wal")
                    self._connection.execute("pragma synchronous = normal")
            except BaseException:
                self._connection.close()
                raise

    def _open(self) -> sqlite3.Connection:
        mode = "rw"
        if self.read_only:
            # An immutable file needs no lock and no folder to write to, but its write-ahead log would be overlooked.
            mode = "ro" if self._log_size() else "ro&immutable=1"
        connection = _connect(self.path, mode)
        connection.execute("pragma cache_size = -65536")  # 64 MiB
        return connection

    def _log_size(self) -> int:
        log = self.path.with_name(self.path.name + "-wal")
        return log.stat().st_size if log.is_file() else 0

    def _check_header(self) -> None:
        """Refuse by its first bytes what is no store, before SQLite touches it: it would change a foreign file."""
        with self.path.open("rb") as file:
            header = file.read(100)
        if not header:
            raise UserError(
                f"store {self.path} is empty, which no store ever is: a copy that failed? delete it, or name another"
            )
        if not header.startswith(MAGIC):
            raise UserError(f"store {self.path}: it is no SQLite file; name another, or move it away")
        # An early version wrote its mark into the log first; only there SQLite has to look.
        if int.from_bytes(header[68:72], "big") != APPLICATION and not (self._log_size() and _marked(self.path)):
            raise UserError(f"{self.path} is an SQLite file of another program, not a store of replies; name another")

    def _check_version(self) -> None:
        ((version,),) = self.rows("pragma user_version")
        if version != SCHEMA:
            raise UserError(
                f"store {self.path} has schema version {version}, this code reads {SCHEMA}; nothing was changed; export"
                " it to Parquet with the code that made it (make store OUTPUT=x.parquet), or name another store"
            )

    def copy(self, path: Path) -> None:
        """Write a whole copy of the file, also of one in use, to `path`, renamed when it is whole.

        Raises:
            UserError: there is a file already, or the place cannot be written.
        """
        if path.exists():
            raise UserError(f"{path} exists; a copy overwrites nothing; name another file or move it away")
        with self._lock, self._in_one_line(path), replacing(path) as part, closing(sqlite3.connect(part)) as target:
            self._connection.backup(target)

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement and return all its rows."""
        with self._lock, self._in_one_line():
            return self._connection.execute(statement, values).fetchall()

    def many(self, statement: str, values: Iterable[Sequence[Any]]) -> None:
        """Run one statement for each of many tuples of values, inside a `write`."""
        assert self._connection.in_transaction, "many() runs inside write()"
        with self._in_one_line():
            self._connection.executemany(statement, values)

    @contextmanager
    def write(self) -> Generator[None, None, None]:
        """A transaction: all of the block is committed at its end, or nothing of it. A block within a block joins it.

        Raises:
            UserError: the file cannot be written, the disk is full, or another process keeps the file for BUSY_S.
        """
        with self._lock, self._in_one_line():
            if self._connection.in_transaction:
                yield
                return
            self._connection.execute("begin immediate")
            try:
                yield
                self._connection.execute("commit")
            except BaseException:
                if self._connection.in_transaction:  # SQLite itself rolls back when the disk is full
                    self._connection.execute("rollback")
                raise

    def check_room(self) -> None:
        """Raise UserError where the disk is so full that a reply bought now might not be kept."""
        free = shutil.disk_usage(self.path.parent).free
        if free < MIN_FREE_BYTES:
            raise UserError(
                f"store {self.path}: {free / 2**20:.0f} MiB are free on its disk, {MIN_FREE_BYTES // 2**20} are needed"
                " to keep what would be bought; nothing more is asked and nothing is lost; make room and start again"
            )

    def close(self) -> None:
        """Close the file; the last to close it folds the write-ahead log back in."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _in_one_line(self, path: Path | None = None) -> Generator[None, None, None]:
        path = path or self.path
        try:
            yield
        except OSError as error:
            raise UserError(f"store {path}: {error.strerror}; name a file in a folder you may write to") from error
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
            raise  # ours, not the user's
        except sqlite3.DatabaseError as error:
            raise UserError(f"store {path}: {_explained(error)}") from error


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    name = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(
        name, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False, cached_statements=256
    )


def _make(path: Path) -> None:
    """Make an empty store, renamed when it is whole, so that no other process meets half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        with closing(_connect(part, "rwc")) as connection:
            connection.execute(f"pragma application_id = {APPLICATION}")
            connection.execute(f"pragma user_version = {SCHEMA}")
            connection.executescript(TABLES)
        with suppress(FileExistsError):  # another process was quicker
            os.link(part, path)
    finally:
        part.unlink(missing_ok=True)


def _marked(path: Path) -> bool:
    """Whether SQLite, looking at file and log, finds the mark of a store."""
    with closing(_connect(path, "ro")) as connection:
        return connection.execute("pragma application_id").fetchone() == (APPLICATION,)


def _explained(error: sqlite3.DatabaseError) -> str:
    """What SQLite found and what to do about it, for the user; matched by SQLite's result code."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte of an extended code is the primary one
    remedies = {
        sqlite3.SQLITE_FULL: "the disk is full; what was committed is kept; make room and start again",
        sqlite3.SQLITE_READONLY: "it may not be written; change its permissions or set store_read_only: true",
        sqlite3.SQLITE_CANTOPEN: "it cannot be opened; name a file in a folder you may write to",
        sqlite3.SQLITE_NOTADB: "it is no SQLite file; name another, or move it away",
        sqlite3.SQLITE_CORRUPT: "it is damaged (`make store OUTPUT=copy.sqlite` copies a store in use, cp does not);"
        " restore a copy, or rescue what is left with `sqlite3 FILE .recover`",
        sqlite3.SQLITE_BUSY: f"another process has kept it for {BUSY_S:g} s; end that process, or wait for it",
    }
    return remedies.get(code, f"{error}; name another store, or correct its folder")
