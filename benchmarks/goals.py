"""Ratios and goals: what was hoped for, and whether what was measured counts as that."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.results import Results, Side

NONE = "–"
ALLOWED = 200
"""Of so many outcomes one may differ; a ratio with more reaches no goal."""
ENOUGH = 3
"""Rounds of which the fastest counts; a ratio of fewer reaches no goal."""
EPOCH = 391
"""Batches of 128 in 50,000 images."""


@dataclass(frozen=True)
class Goal:
    """A row of the table of goals: a ratio of two sides, or seconds where `base` is empty.

    Args:
        work: in words.
        by_hand: what a hand-made prototype reached.
        goal: the ratio to reach, or the seconds.
        ceiling: what the arithmetic allows.
        section: of the results.
        comparison: its `work` starts with this.
        side: whose time.
        base: by whose time it is measured.
        run: whose number it is where it is one of a GPU.
        images: how many the run must have; 0 for any.
        parameters: how many the model must have at least.
        factor: what seconds are multiplied by.
        is_stronger: whether the side may break more than the base by what it does; then only
            images that it misses count as different.
    """

    work: str
    by_hand: str
    goal: float
    ceiling: str
    section: str
    comparison: str
    side: str
    base: str = ""
    run: str = ""
    images: int = 0
    parameters: int = 0
    factor: int = 1
    is_stronger: bool = False


_WHOLE = ("autoattack", "whole")
_PGD = ("pgd", "pgd-40")
GOALS = (
    Goal(
        *("AutoAttack `standard`, float32 search", "2.2", 2.5, "3.3", *_WHOLE),
        *("folded", "pyautoattack"),
    ),
    Goal(
        *("AutoAttack `standard`, outcome-safe mix", "2.5", 3.5, "4.3", *_WHOLE),
        *("mixed", "pyautoattack"),
    ),
    *(
        Goal(
            *(f"PGD-40 against {peer}, {words}", by_hand, goal, ceiling, *_PGD, side, peer),
            is_stronger="any" in words,
        )
        for peer, words, by_hand, goal, ceiling, side in (
            ("torchattacks", "last iterate, float32", "2.3", 2.5, "3.0", "folded, last iterate"),
            ("foolbox", "last iterate, float32", "2.6", 2.5, NONE, "folded, last iterate"),
            ("torchattacks", "last iterate, bfloat16", "4.5", 5, "5.9", "mixed, last iterate"),
            ("foolbox", "last iterate, bfloat16", "5.0", 5, NONE, "mixed, last iterate"),
            ("torchattacks", "any iterate, bfloat16", "7.7", 9, "12", "mixed, any iterate"),
        )
    ),
    Goal(
        *("TRADES step, PGD-10, ResNet-18", "2.6", 3.0, "3.3", "training", "trades step"),
        *("bfloat16", "authors' order of work"),
    ),
    Goal(
        *("AutoAttack `standard`, 10,000 images, H200", NONE, 180, "69 s", *_WHOLE, "mixed"),
        run="large",
        images=10_000,
        parameters=10_000_000,
    ),
    Goal(
        *("TRADES PGD-10, one epoch of 50,000 images, H200", NONE, 5, "2.3 s"),
        *("training", "trades step", "bfloat16"),
        run="cuda",
        factor=EPOCH,
    ),
)


def ratio(side: Side, base: Side) -> float | None:
    """How many times faster than the base, by the fastest round of each."""
    if side.best is None or base.best is None:
        return None
    return base.best / side.best


def spread(side: Side, base: Side) -> tuple[float, float] | None:
    """Smallest and largest ratio of two rounds that were neighbours; None below two rounds."""
    pairs = [theirs / ours for theirs, ours in zip(base.seconds, side.seconds, strict=False)]
    return (min(pairs), max(pairs)) if len(pairs) > 1 else None


def reached(goal: Goal, results: Results, device: str) -> str:
    """What was measured on this device, and whether it counts."""
    run = results.get(goal.run or device)
    if run is None or run.setting.device != device or (goal.run and device != "cuda"):
        return NONE
    is_small = run.setting.parameters < goal.parameters
    if is_small or (goal.images and run.setting.images != goal.images):
        return NONE
    comparison = run.comparison(goal.section, goal.comparison)
    side = comparison.side(goal.side) if comparison else None
    if comparison is None or side is None or side.best is None:
        return NONE
    if not goal.base:
        seconds = goal.factor * side.best
        return f"{seconds:.3g} s, {'reached' if seconds <= goal.goal else 'not reached'}"
    base = comparison.side(goal.base)
    return _judged(goal, side, base) if base else NONE


def _judged(goal: Goal, side: Side, base: Side) -> str:
    found = ratio(side, base)
    if found is None:
        return NONE
    differ = side.missed(base) if goal.is_stronger else side.differ(base) or 0
    if differ * ALLOWED > max(len(side.outcomes), ALLOWED):
        return f"{found:.2f}, but {differ} of {len(side.outcomes)} outcomes differ"
    if min(len(side.seconds), len(base.seconds)) < ENOUGH:
        return f"{found:.2f} in fewer than {ENOUGH} rounds"
    return f"{found:.2f}, {'reached' if found >= goal.goal else 'not reached'}"
