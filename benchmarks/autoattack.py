"""AutoAttack `standard` against the reference package: component by component, and whole.

Every side attacks what its own components have left, so that a round of a side is one whole run.
Sides take turns at each component, not at each run: minutes of another program meet them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from benchmarks.ours import attacked, bits
from benchmarks.peers import AutoAttack
from benchmarks.results import Comparison, Side
from benchmarks.setting import Compared, defaults_of_torch
from benchmarks.timing import clocked, counted, in_turn
from harness.attacks.attack import attack_spec
from harness.attacks.autoattack import standard_parts
from harness.identity import CLEAN, AttackSpec, Outcome

PEER, QUICK = "pyautoattack", "quick"
OURS = ("float32", "folded", "mixed")
"""What our searches differentiate."""
ONCE = "float32"
"""Runs in the first round alone: it is no goal and takes about as long as the peer."""
WHOLE = "whole"
_LAST_OF_QUICK = "apgd_t"


@dataclass(frozen=True)
class Depth:
    """How far everything goes; smaller only in tests.

    Args:
        steps: of Auto-PGD and FAB.
        targets: of the targeted components.
        queries: of Square.
        few: queries of Square in `quick`.
    """

    steps: int = 100
    targets: int = 9
    queries: int = 5000
    few: int = 1000

    def parts(self, classes: int) -> list[AttackSpec]:
        """The four attacks, in order."""
        return standard_parts(classes, self.steps, self.targets, self.queries)


@dataclass
class _Line:
    """What one side did in one component, round by round."""

    seconds: list[float] = field(default_factory=list)
    broken: Tensor = field(default_factory=lambda: torch.empty(0))
    points: int = 0
    forwards: int = 0
    backwards: int = 0


_Taken = tuple[Tensor, int, int]
"""[count] bool, broken by a component; forwards; backwards."""
_Component = Callable[[Tensor], _Taken]
"""From the images to attack [count] bool."""


def autoattack(model: Compared, depth: Depth | None = None) -> tuple[Comparison, ...]:
    """One comparison per component, one of whole runs, and `quick` against these.

    Args:
        model: with its images.
        depth: how far everything goes.
    """
    depth = depth or Depth()
    sides = _sides(model, depth)
    components = [*next(iter(sides.values()))]
    lines = {name: {work: _Line() for work in components} for name in [*sides, QUICK]}
    for number in range(model.rounds):
        _round(model, sides, lines, number, depth)
    absent = _absent(model)
    found = [
        Comparison(work, (*absent, *(_side(name, lines[name][work]) for name in sides)))
        for work in components
    ]
    whole = [_whole(name, lines[name], model.rounds) for name in [*sides, QUICK]]
    return (*found, Comparison(WHOLE, (*absent, *whole)))


def _round(
    model: Compared,
    sides: dict[str, dict[str, _Component]],
    lines: dict[str, dict[str, _Line]],
    number: int,
    depth: Depth,
) -> None:
    """Every component once, by every side that runs in this round."""
    running = [name for name in sides if number == 0 or name != ONCE]
    standing = {name: torch.ones(model.count, dtype=torch.bool) for name in running}
    for work in next(iter(sides.values())):
        for name in in_turn(running, number):
            _take(model, lines[name][work], sides[name][work], standing[name])
            standing[name] = standing[name] & ~lines[name][work].broken
        if work == _LAST_OF_QUICK and "mixed" in running:
            _finish_quick(model, lines, standing["mixed"].clone(), depth)


def _take(model: Compared, line: _Line, component: _Component, standing: Tensor) -> None:
    seconds, (broken, forwards, backwards) = clocked(lambda: component(standing), model.device)
    line.seconds.append(seconds)
    line.broken, line.points = broken.cpu(), int(standing.sum())
    line.forwards, line.backwards = forwards, backwards


def _finish_quick(
    model: Compared, lines: dict[str, dict[str, _Line]], standing: Tensor, depth: Depth
) -> None:
    """`quick` is what `mixed` did up to here, which is not done twice, and few queries."""
    for work, line in lines["mixed"].items():
        lines[QUICK][work] = line
        if work == _LAST_OF_QUICK:
            break
    spec = attack_spec("square", queries=depth.few)
    _take(model, lines[QUICK]["square"], _job(model, spec, "mixed"), standing)
    lines[QUICK].pop("fab_t", None)


def _sides(model: Compared, depth: Depth) -> dict[str, dict[str, _Component]]:
    specs = {"clean": CLEAN} | {spec.attack: spec for spec in depth.parts(_classes(model))}
    sides = {name: {work: _job(model, spec, name) for work, spec in specs.items()} for name in OURS}
    if model.alone:
        del sides[ONCE]
    return sides if model.without(PEER) else _peer(model, depth, [*specs]) | sides


def _job(model: Compared, spec: AttackSpec, precision: str) -> _Component:
    def run(standing: Tensor) -> _Taken:
        outcome: Outcome = attacked(model, spec, precision, standing)
        return torch.tensor(outcome.broken), outcome.forwards, outcome.backwards

    return run


def _peer(model: Compared, depth: Depth, works: list[str]) -> dict[str, dict[str, _Component]]:
    package = AutoAttack(
        model.peers,
        float(model.record.threat.epsilon),
        model.seed,
        model.device,
        steps=depth.steps,
        targets=min(depth.targets, _classes(model) - 1),
        queries=depth.queries,
        batch=model.batch,
    )
    images, labels = model.images, model.labels

    def component(work: str) -> _Component:
        def run(standing: Tensor) -> _Taken:
            chosen = standing.to(model.device)
            attack = package.clean if work == "clean" else _part(package, work)
            with defaults_of_torch(), counted() as passes:
                wrong = attack(images[chosen], labels[chosen]).cpu()
            broken = torch.zeros_like(standing)
            broken[standing] = wrong
            return broken, passes.forwards, passes.backwards

        return run

    return {PEER: {work: component(work) for work in works}}


def _part(package: AutoAttack, work: str) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda images, labels: package.part(work, images, labels)


def _side(name: str, line: _Line) -> Side:
    passes = (line.forwards, line.backwards)
    return Side(name, tuple(line.seconds), bits(line.broken), line.points, *passes)


def _whole(name: str, lines: dict[str, _Line], rounds: int) -> Side:
    """A round of a side is the sum of its components in that round."""
    parts = [line for line in lines.values() if line.seconds]
    broken = torch.stack([line.broken for line in parts]).any(0)
    note = "first three parts as `mixed`, then few queries" if name == QUICK else ""
    if len(parts[0].seconds) < rounds:
        note = f"{len(parts[0].seconds)} of {rounds} rounds"
    return Side(
        name,
        tuple(map(sum, zip(*(line.seconds for line in parts), strict=True))),
        bits(broken),
        len(broken),
        sum(line.forwards for line in parts),
        sum(line.backwards for line in parts),
        note=note,
    )


def _absent(model: Compared) -> tuple[Side, ...]:
    reason = model.without(PEER)
    return (Side(PEER, note=reason),) if reason else ()


def _classes(model: Compared) -> int:
    return model.record.capabilities.classes
