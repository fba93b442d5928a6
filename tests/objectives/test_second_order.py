"""S2O: check cases (`baselines.md` sections 12 and 17), the guard, scale, gradients, bases."""

import pytest
import torch
from given_logits import ADVERSARIAL, CLEAN, CLEAN_AUXILIARY, LABELS, batch_of
from torch.nn import functional

from harness.catalogue import DEFENSES
from harness.errors import HarnessError
from harness.objectives.second_order import SecondOrder, class_relations

CLEAN_RELATIONS = [[0.2, 0.5, 0.3], [0.266667, 0.2, 0.533333], [0, 0.8, 0.2]]
ADVERSARIAL_RELATIONS = [[0.2, 0.371429, 0.428571], [0, 0.2, 0.8], [0, 0.8, 0.2]]


@pytest.mark.parametrize(
    ("logits", "expected"), [(CLEAN, CLEAN_RELATIONS), (ADVERSARIAL, ADVERSARIAL_RELATIONS)]
)
def test_relations_are_those_of_the_check_cases(logits, expected):
    wanted = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(class_relations(logits), wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("base", "value"), [("pgd_at", 0.971000), ("trades", 1.614393)])
def test_the_loss_of_the_defense_is_that_of_the_check_case(base, value):
    for name, settings in (("s2o", {"base": base}), (f"{base}+s2o", {})):
        defense, _ = DEFENSES[name].compose(settings)
        assert defense.loss(batch_of()).item() == pytest.approx(value, abs=1e-6)


def test_soft_terms_are_those_of_the_check_case():
    found = SecondOrder(target_share=1.0)(batch_of(), 0).mean()
    assert found.item() == pytest.approx((0.688758 + 0.718362) / 2, abs=1e-6)


def test_mass_on_the_own_class_is_a_setting_and_rows_sum_to_one():
    relations = class_relations(CLEAN, own_class_mass=0.02)
    assert relations.diagonal().tolist() == pytest.approx([0.02] * 3)
    assert relations.sum(1).tolist() == pytest.approx([1.0] * 3)
    torch.testing.assert_close(
        relations[0, 1:], torch.tensor([0.98 * 0.625, 0.98 * 0.375]).double()
    )


def test_relations_do_not_depend_on_the_scale_of_the_logits():
    torch.testing.assert_close(class_relations(15 * CLEAN), class_relations(CLEAN))


@pytest.mark.parametrize(
    "logits",
    [torch.zeros(4, 5), torch.ones(4, 5), torch.eye(5)[:2]],
    ids=["no logits", "equal logits", "classes that never meet"],
)
def test_a_row_whose_other_classes_are_alike_is_spread_evenly(logits):
    relations = class_relations(logits)
    assert relations.isfinite().all()
    even = 0.2 * torch.eye(5) + 0.2 * (1 - torch.eye(5))
    torch.testing.assert_close(relations[0], even[0])
    assert relations.sum(1).tolist() == pytest.approx([1.0] * 5)


def test_no_gradient_passes_through_the_relations():
    logits = CLEAN.clone().requires_grad_()
    loss = SecondOrder(on="adversarial", target_share=1.0)(batch_of(logits), 0)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    targets = torch.tensor(CLEAN_RELATIONS, dtype=torch.float64)[LABELS]
    expected = (CLEAN.softmax(1) - targets) / 2
    torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=0)


def test_every_output_has_relations_of_its_own():
    batch = batch_of(auxiliary=True)
    found = SecondOrder(on="clean", target_share=1.0)(batch, 1)
    halves = []
    for logits in (CLEAN_AUXILIARY[0], batch.adversarial.deployed(1)):
        targets = class_relations(logits)[LABELS]
        halves.append(functional.kl_div(logits.log_softmax(1), targets, reduction="none").sum(1))
    torch.testing.assert_close(found, sum(halves) / 2)


def test_it_says_that_one_image_alone_does_not_have_its_value():
    assert SecondOrder.is_alone is False


@pytest.mark.parametrize("name", ["s2o", "pgd_at+s2o"])
def test_a_share_that_is_asked_for_replaces_the_authors(name):
    defense, _ = DEFENSES[name].compose({"target_share": 0.5})
    assert defense.objective.target_share == 0.5


def test_detaching_and_beta_of_trades_are_kept():
    defense, _ = DEFENSES["trades+s2o"].compose({"beta": 2.0, "detach_clean": True})
    assert defense.objective == SecondOrder("clean", 2.0, 0.3, detach_clean=True)
    logits = CLEAN.clone().requires_grad_()
    plain = SecondOrder("clean", 0.0, 0.3)(batch_of(logits), 0).sum()
    detached = defense.objective(batch_of(logits), 0).sum()
    first, second = (torch.autograd.grad(loss, logits)[0] for loss in (plain, detached))
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize("base", ["mart", "alp", "standard", "sat", "s2o"])
def test_another_loss_is_refused_with_the_reason(base):
    with pytest.raises(HarnessError, match=r"PGD-AT and TRADES alone.*Choose base=pgd_at"):
        DEFENSES["s2o"].compose({"base": base})


@pytest.mark.parametrize("setting", ["target_share", "own_class_mass"])
def test_more_than_everything_cannot_be_shared(setting):
    with pytest.raises(HarnessError, match=rf"{setting} must lie in \[0, 1\] but is 1.5"):
        DEFENSES["s2o"].compose({setting: 1.5})
