"""The verifier: exact to the last bit, and the last to be asked."""

import math
from fractions import Fraction

import pytest
import torch

from harness.threat import ThreatModel
from harness.verification import VerificationError, check_inside, fresh_decision

LINF = ThreatModel("linf", Fraction(8, 255))
L2 = ThreatModel("l2", Fraction(1, 2))
CLEAN = (torch.arange(48).reshape(3, 1, 4, 4) * 5).float() / 255


def moved(by, index=(1, 0, 0, 0)):
    adversarial = CLEAN.clone()
    adversarial[index] += by
    return adversarial


def test_images_inside_are_accepted_with_their_distance():
    adversarial = moved(0.03)
    distance = check_inside(CLEAN, adversarial, LINF)
    assert distance.dtype == torch.float64
    assert distance.tolist() == [0, pytest.approx(0.03, abs=1e-7), 0]
    assert torch.equal(check_inside(CLEAN, CLEAN, LINF), torch.zeros(3).double())


def test_the_l2_distance_is_the_euclidean_one():
    adversarial = CLEAN.clone()
    adversarial[0, 0, 0, :2] += torch.tensor([0.3, 0.4]) * 0.99
    assert check_inside(CLEAN, adversarial, L2).tolist() == [pytest.approx(0.495, abs=1e-6), 0, 0]


@pytest.mark.parametrize("threat", [LINF, L2], ids=str)
def test_an_excess_of_two_millionths_is_refused(threat):
    with pytest.raises(VerificationError, match=r"1 adversarial images are further than.*first: 1"):
        check_inside(CLEAN, moved(float(threat.epsilon) + 2e-6), threat)


@pytest.mark.parametrize("pixel", range(0, 248, 3))
def test_the_largest_float_inside_passes_and_the_next_one_does_not(pixel):
    clean = torch.tensor(pixel / 255).reshape(1, 1, 1, 1)
    inside = torch.tensor(pixel / 255 + 8 / 255).reshape(1, 1, 1, 1)
    up = torch.full_like(inside, torch.inf)
    while Fraction(inside.item()) - Fraction(clean.item()) > Fraction(8, 255):
        inside = torch.nextafter(inside, -up)
    while Fraction(torch.nextafter(inside, up).item()) - Fraction(clean.item()) <= Fraction(8, 255):
        inside = torch.nextafter(inside, up)
    check_inside(clean, inside, LINF)
    with pytest.raises(VerificationError, match="further than 8/255"):
        check_inside(clean, torch.nextafter(inside, up), LINF)


def test_a_float_epsilon_that_rounds_up_buys_nothing():
    zero, epsilon = torch.zeros(1, 1, 1, 1), torch.full((1, 1, 1, 1), 8 / 255)
    assert Fraction(epsilon.item()) > Fraction(8, 255)
    with pytest.raises(VerificationError):
        check_inside(zero, epsilon, LINF)
    quarter = ThreatModel("linf", Fraction(1, 4))  # a float of its own: the boundary belongs to it
    check_inside(zero, torch.full((1, 1, 1, 1), 0.25), quarter)


def test_epsilon_zero_accepts_the_clean_image_alone():
    nothing = ThreatModel("linf", Fraction(0))
    check_inside(CLEAN, CLEAN, nothing)
    with pytest.raises(VerificationError, match="further than 0"):
        check_inside(CLEAN, torch.nextafter(CLEAN, torch.ones_like(CLEAN)), nothing)


@pytest.mark.parametrize(
    ("adversarial", "reason"),
    [
        (moved(torch.nan), "not finite"),
        (moved(torch.inf), "not finite"),
        (CLEAN - 1e-7, "outside the box"),
        (torch.nextafter(torch.zeros(3, 1, 4, 4), torch.tensor(-1.0)), "outside the box"),
        (torch.full((3, 1, 4, 4), math.nextafter(1, 2) + 1e-6), "outside the box"),
        (CLEAN.double(), "torch.float64, expected"),
        (CLEAN[:2], "expected"),
        (CLEAN.flatten(1), "expected"),
        (CLEAN.to(torch.uint8), "torch.uint8"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("threat", [LINF, L2], ids=str)
def test_images_that_are_not_images_are_refused(adversarial, reason, threat):
    with pytest.raises(VerificationError, match=reason):
        check_inside(CLEAN, adversarial, threat)


def test_every_image_is_checked_not_only_the_first():
    bad = CLEAN.clone()
    bad[1] -= 0.1
    bad[2] -= 0.1
    with pytest.raises(VerificationError, match=r"2 adversarial images.*first: 1"):
        check_inside(CLEAN, bad, LINF)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_decision_with_logits_that_are_not_finite_is_no_class(bad):
    logits = torch.tensor([[1.0, 2.0, 0.0], [3.0, bad, 0.0], [5.0, 5.0, 5.0]])
    found, _ = fresh_decision(
        lambda images: logits, torch.rand(3, 1, 2, 2), torch.zeros(3, dtype=torch.long)
    )
    assert found.tolist() == [1, -1, 0]


def test_the_fresh_decision_asks_the_model_once_and_keeps_no_gradient():
    asked = []

    def decide(images):
        asked.append(torch.is_grad_enabled())
        return images.flatten(1)

    fresh_decision(
        decide, torch.rand(3, 1, 2, 2).requires_grad_(), torch.zeros(3, dtype=torch.long)
    )
    assert asked == [False]


def test_the_verifier_shares_no_code_with_the_attacks():
    import ast
    from pathlib import Path

    import harness.verification

    tree = ast.parse(Path(harness.verification.__file__).read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not any(module.startswith("harness.attacks") for module in imported)
