"""What the server answers: files that the site's manifest names, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.parse import unquote, urlsplit

from leaderboard import addresses

SCRIPT, VERSION = "live.js", "live"

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".db": "application/vnd.sqlite3",
    "": "text/plain; charset=utf-8",
}

_POLICY = b"script-src 'self';"
_HEAD = b"</head>"

# A reload keeps the address, what the page put into it, and the place on the page.
_RELOADING = b"""\
"use strict";
{
  const seen = document.currentScript.dataset.version;
  const ask = async () => {
    let now = seen;
    try {
      const answer = await fetch("/live", { cache: "no-store" });
      if (answer.ok) now = await answer.text();
    } catch {
      // the server is gone; it may come back
    }
    if (now === seen) setTimeout(ask, 1000);
    else location.reload();
  };
  setTimeout(ask, 1000);
}
"""


@dataclass(frozen=True)
class Shelf:
    """The files of one build, by their path in the folder, and its version."""

    folder: Path
    files: frozenset[str]
    version: str

    def find(self, path: str) -> tuple[str, bytes] | None:
        """Content type and bytes of what a URL's path names; None where nothing is there."""
        name = path.removeprefix("/") or addresses.HOME
        if name == VERSION:
            return _TYPES[""], self.version.encode()
        if name == SCRIPT:
            return _TYPES[".js"], _RELOADING
        if name not in self.files:
            return None
        suffix = PurePosixPath(name).suffix
        try:
            content = (self.folder / name).read_bytes()
        except OSError:
            return None
        return _TYPES[suffix], self._live(content) if suffix == ".html" else content

    def _live(self, page: bytes) -> bytes:
        """The page with the script that reloads it, which its policy then has to allow."""
        script = f'<script src="/{SCRIPT}" data-version="{self.version}" defer></script>\n'
        allowed = _POLICY + b" connect-src 'self';"
        return page.replace(_POLICY, allowed, 1).replace(_HEAD, script.encode() + _HEAD, 1)


def is_own(host: str) -> bool:
    """Whether a name or address is this machine's own loop, which nobody else reaches."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


class Serving(Protocol):
    """What a handler asks its server."""

    @property
    def shelf(self) -> Shelf:
        """What is served now."""

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""


class Answering(BaseHTTPRequestHandler):
    """One connection. Methods other than GET and HEAD are refused."""

    server_version = "RobustHarness"
    sys_version = ""
    timeout = 30.0  # seconds; a reader that says nothing is let go

    def do_GET(self) -> None:
        """A file with its bytes."""
        self._answer()

    def do_HEAD(self) -> None:
        """The same without them."""
        self._answer()

    def send_error(self, code: int, *_: object, **__: object) -> None:
        """In plain words; a method that has no function here is one that is not allowed."""
        self.close_connection = True  # what the body may hold is not read
        is_method = code == HTTPStatus.NOT_IMPLEMENTED
        status = HTTPStatus.METHOD_NOT_ALLOWED if is_method else HTTPStatus(code)
        self._send(status, _TYPES[""], f"{status.phrase}\n".encode())

    def _answer(self) -> None:
        server: Serving = self.server  # type: ignore[assignment]
        if server.is_local and not self._is_asked_by_name():
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
            return
        found = server.shelf.find(_path(self.path))
        if found is None:
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            self._send(HTTPStatus.OK, *found)

    def _is_asked_by_name(self) -> bool:
        """A page elsewhere must not read this one through a name that it points at 127.0.0.1."""
        try:
            asked = urlsplit(f"//{self.headers.get('Host', '')}").hostname
        except ValueError:
            return False
        return asked is not None and is_own(asked)

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-cache")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Frame-Options", "DENY")
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing: the terminal is for builds."""


def _path(target: str) -> str:
    """The path that a request names, unquoted; what cannot be read names nothing."""
    try:
        return unquote(target.partition("?")[0], errors="strict")
    except ValueError:
        return "/\0"
