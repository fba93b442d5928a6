"""Self-adaptive training: TRADES whose labels move towards what the network believes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from harness.batch import ADVERSARIAL, CLEAN, Batch, kl
from harness.errors import HarnessError

_TARGETS, _LATEST = "self_adaptive.targets", "self_adaptive.latest"


@dataclass(frozen=True)
class SelfAdaptive:
    """`w CE(f(x), t) + beta KL(f(x) || f(x*))` with a soft target t per training image.

    Huang et al., 2020 (arXiv:2002.10319), algorithm 1; `baselines.md` section 7. A target starts
    as the label. From `first_epoch` on each step moves it once, `t <- m t + (1 - m) f(x)`, and
    weighs the image by its largest entry, relative to the batch's mean. The final output moves the
    targets; auxiliary ones learn the same.

    Args:
        beta: weight of the agreement.
        target_momentum: m, in [0, 1].
        first_epoch: 1-based first epoch with moving targets, in a run of `run_length` epochs;
            before it the targets are the labels.
        run_length: epochs of the authors' run; a shorter one starts at the same fraction.
    """

    beta: float = 6.0
    target_momentum: float = 0.9
    first_epoch: int = 70
    run_length: int = 100

    is_alone = False

    def __post_init__(self) -> None:
        if not 0 <= self.target_momentum <= 1:
            raise HarnessError(f"target_momentum must lie in [0, 1] but is {self.target_momentum}.")

    @property
    def needs(self) -> frozenset[str]:
        """Which images it looks at."""
        return frozenset({CLEAN, ADVERSARIAL})

    def __call__(self, batch: Batch, k: int) -> Tensor:
        """[N], the loss of output k."""
        targets = self._targets(batch)
        confidence = targets.max(1).values
        surprise = -(targets * batch.clean.training(k).log_softmax(1)).sum(1)
        agreement = kl(batch.clean.scaled(k), batch.adversarial.scaled(k))
        return confidence / confidence.mean() * surprise + self.beta * agreement

    def _targets(self, batch: Batch) -> Tensor:
        """[N, K], moved by the first call of a step and read by every later one."""
        belief = batch.clean.scaled(0).detach().softmax(1)
        if batch.epoch_of(self.run_length) < self.first_epoch:
            return functional.one_hot(batch.labels, belief.shape[1]).to(belief)
        memory = batch.memory
        every = memory.get(
            _TARGETS, lambda: functional.one_hot(memory.labels, belief.shape[1]).to(belief)
        )
        places = batch.indices.to(every.device)
        former = every[places]
        moved = self.target_momentum * former + (1 - self.target_momentum) * belief
        now = torch.tensor([batch.epoch, batch.step], device=every.device)
        is_first = (memory.get(_LATEST, lambda: torch.zeros_like(now)) != now).any()
        targets = torch.where(is_first, moved, former)  # no branch: a GPU would have to wait
        memory.put(_TARGETS, every.index_copy(0, places, targets))
        memory.put(_LATEST, now)
        return targets
