"""Jobs on random models: reproducible, judged by majority, never by one lucky pass."""

import pytest
import torch
from evaluated_subjects import job_of, random_pixels, run, split_of
from torch import nn

from harness.attacks.attack import attack_spec
from harness.errors import ModelError
from harness.evaluation.randomised import RandomHandle
from harness.evaluation.subject import Subject
from harness.identity import CLEAN, Capabilities
from harness.threat import ThreatModel


class Noisy(nn.Module):
    """Class 1 where the mean pixel, with noise, is above one half."""

    def __init__(self, deviation):
        super().__init__()
        self.deviation = deviation

    def forward(self, images):
        mean = images.mean(dim=(1, 2, 3)) - 0.5 + self.deviation * torch.randn(len(images))
        return torch.stack([-mean, mean], dim=1)


@pytest.fixture(scope="module")
def data():
    pixels = random_pixels(1, 4, 4)
    labels = (pixels.float().flatten(1).mean(1) / 255 > 0.5).long()
    return split_of(pixels, labels)


def subject(deviation):
    capabilities = Capabilities(classes=2, is_random=True)
    return Subject(RandomHandle(Noisy(deviation), 2), capabilities)


SPEC = attack_spec("pgd", steps=3, loss="margin", eot=3)
NOTHING = ThreatModel.parse("linf", "0")


def test_the_same_job_has_the_same_bits_and_numbers_in_any_batch(data):
    job = job_of(SPEC, 0, 5, threat=ThreatModel.parse("linf", "8/255"))
    first, second = (run(job, subject(0.05), data, batch_size=size) for size in (1, 7))
    assert first.broken == second.broken
    assert str(first.columns) == str(second.columns)
    assert any(first.broken)


def test_the_global_random_numbers_change_nothing(data):
    job = job_of(SPEC, 0, 5, threat=ThreatModel.parse("linf", "8/255"))
    torch.manual_seed(1)
    first = run(job, subject(0.05), data)
    torch.manual_seed(2)
    assert run(job, subject(0.05), data).broken == first.broken


def test_without_room_to_move_no_lucky_pass_breaks_an_image(data):
    clean = run(job_of(CLEAN, 0, 8, threat=NOTHING), subject(0.1), data)
    attack = attack_spec("pgd", steps=4, loss="margin")
    outcome = run(job_of(attack, 0, 8, threat=NOTHING), subject(0.1), data)
    right = [not wrong for wrong in clean.broken]
    assert sum(right) > 4
    assert not any(broken for broken, kept in zip(outcome.broken, right, strict=True) if kept)


def test_the_clean_decision_is_the_majoritys(data):
    quiet = run(job_of(CLEAN, 0, 12, threat=NOTHING), subject(0.0), data)
    noisy = run(job_of(CLEAN, 0, 12, threat=NOTHING), subject(0.02), data)
    assert not any(quiet.broken)
    margins = [abs(m) for m in quiet.columns["margin_final"]]
    assert margins  # votes: one hundred to nothing without noise
    assert set(margins) == {100.0}
    assert sum(noisy.broken) < 4


class Unfinished(Noisy):
    """Answers with NaN where the first pixel is bright."""

    def forward(self, images):
        bright = images[:, :1, 0, 0] > 0.5
        return super().forward(images).masked_fill(bright, torch.nan)


def test_answers_without_numbers_fail_a_random_model_as_they_fail_any_other(data):
    capabilities = Capabilities(classes=2, is_random=True)
    unfinished = Subject(RandomHandle(Unfinished(0.01), 2), capabilities)
    with pytest.raises(ModelError, match="NaN or infinite logits on clean images"):
        run(job_of(CLEAN, 0, 8, threat=NOTHING), unfinished, data)
