"""An opened database: transactions, SQLite's write-ahead log, errors as sentences."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from harness.errors import HarnessError
from harness.store.rows import WrongRowError

_PAUSE = 0.02
_ADVICE = {
    "locked": "another program has kept it locked for {timeout:g} s: let that finish, then repeat.",
    "busy": "another program has kept it locked for {timeout:g} s: let that finish, then repeat.",
    "readonly": "it may not be written: check the permissions of the file and of its folder.",
    "unable to open": "it cannot be opened: check that its folder exists and may be written.",
    "not a database": "it is no SQLite database: name another file.",
    "malformed": "it is damaged: restore a copy of it, or name another file.",
    "is full": "the disk is full: make room, then repeat; nothing was half written.",
    "disk I/O error": "the disk is full or broken: look after it, then repeat.",
    "No space left": "the server's disk is full: make room, then repeat; nothing was half written.",
    "lock timeout": "another program has kept it locked for {timeout:g} s: let that finish, then "
    "repeat.",
    "read-only transaction": "the server allows no writing: ask for a user that may write.",
    "permission denied": "the server allows this user too little: ask for one that may do this.",
    "no such table": "it lacks a table of this harness: name another file.",
    "no such column": "it lacks a column of this harness: name another file.",
}
_WRITERS = 0x52484201
"""The advisory lock of PostgreSQL that writers take in turn."""


class UnreadableError(HarnessError, ValueError):
    """A database with a row that no harness wrote; a `ValueError`, as of any malformed value."""


@dataclass
class Database:
    """An opened database: reading and writing transactions, errors as sentences.

    Args:
        where: what people read, a path or a URL without its password.
        path: the file, None for a server.
        engine: SQLAlchemy's.
        is_read_only: whether `writing` is refused.
        timeout: seconds to wait for another writer.
        copied_to: the folder of a private copy that is read instead of `path`, gone when closed.
    """

    where: str
    path: Path | None
    engine: Engine
    is_read_only: bool
    timeout: float
    copied_to: TemporaryDirectory[str] | None = None
    _snapshot: Connection | None = field(default=None, repr=False)
    _has_written: bool = field(default=False, repr=False)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees one state of the database."""
        if self._snapshot is not None:
            yield self._snapshot
            return
        # What SQLite does anyway: all statements of a transaction see the same state.
        level: Mapping[str, Any] = {} if self.path else {"isolation_level": "REPEATABLE READ"}
        with self.explained(), self.engine.execution_options(**level).begin() as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let every `reading` inside see the same state; do not write inside."""
        with self.reading() as connection:
            before, self._snapshot = self._snapshot, connection
            try:
                yield
            finally:
                self._snapshot = before

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction that takes the write lock at once, so that it cannot lose it half way."""
        if self.is_read_only:
            raise HarnessError(f"the database {self.where} was opened for reading only.")
        with self.explained():
            if not self._has_written and self.path is not None:
                _use_write_ahead_log(self.path, self.timeout)
                self._has_written = True
            with self.engine.execution_options(is_writing=True).begin() as connection:
                if self.path is None:
                    self._wait_for_other_writers(connection)
                yield connection

    def _wait_for_other_writers(self, connection: Connection) -> None:
        """On a server: one writer at a time, as on SQLite, so that nobody meets half of another.

        It also makes what two do to the same row, in whatever order, no deadlock.
        """
        milliseconds = int(1000 * self.timeout)
        connection.execute(text(f"SET LOCAL lock_timeout = {milliseconds}"))
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_WRITERS})"))

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn what the person can fix into a sentence; the rest stays a bug with its traceback."""
        try:
            yield
        except WrongRowError as error:
            raise UnreadableError(
                f"the database {self.where} holds what no harness wrote: {error}. See `harness "
                "results verify`, then restore a copy of it, or name another file."
            ) from error
        except (DBAPIError, sqlite3.Error) as error:
            reason = str(error.orig if isinstance(error, DBAPIError) else error)
            advice = next((text for key, text in _ADVICE.items() if key in reason), None)
            is_server_down = self.path is None and getattr(error, "connection_invalidated", False)
            if advice is None and not (is_server_down or _is_operational(error)):
                raise
            said = (
                f"{' '.join(reason.split()).rstrip('.')}."
                if advice is None
                else advice.format(timeout=self.timeout)
            )
            raise HarnessError(f"the database {self.where} cannot be used: {said}") from error

    def close(self) -> None:
        """Leave one file that any program can read, unless somebody else still has it open."""
        self.engine.dispose()
        if self._has_written and self.path is not None and self.path.exists():
            _leave_one_file(self.path)
        self._has_written = False
        if self.copied_to is not None:
            self.copied_to.cleanup()


def _use_write_ahead_log(path: Path, timeout: float) -> None:
    """Readers and one writer at a time; SQLite does not wait for this change, so we do."""
    deadline = time.monotonic() + timeout
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
        while True:
            try:
                connection.execute("PRAGMA journal_mode=WAL")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE)
            else:
                return


def _leave_one_file(path: Path) -> None:
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute("PRAGMA journal_mode=DELETE")
        except sqlite3.DatabaseError:
            return  # somebody else has it open and will do this, or it is damaged: tidying can wait


def _is_operational(error: Exception) -> bool:
    cause = error.orig if isinstance(error, DBAPIError) else error
    return type(cause).__name__ == "OperationalError"
