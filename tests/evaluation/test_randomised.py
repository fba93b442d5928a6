"""Models that draw random numbers: passes repeat, a majority decides."""

import foreign_models as foreign
import numpy as np
import pytest
import torch
from foreign_models import Around, pictures
from torch import nn

from harness.attacks.attack import attack_spec, run_attack
from harness.attacks.geometry import Ball
from harness.attacks.search import Search, is_right
from harness.attacks.streams import Streams
from harness.attacks.surface_text import surface_named
from harness.evaluation.randomised import (
    DRAWS,
    RandomHandle,
    is_broken,
    is_undetermined,
)
from harness.evaluation.third_party import opened, probe
from harness.outputs import SoftSelect
from harness.statistics import wilson
from harness.threat import ThreatModel


class Biased(nn.Module):
    """Decides class 1 with a given chance, else class 0, whatever the image."""

    def __init__(self, chance, draw=lambda: torch.rand(()).item()):
        super().__init__()
        self.chance, self.draw, self.passes = chance, draw, 0

    def forward(self, images):
        self.passes += 1
        number = int(self.draw() < self.chance)
        return torch.eye(3)[number].expand(len(images), 3) + 0 * images.mean((1, 2, 3))[:, None]


def noisy():
    return RandomHandle(Around(lambda self, x: self.net(x + 0.3 * torch.randn_like(x))), 10)


def test_a_key_repeats_its_passes_and_no_two_passes_are_the_same():
    handle, images = noisy(), pictures(1)
    handle.reseed(0, "attack", 7)
    first = [handle(images).logits for _ in range(3)]
    handle.reseed(0, "attack", 7)
    again = [handle(images).logits for _ in range(3)]
    handle.reseed(0, "attack", 8)
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    different = {tuple(one.flatten().tolist()) for one in [*first, handle(images).logits]}
    assert len(different) == 4


def test_an_image_draws_alone_and_its_copies_change_nothing():
    handle, images = noisy(), pictures(3)
    handle.reseed("a")
    together = handle(images).logits
    handle.reseed("a")
    alone = torch.cat([handle(images[i : i + 1]).logits for i in range(3)])
    assert torch.equal(together, alone)
    handle.reseed("a")
    assert torch.equal(handle(images[:1]).logits, together[:1])


def test_passes_leave_the_global_generators_alone():
    handle = noisy()
    torch.manual_seed(4), np.random.seed(4)
    wanted = torch.rand(1), np.random.rand()
    torch.manual_seed(4), np.random.seed(4)
    handle.votes(pictures(1), draws=3)
    assert (torch.rand(1), np.random.rand()) == wanted


def test_numpy_and_a_generator_of_the_module_s_own_are_reseeded_too():
    own = Biased(0.5)
    own.source = torch.Generator()
    own.draw = lambda: torch.rand((), generator=own.source).item()
    for module in (own, Biased(0.5, np.random.rand)):
        handle, votes = RandomHandle(module, 3), []
        for _ in range(2):
            handle.reseed("a")
            handle(pictures(1))
            votes.append(handle.votes(pictures(1)).tolist())
        assert votes[0] == votes[1]
        assert 30 < votes[0][0][0] < 70


def test_votes_count_one_decision_per_draw_whatever_was_asked_before():
    handle, images = noisy(), pictures(3)
    votes = handle.votes(images)
    assert votes.shape == (3, 10)
    assert votes.sum(1).tolist() == [DRAWS] * 3
    handle(images)
    assert torch.equal(handle.votes(images.flip(0)).flip(0), votes)
    certain = RandomHandle(Biased(1.0), 3).votes(images[:1])
    assert certain.tolist() == [[0, DRAWS, 0]]


