"""Serve a site here, build it anew when rows come in, and let open pages reload themselves."""

from __future__ import annotations

import errno
import secrets
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from harness.errors import HarnessError
from harness.printable import printable
from leaderboard.answering import Answering, Shelf, is_own
from leaderboard.publishing import read_manifest
from leaderboard.site import Built

PAUSE = 2.0
"""Seconds between two looks at the database."""

_AGAIN = 15.0
"""Seconds after which a failed build is tried again even if nothing changed: disks get room."""

Say = Callable[[str], object]


class LiveSite:
    """A folder, what builds it, and what it was built from.

    Args:
        build: draws what changed into the folder.
        stamp: cheap; differs whenever the database may have changed.
        folder: of the site.
        news: is told of builds.
        warn: is told what went wrong.
    """

    def __init__(
        self,
        build: Callable[[], Built],
        stamp: Callable[[], object],
        folder: Path,
        *,
        news: Say,
        warn: Say,
    ) -> None:
        self._build, self._stamp, self._folder = build, stamp, folder
        self._news, self.warn = news, warn
        self._seen: object = None
        self._failure = ""
        self._retry_at = 0.0
        self._builds = 0
        self._token = secrets.token_hex(4)  # pages of an earlier server reload too
        self.shelf = Shelf(folder, frozenset(), "")

    def first(self) -> None:
        """Build before anything is served.

        Raises:
            HarnessError: it cannot be built.
        """
        self._seen = self._stamp()
        self._build()
        self._show()

    def look(self) -> bool:
        """Build again if the database changed; whether open pages reload now.

        A build that fails is told once, and what was there before stays.
        """
        try:
            now = self._stamp()
            if now == self._seen and not self._is_due():
                return False
            self._seen = now
            built = self._build()
        except HarnessError as error:
            return self._fail(str(error))
        except Exception:  # a bug in a page must not end the server
            return self._fail(traceback.format_exc())
        self._failure = ""
        if built.drawn:
            self._show()
            self._news(f"{built.drawn} of {built.files} files drawn")
        return bool(built.drawn)

    def _is_due(self) -> bool:
        return bool(self._failure) and time.monotonic() >= self._retry_at

    def _fail(self, reason: str) -> bool:
        self._retry_at = time.monotonic() + _AGAIN
        if reason != self._failure:
            self.warn(f"not built again, the pages stay as they were: {printable(reason)}")
        self._failure = reason
        return False

    def _show(self) -> None:
        self._builds += 1
        known = read_manifest(self._folder).files
        files = frozenset(name for name, one in known.items() if one.sha256)
        self.shelf = Shelf(self._folder, files, f"{self._token}-{self._builds}")


def serve_site(
    build: Callable[[], Built],
    stamp: Callable[[], object],
    folder: Path,
    host: str,
    port: int,
    *,
    ready: Say,
    news: Say,
    warn: Say,
) -> None:
    """Build, serve until interrupted, and build again whenever the stamp changes.

    Args:
        build: draws what changed into the folder.
        stamp: cheap; differs whenever the database may have changed.
        folder: of the site; only what its manifest names is served.
        host: where to listen; nobody else reaches `127.0.0.1`.
        port: 0 for any free one.
        ready: is told the address once it answers.
        news: is told of builds.
        warn: is told what went wrong, and who else can read.

    Raises:
        HarnessError: the port is taken, the address is none of this machine, or the first build
            fails.
        KeyboardInterrupt: the person has seen enough.
    """
    site = LiveSite(build, stamp, folder, news=news, warn=warn)
    with listening(site, host, port) as server:
        ready(server.address)
        if not is_own(host):
            warn("Whoever reaches this machine can read every page.")
        watch(site)


def watch(site: LiveSite) -> None:
    """Look at the database for ever, with a pause at least twice as long as the last look took."""
    while True:
        started = time.monotonic()
        site.look()
        time.sleep(max(PAUSE, 2 * (time.monotonic() - started)))


@contextmanager
def listening(site: LiveSite, host: str, port: int) -> Iterator[Server]:
    """A server that answers in threads of its own as long as the block lasts.

    The port is taken before the first build, which may take long, and answers after it.

    Raises:
        HarnessError: the port is taken, the address is none of this machine, or the first build
            fails.
    """
    with _bound(site, host, port) as server:
        site.first()
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class Server(ThreadingHTTPServer):
    """Answers from what the site holds at that moment."""

    daemon_threads = True
    block_on_close = False  # a slow reader must not keep Ctrl-C waiting

    def __init__(self, site: LiveSite, host: str, port: int) -> None:
        self.site = site
        self.host = host
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), Answering)

    def server_bind(self) -> None:
        """Without the look-up of a full host name, which may wait for a network."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    @property
    def shelf(self) -> Shelf:
        """What is served now."""
        return self.site.shelf

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        return is_own(self.host)

    @property
    def address(self) -> str:
        """Where a browser finds it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.server_address[1]}/"

    def handle_error(self, *_: object) -> None:
        """Readers that hang up are nobody's business; anything else is a bug, told in full."""
        if not isinstance(sys.exception(), OSError):
            self.site.warn(traceback.format_exc())


def _bound(site: LiveSite, host: str, port: int) -> Server:
    if not host:
        raise HarnessError("--host is empty, which would mean every address: name one.")
    try:
        return Server(site, host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise HarnessError(
                f"port {port} of {host} is taken: choose another with --port, or --port 0 for "
                "any free one."
            ) from error
        raise HarnessError(
            f"cannot listen on '{printable(host)}', port {port}: {error.strerror or error}. "
            "Choose an address of this machine with --host and a port above 1023 with --port."
        ) from error
    except UnicodeError as error:
        raise HarnessError(f"'{printable(host)}' is no address: give another --host.") from error
