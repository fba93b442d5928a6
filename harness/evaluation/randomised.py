"""Models that draw random numbers: passes that repeat, and decisions by majority.

`attacks.md` section 10: a single lucky pass is never a success (fra31/auto-attack PR 105 documents
how much it inflates). Such models are attacked one image at a time, so that an image's draws do
not depend on its batch mates; gradients are means over draws (`surfaces.Repeated`).
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from harness.attacks.search import Confirm
from harness.attacks.streams import generator
from harness.evaluation.confined import RemoteModule
from harness.evaluation.handle import Handle
from harness.evaluation.recording import drawing
from harness.identity import Capabilities
from harness.outputs import Outputs, Select
from harness.statistics import wilson

DRAWS = 100
"""Passes of one vote."""


class RandomHandle(Handle):
    """A random module as a `Model`: pass number n under a key draws the same numbers every time.

    Every image goes through the module alone, whatever it was given with. The numbers of a pass
    depend on the key of the last `reseed`, on how many images were passed since, and on nothing
    else; the global generators go on afterwards as if nothing had happened. A module that draws
    from a `torch.Generator` of its own keeps it among its attributes, where it is reseeded too.
    """

    padding = 2  # copies draw numbers of their own and are cut off; some modules squeeze a single

    def __init__(
        self,
        module: nn.Module,
        classes: int,
        *,
        has_gate: bool = False,
        promised: Capabilities | None = None,
    ) -> None:
        super().__init__(module, classes, has_gate=has_gate, promised=promised)
        self._key: tuple[str | int, ...] = ()
        self._passes = 0

    def reseed(self, *key: str | int) -> None:
        """Start again from pass 0 under this key, such as (run seed, attack hash, image index)."""
        self._key, self._passes = key, 0

    def __call__(self, images: Tensor, *, select: Select = None) -> Outputs:
        """Outputs of one pass per image, each with the next numbers of the key."""
        found = []
        for position in range(len(images)):
            gate = select[position : position + 1] if isinstance(select, Tensor) else select
            found.append(self._draw(images[position : position + 1], gate, self._key, self._passes))
            self._passes += 1
        return _joined(found)

    def votes(self, candidates: Tensor, draws: int = DRAWS) -> Tensor:
        """How often each class was decided, by the same draws for every image and every call.

        Args:
            candidates: [n, C, H, W] in [0, 1].
            draws: passes per image.

        Returns:
            [n, K] float32 counts, each row with the sum `draws`; an answer with a number that is
            not finite votes for no class, as no single pass with it counts as right.
        """
        counts = torch.zeros(len(candidates), self._classes, device=candidates.device)
        with torch.no_grad():
            for position in range(len(candidates)):
                image = candidates[position : position + 1]
                for draw in range(draws):
                    logits = self._draw(image, None, ("votes",), draw).logits[0]
                    counts[position, logits.argmax()] += torch.isfinite(logits).all().float()
        return counts

    def confirm(self, labels: Tensor) -> Confirm:
        """`votes` for `Search`: where the votes do not settle it, the label keeps all of them.

        Args:
            labels: [1], of the one image of the search.
        """

        def settled(candidates: Tensor) -> Tensor:
            theirs = labels.expand(len(candidates))
            votes = self.votes(candidates)
            label_wins = torch.nn.functional.one_hot(theirs, self._classes).to(votes) * DRAWS
            label_loses = votes - label_wins  # even where no class has a vote
            return torch.where(is_broken(votes, theirs)[:, None], label_loses, label_wins)

        return settled

    def is_broken(self, candidates: Tensor, labels: Tensor) -> Tensor:
        """[n] bool: `is_broken` of a vote on each candidate."""
        return is_broken(self.votes(candidates), labels)

    def _draw(
        self, image: Tensor, select: Select, key: tuple[str | int, ...], number: int
    ) -> Outputs:
        seed = generator("random model", *key, number).initial_seed() % 2**63
        with self._seeded(seed):
            return super().__call__(image, select=select)

    def _seeded(self, seed: int) -> AbstractContextManager[None]:
        """Random numbers start from `seed` where the module is."""
        if isinstance(self.module, RemoteModule):
            return self.module.seeded(seed)
        return drawing(self.module, seed)


def is_broken(votes: Tensor, labels: Tensor, draws: int = DRAWS) -> Tensor:
    """[n] bool: the majority is wrong and the chance to be right is surely below one half.

    Args:
        votes: [n, K] counts.
        labels: [n] int64.
        draws: passes per image; votes that are missing from it were not finite, so wrong.
    """
    right = votes.gather(1, labels[:, None])[:, 0]
    sure = [wilson(int(count), draws)[1] < 0.5 for count in right.tolist()]
    sure_wrong = torch.tensor(sure, dtype=torch.bool, device=votes.device)
    return _is_wrong(votes, labels, draws) & sure_wrong


def is_undetermined(votes: Tensor, labels: Tensor, draws: int = DRAWS) -> Tensor:
    """[n] bool: the majority is wrong, but the draws cannot exclude that it is right."""
    return _is_wrong(votes, labels, draws) & ~is_broken(votes, labels, draws)


def is_void(votes: Tensor, draws: int = DRAWS) -> Tensor:
    """[n] bool: answers that were not finite outnumber the most frequent class."""
    return draws - votes.sum(1) > votes.amax(1)


def _is_wrong(votes: Tensor, labels: Tensor, draws: int) -> Tensor:
    return (votes.argmax(1) != labels) | is_void(votes, draws)


def _joined(found: list[Outputs]) -> Outputs:
    """One image each, as one batch."""
    first = found[0]

    def rows(part: list[Tensor | None]) -> Tensor | None:
        tensors = [one for one in part if one is not None]
        return torch.cat(tensors) if tensors else None

    return Outputs(
        torch.cat([one.logits for one in found]),
        tuple(torch.cat(heads) for heads in zip(*(one.auxiliary for one in found), strict=True)),
        rows([one.features for one in found]),
        first.logit_scale,
        tuple(torch.cat(heads) for heads in zip(*(one.vectors for one in found), strict=True)),
        rows([one.gated for one in found]),
    )
