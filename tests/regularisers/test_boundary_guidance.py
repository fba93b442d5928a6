"""LBGAT against `frpat.md` section 10: composed losses, term by term."""

import pytest
import torch
from torch.nn import functional

from harness.batch import Answers
from harness.catalogue import DEFENSES
from harness.errors import HarnessError
from harness.objectives.agreement import Agreement
from harness.outputs import Outputs
from harness.regularisers.boundary_guidance import BoundaryGuidance

CLEAN = torch.tensor([[2, 0, -1], [0.5, 1, 0]], dtype=torch.float64)
ADVERSARIAL = torch.tensor([[1, 0.5, -0.5], [1, 0.2, 0]], dtype=torch.float64)
TEACHER = torch.tensor([[3, 0, -2], [0, 2, 0]], dtype=torch.float64)
MOVED = torch.tensor([[2, 1, -2], [0, 1, 1]], dtype=torch.float64)


@pytest.fixture
def batch(answered):
    kinds = {"clean": CLEAN, "adversarial": ADVERSARIAL, "teacher": TEACHER}
    kinds["teacher_adversarial"] = MOVED
    return answered([0, 1], **{kind: (logits, None) for kind, logits in kinds.items()})


def test_the_term_is_the_mean_square_over_all_entries(batch):
    assert BoundaryGuidance()(batch).item() == pytest.approx(1.79, abs=1e-9)


def test_the_teacher_s_own_loss_is_its_cross_entropy_on_the_clean_images(batch):
    composed, _ = DEFENSES["trades_lbgat"].compose({"beta": 0.0})
    assert (composed.loss(batch) - BoundaryGuidance()(batch)).item() == pytest.approx(
        0.147265, abs=1e-6
    )


def test_the_teacher_may_answer_to_adversarial_images_instead(batch):
    expected = (ADVERSARIAL - MOVED).square().sum().item() / 6
    found = BoundaryGuidance(teacher_input="adv")(batch).item()
    assert found == pytest.approx(expected, abs=1e-9)
    assert found != pytest.approx(1.79)


@pytest.mark.parametrize(
    ("defense", "settings", "total"),
    [
        ("trades_lbgat", {"beta": 0.0}, 1.937265),
        ("trades_lbgat", {"beta": 6.0}, 3.043050),
        ("pgd_at_lbgat", {}, 2.937981),
        ("pgd_at_lbgat_detach", {}, 2.937981),
    ],
)
def test_every_row_has_the_total_of_the_check_cases(defense, settings, total, batch):
    composed, _ = DEFENSES[defense].compose(settings)
    assert composed.loss(batch).item() == pytest.approx(total, abs=1e-6)


def test_relations_add_to_a_row_with_guidance(answered):
    features = torch.tensor([[1, 0.1], [0.2, 1]], dtype=torch.float64)
    kinds = {"clean": CLEAN, "adversarial": ADVERSARIAL, "teacher": TEACHER}
    batch = answered([0, 1], step=1, **{kind: (x, features) for kind, x in kinds.items()})
    composed, _ = DEFENSES["trades_lbgat_frpat"].compose({})
    names = [type(part).__name__ for part in composed.regularisers]
    assert names == ["BoundaryGuidance", "FlexibleRelations"]
    assert composed.loss(batch).item() == pytest.approx(
        3.043050, abs=1e-6
    )  # two images: no relation


def test_cosine_students_are_compared_at_the_scale_of_training(batch):
    class Scaled:
        inner_scale = 15.0

    batch.__dict__["adversarial"] = Answers(
        Outputs(ADVERSARIAL / 15), batch.labels, type("Student", (), {"head": Scaled()})()
    )
    assert BoundaryGuidance()(batch).item() == pytest.approx(1.79, abs=1e-9)


def test_every_auxiliary_output_is_guided_too(batch):
    auxiliary = (CLEAN, MOVED)
    outputs = Outputs(ADVERSARIAL, auxiliary)
    batch.__dict__["adversarial"] = Answers(outputs, batch.labels, batch.network)
    others = [functional.mse_loss(one, TEACHER).item() for one in auxiliary]
    assert BoundaryGuidance()(batch).item() == pytest.approx(1.79 + sum(others), abs=1e-9)


@pytest.mark.parametrize("detach", [False, True])
def test_the_term_reaches_the_teacher_unless_it_is_detached(detach, answered):
    student, teacher = (logits.clone().requires_grad_() for logits in (ADVERSARIAL, TEACHER))
    batch = answered([0, 1], adversarial=(student, None), teacher=(teacher, None))
    BoundaryGuidance(detach=detach)(batch).backward()
    torch.testing.assert_close(student.grad, (ADVERSARIAL - TEACHER) / 3)
    if detach:
        assert teacher.grad is None
    else:
        torch.testing.assert_close(teacher.grad, -student.grad)


def test_without_beta_the_agreement_looks_at_nothing(batch):
    objective = Agreement(beta=0.0)
    del batch.__dict__["clean"]  # looking at it would need a network
    assert objective.needs == frozenset()
    assert torch.equal(objective(batch, 0), torch.zeros(2, dtype=torch.float64))


def test_the_agreement_is_beta_times_the_divergence_per_image(batch):
    assert Agreement(beta=6.0)(batch, 0).mean().item() / 6 == pytest.approx(0.184297, abs=1e-6)


@pytest.mark.parametrize("detach", [False, True])
def test_the_clean_side_of_the_agreement_learns_unless_it_is_detached(detach, answered):
    clean = CLEAN.clone().requires_grad_()
    adversarial = ADVERSARIAL.clone().requires_grad_()
    batch = answered([0, 1], clean=(clean, None), adversarial=(adversarial, None))
    Agreement(detach_clean=detach)(batch, 0).sum().backward()
    assert (clean.grad is None) == detach
    assert adversarial.grad.abs().max() > 0


def test_a_teacher_input_that_does_not_exist_is_refused():
    with pytest.raises(HarnessError, match="no teacher input named 'advers'"):
        BoundaryGuidance(teacher_input="advers")


@pytest.mark.parametrize("base", ["standard", "pgd_at_lbgat_frpat", "trades_lbgat"])
def test_a_base_whose_share_in_the_loss_no_paper_gives_is_refused(base):
    with pytest.raises(HarnessError, match=r"choose pgd_at or trades|adds the same part twice"):
        DEFENSES[f"{base}+lbgat"].compose({})
