"""The attack registry, and how a text such as `pgd(steps=100)` becomes a specification."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.attacks.losses import TARGETED, AttackLoss, loss_named, split_loss
from harness.attacks.search import Search
from harness.attacks.surface_text import SURFACES, canonical_surface, split_surface
from harness.attacks.surfaces import Repeated
from harness.errors import HarnessError, unknown_name
from harness.identity import AttackSpec, Value
from harness.registry import Registry

Run = Callable[..., None]
Cost = Callable[[Mapping[str, Any]], tuple[int, int]]

_LARGEST = sys.float_info.max
_LONGEST = 2000
"""Characters of an attack as text."""
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|nan|[+-]?inf")

_EOT = "eot"
"""A parameter of every attack: passes per look, whose mean is climbed (attacks.md section 10)."""


@dataclass(frozen=True)
class Attack:
    """One registered attack.

    Args:
        name: as in the column `attack` of the published claims.
        run: `run(search, loss=..., **parameters)`; what it found is in the search.
        losses: the losses it can climb, the default first.
        norms: the norms it is defined for.
        knowledge: `white_box`, `query` (scores), `decision` (labels only) or `none`.
        source: paper and section.
        description: first line of the function's docstring.
        parameters: every keyword with its default.
        limits: smallest and largest allowed value per numeric keyword.
        choices: the allowed words per keyword that takes one.
        cost: parameters -> (forwards, backwards) of one image that nothing breaks.
        surface: what it attacks if nobody says otherwise.
        needs_guides: whether it draws from training images.
        compares_classes: whether it follows the values of several classes, which a surface that
            brings its own loss does not give.
        tolerates_bfloat16: whether it was measured to lose no more images than it gains when its
            passes are rounded to bfloat16 (`docs/performance.md`); steps by the sign of a gradient
            forgive that.
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
    choices: Mapping[str, tuple[str, ...]]
    cost: Cost
    surface: str = "logits"
    needs_guides: bool = False
    compares_classes: bool = False
    tolerates_bfloat16: bool = False


ATTACKS: Registry[Attack] = Registry("attack", "harness.attacks", "robust_harness.attacks")


def attack(
    *,
    losses: tuple[str, ...],
    norms: tuple[str, ...],
    knowledge: str,
    source: str,
    cost: Cost,
    limits: Mapping[str, tuple[float, float]] | None = None,
    choices: Mapping[str, tuple[str, ...]] | None = None,
    surface: str = "logits",
    needs_guides: bool = False,
    compares_classes: bool = False,
    tolerates_bfloat16: bool = False,
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
            name,
            run,
            losses,
            norms,
            knowledge,
            source,
            description,
            parameters,
            limits or {},
            choices or {},
            cost,
            surface,
            needs_guides,
            compares_classes,
            tolerates_bfloat16,
        )
        ATTACKS.add(name, entry)
        return run

    return register


def attack_spec(
    name: str, /, *, surface: str | None = None, loss: str | None = None, **parameters: Value
) -> AttackSpec:
    """The full specification of an attack, defaults filled in.

    Raises:
        HarnessError: unknown attack, surface, loss or parameter, or a value out of range.
    """
    entry = ATTACKS[name]
    surface = canonical_surface(entry.surface if surface is None else surface)
    chosen = _loss(entry, surface, loss)
    draws = _checked_draws(name, parameters.pop(_EOT, 1))
    unknown = [key for key in parameters if key not in entry.parameters]
    if unknown:
        raise unknown_name(
            f"parameter of {name}", unknown[0], [*entry.parameters, "loss", "surface", _EOT]
        )
    values = {
        key: _checked(entry, key, parameters.get(key, default))
        for key, default in entry.parameters.items()
    }
    if values.get("parity") and surface != "logits":
        raise HarnessError(
            f"{name}: parity repeats a reference that knows the deployed logits alone, not "
            f"'{surface}': leave out surface= or parity=."
        )
    if draws != 1:
        values[_EOT] = draws
    changed = tuple(sorted(key for key in values if values[key] != entry.parameters.get(key)))
    return AttackSpec(name, surface, chosen, tuple(sorted(values.items())), changed)


def with_settings(spec: AttackSpec, **settings: Value) -> AttackSpec:
    """The same attack with other settings.

    Raises:
        HarnessError: as `attack_spec`.
    """
    loss = None if spec.loss == "own" else spec.loss
    return attack_spec(
        spec.attack, surface=spec.surface, loss=loss, **{**dict(spec.parameters), **settings}
    )


