"""Where a database is, whether it can be one, and how it is connected to."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import QueuePool

from harness.errors import HarnessError
from harness.store.database import Database
from harness.store.finished import is_finished, refuse_writing
from harness.store.revisions import bring_up_to_date, copy_database, is_older

VARIABLE = "HARNESS_DB"
DEFAULT = "results.db"
OWN = "local.db"
"""The default where `results.db` is the project's finished file, as in its own repository."""

_PLAIN = ("postgresql", "postgres")
_MAGIC = b"SQLite format 3\x00"
_HEADER = 20
_LONGEST_VALUE = 256 * 2**20


def open_database(
    url: str | Path | None,
    *,
    create: bool,
    read_only: bool,
    timeout: float,
    is_copied: bool = False,
) -> Database:
    """Open, create or bring up to date the database at `url`; see `Store.open`."""
    if url is None:
        url = os.environ.get(VARIABLE) or _default(read_only=read_only)
    path, text = _locate(url)
    if path is not None and not read_only:
        refuse_writing(path)
    if path is None:
        database = _server(text, read_only=read_only, timeout=timeout)
    else:
        _check_file(path, create=create and not read_only)
        engine = _sqlite_engine(path, read_only=read_only, timeout=timeout)
        database = Database(str(path), path, engine, read_only, timeout)
    try:
        if path is not None and read_only and (is_copied or is_older(database)):
            return _updated_copy(database, path)
        bring_up_to_date(database, create=create)
    except BaseException:
        database.close()
        raise
    return database


def _updated_copy(database: Database, path: Path) -> Database:
    """A file that is read through a copy of its own, up to date; itself it stays as it is.

    Finished files of an older schema stay readable so, and what another machine recorded can be
    merged.
    """
    folder = TemporaryDirectory(prefix="robust-harness-")
    copy, where, timeout = Path(folder.name) / path.name, database.where, database.timeout
    try:
        copy_database(_read_only_uri(path), copy)
        engine = _sqlite_engine(copy, read_only=False, timeout=timeout)
        with closing(Database(where, copy, engine, is_read_only=False, timeout=timeout)) as writer:
            bring_up_to_date(writer, create=False, keeps_a_copy=False)
        engine = _sqlite_engine(copy, read_only=True, timeout=timeout)
    except (OSError, sqlite3.Error, DBAPIError) as error:
        folder.cleanup()
        raise HarnessError(
            f"{where} is read through a copy of the present schema, which cannot be made in "
            f"{folder.name} ({error}). Make room there, or choose another folder with TMPDIR."
        ) from error
    except BaseException:
        folder.cleanup()
        raise
    database.close()
    return Database(where, path, engine, is_read_only=True, timeout=timeout, copied_to=folder)


def _default(*, read_only: bool) -> str:
    """`results.db`; beside a finished one `local.db`, which readers prefer once it is there."""
    if not is_finished(Path(DEFAULT)):
        return DEFAULT
    return DEFAULT if read_only and not Path(OWN).exists() else OWN


def _locate(url: str | Path) -> tuple[Path | None, str]:
    text = str(url)
    if "://" not in text:
        return Path(text), text
    try:
        parsed = make_url(text)
    except (ArgumentError, ValueError) as error:
        raise HarnessError(
            f"'{text}' is no database: give a file, sqlite:///FILE or postgresql://HOST/NAME."
        ) from error
    if parsed.get_backend_name() != "sqlite":
        return None, text
    if not parsed.database or parsed.database == ":memory:":
        raise HarnessError("a database in memory is forgotten at once: name a file.")
    return Path(parsed.database), text


def _server(text: str, *, read_only: bool, timeout: float) -> Database:
    url = _with_driver(make_url(text))
    where = url.render_as_string(hide_password=True)
    options: Mapping[str, Any] = {"postgresql_readonly": True} if read_only else {}
    try:
        engine = create_engine(
            url,
            execution_options=dict(options),
            pool_pre_ping=True,  # a server hangs up on a training of many hours
            connect_args={"connect_timeout": max(ceil(timeout), 1)},
        )
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise HarnessError(
            f"the database {where} needs a driver that is not installed ({error}): "
            "for PostgreSQL, pip install 'robust-harness[postgresql]'."
        ) from error
    if engine.dialect.name != "postgresql":
        raise HarnessError(
            f"the database {where} is none that can be used: give a file, sqlite:///FILE or "
            "postgresql://HOST/NAME."
        )
    return Database(where, None, engine, read_only, timeout)


def _with_driver(url: URL) -> URL:
    """PostgreSQL by its plain name means psycopg 3, where SQLAlchemy would look for psycopg 2."""
    return url.set(drivername="postgresql+psycopg") if url.drivername in _PLAIN else url


def _check_file(path: Path, *, create: bool) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(len(_MAGIC))
    except FileNotFoundError:
        _check_missing(path, create=create)
        return
    except IsADirectoryError:
        raise HarnessError(f"{path} is a folder: name a database file in it.") from None
    except OSError as error:
        raise HarnessError(f"the database {path} cannot be read: {error.strerror}.") from error
    if start and start != _MAGIC:
        raise HarnessError(f"{path} is no SQLite database: name another file.")
    if not start and not create:
        raise HarnessError(
            f"the database {path} is an empty file: record an evaluation in it first."
        )


def _check_missing(path: Path, *, create: bool) -> None:
    if not create:
        raise HarnessError(
            f"there is no database {path}: train, add or evaluate first, or name another file "
            f"(also with {VARIABLE})."
        )
    if not path.absolute().parent.is_dir():
        raise HarnessError(
            f"the folder {path.absolute().parent} does not exist: create it, "
            "or name another database file."
        )


def _sqlite_engine(path: Path, *, read_only: bool, timeout: float) -> Engine:
    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            _read_only_uri(path) if read_only else str(path),
            timeout=timeout,
            isolation_level=None,  # transactions begin where `_begin` says, not where sqlite3 does
            check_same_thread=False,
            uri=read_only,
        )
        try:
            _prepare(connection, read_only=read_only)
        except BaseException:
            connection.close()  # nobody else knows of it yet
            raise
        return connection

    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: sqlite3.Connection, *, read_only: bool) -> None:
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_VALUE)
    connection.execute("PRAGMA trusted_schema=OFF")
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute(f"PRAGMA query_only={'ON' if read_only else 'OFF'}")
    connection.execute("PRAGMA synchronous=FULL")


def _begin(connection: Connection) -> None:
    is_writing = connection.get_execution_options().get("is_writing", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writing else "BEGIN")


def _read_only_uri(path: Path) -> str:
    """A file that says "write-ahead log" but has none is finished: opening it must not make one."""
    with path.open("rb") as file:
        header = file.read(_HEADER)
    says_log = len(header) == _HEADER and header[18] == 2
    is_finished = says_log and not Path(f"{path}-wal").exists()
    options = "mode=ro&immutable=1" if is_finished else "mode=ro"
    return f"file:{quote(str(path.absolute()))}?{options}"
