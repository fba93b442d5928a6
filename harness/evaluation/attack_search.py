"""Search over attacks: surface x loss x step rule x start, on images that nobody is ranked on.

A budget of passes per image is spent in three rounds: every candidate with few steps, then the
better ones with more. What is kept is a greedy cover: an attack stays only for images that nothing
before it broke. Training images decide which attacks win, so that no test image does.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from harness.attacks.attack import attack_spec, most_passes, run_attack, with_settings
from harness.attacks.geometry import Ball
from harness.attacks.search import Search, is_right
from harness.attacks.streams import Streams, generator
from harness.attacks.surface_text import SURFACES, check_reachable, split_surface, surface_named
from harness.data import dataset, load
from harness.errors import HarnessError, ModelError
from harness.evaluation.exact import compute_exactly
from harness.evaluation.subject import Subject, load_subject
from harness.evaluation.work import spread
from harness.identity import AttackSpec, Capabilities, CheckpointRecord, Failure
from harness.threat import ThreatModel

HELD = 100
"""Training images, evenly over their split, that the search is run on."""

ROUNDS = 3
KEPT = 4
"""After each round one candidate in so many goes on."""

FEWEST_STEPS, MOST_STEPS = 5, 100

_LOSSES = ("ce", "ce(std)", "dlr", "margin")
_WITHOUT_RATIO = ("ce", "ce(std)", "margin")
_WEIGHTS = ("0.5", "1", "2", "8")


@dataclass(frozen=True)
class Hunt:
    """A search for attacks on one checkpoint.

    Args:
        record: the checkpoint.
        dataset: registered name.
        folder: of the weights.
        data_dir: of the images, None for the cache.
        threat: norm and epsilon.
        seed: run seed.
        budget: passes (a backward pass counts as two) per held image, over all rounds.
        device: where to run.
    """

    record: CheckpointRecord
    dataset: str
    folder: Path
    data_dir: Path | None
    threat: ThreatModel
    seed: int
    budget: int
    device: str = "cpu"


@dataclass(frozen=True)
class Tried:
    """One candidate of the last round that it reached.

    Args:
        spec: what was run.
        broke: held images that it broke, of those that the standard attacks left.
        alone: those that nothing kept before it broke; 0 where it is not kept.
        passes: per held image, at most.
    """

    spec: AttackSpec
    broke: int
    alone: int
    passes: int


@dataclass(frozen=True)
class Catch:
    """What a search found.

    Args:
        winners: attacks to run on test images, the best first.
        tried: every candidate that came far enough, the best first.
        held: training images that were classified correctly.
        standing: those that standard attacks left.
        passes: spent per held image.
        candidates: how many combinations the model allows.
    """

    winners: tuple[AttackSpec, ...]
    tried: tuple[Tried, ...]
    held: int
    standing: int
    passes: int
    candidates: int = 0


def hunt(work: Hunt) -> Catch | Failure:
    """Run the search; a model that misbehaves gives a failure."""
    try:
        return _hunt(work)
    except ModelError as error:
        return _failure(work, error.status, str(error))
    except HarnessError as error:
        return _failure(work, "not_loaded", str(error))
    except torch.OutOfMemoryError:
        return _failure(work, "out_of_memory", "the device ran out of memory: use --device cpu.")


def candidates(capabilities: Capabilities) -> list[AttackSpec]:
    """Every combination that the model allows, each once, with the fewest steps."""
    found: dict[AttackSpec, None] = {}
    for surface in _surfaces(capabilities):
        losses: tuple[str, ...] = _LOSSES if capabilities.classes >= 3 else _WITHOUT_RATIO
        if surface == "training_loss":
            losses = ("own",)
        for loss in losses:
            for spec in _rules(surface, None if loss == "own" else loss):
                found.setdefault(spec)
    return list(found)


def _surfaces(capabilities: Capabilities) -> list[str]:
    heads = range(capabilities.auxiliary)
    texts = [
        *("logits", "cosine"),
        *(f"auxiliary({head})" for head in heads),
        *(f"sum({weight})" for weight in _WEIGHTS),
        f"weighted({':'.join(['0', *['1' for _ in heads]])})",
        f"weighted({':'.join(['1', *['2' for _ in heads]])})",
        *("smallest(1)", "log_softmax_mean", "straight_through(0.1)", "straight_through(1)"),
        *(f"two_phase({head})" for head in heads),
        *("label_gate", "rival_gate", "training_loss", "stripped", "mixed"),
    ]
    return [text for text in texts if _is_reachable(text, capabilities)]


def _is_reachable(text: str, capabilities: Capabilities) -> bool:
    try:
        check_reachable(text, capabilities)
    except HarnessError:
        return False
    return True


def _rules(surface: str, loss: str | None) -> list[AttackSpec]:
    """Step rules and starts: Auto-PGD, two fixed steps from two starts, momentum."""
    apgd = "apgd_dlr" if loss == "dlr" else "apgd_ce"
    found = [attack_spec(apgd, surface=surface, loss=loss, steps=FEWEST_STEPS)]
    if surface.startswith("two_phase"):
        found = []  # its values cannot be compared, which Auto-PGD does
    for relative_step in (0.25, 0.05):
        for random_start in (True, False):
            settings = {"relative_step": relative_step, "random_start": random_start}
            found.append(
                attack_spec("pgd", surface=surface, loss=loss, steps=FEWEST_STEPS, **settings)
            )
    found.append(attack_spec("mim", surface=surface, loss=loss, steps=FEWEST_STEPS))
    return found


def _hunt(work: Hunt) -> Catch:
    if work.record.capabilities.is_random:
        raise HarnessError(
            f"'{work.record.name}' draws random numbers, so that a single pass breaks nothing: "
            "the search does not know such models. Use harness eval --adaptive."
        )
    subject = load_subject(work.record, work.folder, dataset(work.dataset), device=work.device)
    compute_exactly()
    images, labels, indices = _held(work, subject)
    attempt = _Attempt(work, subject, images, labels, indices)
    standing = ~attempt.broken(attack_spec("apgd_ce", steps=MOST_STEPS))
    standing &= ~attempt.broken(_free(subject.capabilities), standing)
    everything = candidates(subject.capabilities)
    tried, spent = _rounds(attempt, everything, standing, work)
    winners, table = _cover(tried)
    return Catch(
        winners=tuple(_full(spec) for spec in winners),
        tried=tuple(table),
        held=len(labels),
        standing=int(standing.sum()),
        passes=spent,
        candidates=len(everything),
    )


def _free(capabilities: Capabilities) -> AttackSpec:
    if capabilities.classes >= 3:
        return attack_spec("apgd_dlr", steps=MOST_STEPS)
    return attack_spec("apgd_ce", loss="margin", steps=MOST_STEPS)


def _held(work: Hunt, subject: Subject) -> tuple[Tensor, Tensor, list[int]]:
    """Training images that the model classifies correctly, and their indices; nothing is fetched.

    Raises:
        HarnessError: there are no training images here.
    """
    data = load(work.dataset, "train", data_dir=work.data_dir, download=False)
    chosen = spread(len(data), HELD)
    images = (data.images[chosen].float() / 255).to(work.device)
    labels = data.labels[chosen].to(work.device)
    with torch.no_grad():
        right = is_right(subject.model(images).logits, labels)
    return images[right], labels[right], chosen[right.cpu()].tolist()


@dataclass(frozen=True)
class _Attempt:
    """Runs one attack on held images."""

    work: Hunt
    subject: Subject
    images: Tensor
    labels: Tensor
    indices: Sequence[int]

    def broken(self, spec: AttackSpec, only: Tensor | None = None) -> Tensor:
        """[N] bool on the CPU; images outside `only` are left alone."""
        chosen = torch.arange(len(self.labels)) if only is None else only.nonzero()[:, 0]
        found = torch.zeros(len(self.labels), dtype=torch.bool)
        if len(chosen) == 0:
            return found
        surface = surface_named(
            spec.surface,
            self.subject.model,
            self.subject.capabilities,
            self.subject.training_loss,
        )
        ball = Ball.around(self.images[chosen], self.work.threat)
        streams = Streams(
            self.work.seed, f"held {spec.hash}", [self.indices[int(one)] for one in chosen]
        )
        search = Search(surface, ball, self.labels[chosen], streams)
        run_attack(spec, search)
        found[chosen] = search.broken.cpu()
        return found


def _rounds(
    attempt: _Attempt, everything: Sequence[AttackSpec], standing: Tensor, work: Hunt
) -> tuple[list[tuple[AttackSpec, Tensor]], int]:
    """Successive halving, a third of the budget per round; what the last round found."""
    spent, found = 0, []
    going = list(everything)
    for number in range(ROUNDS):
        going, steps = _afford(going, work.budget // ROUNDS, work.seed)
        tried = [with_settings(spec, steps=steps) for spec in going]
        found = [(spec, attempt.broken(spec, standing)) for spec in tried]
        spent += sum(_passes(spec) for spec in tried)
        if number < ROUNDS - 1:
            best = _best_first(found)[: max(1, -(-len(found) // KEPT))]
            going = [with_settings(spec, steps=FEWEST_STEPS) for spec in best]
    return found, spent


def _best_first(found: Sequence[tuple[AttackSpec, Tensor]]) -> list[AttackSpec]:
    """Those of the cover first, so that a sole break is not lost to many that do the same."""
    cover, _ = _cover(found)
    others = [pair for pair in found if pair[0] not in cover]
    return cover + [spec for spec, _ in sorted(others, key=lambda pair: -int(pair[1].sum()))]


def _afford(going: Sequence[AttackSpec], budget: int, seed: int) -> tuple[list[AttackSpec], int]:
    """As many candidates as the budget allows with the fewest steps, and how many steps then.

    Which are left out is drawn by lot; at least one stays.

    Args:
        going: candidates with the fewest steps.
        budget: passes per image.
        seed: of the lot.
    """
    order = torch.randperm(len(going), generator=generator(seed, "search", len(going))).tolist()
    prices = [_passes(spec) for spec in going]
    if sum(prices) > budget:
        totals = itertools.accumulate(prices[place] for place in order)
        within = sum(total <= budget for total in totals)
        order = order[: max(1, within)]
    chosen = [going[place] for place in sorted(order)]
    fewest, each = _price(chosen, FEWEST_STEPS), _price(chosen, 1 + FEWEST_STEPS)
    more = max(0, budget - fewest) // max(1, each - fewest)  # passes grow evenly with steps
    return chosen, min(MOST_STEPS, FEWEST_STEPS + more)


def _price(specs: Sequence[AttackSpec], steps: int) -> int:
    return sum(_passes(with_settings(spec, steps=steps)) for spec in specs)


def _passes(spec: AttackSpec) -> int:
    forwards, backwards = most_passes(spec)
    return forwards * SURFACES[split_surface(spec.surface)[0]].forwards + 2 * backwards


def _full(spec: AttackSpec) -> AttackSpec:
    """A winner as it is run on test images."""
    if "restarts" in dict(spec.parameters):
        return with_settings(spec, steps=MOST_STEPS, restarts=2)
    return with_settings(spec, steps=MOST_STEPS)


def _cover(
    found: Sequence[tuple[AttackSpec, Tensor]],
) -> tuple[list[AttackSpec], list[Tried]]:
    """Greedy cover: take what adds most images, until nothing adds any."""
    left = list(found)
    winners: list[AttackSpec] = []
    alone: dict[AttackSpec, int] = {}
    covered = torch.zeros_like(found[0][1]) if found else torch.zeros(0, dtype=torch.bool)
    while left:
        best = max(left, key=lambda pair: int((pair[1] & ~covered).sum()))
        gain = int((best[1] & ~covered).sum())
        if gain == 0:
            break
        covered |= best[1]
        winners.append(best[0])
        alone[best[0]] = gain
        left = [pair for pair in left if pair is not best]
    table = [
        Tried(spec, int(broken.sum()), alone.get(spec, 0), _passes(spec)) for spec, broken in found
    ]
    return winners, sorted(table, key=lambda one: (-one.alone, -one.broke))


def _failure(work: Hunt, status: str, message: str) -> Failure:
    return Failure(
        checkpoint=work.record.digest,
        dataset=work.dataset,
        images="",
        threat=work.threat,
        attack="search",
        status=status,
        message=message[:1000],
    )
