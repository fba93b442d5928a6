"""One attack's view of a subject: which model it differentiates, and which has the last word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from harness.attacks.geometry import Ball
from harness.attacks.search import ROOM, Confirm, Guides, Search
from harness.attacks.streams import Streams
from harness.attacks.surface_text import surface_named
from harness.attacks.surfaces import Surface
from harness.evaluation.patience import check_time
from harness.evaluation.randomised import RandomHandle
from harness.evaluation.subject import Subject, searched
from harness.identity import Job
from harness.models.incremental import Neighbourhood, neighbourhood
from harness.outputs import Model


@dataclass(frozen=True)
class Aids:
    """What some attacks use besides the model.

    Args:
        surrogates: other models by the start of their digest.
        guides: training images, for attacks that need them.
    """

    surrogates: Mapping[str, Model] = field(default_factory=dict)
    guides: Guides | None = None


NO_AIDS = Aids()


def search_of(
    job: Job,
    subject: Subject,
    aids: Aids,
    images: Tensor,
    labels: Tensor,
    indices: Sequence[int],
    room: int = ROOM,
) -> Search:
    """A search on one batch, at the precision of the job.

    Where a copy of the model is differentiated, the model as loaded is asked about every wrong
    decision inside the ball, and nothing else breaks an image. A gate that follows its own argmax
    is never searched in bfloat16: rounding makes it choose other classes, and attacks lose images
    by that (`docs/performance.md`). Queries of windows recompute what a window reaches, where the
    copy allows it; not on a GPU, where nobody has measured it yet.

    Args:
        job: what is run.
        subject: as loaded.
        aids: surrogates and training images.
        images: [N, C, H, W] in [0, 1].
        labels: [N] int64.
        indices: of the images in the test split.
        room: rows of a pass that runs of the attack may share; a random model's draws follow the
            order of its passes, so its runs share none.

    Raises:
        HarnessError: the copy is not equal to the model, or the surface is not exposed.
    """
    chosen = searched(subject, "folded" if job.precision == "mixed" else job.precision, images)
    if chosen is not subject:
        images = images.contiguous(memory_format=torch.channels_last)
    confirm, outside = _last_word(job, subject, chosen, labels, indices)
    models, on_cpu = (subject.model, *aids.surrogates.values()), images.device.type == "cpu"
    rough = None
    if job.precision == "mixed" and chosen is not subject and not subject.capabilities.select:
        rough = _surface(job, searched(subject, "mixed", images), aids)
    return Search(
        _surface(job, chosen, aids),
        Ball.around(images, job.threat),
        labels,
        Streams(job.seed, job.attack.hash, indices),
        guides=aids.guides,
        confirm=confirm,
        confirms_outside=outside,
        rough=rough,
        local=partial(_watched, chosen.model.module) if chosen is not subject and on_cpu else None,
        room=1 if any(isinstance(one, RandomHandle) for one in models) else room,
    )


@dataclass(frozen=True)
class _Watched:
    """A neighbourhood under the time limit that every other pass is under."""

    known: Neighbourhood

    def logits(self, candidates: Tensor, of: Tensor, corners: Tensor, side: int) -> Tensor:
        """As the neighbourhood's."""
        check_time()
        return self.known.logits(candidates, of, corners, side)

    def accept(self, rows: Tensor) -> None:
        """As the neighbourhood's."""
        self.known.accept(rows)

    def take(self, kept: Tensor) -> None:
        """As the neighbourhood's."""
        self.known.take(kept)


def _watched(network: nn.Module, images: Tensor) -> _Watched | None:
    known = neighbourhood(network, images)
    return None if known is None else _Watched(known)


def _surface(job: Job, subject: Subject, aids: Aids) -> Surface:
    return surface_named(
        job.attack.surface,
        subject.model,
        subject.capabilities,
        subject.training_loss,
        aids.surrogates,
    )


def _last_word(
    job: Job, subject: Subject, chosen: Subject, labels: Tensor, indices: Sequence[int]
) -> tuple[Confirm | None, bool]:
    """Who is asked about a wrong decision, and whether outside the ball too."""
    if isinstance(subject.model, RandomHandle):
        subject.model.reseed(job.seed, job.attack.hash, *indices)
        return subject.model.confirm(labels), True
    if chosen is subject:
        return None, False
    return lambda candidates: subject.model(candidates).logits, False
