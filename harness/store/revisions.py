"""Which schema a database has, and bringing an older one up to date; a copy stays next to it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Column, Connection, MetaData, Table, Text, inspect, select

from harness.errors import HarnessError
from harness.store.database import Database
from harness.store.finished import is_finished
from harness.store.schema import HEAD

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).parent / "migrations"

_NONE_YET = ""
_VERSION = Table("alembic_version", MetaData(), Column("version_num", Text))


def bring_up_to_date(database: Database, *, create: bool) -> None:
    """Create the tables of an empty database or migrate an older one; one process does it once.

    Raises:
        HarnessError: it belongs to another program or to a newer harness, or may not be changed,
            as a finished file may not.
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
    if found and database.path is not None and is_finished(database.path):
        raise HarnessError(
            f"the finished database {database.where} has schema {found}, not {HEAD}, and nobody "
            "writes it any more: read it with the version of the harness that it came with, or "
            "name another file."
        )
    if database.is_read_only or not (found or create):
        raise HarnessError(
            f"the database {database.where} has schema {found or 'none'}, not {HEAD}: run a "
            "command that writes to it, such as `harness eval`, and it is brought up to date."
        )
    with database.writing() as connection:
        found = revision_of(connection)  # another process may have been faster
        if found != HEAD:
            _back_up(database, found)
            _upgrade(connection)


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


def _back_up(database: Database, revision: str | None) -> None:
    if database.path is None or not revision:
        return
    copy = database.path.with_name(f"{database.path.name}.schema-{revision}")
    with (
        closing(sqlite3.connect(database.path, timeout=database.timeout)) as source,
        closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)
