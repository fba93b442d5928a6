"""AutoAttack: the published compositions, by name and by the hash of their parts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

import harness.attacks.apgd
import harness.attacks.fab
import harness.attacks.square  # noqa: F401  (registers the parts before they are named below)
from harness.attacks.attack import attack, attack_spec, most_passes, run_attack
from harness.attacks.losses import AttackLoss
from harness.attacks.parity import reference_fab_t, reference_square
from harness.attacks.search import Search
from harness.attacks.streams import Streams
from harness.errors import HarnessError
from harness.identity import AttackSpec, digest

_SOURCE = "Croce and Hein, 2020 (arXiv:2003.01690), section 5"
_LIMITS = {
    "steps": (1.0, 100_000.0),
    "targets": (1.0, 1_000.0),
    "queries": (1.0, 100_000.0),
    "draws": (1.0, 1_000.0),
}
_TEN = 10
"""Classes of the problem that costs and compositions are stated for."""


def standard_parts(
    classes: int,
    steps: int = 100,
    targets: int = 9,
    queries: int = 5000,
    surface: str = "logits",
) -> list[AttackSpec]:
    """The four attacks of the standard version, in order.

    Where the reference only warns, they adapt: no more targets than wrong classes; with three
    classes, where the targeted ratio is not defined, the plain ratio, and with two the margin.
    """
    rivals = min(targets, classes - 1)
    if classes >= 4:
        second = attack_spec("apgd_t", steps=steps, targets=rivals, surface=surface)
    elif classes == 3:
        second = attack_spec("apgd_dlr", steps=steps, surface=surface)
    else:
        second = attack_spec("apgd_ce", steps=steps, loss="margin", surface=surface)
    return [
        attack_spec("apgd_ce", steps=steps, surface=surface),
        second,
        attack_spec("fab_t", steps=steps, targets=rivals, surface=surface),
        attack_spec("square", queries=queries, surface=surface),
    ]


def random_parts(classes: int, steps: int = 100, draws: int = 20) -> list[AttackSpec]:
    """The two attacks of the version for random models; two classes leave the margin alone."""
    free = attack_spec("apgd_ce", steps=steps, loss="margin", eot=draws)
    if classes >= 3:
        free = attack_spec("apgd_dlr", steps=steps, eot=draws)
    return [attack_spec("apgd_ce", steps=steps, eot=draws), free]


def _composed(parts: Iterable[AttackSpec]) -> str:
    return digest([part.hash for part in parts])[:12]


_STANDARD, _RANDOM = _composed(standard_parts(_TEN)), _composed(random_parts(_TEN))


def _cost(parts: Iterable[AttackSpec]) -> tuple[int, int]:
    passes = [most_passes(part) for part in parts]
    return 1 + sum(forwards for forwards, _ in passes), sum(backwards for _, backwards in passes)


@attack(
    losses=("ce",),
    norms=("linf", "l2"),
    knowledge="white_box",
    source=_SOURCE,
    cost=lambda p: _cost(standard_parts(_TEN, p["steps"], p["targets"], p["queries"])),
    limits={key: _LIMITS[key] for key in ("steps", "targets", "queries")},
    choices={"composition": (_STANDARD,)},
    compares_classes=True,
)
def autoattack(
    search: Search,
    *,
    loss: AttackLoss,
    steps: int = 100,
    targets: int = 9,
    queries: int = 5000,
    parity: bool = False,
    composition: str = _STANDARD,
) -> None:
    """AutoAttack standard: apgd_ce, apgd_t, fab_t and square, each on the survivors.

    What it finds is exactly the union of what its parts find alone with the same seed.

    Args:
        search: what to attack.
        loss: that of the first part; the others have their own.
        steps: iterations of Auto-PGD and FAB.
        targets: rivals of apgd_t and fab_t.
        queries: of square.
        parity: whether to repeat the reference package, its draws for the whole batch included.
        composition: start of the digest over the parts' hashes at their published settings; it
            makes them part of this attack's own hash and takes no other value.
    """
    _check_composition(composition, _STANDARD)
    classes = _classes(search)
    parts = standard_parts(classes, steps, targets, queries)
    if parity:
        _run_reference(search, parts, steps, min(targets, classes - 1), queries)
    else:
        _run_parts(search, parts, loss)


@attack(
    losses=("ce",),
    norms=("linf", "l2"),
    knowledge="white_box",
    source=_SOURCE + "; the version `rand` of the reference code",
    cost=lambda p: _cost(random_parts(_TEN, p["steps"], p["draws"])),
    limits={key: _LIMITS[key] for key in ("steps", "draws")},
    choices={"composition": (_RANDOM,)},
)
def autoattack_rand(
    search: Search,
    *,
    loss: AttackLoss,
    steps: int = 100,
    draws: int = 20,
    composition: str = _RANDOM,
) -> None:
    """AutoAttack rand, for random models: apgd_ce and apgd_dlr, each on the mean of many passes.

    Args:
        search: what to attack.
        loss: that of the first part; the other has its own.
        steps: iterations.
        draws: passes per look (`eot` of the parts).
        composition: as in `autoattack`.
    """
    _check_composition(composition, _RANDOM)
    _run_parts(search, random_parts(_classes(search), steps, draws), loss)


def _run_parts(search: Search, specs: list[AttackSpec], loss: AttackLoss) -> None:
    for number, spec in enumerate(specs):
        streams = search.streams
        part = search.part(Streams(streams.seed, spec.hash, streams.indices))
        run_attack(spec, part, loss if number == 0 else None)
        search.absorb(part)


def _run_reference(
    search: Search, parts: list[AttackSpec], steps: int, targets: int, queries: int
) -> None:
    for part in parts[:2]:
        settings: dict[str, Any] = {**dict(part.parameters), "parity": True}
        run_attack(attack_spec(part.attack, loss=part.loss, **settings), search)
    reference_fab_t(search, steps, targets)
    reference_square(search, queries)


def _classes(search: Search) -> int:
    """How many classes there are: one more than there are rivals."""
    everyone = torch.arange(len(search.labels), device=search.labels.device)
    return search.rivals(everyone, 2**31).shape[1] + 1


def _check_composition(asked: str, own: str) -> None:
    """A stored specification may be older than the parts."""
    if asked != own:
        raise HarnessError(
            f"this attack is composed as '{own}' but was asked for as '{asked[:40]}': its parts "
            "have changed since. Leave composition= out and run it anew."
        )
