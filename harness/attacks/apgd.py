"""Auto-PGD: projected gradient ascent with momentum that chooses its own step size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from harness.attacks.attack import attack
from harness.attacks.geometry import Ball
from harness.attacks.losses import AttackLoss
from harness.attacks.parity import reference_generator, reference_start, replay
from harness.attacks.pooling import Runs, pooled
from harness.attacks.search import Search

_SOURCE = "Croce and Hein, 2020 (arXiv:2003.01690), section 3 and algorithm 1"
_LIMITS = {"steps": (1.0, 100_000.0), "restarts": (1.0, 1_000.0), "targets": (1.0, 1_000.0)}
_MOMENTUM = 0.75
_RHO = 0.75


def _cost(parameters: Mapping[str, Any]) -> tuple[int, int]:
    targets = parameters.get("targets")
    runs = parameters["restarts"] * (min(targets, 9) if targets else 1)
    first_looks = 2 if targets else 1
    return first_looks + runs * (parameters["steps"] + 1), runs * (parameters["steps"] + 1)


@attack(
    losses=("ce", "margin"),
    norms=("linf", "l2"),
    knowledge="white_box",
    source=_SOURCE,
    cost=_cost,
    limits=_LIMITS,
    tolerates_bfloat16=True,
)
def apgd_ce(
    search: Search,
    *,
    loss: AttackLoss,
    steps: int = 100,
    restarts: int = 1,
    parity: bool = False,
) -> None:
    """Auto-PGD on the cross-entropy.

    Args:
        search: what to attack.
        loss: (logits, labels, targets) -> [n].
        steps: iterations; one forward and one backward pass each, and two more looks.
        restarts: independent random starts.
        parity: whether to repeat the reference's quirks and its draws for the whole batch.
    """
    _run(search, loss, steps, restarts, parity=parity)


@attack(
    losses=("dlr",),
    norms=("linf", "l2"),
    knowledge="white_box",
    source=_SOURCE + "; loss: section 4.1",
    cost=_cost,
    limits=_LIMITS,
)
def apgd_dlr(
    search: Search,
    *,
    loss: AttackLoss,
    steps: int = 100,
    restarts: int = 1,
    parity: bool = False,
) -> None:
    """Auto-PGD on the difference of logits ratio, which no rescaling of the logits changes.

    Args:
        search: what to attack.
        loss: (logits, labels, targets) -> [n].
        steps: iterations.
        restarts: independent random starts.
        parity: as in `apgd_ce`.
    """
    _run(search, loss, steps, restarts, parity=parity)


@attack(
    losses=("dlr_targeted", "ce_targeted", "margin_targeted"),
    norms=("linf", "l2"),
    knowledge="white_box",
    source=_SOURCE + "; loss: section 4.2",
    cost=_cost,
    limits=_LIMITS,
    tolerates_bfloat16=True,
)
def apgd_t(
    search: Search,
    *,
    loss: AttackLoss,
    steps: int = 100,
    targets: int = 9,
    restarts: int = 1,
    parity: bool = False,
) -> None:
    """Auto-PGD towards each of the best rivals in turn, by the targeted difference of logits ratio.

    An image is broken whenever it is misclassified, not only as the target.

    Args:
        search: what to attack.
        loss: (logits, labels, targets) -> [n].
        steps: iterations per target.
        targets: how many rivals, ranked by the clean logits; at most classes - 1 are used.
        restarts: independent random starts per target.
        parity: as in `apgd_ce`.
    """
    everyone = torch.arange(len(search.labels), device=search.labels.device)
    _run(search, loss, steps, restarts, search.rivals(everyone, targets), parity=parity)


def checkpoints(steps: int) -> list[int]:
    """After how many iterations the step size is examined (13.1 of `attacks.md` lists them)."""
    window = max(int(0.22 * steps), 1)
    shrink, least = max(int(0.03 * steps), 1), max(int(0.06 * steps), 1)
    found = [window]
    while found[-1] + max(window - shrink, least) <= steps:
        window = max(window - shrink, least)
        found.append(found[-1] + window)
    return found


def _run(
    search: Search,
    loss: AttackLoss,
    steps: int,
    restarts: int,
    rivals: Tensor | None = None,
    *,
    parity: bool,
) -> None:
    """One ascent per restart and, where given, per column of `rivals` [N, T]."""
    search.judge_clean(loss, None if rivals is None else rivals[:, 0])
    columns = [None] if rivals is None else [*rivals.T]
    targets_of_runs = [column for column in columns for _ in range(restarts)]
    if parity:
        _replay(search, loss, steps, targets_of_runs)
        return
    for runs in pooled(search, len(targets_of_runs)):
        targets = None if rivals is None else runs.towards(rivals, restarts)
        _ascend(runs.search, loss, steps, _surface_start(runs), targets)


def _replay(search: Search, loss: AttackLoss, steps: int, targets: Sequence[Tensor | None]) -> None:
    """One ascent as the reference makes it per entry of `targets`, each [N] or None."""
    draws = reference_generator(search)
    for one in targets:
        with replay(search) as (part, standing):
            start = reference_start(part.ball, draws)
            theirs = None if one is None else one[standing]
            _ascend(part, loss, steps, start, theirs, parity=True)


def _surface_start(runs: Runs) -> Tensor:
    active = runs.search.standing()
    ball = runs.search.around(active)
    uniform = runs.search.streams.uniform(
        active, ball.images.shape[1:], restart=runs.numbers, purpose="start"
    )
    return ball.surface_start(uniform.to(ball.images.device))


@dataclass
class _State:
    """Everything an ascent remembers, one row per image still standing."""

    position: Tensor
    candidate: Tensor
    previous: Tensor
    gradient: Tensor
    loss: Tensor
    best: Tensor
    best_gradient: Tensor
    best_loss: Tensor
    step: Tensor
    increases: Tensor
    loss_at_check: Tensor
    halved_at_check: Tensor

    def take(self, kept: Tensor) -> _State:
        return replace(self, **{f.name: getattr(self, f.name)[kept] for f in fields(self)})


def _ascend(
    search: Search,
    loss: AttackLoss,
    steps: int,
    start: Tensor,
    targets: Tensor | None = None,
    *,
    parity: bool = False,
) -> None:
    """Climb from `start` [n, C, H, W], one per image still standing; `targets` are all [N]'s."""
    if len(start) == 0:
        return
    state, ball = _first_look(search, loss, start, targets)
    if parity:  # the reference compares the first loss with a slot that it has not written yet
        state.loss = torch.zeros_like(state.loss)
    checks = checkpoints(steps)
    for iteration in range(1, steps + 1):
        if len(state.position) == 0:
            return
        stepped = _step(state, ball, iteration == 1, parity)
        state.candidate, state.previous = stepped, state.candidate
        chosen = None if targets is None else targets[state.position]
        look = search.climb(state.position, state.candidate, loss, chosen)
        state.increases += look.value > state.loss
        state.loss, state.gradient = look.value, look.gradient
        _remember_best(state)
        if not look.kept.all():
            state = state.take(look.kept)
            ball = search.around(state.position)
        if iteration in checks:
            window = iteration - max([0, *(c for c in checks if c < iteration)])
            _examine(state, window, parity)


