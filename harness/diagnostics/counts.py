"""When a count among a few images is enough to call a share passed."""

from __future__ import annotations

from torch import Tensor

from harness.diagnostics.diagnostic import AMBER, GREEN, LEVEL, RED
from harness.diagnostics.examination import Examination, NotRun


def graded_share(count: int, total: int, *, amber: float, red: float | None = None) -> str:
    """State of a share; a threshold (in [0, 1]) must be passed by more than chance.

    Exact one-sided binomial test at 1 % against the threshold itself.
    """
    if red is not None and passes(count, total, red):
        return RED
    return AMBER if passes(count, total, amber) else GREEN


def passes(count: int, total: int, share: float) -> bool:
    """Whether a count of that many or more is below 1 % likely where the true share is `share`."""
    from scipy.special import bdtrc  # noqa: PLC0415 - scipy takes a while to import

    if total == 0 or count <= share * total:
        return False
    return float(bdtrc(count - 1, total, share)) < LEVEL


def as_percent(mask: Tensor, among: Tensor) -> float:
    """Percent of the images `among` [N] bool that `mask` [N] bool holds; 0 of none."""
    return 100.0 * int((mask & among).sum()) / max(1, int(among.sum()))


def some_right(examination: Examination) -> Tensor:
    """[N] bool, the clean-correct images.

    Raises:
        NotRun: there is none.
    """
    if not examination.right.any():
        raise NotRun("no image is classified correctly as it is: there is nothing to attack.")
    return examination.right
