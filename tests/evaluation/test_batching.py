"""Batches: halved where memory runs out, chosen by what one padding of images takes."""

from __future__ import annotations

import pytest
import torch
from evaluated_subjects import (
    COUNT,
    bits,
    convolution,
    job_of,
    labelled_by,
    random_pixels,
    run,
    split_of,
    subject_of,
)
from torch import Tensor, nn

from harness.attacks.attack import attack_spec
from harness.evaluation import batching
from harness.evaluation.batching import fitting, in_batches, most_that_fit
from harness.evaluation.evaluate import evaluate
from harness.identity import CLEAN, SHARD, Runtime
from harness.threat import ThreatModel

SPECS = [
    CLEAN,
    attack_spec("pgd", steps=3, restarts=2),
    attack_spec("apgd_ce", steps=4),
    attack_spec("apgd_t", steps=3, targets=6),
    attack_spec("square", queries=12),
]
GIB = 1024**3


class Crowded(nn.Module):
    """Memory for so many images; with more it runs out in the middle of an attack."""

    def __init__(self, module: nn.Module, most: int, after: int = 4) -> None:
        super().__init__()
        self.module, self.most, self.passes, self.after = module, most, 0, after
        self.full: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.passes += 1
        if len(images) > self.most and self.passes % self.after == 0:
            self.full.append(len(images))
            raise torch.OutOfMemoryError("simulated")
        return self.module(images)


@pytest.fixture(scope="module")
def data():
    module, pixels = convolution(), random_pixels(3, 16, 16)
    return split_of(pixels, labelled_by(module, pixels))


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.label)
@pytest.mark.parametrize("after", [1, 2, 3])
def test_halved_batches_change_no_bit_and_leave_nothing_of_what_broke_off(spec, after, data):
    job = job_of(spec, threat=ThreatModel.parse("linf", "2/255"))
    crowded = Crowded(convolution(), most=16, after=after)
    whole = bits(run(job, subject_of(convolution()), data))
    halved = bits(run(job, subject_of(crowded), data))

    assert crowded.full
    assert halved == whole
    assert (halved.forwards, halved.backwards) == (whole.forwards, whole.backwards)


def test_every_image_is_kept_once_however_often_its_batch_was_repeated(data):
    subject = subject_of(Crowded(convolution(), most=16, after=3))
    job = job_of("pgd", steps=3, threat=ThreatModel.parse("linf", "2/255"))
    kept: list[int] = []
    evaluate(
        job,
        subject,
        data,
        torch.ones(COUNT, dtype=torch.bool),
        Runtime(),
        keep=lambda positions, *_: kept.extend(positions.tolist()),
    )
    assert kept == list(range(COUNT))


def test_only_one_padded_batch_too_many_ends_it(data):
    crowded = Crowded(convolution(), most=0, after=1)
    with pytest.raises(torch.OutOfMemoryError):
        run(job_of("fgsm"), subject_of(crowded), data)
    assert crowded.full == [64, 48, 16]  # 50 images, 48 and 16, padded


def test_images_that_parity_couples_are_never_parted(data):
    crowded = Crowded(convolution(), most=16, after=1)
    job = job_of(attack_spec("apgd_ce", steps=4, parity=True))
    with pytest.raises(torch.OutOfMemoryError):
        run(job, subject_of(crowded), data)
    assert crowded.full == [64]


def test_batches_stay_small_from_where_memory_ran_out():
    asked: list[int] = []

    def attempt(chosen: Tensor, rows: int) -> int:
        asked.append(len(chosen))
        assert rows >= len(chosen)
        if len(chosen) > 40:
            raise torch.OutOfMemoryError("simulated")
        return int(chosen.sum())

    done = list(in_batches(torch.arange(250), 100, attempt))

    assert asked == [100, 48, *[16] * 15, 10]
    assert torch.cat([chosen for chosen, _ in done]).tolist() == list(range(250))
    assert sum(total for _, total in done) == sum(range(250))


def test_few_images_are_tried_again_with_smaller_passes_before_memory_counts_as_too_small():
    asked: list[tuple[int, int]] = []

    def attempt(chosen: Tensor, rows: int) -> None:
        asked.append((len(chosen), rows))
        if rows > 16:
            raise torch.OutOfMemoryError("simulated")

    assert len(list(in_batches(torch.arange(12), 800, attempt))) == 1
    assert asked == [(12, 800), (12, 16)]


@pytest.mark.parametrize(("batch_size", "most"), [(250, 80), (40, 48), (16, 16)])
def test_runs_that_share_passes_fill_no_pass_beyond_the_batch_size_and_100_rows(
    batch_size, most, data
):
    """Sixteen images in nine runs: 5 runs at once, 2 or 3, or one after the other; padded."""
    sizes: list[int] = []

    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = convolution()

        def forward(self, images: Tensor) -> Tensor:
            sizes.append(len(images))
            return self.module(images)

    job = job_of("pgd_t", steps=3, targets=9, threat=ThreatModel.parse("linf", "1/255"))
    sixteen = torch.arange(COUNT) < 16
    run(job, subject_of(Counting()), data, attackable=sixteen, batch_size=batch_size)
    assert max(sizes) == most


def test_an_error_of_another_kind_is_not_taken_for_want_of_memory():
    def attempt(*_: object) -> int:
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        list(in_batches(torch.arange(32), 32, attempt))


@pytest.mark.parametrize(
    ("free", "taken", "workers", "images"),
    [
        (128 * GIB, GIB // 4, 1, 8 * SHARD),  # runs of a whole slice that share passes
        (8 * GIB, GIB, 1, 64),
        (8 * GIB, GIB, 2, 32),  # half of half of it each
        (GIB, 8 * GIB, 1, 16),  # never less than one padding
        (GIB, 0, 1, 8 * SHARD),
    ],
)
def test_a_batch_takes_half_of_the_memory_that_is_free(free, taken, workers, images):
    assert most_that_fit(free, taken, workers) == images


def test_on_the_cpu_nothing_is_measured(monkeypatch):
    monkeypatch.setattr(batching, "_taken", None)
    assert fitting(subject_of(convolution()).model, torch.rand(4, 3, 16, 16)) == SHARD


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_asked_what_a_padding_of_images_takes():
    subject = subject_of(convolution().cuda())
    images = torch.rand(20, 3, 16, 16, device="cuda")
    assert batching._taken(subject.model, images[:16]) > images[:16].nbytes
    assert fitting(subject.model, images) == 8 * SHARD