def test_an_answer_that_is_not_finite_votes_for_nothing():
    class Broken(nn.Module):
        def forward(self, images):
            return torch.full((len(images), 3), torch.nan)

    handle = RandomHandle(Broken(), 3)
    assert handle.votes(pictures(1), draws=5).tolist() == [[0, 0, 0]]
    assert handle.is_broken(pictures(3), torch.tensor([0, 1, 2])).all()
    settled = handle.confirm(torch.tensor([0]))(pictures(1))
    assert not is_right(settled, torch.tensor([0])).any()  # not even class 0, which wins ties


@pytest.mark.parametrize(
    ("right", "finite", "broken", "undetermined"),
    [(40, 40, True, False), (41, 41, False, True), (50, 50, False, False), (40, 60, False, False)],
)
def test_answers_that_are_not_finite_count_as_one_wrong_class(right, finite, broken, undetermined):
    votes = torch.tensor([[right, finite - right]]).float()
    label = torch.tensor([0])
    assert is_broken(votes, label).tolist() == [broken]
    assert is_undetermined(votes, label).tolist() == [undetermined]


@pytest.mark.parametrize(
    ("right", "rival", "broken", "undetermined"),
    [
        (39, 61, True, False),  # wilson(39, 100) ends at 0.488
        (40, 60, True, False),  # 0.498
        (41, 59, False, True),  # 0.508
        (49, 51, False, True),
        (50, 50, False, False),  # a tie goes to the lowest index, here the label
        (51, 49, False, False),
        (30, 25, False, False),  # surely below one half, but still the most frequent
    ],
)
def test_only_a_majority_that_is_surely_wrong_breaks_an_image(right, rival, broken, undetermined):
    rest = DRAWS - right - rival
    votes = torch.tensor([[right, rival, rest // 2, rest - rest // 2]]).float()
    label = torch.tensor([0])
    assert is_broken(votes, label).tolist() == [broken]
    assert is_undetermined(votes, label).tolist() == [undetermined]
    assert (wilson(right, DRAWS)[1] < 0.5) == (right <= 40)


def attacked(handle, label, *, votes):
    images, labels = pictures(1), torch.tensor([label])
    capabilities = probe(Around(foreign.quantised), pictures(), 10)
    surface = surface_named("logits", handle, capabilities)
    spec = attack_spec("pgd", steps=5)
    handle.reseed(0, spec.hash, 0)
    search = Search(
        surface,
        Ball.around(images, ThreatModel.parse("linf", "8/255")),
        labels,
        Streams(0, spec.hash, [0]),
        confirm=handle.confirm(labels) if votes else None,
        confirms_outside=True,
    )
    run_attack(spec, search)
    return search


def test_a_lucky_pass_breaks_nothing_and_a_sure_majority_does():
    lucky = RandomHandle(Biased(0.7), 3)
    assert attacked(lucky, 1, votes=False).broken.tolist() == [True]
    assert attacked(lucky, 1, votes=True).broken.tolist() == [False]
    assert attacked(lucky, 0, votes=True).broken.tolist() == [True]
    undetermined = RandomHandle(Biased(0.5), 3)
    assert not attacked(undetermined, 0, votes=True).broken.any()
    assert not attacked(undetermined, 1, votes=True).broken.any()


def test_is_broken_of_a_handle_is_that_of_its_votes():
    handle, images = RandomHandle(Biased(0.9), 3), pictures(2)
    assert handle.is_broken(images, torch.tensor([0, 1])).tolist() == [True, False]


def test_a_random_model_with_a_quantiser_can_be_softened():
    def answer(self, images):
        return self.net((images + 0.1 * torch.randn_like(images)).mul(15).round().div(15))

    model = Around(answer)
    capabilities = probe(model, pictures(), 10)
    assert (capabilities.hard, capabilities.is_random) == (("round",), True)
    handle = RandomHandle(opened(model, capabilities), 10, has_gate=True)
    images = pictures(2).requires_grad_()
    found = handle(images, select=SoftSelect(1.0)).logits
    (gradient,) = torch.autograd.grad(found.sum(), images)
    assert gradient.abs().flatten(1).amax(1).min() > 0
