"""PGD-40 with steps of 2/255 from a random start, against torchattacks and foolbox.

All images are attacked, as the peers do, misclassified ones too. Each side draws its own start.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.ours import attacked, bits, last_iterate
from benchmarks.peers import Attack, foolbox_pgd, torchattacks_pgd, wrong_after
from benchmarks.results import Comparison, Side
from benchmarks.setting import Compared, defaults_of_torch
from benchmarks.timing import counted, interleaved
from harness.attacks.attack import attack_spec
from harness.identity import AttackSpec

TORCHATTACKS, FOOLBOX = "torchattacks", "foolbox"
LAST, LAST_MIXED, ANY = "folded, last iterate", "mixed, last iterate", "mixed, any iterate"
STEPS = 40
RELATIVE_STEP = 0.25

_Taken = tuple[Tensor, int, int]
"""[count] bool, wrong at the end; forwards; backwards."""


def pgd(model: Compared, steps: int = STEPS) -> tuple[Comparison, ...]:
    """One comparison of all sides."""
    spec = attack_spec("pgd", steps=steps, relative_step=RELATIVE_STEP)
    taken = interleaved({**_peers(model, steps), **_ours(model, spec)}, model.rounds, model.device)
    absent = [
        Side(name, note=model.without(name))
        for name in (TORCHATTACKS, FOOLBOX)
        if model.without(name)
    ]
    found = [
        Side(
            name,
            tuple(seconds for seconds, _ in rounds),
            bits(rounds[-1][1][0]),
            model.count,
            *rounds[-1][1][1:],
        )
        for name, rounds in taken.items()
    ]
    return (Comparison(f"pgd-{steps}", (*absent, *found)),)


def _peers(model: Compared, steps: int) -> dict[str, Callable[[], _Taken]]:
    epsilon = float(model.record.threat.epsilon)
    given = (model.peers, epsilon, RELATIVE_STEP * epsilon, steps)
    found = {}
    if not model.without(TORCHATTACKS):
        found[TORCHATTACKS] = _peer(model, torchattacks_pgd(*given))
    if not model.without(FOOLBOX):
        found[FOOLBOX] = _peer(model, foolbox_pgd(*given, model.device))
    return found


def _peer(model: Compared, attack: Attack) -> Callable[[], _Taken]:
    """A peer's attack and the look that says what it reached, which no peer takes by itself."""
    images, labels = model.images, model.labels

    def run() -> _Taken:
        torch.manual_seed(model.seed)
        with defaults_of_torch(), counted() as passes:
            wrong = wrong_after(attack, model.peers, images, labels, model.batch)
        return wrong, passes.forwards, passes.backwards

    return run


def _ours(model: Compared, spec: AttackSpec) -> dict[str, Callable[[], _Taken]]:
    def last(precision: str) -> Callable[[], _Taken]:
        return lambda: last_iterate(model, spec, precision)

    def whole() -> _Taken:
        everything = torch.ones(model.count, dtype=torch.bool)
        outcome = attacked(model, spec, "mixed", everything)
        return torch.tensor(outcome.broken), outcome.forwards, outcome.backwards

    return {LAST: last("folded"), LAST_MIXED: last("mixed"), ANY: whole}
