"""Contrastive distillation against `frpat.md` section 10 and a step written with loops."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from harness.errors import HarnessError
from harness.regularisers.contrastive_distillation import (
    WIDTH,
    ContrastiveDistillation,
    noise_contrast,
)

IMAGES = 7
NAMES = ("crd_student", "crd_teacher")


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def extras():
    torch.manual_seed(3)
    widths = zip(NAMES, (3, 5), strict=True)
    return {name: nn.Linear(width, WIDTH, dtype=torch.float64) for name, width in widths}


@pytest.fixture
def batch(answered, extras):
    """Images 4 and 1 of seven, with banks of random unit vectors."""
    batch = answered(
        [0, 1],
        size=IMAGES,
        indices=[4, 1],
        adversarial=(None, random(2, 3)),
        teacher=(None, random(2, 5, seed=1)),
        extras=extras,
    )
    for seed, name in enumerate(NAMES, start=10):
        bank = functional.normalize(random(IMAGES, WIDTH, seed=seed), dim=1)
        batch.memory.put(f"{name}_bank", bank)
    return batch


def units(batch):
    views = {"crd_student": batch.adversarial.features, "crd_teacher": batch.teacher.features}
    found = {name: batch.extras[name](features).detach() for name, features in views.items()}
    return {name: rows / rows.norm(dim=1, keepdim=True) for name, rows in found.items()}


def by_the_letter(batch, drawn, temperature, normalisers=None):
    """Both directions with scores, not logarithms: (loss, Z by name)."""
    total, found = 0.0, {}
    for name, other in (NAMES, NAMES[::-1]):
        bank = batch.memory.values[f"{other}_bank"]
        raw = []
        for row, own, others in zip(units(batch)[name], batch.indices, drawn, strict=True):
            raw.append([math.exp(float(row @ bank[i]) / temperature) for i in [own, *others]])
        mean = sum(map(sum, raw)) / sum(map(len, raw))
        z = found[name] = normalisers[name] if normalisers else mean * IMAGES
        noise = len(drawn[0]) / IMAGES
        for positive, *negatives in raw:
            total -= math.log(positive / z / (positive / z + noise)) / len(raw)
            total -= sum(math.log(noise / (s / z + noise)) for s in negatives) / len(raw)
    return total, found


def drawn_of(loss, batch):
    state = batch.generator.get_state()
    drawn = loss._draw(batch)
    batch.generator.set_state(state)
    return drawn


def test_the_term_is_that_of_the_check_case():
    positive, negatives = torch.tensor([2.0]).log(), torch.tensor([[0.5, 1.0]]).log()
    assert noise_contrast(positive, negatives, 4).item() == pytest.approx(2.014903, abs=1e-6)


def test_a_step_is_that_of_the_formula_in_both_directions(batch):
    loss = ContrastiveDistillation(weight=0.8, negatives=4)
    expected, _ = by_the_letter(batch, drawn_of(loss, batch), 0.07)
    assert loss(batch).item() == pytest.approx(0.8 * expected, rel=1e-9)


def test_the_normaliser_is_that_of_the_first_batch_for_ever(batch):
    loss = ContrastiveDistillation(weight=1.0, negatives=4, temperature=0.5)
    _, first = by_the_letter(batch, drawn_of(loss, batch), 0.5)
    loss(batch)
    expected, own = by_the_letter(batch, drawn_of(loss, batch), 0.5, first)
    _, changed = by_the_letter(batch, drawn_of(loss, batch), 0.5)
    assert own == first != changed
    assert loss(batch).item() == pytest.approx(expected, rel=1e-9)


def test_banks_keep_their_momentum_and_change_for_the_images_of_the_batch_alone(batch):
    before = dict(batch.memory.values)
    ContrastiveDistillation(momentum=0.75, negatives=4)(batch)
    for name in NAMES:
        old, new = before[f"{name}_bank"], batch.memory.values[f"{name}_bank"]
        for row, index in zip(units(batch)[name], (4, 1), strict=True):
            mixed = 0.75 * old[index] + 0.25 * row
            torch.testing.assert_close(new[index], mixed / mixed.norm())
        others = [0, 2, 3, 5, 6]
        assert torch.equal(new[others], old[others])
        assert not new.requires_grad


def test_fresh_banks_hold_a_unit_vector_per_training_image(batch):
    batch.memory.values.clear()
    batch.extras = {name: module.float() for name, module in batch.extras.items()}
    for kind in ("adversarial", "teacher"):
        answers = batch.__dict__[kind]
        answers._outputs.__dict__["features"] = answers.features.float()
    ContrastiveDistillation(negatives=4)(batch)
    first, second = (batch.memory.values[f"{name}_bank"] for name in NAMES)
    assert first.shape == second.shape == (IMAGES, WIDTH)
    torch.testing.assert_close(first.norm(dim=1), torch.ones(IMAGES))
    assert not torch.isclose(first[0], second[0]).any()


def test_negatives_are_never_the_image_itself_and_every_other_image_may_be_one(batch):
    drawn = ContrastiveDistillation()._draw(batch)
    assert drawn.shape == (2, IMAGES - 1)  # no more than there are other images
    seen = [set(), set()]
    for _ in range(40):
        for row, places in zip(ContrastiveDistillation()._draw(batch), seen, strict=True):
            places.update(row.tolist())
    assert seen == [{0, 1, 2, 3, 5, 6}, {0, 2, 3, 4, 5, 6}]


def test_the_gradient_reaches_the_student_and_both_projections_alone(answered, extras):
    student, teacher = random(2, 3).requires_grad_(), random(2, 5).requires_grad_()
    batch = answered(
        [0, 1], size=IMAGES, adversarial=(None, student), teacher=(None, teacher), extras=extras
    )
    for name in NAMES:
        batch.memory.put(f"{name}_bank", functional.normalize(random(IMAGES, WIDTH), dim=1))
    ContrastiveDistillation()(batch).backward()
    assert teacher.grad is None
    for gradient in (student.grad, *(module.weight.grad for module in extras.values())):
        assert gradient.abs().max() > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"negatives": 0}, "at least 1"),
        ({"temperature": 0.0}, "above 0"),
        ({"momentum": 1.5}, r"\[0, 1\]"),
    ],
)
def test_settings_without_meaning_are_refused(settings, message):
    with pytest.raises(HarnessError, match=message):
        ContrastiveDistillation(**settings)
