"""Our side: jobs as `harness eval` runs them, and the last iterate of PGD, which peers report."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.setting import Compared
from harness.attacks.attack import run_attack
from harness.evaluation.evaluate import evaluate
from harness.evaluation.exact import compute_exactly
from harness.evaluation.searching import NO_AIDS, search_of
from harness.identity import CORRECT, AttackSpec, Job, Outcome, Runtime


def job_of(model: Compared, spec: AttackSpec, precision: str) -> Job:
    """An attack on the first images, as one job."""
    return Job(
        checkpoint=model.record.digest,
        dataset=model.record.dataset,
        images=model.data.identity,
        threat=model.record.threat,
        attack=spec,
        population=CORRECT,
        seed=model.seed,
        precision=precision,
        first=0,
        last=model.count,
    )


def attacked(model: Compared, spec: AttackSpec, precision: str, chosen: Tensor) -> Outcome:
    """Attack some of the images, verification included.

    Args:
        model: with its images.
        spec: the attack.
        precision: what the search differentiates.
        chosen: [count] bool.
    """
    compute_exactly()
    runtime = Runtime(model.device, model.batch)
    return evaluate(job_of(model, spec, precision), model.subject, model.data, chosen, runtime)


def last_iterate(model: Compared, spec: AttackSpec, precision: str) -> tuple[Tensor, int, int]:
    """Attack all images and let none go; the model as loaded judges the last iterates alone.

    Returns:
        [count] bool, whether it is wrong on them; forwards, that look included; backwards.
    """
    compute_exactly()
    images, labels, wrong = model.images, model.labels, []
    forwards, backwards = model.count, 0
    for first in range(0, model.count, model.batch):
        indices = range(first, min(first + model.batch, model.count))
        some, theirs = images[first : first + model.batch], labels[first : first + model.batch]
        job = job_of(model, spec, precision)
        search = search_of(job, model.subject, NO_AIDS, some, theirs, indices)
        search.drops_broken, search.confirm = False, None
        run_attack(spec, search)
        with torch.no_grad():
            wrong.append(model.subject.model(search.last).logits.argmax(1) != theirs)
        forwards += int(search.forwards.sum())
        backwards += int(search.backwards.sum())
    return torch.cat(wrong), forwards, backwards


def bits(broken: Tensor) -> str:
    """Outcomes as a text of 0 and 1."""
    return "".join("1" if one else "0" for one in broken.tolist())
