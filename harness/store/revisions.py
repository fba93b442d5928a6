"""Which schema a database has, and bringing an older one up to date; a copy stays next to it."""

from __future__ import annotations

import filecmp
import sqlite3
from contextlib import closing, suppress
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Column, Connection, MetaData, Table, Text, inspect, select

from harness.errors import HarnessError
from harness.files import draft_of, publish
from harness.store.database import Database
from harness.store.schema import HEAD

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).parent / "migrations"

_NONE_YET = ""
_VERSION = Table("alembic_version", MetaData(), Column("version_num", Text))


def bring_up_to_date(database: Database, *, create: bool, keeps_a_copy: bool = True) -> None:
    """Create the tables of an empty database or migrate an older one; one process does it once.

    Args:
        database: to look at, and to change where it is not up to date.
        create: whether an empty one is to become ours.
        keeps_a_copy: whether an older file is copied next to it before it is changed.

    Raises:
        HarnessError: it belongs to another program or to a newer harness, or may not be changed,
            or cannot be copied first.
    """
    with database.reading() as connection:
        found = revision_of(connection)
    if found == HEAD:
        return
    if found is None:
        raise HarnessError(f"the database {database.where} belongs to another program.")
    if found and not _is_known(found):
        raise HarnessError(
            f"the database {database.where} was written by a newer harness (schema {found}, this "
            f"one knows up to {HEAD}): upgrade the harness, or name another file."
        )
    if database.is_read_only or not (found or create):
        raise HarnessError(
            f"the database {database.where} has schema {found or 'none'}, not {HEAD}: run a "
            "command that writes to it, such as `harness eval`, and it is brought up to date."
        )
    with database.writing() as connection:
        found = revision_of(connection)  # another process may have been faster
        if found != HEAD:
            if keeps_a_copy and found and database.path is not None:
                _back_up(database.path, found)
            _upgrade(connection)


def is_older(database: Database) -> bool:
    """Whether it is ours and can be brought up to date."""
    with database.reading() as connection:
        found = revision_of(connection)
    return bool(found) and found != HEAD and _is_known(str(found))


def revision_of(connection: Connection) -> str | None:
    """The revision of a database's schema: empty for an empty one, None for a stranger's."""
    tables = inspect(connection).get_table_names()
    if _VERSION.name not in tables:
        return None if tables else _NONE_YET
    found = connection.execute(select(_VERSION.c.version_num)).scalar_one_or_none()
    return _NONE_YET if found is None else str(found)


def migration_config() -> Config:
    """Alembic's configuration in code: no ini file, and nobody's logging is touched."""
    from alembic.config import Config  # noqa: PLC0415 - a quarter of a second, rarely needed

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def _is_known(revision: str) -> bool:
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    scripts = ScriptDirectory.from_config(migration_config())
    return revision in {script.revision for script in scripts.walk_revisions()}


def _upgrade(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415

    config = migration_config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _back_up(path: Path, revision: str) -> None:
    """Copy a database before it is changed; a copy of an earlier time is never written over."""
    wanted = path.with_name(f"{path.name}.schema-{revision}")
    draft = draft_of(wanted)
    try:
        draft.unlink(missing_ok=True)
        copy_database(str(path), draft)
        _keep(draft, wanted)
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise HarnessError(
            f"the database {path} has schema {revision}, not {HEAD}, and its copy {wanted.name} "
            f"cannot be written ({reason}): make room beside it, then repeat; it is as it was."
        ) from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def copy_database(source: str, target: Path) -> None:
    """Copy one state of a database, a path or a URI of SQLite, into one complete new file.

    Raises:
        sqlite3.Error: it cannot be read, or the disk is full.
    """
    with (
        closing(sqlite3.connect(source, uri=source.startswith("file:"))) as original,
        closing(sqlite3.connect(target, isolation_level=None)) as copy,
    ):
        original.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")  # what it was copied from may have a log


def _keep(draft: Path, wanted: Path) -> None:
    """Name a copy; where a migration was tried before, the same copy is there already."""
    for name in chain([wanted.name], (f"{wanted.name}.{number}" for number in count(2))):
        there = wanted.with_name(name)
        if not there.exists():
            publish(draft, there)
            return
        if filecmp.cmp(draft, there, shallow=False):
            return