def run_attack(spec: AttackSpec, search: Search, loss: AttackLoss | None = None) -> None:
    """Run the attack that `spec` describes on the images of `search`.

    Args:
        spec: what to run.
        search: on what.
        loss: if given, it takes the place of the loss that `spec` names.
    """
    if loss is None:
        loss = _own_loss if spec.loss == "own" else loss_named(spec.loss)
    parameters = dict(spec.parameters)
    draws = parameters.pop(_EOT, 1)
    plain, entry = search.surface, ATTACKS[spec.attack]
    if search.rough is not None and entry.tolerates_bfloat16:
        search.surface = search.rough
    if isinstance(draws, int) and draws > 1:
        search.surface = Repeated(search.surface, draws)
    try:
        entry.run(search, loss=loss, **parameters)
    finally:
        search.surface = plain


def most_passes(spec: AttackSpec) -> tuple[int, int]:
    """Forwards and backwards of one image that nothing breaks, on a surface of one pass."""
    parameters = dict(spec.parameters)
    draws = int(parameters.pop(_EOT, 1))
    looks, backwards = ATTACKS[spec.attack].cost(parameters)
    return draws * looks, draws * backwards


def parse_attack(text: str) -> AttackSpec:
    """Read `pgd`, `pgd(steps=100,loss=margin)` or `apgd_ce(surface=auxiliary(0))`.

    Raises:
        HarnessError: as `attack_spec`, and for text that has not this form.
    """
    if len(text) > _LONGEST:
        raise HarnessError(f"an attack of {len(text)} characters: write at most {_LONGEST}.")
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
    """Read true, false, a whole number, a decimal, or else a word.

    `1_000` and digits of other scripts, which Python takes for numbers, are words.
    """
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    if len(text) > _LONGEST or _NUMBER.fullmatch(text) is None:
        return text
    return int(text) if text.lstrip("+-").isdecimal() else float(text)


def _loss(entry: Attack, surface: str, loss: str | None) -> str:
    kind = SURFACES[split_surface(surface)[0]]
    climbs_classes = SURFACES[split_surface(entry.surface)[0]].has_classes
    if kind.compares_classes and not climbs_classes:
        raise HarnessError(
            f"{entry.name} matches vectors, which the surface '{surface}' cannot compare: choose "
            "another, such as features or logits."
        )
    if split_surface(surface)[0] == "training_loss":
        if loss not in {None, "own"}:
            raise HarnessError("the surface 'training_loss' brings its own loss: leave out loss=.")
        if entry.compares_classes:
            raise HarnessError(
                f"{entry.name} needs the value of every class, which the surface 'training_loss' "
                "does not give: choose another, such as logits."
            )
        return "own"
    text = entry.losses[0] if loss is None else loss
    name, factor = split_loss(text, entry.losses, f"loss of {entry.name}")
    if climbs_classes and not kind.has_classes:
        raise HarnessError(
            f"the surface '{surface}' is a vector without classes, which {entry.name} cannot "
            "climb: choose another surface, or the attack feature_attack."
        )
    if kind.needs_targets and name not in TARGETED:
        raise HarnessError(
            f"the surface '{surface}' needs a targeted attack such as pgd_t or apgd_t: "
            f"{entry.name} climbs {name}."
        )
    return f"{name}({factor})" if factor else name


def _checked_draws(name: str, draws: Value) -> int:
    if type(draws) is not int or not 1 <= draws <= 1000:
        raise HarnessError(
            f"{name}: {_EOT} takes a whole number of passes from 1 to 1000 but is {draws!s:.40}."
        )
    return draws


def _checked(entry: Attack, key: str, value: Value) -> Value:
    default = entry.parameters[key]
    is_whole = type(default) is float and type(value) is int
    if type(value) is not type(default) and not is_whole:
        raise HarnessError(
            f"{entry.name}: {key} takes a {type(default).__name__} such as {default} "
            f"but is '{str(value)[:40]}'."
        )
    if key in entry.choices and value not in entry.choices[key]:
        raise unknown_name(f"{key} of {entry.name}", str(value)[:40], entry.choices[key])
    low, high = entry.limits.get(key, (-_LARGEST, _LARGEST))
    if isinstance(value, int | float) and not low <= value <= high:
        raise HarnessError(
            f"{entry.name}: {key} must lie in [{low:g}, {high:g}] but is {str(value)[:40]}."
        )
    return float(value) if is_whole else value


def _own_loss(*_: object) -> Any:
    raise ValueError("the training-loss surface brings its own loss")
