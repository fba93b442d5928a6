"""A finished database: one complete file that is read, published and never written again."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from harness.errors import HarnessError
from harness.files import draft_of, publish

MARK = 0x52484201
"""SQLite's application id of a finished file, "RHB" and 1, at byte 68 of its header."""

_HEADER = 72


def is_finished(path: Path) -> bool:
    """Whether a file says of itself that it is finished; false where there is none."""
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER)
    except OSError:
        return False
    return len(header) == _HEADER and int.from_bytes(header[68:72], "big") == MARK


def refuse_writing(path: Path) -> None:
    """Raise where a finished file was named for writing.

    Raises:
        HarnessError: it is finished.
    """
    if is_finished(path):
        raise HarnessError(
            f"{path} is a finished database, which only `make results` writes: name another file, "
            f"or take its rows over with: harness results merge {path} --db mine.db"
        )


def finish(source: Path, target: Path) -> None:
    """Write the database `source` as the finished file `target`: compact, in rollback-journal mode.

    The file appears whole or not at all. The same rows give the same file but for SQLite's own
    counters.

    Raises:
        HarnessError: the source is no database, or the target cannot be written.
    """
    if not source.is_file():
        raise HarnessError(f"there is no database {source} to finish.")
    draft = draft_of(target)
    try:
        draft.unlink(missing_ok=True)
        with closing(sqlite3.connect(source)) as connection:
            connection.execute("VACUUM INTO ?", (str(draft),))
        with closing(sqlite3.connect(draft, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode=DELETE")
            connection.execute(f"PRAGMA application_id={MARK}")
        publish(draft, target)
    except (sqlite3.Error, OSError) as error:
        raise HarnessError(f"cannot finish {source} as {target}: {error}.") from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
