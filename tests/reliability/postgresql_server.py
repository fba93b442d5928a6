"""A PostgreSQL server of one's own, in a folder that goes away, on a socket that nobody knows."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

INSTALL = "no PostgreSQL server is installed: apt-get install postgresql"


def program(name: str) -> str | None:
    """A server program, on the path or where Debian puts it; the newest where there are several."""
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(versions[-1]) if versions else None)


@contextmanager
def running_server() -> Iterator[str]:
    """The folder of its socket; the server ends with the block, by its own process id."""
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # sockets need short paths
    user = _user()
    try:
        if user:
            shutil.chown(folder, user)
        data = folder / "data"
        # English order, not that of bytes: nothing may depend on how a server sorts names.
        asked = ("-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync")
        sorting = ("--locale-provider=icu", "--icu-locale=en-US", "--locale=C")
        initdb = [program("initdb"), "-D", data, *asked]
        done = subprocess.run([*initdb, *sorting], user=user, capture_output=True, check=False)
        if done.returncode:
            shutil.rmtree(data, ignore_errors=True)
            subprocess.run(initdb, user=user, capture_output=True, check=True)
        with subprocess.Popen(
            [program("postgres"), "-D", data, "-k", folder, "-c", "listen_addresses="],
            user=user,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as server:
            try:
                _wait_for(server, folder)
                yield str(folder)
            finally:
                server.send_signal(signal.SIGINT)  # "fast": whoever is connected is sent away
                server.wait(timeout=60)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _user() -> str | None:
    """PostgreSQL refuses to run as root."""
    return "nobody" if os.geteuid() == 0 else None


def _wait_for(server: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(host=str(folder), user="postgres", dbname="postgres").close()
        except psycopg.OperationalError:
            assert server.poll() is None, "the server ended at once"
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.05)
        else:
            return
