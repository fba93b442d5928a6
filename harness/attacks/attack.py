"""The attack registry, and how a text such as `pgd(steps=100)` becomes a specification."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.attacks.losses import LOSSES
from harness.attacks.search import Search
from harness.attacks.surfaces import canonical_surface, split_surface
from harness.errors import HarnessError, unknown_name
from harness.identity import AttackSpec, Value
from harness.registry import Registry

Run = Callable[..., None]
Cost = Callable[[Mapping[str, Any]], tuple[int, int]]

_LARGEST = sys.float_info.max


@dataclass(frozen=True)
class Attack:
    """One registered attack.

    Args:
        name: as in the column `attack` of the published claims.
        run: `run(search, loss=..., **parameters)`; what it found is in the search.
        losses: the losses it can climb, the default first.
        norms: the norms it is defined for.
        knowledge: `white_box` or `query`.
        source: paper and section.
        description: first line of the function's docstring.
        parameters: every keyword with its default.
        limits: smallest and largest allowed value per numeric keyword.
        cost: parameters -> (forwards, backwards) of one image that nothing breaks.
    """

    name: str
    run: Run
    losses: tuple[str, ...]
    norms: tuple[str, ...]
    knowledge: str
    source: str
    description: str
    parameters: Mapping[str, Value]
    limits: Mapping[str, tuple[float, float]]
    cost: Cost


ATTACKS: Registry[Attack] = Registry("attack", "harness.attacks", "robust_harness.attacks")


def attack(
    *,
    losses: tuple[str, ...],
    norms: tuple[str, ...],
    knowledge: str,
    source: str,
    cost: Cost,
    limits: Mapping[str, tuple[float, float]] | None = None,
) -> Callable[[Run], Run]:
    """Register a function as the attack of its name; its keywords are the attack's parameters."""

    def register(run: Run) -> Run:
        name = run.__name__
        parameters = {
            key: parameter.default
            for key, parameter in inspect.signature(run).parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY and key != "loss"
        }
        description = inspect.cleandoc(run.__doc__ or name).partition("\n")[0]
        entry = Attack(
            name, run, losses, norms, knowledge, source, description, parameters, limits or {}, cost
        )
        ATTACKS.add(name, entry)
        return run

    return register


def attack_spec(
    name: str, /, *, surface: str = "logits", loss: str | None = None, **parameters: Value
) -> AttackSpec:
    """The full specification of an attack, defaults filled in.

    Raises:
        HarnessError: unknown attack, surface, loss or parameter, or a value out of range.
    """
    entry = ATTACKS[name]
    surface = canonical_surface(surface)
    chosen = _loss(entry, surface, loss)
    unknown = [key for key in parameters if key not in entry.parameters]
    if unknown:
        raise unknown_name(
            f"parameter of {name}", unknown[0], [*entry.parameters, "loss", "surface"]
        )
    values = {
        key: _checked(entry, key, parameters.get(key, default))
        for key, default in entry.parameters.items()
    }
    changed = tuple(sorted(key for key in values if values[key] != entry.parameters[key]))
    return AttackSpec(name, surface, chosen, tuple(sorted(values.items())), changed)


def run_attack(spec: AttackSpec, search: Search) -> None:
    """Run the attack that `spec` describes on the images of `search`."""
    loss = LOSSES.get(spec.loss, _own_loss)
    ATTACKS[spec.attack].run(search, loss=loss, **dict(spec.parameters))


def parse_attack(text: str) -> AttackSpec:
    """Read `pgd`, `pgd(steps=100,loss=margin)` or `apgd_ce(surface=auxiliary(0))`.

    Raises:
        HarnessError: as `attack_spec`, and for text that has not this form.
    """
    match = re.fullmatch(r"\s*([A-Za-z0-9_]+)\s*(?:\((.*)\))?\s*", text)
    if match is None:
        raise HarnessError(f"'{text[:80]}' is no attack: write a name or NAME(KEY=VALUE,...).")
    settings: dict[str, Any] = {}
    for part in split_outside_parentheses(match[2] or ""):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not key.isidentifier():
            raise HarnessError(f"'{part[:80]}' in '{text[:80]}' is no setting: write KEY=VALUE.")
        if key in settings:
            raise HarnessError(f"'{key}' is given twice in '{text[:80]}'.")
        settings[key] = value if key in {"surface", "loss"} else parse_value(value)
    return attack_spec(match[1], **settings)


def split_outside_parentheses(text: str) -> list[str]:
    """Split at commas that no parenthesis encloses; empty pieces are dropped."""
    pieces, depth, current = [], 0, ""
    for character in text:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            pieces.append(current)
            current = ""
        else:
            current += character
    return [piece for piece in [*pieces, current] if piece.strip()]


def parse_value(text: str) -> Value:
    """Read true, false, a whole number, a decimal, or else a word."""
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _loss(entry: Attack, surface: str, loss: str | None) -> str:
    if split_surface(surface)[0] == "training_loss":
        if loss not in {None, "own"}:
            raise HarnessError("the surface 'training_loss' brings its own loss: leave out loss=.")
        return "own"
    chosen = entry.losses[0] if loss is None else loss
    if chosen not in entry.losses:
        raise unknown_name(f"loss of {entry.name}", chosen, entry.losses)
    return chosen


def _checked(entry: Attack, key: str, value: Value) -> Value:
    default = entry.parameters[key]
    is_whole = type(default) is float and type(value) is int
    if type(value) is not type(default) and not is_whole:
        raise HarnessError(
            f"{entry.name}: {key} takes a {type(default).__name__} such as {default} "
            f"but is '{str(value)[:40]}'."
        )
    low, high = entry.limits.get(key, (-_LARGEST, _LARGEST))
    if isinstance(value, int | float) and not low <= value <= high:
        raise HarnessError(
            f"{entry.name}: {key} must lie in [{low:g}, {high:g}] but is {str(value)[:40]}."
        )
    return float(value) if is_whole else value


def _own_loss(*_: object) -> Any:
    raise ValueError("the training-loss surface brings its own loss")
