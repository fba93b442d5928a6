"""Boundary guidance: adversarial logits follow the logits of a clean network beside them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from harness.batch import ADVERSARIAL, CLEAN, TEACHER, Batch
from harness.errors import unknown_name

_INPUTS = {CLEAN: CLEAN, "adv": ADVERSARIAL}


@dataclass(frozen=True)
class BoundaryGuidance:
    """Mean square between the student's adversarial logits and the teacher's.

    LBGAT, Cui et al., 2021 (arXiv:2011.11164), equation 3 (`frpat.md` section 4): the mean over
    all N x K entries, without a weight of its own. Both sides are taken at the scale of training,
    so a student whose deployed logits are cosines can reach the teacher's. A student with
    auxiliary outputs is guided at each of them.

    Args:
        teacher_input: images that the teacher answers to: `clean`, as in the main text and the
            authors' code, or `adv`, as FRPAT's supplement prints it.
        detach: whether the teacher ignores the term; in the authors' code it learns from it too.
    """

    teacher_input: str = CLEAN
    detach: bool = False

    def __post_init__(self) -> None:
        if self.teacher_input not in _INPUTS:
            raise unknown_name("teacher input", self.teacher_input, _INPUTS)

    @property
    def needs(self) -> frozenset[str]:
        """Which images and players it looks at."""
        return frozenset({ADVERSARIAL, TEACHER})

    def __call__(self, batch: Batch) -> Tensor:
        """A scalar; its gradient reaches both networks, or the student alone."""
        answers = batch.teacher if self.teacher_input == CLEAN else batch.teacher_adversarial
        target = answers.scaled()
        if self.detach:
            target = target.detach()
        return batch.per_head(
            lambda k: functional.mse_loss(batch.adversarial.scaled(k), target), batch.adversarial
        )
