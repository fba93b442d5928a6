"""Folders and servers that commands in processes of their own may break."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from commands import Commands
from postgresql_server import INSTALL, program, running_server

_NUMBER = itertools.count()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder; nothing of the person's own is read or written."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HARNESS_DB", str(folder / "results.db"))
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("HARNESS_CHECKPOINTS", raising=False)
    return folder


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The folder of the socket of a PostgreSQL server."""
    if program("initdb") is None or program("postgres") is None:
        pytest.skip(INSTALL)
    with running_server() as folder:
        yield folder


@pytest.fixture
def postgresql(server: str) -> str:
    """The URL of an empty database on it."""
    name = f"harness{next(_NUMBER)}"
    with psycopg.connect(
        host=server, user="postgres", dbname="postgres", autocommit=True
    ) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"postgresql://postgres@/{name}?host={server}"


@pytest.fixture(scope="session")
def commands() -> Iterator[Commands]:
    """`harness` commands in processes of their own."""
    started = Commands()
    yield started
    started.close()
