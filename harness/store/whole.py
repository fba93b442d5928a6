"""Everything that a database holds, as one finished SQLite file, wherever the rows are."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from sqlalchemy import Connection, Table, insert, select, text

from harness.errors import HarnessError
from harness.store import schema
from harness.store.database import Database
from harness.store.finished import finish, is_finished
from harness.store.opening import open_database

_ROWS = 500
"""Rows copied at a time."""


def whole_file(database: Database) -> bytes:
    """The bytes of the finished file; a file that is finished already gives its own.

    Raises:
        HarnessError: there is no room for a copy.
    """
    if database.path is not None and is_finished(database.path):
        return database.path.read_bytes()
    with TemporaryDirectory(prefix="robust-harness-") as folder:
        copy, target = Path(folder) / "copy.db", Path(folder) / "finished.db"
        try:
            with database.reading() as connection:
                if database.path is None:
                    _copy_rows(connection, copy)
                else:
                    _copy_file(connection, copy)
            finish(copy, target)
            return target.read_bytes()
        except (OSError, sqlite3.Error) as error:
            raise HarnessError(
                f"{database.where} cannot be copied to {folder} ({error}). Make room there, or "
                "choose another folder with TMPDIR."
            ) from error


def whole_size(database: Database) -> int:
    """About how many bytes `whole_file` has; exact where the file is finished already."""
    if database.path is not None and is_finished(database.path):
        return database.path.stat().st_size
    with database.reading() as connection:
        if database.path is None:
            asked = text("SELECT pg_total_relation_size(CAST(:name AS regclass))")
            names = [table.name for table in schema.metadata.sorted_tables]
            return sum(connection.execute(asked, {"name": name}).scalar_one() for name in names)
        pages, free, size = (
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)


def _copy_file(connection: Connection, target: Path) -> None:
    """The state that this connection sees, while others go on writing."""
    source = cast("sqlite3.Connection", connection.connection.dbapi_connection)
    with closing(sqlite3.connect(target, isolation_level=None)) as copy:
        source.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")


def _copy_rows(connection: Connection, target: Path) -> None:
    """Table by table, ids included: rows keep pointing at each other."""
    with (
        closing(open_database(target, create=True, read_only=False, timeout=30.0)) as copy,
        copy.writing() as ours,
    ):
        for table in schema.metadata.sorted_tables:
            _copy_table(connection, ours, table)


def _copy_table(theirs: Connection, ours: Connection, table: Table) -> None:
    rows = theirs.execute(select(table).order_by(*table.primary_key.columns))
    for some in rows.mappings().partitions(_ROWS):
        ours.execute(insert(table), [dict(row) for row in some])
