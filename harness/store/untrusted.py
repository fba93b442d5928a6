"""Rows that somebody else wrote: right types, sane lengths, hashes that match; else a ValueError.

SQLite keeps whatever it is given, whatever the column says, so nothing is believed here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from harness.identity import (
    PRECISIONS,
    AdversarialGallery,
    AttackSpec,
    Capabilities,
    CheckpointRecord,
    Claim,
    Failure,
    Finding,
    Gallery,
    Measurement,
    Outcome,
    Plan,
    Runtime,
)
from harness.store import galleries, rows
from harness.threat import ThreatModel, format_fraction

SHA256 = re.compile(r"[0-9a-f]{64}")

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_PRECISION = re.compile("|".join(PRECISIONS))
_UID = re.compile(r"[0-9a-f]{32}")
_TIME = re.compile(r"[0-9T:.+Z -]{0,40}")
_LINE = re.compile(r"[^\x00-\x1f\x7f]{0,500}")
_PROSE = re.compile(r"[^\x00-\x08\x0b-\x1f\x7f]{0,20000}")
_FIGURE = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_SCALES = ("full", "reduced", "smoke", "")
_MOST_ENTRIES = 1000
_MOST_EPOCHS = 100_000
_MOST_WORDS = 100


def checkpoint(row: rows.Row) -> CheckpointRecord:
    """A checkpoint whose every field is of its type, and whose paths stay in their folder."""
    rows.check_name(row["name"])
    _text(row["digest"], "digest", SHA256)
    _text(row["kind"], "kind", _WORD)
    for name in ("dataset", "defense", "architecture", "scale"):
        _text(row[name], name, _LINE)
    for name in ("weights_sha256", "model_sha256"):
        if row[name] != "":
            _text(row[name], name, SHA256)
    row = {**row, "model": _file_name(_text(row["model"], "model", _LINE))}
    for name in ("weights", "model"):
        _relative(row[name], name)
    _text(row["created"], "created", _TIME)
    _integer(row["seed"], "seed", least=-rows.LARGEST_INTEGER)
    _integer(row["parameters"], "parameters")
    for name in ("composition", "settings", "architecture_settings", "recipe", "paper", "training"):
        _mapping(row[name], name)
    if row["scale"] not in _SCALES:
        raise ValueError(f"scale is {row['scale']!r:.80}")
    _integer(row["training"].get("collapsed_at", 0), "collapsed_at")
    if row["training"].get("best_weights", "") != "":  # becomes the name of a file
        _text(row["training"]["best_weights"], "best_weights", SHA256)
    for name, values in _entries(row["curves"], "curves").items():
        _numbers(values, name)
    capabilities(row["capabilities"])
    threat(row)
    return rows.checkpoint_of(row)


def attack(row: rows.Row) -> AttackSpec:
    """An attack whose hash is that of its fields."""
    for name in ("name", "surface", "loss"):
        _text(row[name], name, _LINE)
    for pair in _sequence(row["parameters"], "parameters"):
        key, value = _sequence(pair, "parameter", length=2)
        _value(value, _text(key, "parameter", _LINE))
    for name in _sequence(row["changed"], "changed"):
        _text(name, "changed", _LINE)
    _mapping(row["description"], "description", only_text=True)
    spec = rows.attack_of(row)
    if spec.hash != row["hash"]:
        raise ValueError(f"the attack {spec.label:.80} is not what its hash says")
    return spec


def outcome(row: rows.Row, spec: AttackSpec, sizes: Mapping[tuple[str, str], int]) -> Outcome:
    """An outcome that agrees with itself and with the size of its dataset."""
    _job(row)
    _text(row["population"], "population", _LINE)
    _integer(row["first"], "first", most=rows.LARGEST_INDEX)
    _integer(row["last"], "last", most=rows.LARGEST_INDEX)
    if not row["first"] < row["last"]:
        raise ValueError(f"images {row['first']} to {row['last']} are no slice of a test set")
    for name in ("forwards", "backwards", "queries"):
        _integer(row[name], name)
    if not isinstance(row["seconds"], float):
        raise TypeError("seconds are no number")
    for name in ("attacked", "broken", "columns"):
        if not isinstance(row[name], bytes):
            raise TypeError(f"{name} are no bytes")
    _text(row["created"], "created", _TIME)
    _runtime(row["runtime"])
    found = rows.outcome_of(row, spec)
    rows.check_outcome(found)
    for name in found.columns:
        _text(name, "column", _WORD)
    size = sizes.get((found.job.dataset, found.job.images), 0)
    if 0 < size < found.job.last:
        raise ValueError(f"image {found.job.last - 1} of a dataset of {size}")
    return found


def plan(row: rows.Row) -> Plan:
    """A plan whose attacks are pairs of a hash and a population."""
    _job(row)
    _text(row["protocol"], "protocol", _WORD)
    for pair in _sequence(row["attacks"], "attacks"):
        key, population = _sequence(pair, "attack", length=2)
        _text(key, "attack", SHA256)
        _text(population, "population", _LINE)
    return rows.plan_of(row)


def failure(row: rows.Row) -> Failure:
    """A failure whose texts are texts."""
    _owner(row)
    _text(row["attack"], "attack", _PROSE)
    _text(row["status"], "status", _WORD)
    _text(row["message"], "message", _PROSE)
    _text(row["created"], "created", _TIME)
    for name in ("first", "last"):
        _integer(row[name], name, most=rows.LARGEST_INDEX)
    return rows.failure_of(row)


def finding(row: rows.Row) -> Finding:
    """A finding of a known state whose numbers are numbers and whose proof are images."""
    _owner(row)
    _integer(row["seed"], "seed", least=-rows.LARGEST_INTEGER)
    _integer(row["examples"], "examples", most=rows.LARGEST_INDEX)
    _text(row["diagnostic"], "diagnostic", _WORD)
    _text(row["state"], "state", re.compile("green|amber|red|not_run"))
    if row["value"] is not None and type(row["value"]) not in (int, float):
        raise TypeError(f"the value of a finding is {row['value']!r:.80}")
    for name in ("threshold", "note"):
        _text(row[name], name, _PROSE)
    _integer(row["is_adaptive"], "is_adaptive", most=1)
    _text(row["created"], "created", _TIME)
    for index in _sequence(row["proof"], "proof", most=_MOST_EPOCHS):
        _integer(index, "proof", most=rows.LARGEST_INDEX)
    for name, values in _entries(row["details"], "details").items():
        _numbers(values, name)
    return rows.finding_of(row)


def measurement(row: rows.Row) -> Measurement:
    """A measurement whose values are lists of numbers by name."""
    _owner(row)
    _integer(row["seed"], "seed", least=-rows.LARGEST_INTEGER)
    _integer(row["examples"], "examples", most=rows.LARGEST_INDEX)
    _text(row["analysis"], "analysis", _WORD)
    for name in ("on", "note"):
        _text(row[name], name, _PROSE)
    _text(row["created"], "created", _TIME)
    for name, values in _entries(row["values"], "values").items():
        _numbers(values, name)
    return rows.measurement_of(row)


def gallery(row: rows.Row, sizes: Mapping[tuple[str, str], int]) -> Gallery:
    """Pictures that lie inside their dataset; unpacked only once their counts agree."""
    _text(row["images"], "images", SHA256)
    _text(row["dataset"], "dataset", _LINE)
    _pixels(row)
    return _inside(galleries.gallery_of(row), sizes)


def adversarial(row: rows.Row, sizes: Mapping[tuple[str, str], int]) -> AdversarialGallery:
    """Adversarial pictures that lie inside their dataset, in the same way."""
    _owner(row)
    _integer(row["seed"], "seed", least=-rows.LARGEST_INTEGER)
    _text(row["attack"], "attack", _PROSE)
    _text(row["created"], "created", _TIME)
    _pixels(row)
    return _inside(galleries.adversarial_of(row), sizes)


def claim(row: rows.Row) -> Claim:
    """A claim whose names are words and whose figure is a number of its unit."""
    for name in ("source", "place", "dataset", "architecture", "defense", "metric", "attack"):
        _text(row[name], name, _WORD)
    _text(row["knowledge"], "knowledge", _WORD)
    for name in ("variant", "epsilon", "norm", "quoted_from"):
        _text(row[name], name, _LINE)
    _text(row["attack_iterations"], "attack_iterations", re.compile(r"[0-9]{0,9}"))
    _text(row["printed"], "printed", _FIGURE)
    _text(row["unit"], "unit", re.compile("percent|percentage_points|seconds|minutes"))
    if row["spread"] != "":
        _text(row["spread"], "spread", _FIGURE)
    _text(row["note"], "note", _PROSE)
    return rows.claim_of(row)


def images(value: rows.Images) -> rows.Images:
    """A dataset with a name, a digest and class names."""
    _text(value.name, "dataset", _LINE)
    _text(value.sha256, "images", SHA256)
    _integer(value.size, "size", most=rows.LARGEST_INDEX)
    for name in value.classes:
        _text(name, "class", _LINE)
    return value


def run(row: rows.Row) -> rows.Run:
    """A run with texts only."""
    _text(row["uid"], "run", _UID)
    _text(row["command"], "command", _PROSE)
    _text(row["device"], "device", _LINE)
    _text(row["started"], "started", _TIME)
    _text(row["finished"], "finished", _TIME)
    _mapping(row["versions"], "versions", only_text=True)
    return rows.run_of(row)


def threat(row: rows.Row) -> ThreatModel:
    """A threat model in the one spelling that keys compare."""
    _text(row["norm"], "norm", _WORD)
    _text(row["epsilon"], "epsilon", re.compile(r"\d{1,30}([./]\d{1,30})?"))
    found = rows.threat_of(row)
    if format_fraction(found.epsilon) != row["epsilon"]:
        raise ValueError(f"epsilon {row['epsilon']} is spelled {format_fraction(found.epsilon)}")
    return found


def _job(row: rows.Row) -> None:
    _owner(row)
    _text(row["precision"], "precision", _PRECISION)
    _integer(row["seed"], "seed", least=-rows.LARGEST_INTEGER)


def _owner(row: rows.Row) -> None:
    _text(row["checkpoint"], "checkpoint", SHA256)
    _text(row["images"], "images", SHA256)
    _text(row["dataset"], "dataset", _LINE)
    threat(row)


def _pixels(row: rows.Row) -> None:
    if not isinstance(row["pixels"], bytes):
        raise TypeError("pixels are no bytes")


Pictures = TypeVar("Pictures", Gallery, AdversarialGallery)


def _inside(found: Pictures, sizes: Mapping[tuple[str, str], int]) -> Pictures:
    size = sizes.get((found.dataset, found.images), 0)
    if 0 < size <= found.indices[-1]:
        raise ValueError(f"image {found.indices[-1]} of a dataset of {size}")
    return found


def _runtime(value: Any) -> None:
    found = Runtime(**_mapping(value, "runtime"))
    _text(found.device, "device", _LINE)
    _integer(found.batch_size, "batch_size")
    _integer(found.workers, "workers")
    if type(found.time_limit) not in (int, float) or _is_vast(found.time_limit):
        raise TypeError(f"time_limit is {found.time_limit!r:.80}")


def capabilities(value: Any) -> Capabilities:
    """What a model exposes, every field of its type and of a sane size."""
    entries = _entries(value, "capabilities")
    for field in fields(Capabilities):
        if isinstance(field.default, tuple):
            for word in _sequence(entries.get(field.name, []), field.name, most=_MOST_WORDS):
                _text(word, field.name, _WORD)
    found = Capabilities.from_json(entries)
    for field in fields(Capabilities):
        given, default = getattr(found, field.name), field.default
        allowed = (int, float) if isinstance(default, float) else (type(default),)
        if field.name == "classes":
            allowed = (int,)
        if type(given) not in allowed or _is_vast(given):
            raise TypeError(f"capability {field.name} is {given!r:.80}")
    _integer(found.classes, "classes", least=1, most=1_000_000)
    _integer(found.auxiliary, "auxiliary", most=10_000)
    return found


def _text(value: Any, what: str, pattern: re.Pattern[str]) -> str:
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise ValueError(f"{what} is {value!r:.80}")
    return value


def _file_name(model: str) -> str:
    """`FILE.py:CALLABLE` without its folder: the file stayed on the other machine."""
    return re.split(r"[/\\]", model)[-1]


def _relative(value: Any, what: str) -> None:
    _text(value, what, _LINE)
    parts = re.split(r"[/\\]", value)
    if ".." in parts or (value and parts[0] == "") or ":\\" in value or value.startswith("~"):
        raise ValueError(f"{what} points out of its folder: {value!r:.80}")


def _integer(value: Any, what: str, *, least: int = 0, most: int = rows.LARGEST_INTEGER) -> None:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{what} is {value!r:.80}")


def _value(value: Any, what: str) -> None:
    if isinstance(value, str):
        _text(value, what, _PROSE)
    elif not isinstance(value, int | float) or _is_vast(value):
        raise TypeError(f"{what} is {value!r:.80}")


def _numbers(values: Any, what: str) -> None:
    for number in _sequence(values, what, most=_MOST_EPOCHS):
        if type(number) not in (int, float) or _is_vast(number):
            raise TypeError(f"{what} holds {number!r:.80}")


def _is_vast(number: float) -> bool:
    """A whole number of JSON has no bound, and no float may hold it."""
    return isinstance(number, int) and abs(number) > rows.LARGEST_INTEGER


def _entries(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict) or len(value) > _MOST_ENTRIES:
        raise ValueError(f"{what} is no mapping of a sane size")
    for name in value:
        _text(name, what, _LINE)
    return value


def _mapping(value: Any, what: str, *, only_text: bool = False) -> dict[str, Any]:
    for name, entry in _entries(value, what).items():
        if only_text and not isinstance(entry, str):
            raise ValueError(f"{what} {name} is {entry!r:.80}")
        _value(entry, name)
    return value  # type: ignore[no-any-return]


def _sequence(
    value: Any, what: str, *, length: int | None = None, most: int = _MOST_ENTRIES
) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise ValueError(f"{what} is no list of a sane size")
    if length is not None and len(value) != length:
        raise ValueError(f"{what} has {len(value)} entries, not {length}")
    return value
