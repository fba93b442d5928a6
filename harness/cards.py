"""Model cards: what a person says of a model that they add, as YAML or JSON in one small file.

YAML can name classes, repeat itself without end and say the same thing twice. So its events are
counted and judged before anything is built from them, and what is built is judged by type.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from harness.errors import HarnessError, first_line, unknown_name
from harness.printable import printable

LARGEST_FILE = 64 * 1024
DEEPEST = 8
MOST_NODES = 1000

_TEXT_TAG = "tag:yaml.org,2002:str"
_WEB = re.compile(
    r"https?://[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+(:\d{1,5})?(/[\w./~%?&=#+,;:!()-]*)?", re.A
)
_ARXIV = re.compile(r"\d{4}\.\d{4,5}(v\d{1,2})?|[a-z-]{2,20}(\.[A-Z]{2})?/\d{7}(v\d{1,2})?", re.A)

Check = Callable[[str, Any], str]


def read_card(path: Path) -> dict[str, str]:
    """What a card says, flat and as text, ready to be the `paper` of a `CheckpointRecord`.

    Args:
        path: a YAML or JSON file of at most 64 KiB with any of `paper` (`title`, `authors`,
            `venue`, `year`, `arxiv`, `url`), `extra_data` and `note`.

    Raises:
        HarnessError: the file cannot be read, is no plain YAML, or has an entry that no card has,
            or one of another kind or length.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise HarnessError(f"the card {path} cannot be read: {error.strerror}.") from error
    try:
        return parse_card(content)
    except HarnessError as error:
        raise HarnessError(f"{path} is no model card: {error}") from error


def parse_card(content: bytes) -> dict[str, str]:
    """What the bytes of a card say; see `read_card`.

    Raises:
        HarnessError: as `read_card`.
    """
    if len(content) > LARGEST_FILE:
        raise HarnessError(f"it is above {LARGEST_FILE // 1024} KiB. Say less, and link the rest.")
    try:
        text = content.decode("utf-8-sig")
        _check_events(text)
        value = _plain(yaml.compose(text, yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise HarnessError(f"it is no YAML ({first_line(error)[:150]}).") from error
    return _flat(value)


def _check_events(text: str) -> None:
    """Refuse aliases, tags and documents without end; nothing is built from the events here."""
    depth = nodes = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise HarnessError("it has an anchor or an alias: write things out.")
        if getattr(event, "tag", None) is not None:
            raise HarnessError("it has a tag: write plain text and numbers.")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        nodes += isinstance(event, yaml.NodeEvent)
        if depth > DEEPEST or nodes > MOST_NODES:
            raise HarnessError(
                f"it is nested over {DEEPEST} deep or has over {MOST_NODES} entries."
            )


def _plain(node: yaml.Node | None) -> Any:
    """The value of a node without aliases; a whole number is one only in its plain spelling."""
    if isinstance(node, yaml.MappingNode):
        return _mapping(node)
    if isinstance(node, yaml.ScalarNode):
        is_number = node.style is None and re.fullmatch("[1-9][0-9]{0,8}", node.value)
        if is_number:
            return int(node.value)
        return node.value if node.tag == _TEXT_TAG else None
    return None


def _mapping(node: yaml.MappingNode) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag != _TEXT_TAG:
            raise HarnessError("a name in it is no text.")
        if key.value in found:
            raise HarnessError(f"it has '{printable(key.value)[:40]}' twice.")
        found[key.value] = _plain(value)
    return found


def _flat(value: Any) -> dict[str, str]:
    card = _checked("card", value, {"paper": None, **_CARD})
    paper = _checked("paper", card.pop("paper", {}), _PAPER)
    return {
        **{key: _PAPER[key](key, paper[key]) for key in _PAPER if key in paper},
        **{key: _CARD[key](key, card[key]) for key in _CARD if key in card},
    }


def _checked(what: str, value: Any, known: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise HarnessError(f"the {what} must be entries by name: {', '.join(known)}.")
    for key in value:
        if key not in known:
            raise unknown_name(f"entry of a {what}", key, known)
    return dict(value)


def _text(longest: int, *, is_prose: bool = False) -> Check:
    def check(key: str, value: Any) -> str:
        if type(value) is not str:
            raise HarnessError(f"{key} must be text; put it in quotes.")
        text = value.strip()
        if not 0 < len(text) <= longest:
            raise HarnessError(
                f"{key} has {len(text)} characters: it must have 1 to {longest}, or be left out."
            )
        if printable(text) != text or ({"\n", "\t"} & {*text} and not is_prose):
            raise HarnessError(f"{key} holds characters that cannot be shown on one line.")
        return text

    return check


def _matching(pattern: re.Pattern[str], longest: int, wanted: str) -> Check:
    def check(key: str, value: Any) -> str:
        text = _text(longest)(key, value)
        if pattern.fullmatch(text) is None:
            raise HarnessError(f"{key} is '{text[:60]}': write {wanted}.")
        return text

    return check


def _year(key: str, value: Any) -> str:
    if type(value) is not int or not 1950 <= value <= 2100:
        raise HarnessError(f"{key} must be a whole number from 1950 to 2100, without quotes.")
    return str(value)


_PAPER: Mapping[str, Check] = {
    "title": _text(300),
    "authors": _text(500),
    "venue": _text(100),
    "year": _year,
    "arxiv": _matching(_ARXIV, 40, "its id alone, such as '1706.06083'"),
    "url": _matching(_WEB, 500, "an address like https://example.org/paper"),
}
_CARD: Mapping[str, Check] = {"extra_data": _text(500), "note": _text(5000, is_prose=True)}
