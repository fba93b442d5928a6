"""One log per run of a command that writes: JSON lines that a killed run leaves readable.

Nothing reads the files again and nothing removes them: delete those of `logs/` at will.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import re
import secrets
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

EVENTS = logging.getLogger("harness.events")
"""Events go here and nowhere else: a terminal shows none of them, and `-q` silences none."""

EVENTS.propagate = False
EVENTS.setLevel(logging.INFO)
EVENTS.addHandler(logging.NullHandler())

_WORDS = logging.getLogger("harness")
_LONGEST_TEXT = 2000
_MOST_ENTRIES = 200
_SECRETS = (
    (re.compile(r"(\w://[^\s:/@]*):\S*@"), r"\1:***@"),
    (re.compile(r"(?i)(pass(?:word|wd)?|token|secret)=[^\s&'\"]+"), r"\1=***"),
)


def event(what: str, **facts: Any) -> None:
    """Say that something happened, to every log that is open.

    Args:
        what: a word or two, such as `job done`.
        facts: plain values; long texts and lists are cut, passwords in addresses are hidden.
    """
    EVENTS.info(what, extra={"facts": facts})


@contextlib.contextmanager
def run_log(folder: Path, command: str, **facts: Any) -> Iterator[None]:
    """Write events, and what the library says, to a new file while the body runs.

    The first line has `facts`, the last one how it ended; a file without a last line is that of a
    killed run. A log that cannot be written is a warning, never the end of the run.

    Args:
        folder: made if missing.
        command: becomes a part of the file's name.
        facts: how the run was made.
    """
    handler = _JsonLines(folder / f"{_now():%Y%m%dT%H%M%SZ}-{command}-{secrets.token_hex(4)}.jsonl")
    EVENTS.addHandler(handler)
    _WORDS.addHandler(handler)
    try:
        event("started", command=command, **facts)
        yield
    except BaseException as error:
        event("ended", exception=type(error).__name__, message=str(error))
        raise
    else:
        event("ended", exception=None)
    finally:
        EVENTS.removeHandler(handler)
        _WORDS.removeHandler(handler)
        handler.close()


class _JsonLines(logging.Handler):
    """A file of one JSON document per line, each of which reaches the system at once.

    Args:
        path: made with the first line.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._is_lost = False

    def emit(self, record: logging.LogRecord) -> None:
        """Append one line; the file is opened for each, so that nothing waits in memory."""
        if self._is_lost:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab", buffering=0) as file:
                file.write(_line(record))
        except (OSError, ValueError, TypeError) as error:
            self._is_lost = True  # before the warning, which comes back to this very handler
            _WORDS.warning(
                "the log %s cannot be written (%s): going on without.", self._path, error
            )


def _line(record: logging.LogRecord) -> bytes:
    """ASCII only: no text of somebody else moves the cursor of whoever reads the file."""
    facts = getattr(record, "facts", None)
    said = {"level": record.levelname.lower()} if facts is None else facts
    whole = {
        "time": _now().isoformat(timespec="milliseconds"),
        "event": record.getMessage(),
        **said,
    }
    return json.dumps(_plain(whole), ensure_ascii=True, default=_text).encode() + b"\n"


def _plain(value: Any) -> Any:
    """The value without secrets, long texts and long lists."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in list(value.items())[:_MOST_ENTRIES]}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value[:_MOST_ENTRIES]]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _text(value: object) -> str:
    text = str(value)
    for pattern, hidden in _SECRETS:
        text = pattern.sub(hidden, text)
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}..."


def _now() -> datetime:
    return datetime.now(UTC)
