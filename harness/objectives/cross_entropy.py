"""Cross-entropy on clean or on adversarial images: standard training and PGD-AT."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from harness.batch import ADVERSARIAL, CLEAN, Batch
from harness.errors import unknown_name


@dataclass(frozen=True)
class CrossEntropy:
    """`CE(f(x), y)` on the named images.

    Args:
        on: `clean` (standard training) or `adversarial` (Madry et al., 2018, equation 2.1).
    """

    on: str = ADVERSARIAL

    def __post_init__(self) -> None:
        if self.on not in {CLEAN, ADVERSARIAL}:
            raise unknown_name("kind of image", self.on, [CLEAN, ADVERSARIAL])

    @property
    def needs(self) -> frozenset[str]:
        """Which images it looks at."""
        return frozenset({self.on})

    def __call__(self, batch: Batch, k: int) -> Tensor:
        """[N], the loss of output k."""
        answers = batch.clean if self.on == CLEAN else batch.adversarial
        return functional.cross_entropy(answers.training(k), batch.labels, reduction="none")