def _first_look(
    search: Search, loss: AttackLoss, start: Tensor, targets: Tensor | None
) -> tuple[_State, Ball]:
    active = search.standing()
    ball = search.around(active)
    look = search.climb(active, start, loss, None if targets is None else targets[active])
    state = _State(
        position=active,
        candidate=start,
        previous=start,
        gradient=look.gradient,
        loss=look.value,
        best=start,
        best_gradient=look.gradient,
        best_loss=look.value,
        step=torch.full_like(look.value, 2 * ball.epsilon),
        increases=torch.zeros_like(active),
        loss_at_check=look.value,
        halved_at_check=torch.ones_like(look.kept),  # condition 2 cannot fire at the first check
    )
    if not look.kept.all():
        state = state.take(look.kept)
    return state, search.around(state.position)


def _step(state: _State, ball: Ball, is_first: bool, parity: bool = False) -> Tensor:
    length = state.step[:, None, None, None]
    straight = ball.project(state.candidate + length * ball.steepest(state.gradient))
    if is_first and not parity:
        return straight
    weight = 1.0 if is_first else _MOMENTUM  # the reference rounds the first step like the others
    moved = state.candidate - state.previous
    return ball.project(
        state.candidate + (straight - state.candidate) * weight + moved * (1 - weight)
    )


def _remember_best(state: _State) -> None:
    better = state.loss > state.best_loss
    wide = better[:, None, None, None]
    state.best = torch.where(wide, state.candidate, state.best)
    state.best_gradient = torch.where(wide, state.gradient, state.best_gradient)
    state.best_loss = torch.where(better, state.loss, state.best_loss)


def _examine(state: _State, window: int, parity: bool = False) -> None:
    """Halve the step and go back to the best point where the climb has stalled.

    Where we differ from the reference: the first window compares with the loss at the start
    instead of an unwritten 0; a restored image starts without momentum instead of with the
    distance between two unrelated points; and its next loss is compared with the restored one
    instead of with that of the point it left. `parity` undoes all three.
    """
    rarely = state.increases <= _RHO * window
    stuck = ~state.halved_at_check & (state.best_loss <= state.loss_at_check)
    halve = rarely | stuck
    wide = halve[:, None, None, None]
    state.step = torch.where(halve, state.step / 2, state.step)
    state.candidate = torch.where(wide, state.best, state.candidate)
    state.gradient = torch.where(wide, state.best_gradient, state.gradient)
    if not parity:
        state.previous = torch.where(wide, state.best, state.previous)
        state.loss = torch.where(halve, state.best_loss, state.loss)
    state.loss_at_check = state.best_loss
    state.halved_at_check = halve
    state.increases = torch.zeros_like(state.increases)
