"""Results read back: a file is somebody else's until every value in it has its type and range."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from benchmarks.results import (
    FORMAT,
    RUNS,
    SECTIONS,
    Comparison,
    Results,
    Run,
    Setting,
    Side,
)
from harness.errors import HarnessError

_LONGEST = 400
"""Characters of one text."""
_LARGEST = 1e12
"""No time and no loss is larger; NaN is not either."""
_MOST = 100_000
"""Entries of one list, and images of one outcome."""


def read_results(path: Path) -> Results:
    """Read what `write_results` wrote.

    Raises:
        HarnessError: the file is missing or holds anything else; it says where.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise HarnessError(f"cannot read {path}: {error.strerror}. Run make bench.") from error
    except (ValueError, RecursionError) as error:
        raise HarnessError(f"{path} is no JSON: run make bench to write it anew.") from error
    try:
        whole = _object(value, "the file", ("format", "runs"))
        return _runs(whole["format"], whole["runs"])
    except _UnfitError as error:
        raise HarnessError(
            f"{path} holds no results: {error}. Run make bench to write it anew."
        ) from error


class _UnfitError(ValueError):
    def __init__(self, place: str, wanted: str) -> None:
        super().__init__(f"{place} must be {wanted}")


def _runs(version: object, value: object) -> Results:
    if type(version) is not int or version != FORMAT:
        raise _UnfitError("'format'", f"the number {FORMAT}")
    runs = _object(value, "'runs'", RUNS, some=True)
    return {device: _run(runs[device]) for device in RUNS if device in runs}


def _run(value: object) -> Run:
    run = _object(value, "a run", ("setting", "sections"))
    sections = _object(run["sections"], "'sections'", SECTIONS, some=True)
    return Run(
        _setting(run["setting"]),
        {name: _comparisons(sections[name]) for name in SECTIONS if name in sections},
    )


def _setting(value: object) -> Setting:
    found = dict(_object(value, "'setting'", [field.name for field in fields(Setting)]))
    versions = found["versions"]
    if not isinstance(versions, dict) or len(versions) > 20:
        raise _UnfitError("'versions'", "an object of texts")
    found["versions"] = {_text(key, "a version"): _text(versions[key], key) for key in versions}
    for key in ("device", "commit", "machine", "model", "checkpoint", "threat"):
        found[key] = _text(found[key], key)
    for key in ("threads", "seed", "rounds", "batch", "images", "parameters", "clean"):
        found[key] = _whole(found[key], key)
    return Setting(**found)


def _comparisons(value: object) -> tuple[Comparison, ...]:
    return tuple(_comparison(one) for one in _list(value, "a section"))


def _comparison(value: object) -> Comparison:
    found = _object(value, "a comparison", ("work", "sides"))
    sides = tuple(_side(one) for one in _list(found["sides"], "'sides'"))
    if not sides:
        raise _UnfitError("'sides'", "a list of one or more")
    return Comparison(_text(found["work"], "work"), sides)


def _side(value: object) -> Side:
    found = _object(value, "a side", [field.name for field in fields(Side)])
    outcomes = _text(found["outcomes"], "outcomes", _MOST)
    if set(outcomes) - {"0", "1"}:
        raise _UnfitError("'outcomes'", "a text of 0 and 1")
    return Side(
        name=_text(found["name"], "name"),
        seconds=tuple(_positive(one, "seconds") for one in _list(found["seconds"], "'seconds'")),
        outcomes=outcomes,
        points=_whole(found["points"], "points"),
        forwards=_whole(found["forwards"], "forwards"),
        backwards=_whole(found["backwards"], "backwards"),
        loss=None if found["loss"] is None else _number(found["loss"], "loss"),
        note=_text(found["note"], "note"),
    )


def _object(
    value: object, place: str, keys: tuple[str, ...] | list[str], *, some: bool = False
) -> dict[str, Any]:
    """A JSON object of exactly these keys, or of some of them."""
    if not isinstance(value, dict) or not set(value) <= set(keys):
        raise _UnfitError(place, f"an object of {', '.join(keys)}")
    if not some and len(value) < len(keys):
        raise _UnfitError(place, f"an object of {', '.join(keys)}")
    return value


def _list(value: object, place: str) -> list[Any]:
    if not isinstance(value, list) or len(value) > _MOST:
        raise _UnfitError(place, "a list")
    return value


def _text(value: object, place: str, longest: int = _LONGEST) -> str:
    if not isinstance(value, str) or len(value) > longest:
        raise _UnfitError(f"'{place[:40]}'", f"a text of at most {longest} characters")
    return value


def _whole(value: object, place: str) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise _UnfitError(f"'{place}'", "a whole number")
    return value


def _number(value: object, place: str) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not -_LARGEST <= value <= _LARGEST:  # type: ignore[operator]
        raise _UnfitError(f"'{place}'", "a number")
    return float(value)  # type: ignore[arg-type]


def _positive(value: object, place: str) -> float:
    number = _number(value, place)
    if number <= 0:
        raise _UnfitError(f"'{place}'", "a list of positive numbers")
    return number
