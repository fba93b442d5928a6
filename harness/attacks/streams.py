"""Random numbers per image, so that batch size, order, resume and workers change nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Restart = int | Tensor
"""Which restart, of all images alike; or [N] int64, one for each of the batch."""


def generator(*key: str | int) -> torch.Generator:
    """A CPU generator whose numbers depend on `key` alone."""
    text = "\x1f".join(str(part) for part in key).encode()
    seed = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
    return torch.Generator().manual_seed(seed)


@dataclass(frozen=True)
class Streams:
    """Streams keyed by (run seed, attack hash, image index, restart, purpose).

    Args:
        seed: run seed.
        attack: hash of the attack's specification.
        indices: index of each image in the test split, in batch order.
    """

    seed: int
    attack: str
    indices: Sequence[int]

    def uniform(
        self, positions: Tensor, shape: Sequence[int], *, restart: Restart, purpose: str
    ) -> Tensor:
        """[n, *shape] uniform in [0, 1), one independent stream per image."""
        draws = [
            torch.rand(tuple(shape), generator=one) for one in self._of(positions, restart, purpose)
        ]
        return torch.stack(draws) if draws else torch.empty(0, *shape)

    def normal(
        self, positions: Tensor, shape: Sequence[int], *, restart: Restart, purpose: str
    ) -> Tensor:
        """[n, *shape] standard normal, one independent stream per image."""
        draws = [
            torch.randn(tuple(shape), generator=one)
            for one in self._of(positions, restart, purpose)
        ]
        return torch.stack(draws) if draws else torch.empty(0, *shape)

    def signs(
        self, positions: Tensor, shape: Sequence[int], *, restart: Restart, purpose: str
    ) -> Tensor:
        """[n, *shape] of -1 and 1 with equal chance, one independent stream per image."""
        return self.uniform(positions, shape, restart=restart, purpose=purpose).ge(0.5) * 2.0 - 1.0

    def shared(self, *, restart: int, purpose: str) -> torch.Generator:
        """One stream for all images, for draws that no image may have to itself."""
        return generator(self.seed, self.attack, "shared", restart, purpose)

    def take(self, chosen: Tensor) -> Streams:
        """Of the images at these positions [n]; one that is there twice has its stream twice."""
        return Streams(self.seed, self.attack, [self.indices[one] for one in chosen.tolist()])

    def _of(self, positions: Tensor, restart: Restart, purpose: str) -> Iterator[torch.Generator]:
        restarts = (
            [restart] * len(positions) if isinstance(restart, int) else restart[positions].tolist()
        )
        for position, number in zip(positions.tolist(), restarts, strict=True):
            yield generator(self.seed, self.attack, self.indices[position], number, purpose)
