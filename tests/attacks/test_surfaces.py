"""Surfaces: what each climbs, what judges, and the attack that only an aware surface finds."""

import math

import pytest
import torch
from attacked_models import Linear, PixelGate, attacked, linf, pictures, search_on
from torch import Tensor
from torch.nn import functional

from harness.attacks.attack import attack_spec, run_attack
from harness.attacks.losses import LOSSES, ce, margin, margin_targeted
from harness.attacks.surface_text import SURFACES, split_surface, surface_named
from harness.attacks.surfaces import (
    Auxiliary,
    Cosine,
    Features,
    Gate,
    Logits,
    LogSoftmaxMean,
    Points,
    Repeated,
    Smallest,
    StraightThrough,
    Sum,
    Surrogate,
    Training,
    TrainingLoss,
    Twin,
    TwoPhase,
    Weighted,
)
from harness.errors import HarnessError
from harness.identity import Capabilities
from harness.outputs import Outputs, SoftSelect

ANCRA = PixelGate([[1, 0, 2], [0, 1, 1]], [0.5, -0.5])
WRONG_WAY = PixelGate([[-2, 0, 1], [0, -2, 1]], [0.0, 0.0])
EVERYTHING = Capabilities(
    classes=2,
    auxiliary=1,
    select=True,
    features=True,
    scale=15.0,
    training_loss=True,
    strip=True,
    signs=("angular_logits",),
)
OTHERS = {"0123456789ab": WRONG_WAY}


def at(*features):
    """One image whose pixels are these features."""
    return torch.tensor(features).reshape(1, 1, 1, -1)


def labelled(image, *labels, targets=None):
    return Points(image, torch.tensor(labels), None if targets is None else torch.tensor(targets))


def look(surface, image, *labels, loss=ce, targets=None):
    image = image.clone().requires_grad_()
    value, deployed = surface(image, labelled(image.detach(), *labels, targets=targets), loss)
    (gradient,) = torch.autograd.grad(value.sum(), image)
    return value.detach(), deployed.detach(), gradient


@pytest.mark.parametrize(
    ("features", "select", "first", "final"),
    [
        ((0.5, 0.1, 1.0), None, [3.0, 0.6], [5.0, 1.5]),
        ((0.5, 0.1, 1.0), 1, [3.0, 0.6], [2.5, 0.6]),
        ((1.0, 2.0, 0.0), 1, [1.5, 1.5], [0.5, 1.5]),
    ],
)
def test_the_hand_made_gate_has_the_published_values(features, select, first, final):
    outputs = ANCRA(at(*features), select=None if select is None else torch.tensor([select]))
    assert outputs.auxiliary[0].tolist()[0] == pytest.approx(first)
    assert outputs.logits.tolist()[0] == pytest.approx(final)


def cross_entropy(logits, label):
    return float(functional.cross_entropy(torch.tensor([logits]), torch.tensor([label])))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("logits", cross_entropy([5.0, 1.5], 1)),
        ("cosine", cross_entropy([math.cos(5.0), math.cos(1.5)], 1)),
        ("auxiliary(0)", cross_entropy([3.0, 0.6], 1)),
        ("sum", cross_entropy([5.0, 1.5], 1) + 2 * cross_entropy([3.0, 0.6], 1)),
        ("sum(0.5)", cross_entropy([5.0, 1.5], 1) + 0.5 * cross_entropy([3.0, 0.6], 1)),
        ("weighted(1:3)", cross_entropy([5.0, 1.5], 1) + 3 * cross_entropy([3.0, 0.6], 1)),
        ("weighted(0:1)", cross_entropy([3.0, 0.6], 1)),
        ("smallest", -math.log(math.exp(-3.5297505) + math.exp(-2.4868405))),
        ("smallest(0.001)", cross_entropy([3.0, 0.6], 1)),
        ("log_softmax_mean", cross_entropy([4.0, 1.05], 1)),
        ("label_gate", cross_entropy([2.5, 0.6], 1)),
        ("rival_gate", cross_entropy([5.0, 1.5], 1)),
        ("target_gate", cross_entropy([2.5, 0.6], 1)),
        ("two_phase", cross_entropy([5.0, 1.5], 1)),
        ("straight_through", cross_entropy([5.0, 1.5], 1)),
        ("straight_through(0.1)", cross_entropy([5.0, 1.5], 1)),
        ("stripped", cross_entropy([3.0, 0.6], 1)),
        ("mixed", cross_entropy([5.0, 1.5], 1) / 2 + cross_entropy([3.0, 0.6], 1) / 2),
        ("features", cross_entropy([0.5, 0.1, 1.0], 1)),
        ("features(gated)", cross_entropy([0.5, 0.0, 2.0], 1)),
        ("features(0)", cross_entropy([0.5, 0.1, 1.0], 1)),
        ("surrogate(0123456789ab)", cross_entropy([1.0, 1.4], 1)),
        ("training_loss", 7.0),
    ],
)
def test_every_surface_climbs_its_formula_and_is_judged_by_the_deployed_logits(text, value):
    training = TrainingLoss(lambda images, points: 7.0 + 0 * images.sum(dim=(1, 2, 3)), 1)
    surface = surface_named(text, ANCRA, EVERYTHING, training, OTHERS)
    targets = [1] if text == "target_gate" else None
    found, deployed, _ = look(surface, at(0.5, 0.1, 1.0), 1, targets=targets)
    assert float(found) == pytest.approx(value, abs=1e-5)
    assert deployed.tolist()[0] == pytest.approx([5.0, 1.5])


def test_every_surface_that_people_may_write_has_its_value_tested():
    (mark,) = test_every_surface_climbs_its_formula_and_is_judged_by_the_deployed_logits.pytestmark
    assert {split_surface(text)[0] for text, _ in mark.args[1]} == set(SURFACES)


@pytest.mark.parametrize(
    ("text", "value", "gradient"),
    [
        ("logits", -3.5, [-1, 0, -2]),
        ("auxiliary(0)", -2.4, [-1, 1, -1]),
        ("sum(0.5)", -4.7, [-1.5, 0.5, -2.5]),
        ("weighted(2:1)", -9.4, [-3, 1, -5]),
        ("smallest(0.01)", -3.5, [-1, 0, -2]),
        ("log_softmax_mean", -2.95, [-1, 0.5, -1.5]),
        ("label_gate", -3.5, [-1, 0, -2]),
        ("rival_gate", -1.9, [0, 1, -1]),
        ("two_phase", -2.4, [-1, 1, -1]),
        ("stripped", -2.4, [-1, 1, -1]),
        ("mixed", -2.95, [-1, 0.5, -1.5]),
        ("surrogate(0123456789ab)", 0.4, [0, 4, 0]),
    ],
)
def test_the_gradient_of_a_margin_is_the_one_worked_out_by_hand(text, value, gradient):
    """The rows differ by (-1, 1, -1), which gate 0 multiplies by (1, 0, 2), gate 1 by (0, 1, 1)."""
    surface = surface_named(text, ANCRA, EVERYTHING, None, OTHERS)
    found, _, slope = look(surface, at(0.5, 0.1, 1.0), 0, loss=margin)
    assert float(found) == pytest.approx(value, abs=1e-5)
    assert slope.flatten().tolist() == pytest.approx(gradient, abs=1e-5)


@pytest.mark.parametrize("loss", ["ce", "margin"])
@pytest.mark.parametrize(
    "text",
    [
        *["logits", "auxiliary(0)", "sum(0.5)", "weighted(2:1)", "smallest(0.5)", "mixed"],
        *["log_softmax_mean", "label_gate", "rival_gate", "two_phase", "stripped", "cosine"],
    ],
)
def test_gradients_agree_with_finite_differences(text, loss):
    model = PixelGate([[1, 0, 2], [0, 1, 1], [2, -1, 0]], [0.5, -0.5, 0.1]).double()
    surface = surface_named(text, model, EVERYTHING)
    image = torch.tensor([[0.5, 0.1, 0.3], [0.1, 0.9, 0.2]]).double().reshape(2, 1, 1, 3)
    points = labelled(image, 0, 2)
    assert torch.autograd.gradcheck(
        lambda candidate: surface(candidate, points, LOSSES[loss])[0],
        image.clone().requires_grad_(),
    )


class Three:
    """Logits z, auxiliary 2z and -z, of the pixels z; records what was asked."""

    def __call__(self, images, *, select=None):
        z = images.flatten(1)
        return Outputs(z, (2 * z, -z))


def test_weights_are_of_the_final_logits_then_of_each_auxiliary_one():
    image, labels = pictures(4, 1, 1, 5), (0, 1, 2, 3)
    z, y = image.flatten(1), torch.tensor(labels)
    seen = []

    def watched(logits, labels, targets):
        seen.append(logits.detach())
        return ce(logits, labels, targets)

    for weights in ((1.0, 1.0, 1.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.0, 1.0, 1.0), (1, 2, 2)):
        value, deployed, _ = look(Weighted(Three(), weights), image, *labels, loss=watched)
        parts = (weights[0] * ce(z, y), weights[1] * ce(2 * z, y), weights[2] * ce(-z, y))
        torch.testing.assert_close(value, sum(parts))
        assert torch.equal(deployed, z)
    assert len(seen) == 3 + 1 + 1 + 2 + 3  # an output of weight 0 is left alone


def test_a_weight_too_few_is_a_bug_and_not_a_shorter_sum():
    with pytest.raises(ValueError, match="zip"):
        Weighted(Three(), (1.0, 1.0))(at(0.1, 0.2, 0.3), labelled(at(0.1, 0.2, 0.3), 0), ce)


@pytest.mark.parametrize("temperature", [2.0, 1.0, 0.1, 0.001])
def test_the_smooth_minimum_lies_below_the_minimum_by_at_most_the_temperature(temperature):
    image, labels = pictures(6, 1, 1, 5), torch.arange(6) % 5
    z = image.flatten(1)
    losses = torch.stack([margin(logits, labels) for logits in (z, 2 * z, -z)])
    value, _, gradient = look(Smallest(Three(), temperature), image, *labels.tolist(), loss=margin)
    below = losses.amin(0) - value
    assert float(below.min()) >= -1e-6
    assert float(below.max()) <= temperature * math.log(3) + 1e-6
    assert torch.isfinite(gradient).all()


def test_the_sum_weighs_the_mean_of_the_auxiliary_losses():
    image = pictures(4, 1, 1, 5)
    labels = torch.tensor([0, 1, 2, 3])
    value, _ = Sum(Three(), 3.0)(image, Points(image, labels), ce)
    z = image.flatten(1)
    expected = ce(z, labels) + 3 * (ce(2 * z, labels) + ce(-z, labels)) / 2
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("temperature", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("loss", ["ce", "margin"])
def test_the_straight_through_gradient_is_the_hard_gates_plus_the_soft_choices(temperature, loss):
    image, weight, bias = at(0.5, 0.1, 0.3).double(), ANCRA.weight.double(), ANCRA.bias.double()
    model = PixelGate([[1, 0, 2], [0, 1, 1]], [0.5, -0.5])
    model.weight, model.bias = weight, bias
    _, hard_logits, found = look(StraightThrough(model, temperature), image, 1, loss=LOSSES[loss])

    features = image.flatten(1).clone().requires_grad_()
    logits = hard_logits.clone().requires_grad_()
    (slope,) = torch.autograd.grad(LOSSES[loss](logits, torch.tensor([1]), None).sum(), logits)
    first = features @ weight.T + bias
    hard = weight[first.argmax(1)]
    soft = torch.softmax(first / temperature, 1) @ weight
    final = (hard * features) @ weight.T + (soft * features.detach()) @ weight.T
    (expected,) = torch.autograd.grad((slope * final).sum(), features)
    torch.testing.assert_close(found.flatten(1), expected)


def test_the_gradient_of_the_straight_through_gate_is_not_that_of_the_deployed_logits():
    image = at(0.5, 0.1, 0.3)
    gradients = [look(s, image, 1)[2] for s in (StraightThrough(ANCRA), Logits(ANCRA))]
    assert not torch.allclose(*gradients)


def test_the_cosine_surface_of_angles_has_the_value_and_gradient_of_the_cosines():
    class Angles(torch.nn.Module):
        def forward(self, images, *, select=None):
            return Outputs(-images.flatten(1).arccos())

    image = at(0.9, -0.5, 0.999)
    value, deployed, gradient = look(Cosine(Angles()), image, 0, loss=margin)
    assert float(value) == pytest.approx(0.099, abs=1e-6)
    assert gradient.flatten().tolist() == pytest.approx([-1, 0, 1], abs=1e-4)
    assert torch.equal(deployed, -image.flatten(1).arccos())
    (_, _, steeper) = look(Logits(Angles()), image, 0, loss=margin)
    assert steeper.abs().max() > 20  # 1 / sin of the smallest angle


TEXTS = {
    *["logits", "auxiliary(0)", "sum(2)", "weighted(1:2)", "smallest(1)", "log_softmax_mean"],
    *["straight_through(1)", "two_phase(0)", "label_gate", "rival_gate", "target_gate"],
    *["stripped", "mixed", "features", "cosine"],
}
"""All but those that need more than the model."""


@pytest.mark.parametrize("draws", [1, 3])
@pytest.mark.parametrize("text", sorted(TEXTS))
def test_the_announced_passes_are_those_that_the_model_counts(text, draws):
    model = PixelGate([[1, 0, 2], [0, 1, 1]], [0.5, -0.5])
    surface = surface_named(text, model, EVERYTHING)
    if draws > 1:
        surface = Repeated(surface, draws)
    look(surface, at(0.5, 0.1, 1.0), 1, targets=[0])
    assert surface.forwards == len(model.selects)
    assert surface.forwards == draws * SURFACES[split_surface(text)[0]].forwards
    assert surface.backwards == draws
    model.selects.clear()
    surface.rank(at(0.5, 0.1, 1.0))
    assert surface.rank_forwards == len(model.selects) == draws


def test_a_surrogate_costs_one_pass_of_each_model():
    model, other = (PixelGate([[1, 0, 2], [0, 1, 1]], [0.5, -0.5]) for _ in range(2))
    surface = Surrogate(model, other)
    _, deployed, _ = look(surface, at(0.5, 0.1, 1.0), 1)
    assert (len(model.selects), len(other.selects), surface.forwards) == (1, 1, 2)
    assert not deployed.requires_grad
    surface.rank(at(0.5, 0.1, 1.0))
    assert (len(model.selects), len(other.selects)) == (1, 2)


class Chosen:
    """Final logits 10 z and auxiliary logits z of three pixels z: which of the two was climbed."""

    def __call__(self, images, *, select=None):
        z = images.flatten(1)
        return Outputs(10 * z, (z,))


@pytest.mark.parametrize(
    ("z", "label", "target", "is_second"),
    [
        ((0.9, 0.5, 0.2), 0, None, False),
        ((0.5, 0.9, 0.2), 0, None, True),
        ((0.9, 0.5, 0.2), 0, 1, False),
        ((0.5, 0.9, 0.2), 0, 2, False),  # wrong, but not the target yet
        ((0.5, 0.2, 0.9), 0, 2, True),
        ((0.5, 0.5, 0.2), 0, None, False),  # a tie decides for the lower class
    ],
)
def test_the_second_phase_begins_when_the_head_is_wrong_or_says_the_target(
    z, label, target, is_second
):
    image, loss = at(*z), margin if target is None else margin_targeted
    targets = None if target is None else [target]
    value, deployed, gradient = look(TwoPhase(Chosen()), image, label, loss=loss, targets=targets)
    factor = 10 if is_second else 1
    chosen = None if target is None else torch.tensor([target])
    expected = factor * loss(image.flatten(1), torch.tensor([label]), chosen)
    torch.testing.assert_close(value, expected)
    assert float(gradient.max()) == factor
    assert torch.equal(deployed, 10 * image.flatten(1))


def test_each_image_is_in_a_phase_of_its_own():
    images = torch.cat([at(0.9, 0.5, 0.2), at(0.5, 0.9, 0.2)])
    _, _, gradient = look(TwoPhase(Chosen()), images, 0, 0, loss=margin)
    assert gradient.amax(dim=(1, 2, 3)).tolist() == [1, 10]


def test_the_second_head_can_be_the_one_whose_decision_is_awaited():
    _, _, gradient = look(TwoPhase(Three(), 1), at(0.1, 0.5, 0.2), 1, loss=margin)
    assert float(gradient.max()) == 1  # -z is wrong already: the final logits z are climbed
    _, _, gradient = look(TwoPhase(Three(), 0), at(0.1, 0.5, 0.2), 1, loss=margin)
    assert float(gradient.max()) == 2


class Gates:
    """Deployed logits z; under the gate of class c the logits of c alone are raised by 10."""

    def __init__(self):
        self.asked = []

    def __call__(self, images, *, select=None):
        self.asked.append(select)
        z = images.flatten(1)
        if select is None:
            return Outputs(z)
        return Outputs(z + 10 * functional.one_hot(select, 3))


@pytest.mark.parametrize(
    ("of", "gates"), [("label", [0, 2, 1]), ("rival", [1, 0, 0]), ("target", [2, 1, 0])]
)
def test_the_gate_is_that_of_the_label_the_best_deployed_rival_or_the_target(of, gates):
    images = torch.tensor([[0.9, 0.5, 0.2], [0.7, 0.1, 0.8], [0.5, 0.2, 0.5]]).reshape(3, 1, 1, 3)
    model = Gates()
    value, deployed, _ = look(
        Gate(model, of), images, 0, 2, 1, loss=margin_targeted, targets=[2, 1, 0]
    )
    assert model.asked[0] is None
    assert model.asked[1].tolist() == gates
    assert torch.equal(deployed, images.flatten(1))
    logits = images.flatten(1) + 10 * functional.one_hot(torch.tensor(gates), 3)
    expected = margin_targeted(logits, torch.tensor([0, 2, 1]), torch.tensor([2, 1, 0]))
    torch.testing.assert_close(value, expected)


def test_the_rival_is_chosen_anew_at_every_candidate():
    model = Gates()
    for image, rival in ((at(0.9, 0.5, 0.2), 1), (at(0.9, 0.2, 0.5), 2)):
        look(Gate(model, "rival"), image, 0)
        assert model.asked[-1].tolist() == [rival]


def test_the_gate_of_a_target_needs_one():
    with pytest.raises(HarnessError, match="needs a targeted attack"):
        look(Gate(Gates(), "target"), at(0.1, 0.2, 0.3), 0)


def test_the_stripped_twin_is_climbed_and_the_deployed_model_judges():
    image = at(0.5, 0.1, 1.0)
    plain = Linear(ANCRA.weight, ANCRA.bias)
    value, deployed, gradient = look(Twin(ANCRA), image, 1)
    expected, _, slope = look(Logits(plain), image, 1)
    assert torch.equal(value, expected)
    assert torch.equal(gradient, slope)
    assert deployed.tolist()[0] == pytest.approx([5.0, 1.5])


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5])
def test_the_twin_and_the_deployed_logits_share_the_loss(share):
    image = at(0.5, 0.1, 1.0)
    found = look(Twin(ANCRA, share), image, 1)
    twin, deployed = look(Twin(ANCRA), image, 1), look(Logits(ANCRA), image, 1)
    for place in (0, 2):
        expected = share * twin[place] + (1 - share) * deployed[place]
        torch.testing.assert_close(found[place], expected)
    assert torch.equal(found[1], deployed[1])


class Growing:
    """Logits that the n-th call multiplies by n."""

    def __init__(self):
        self.calls = 0

    def __call__(self, images, *, select=None):
        self.calls += 1
        return Outputs(self.calls * images.flatten(1), (images.flatten(1),))


@pytest.mark.parametrize("draws", [1, 2, 5])
def test_repeated_passes_are_averaged(draws):
    image, model, mean = at(0.5, 0.1, 1.0), Growing(), (draws + 1) / 2
    surface = Repeated(Logits(model), draws)
    value, deployed, gradient = look(surface, image, 0, loss=margin)
    assert model.calls == draws
    assert surface.model is model
    assert float(value) == pytest.approx(mean * 0.5)
    assert gradient.flatten().tolist() == pytest.approx([-mean, 0, mean])
    torch.testing.assert_close(deployed, mean * image.flatten(1))
    model.calls = 0
    torch.testing.assert_close(surface.rank(image), mean * image.flatten(1))


def test_repeating_averages_the_losses_and_not_the_logits():
    image = at(0.5, 0.1, 1.0)
    value, _, _ = look(Repeated(Logits(Growing()), 2), image, 0)
    expected = (
        ce(image.flatten(1), torch.tensor([0])) + ce(2 * image.flatten(1), torch.tensor([0]))
    ) / 2
    torch.testing.assert_close(value, expected)
    mean = ce(1.5 * image.flatten(1), torch.tensor([0]))
    assert not torch.allclose(value, mean)


def test_any_surface_can_be_repeated():
    image = at(0.5, 0.1, 1.0)
    for text in sorted(TEXTS - {"target_gate"}):
        surface = surface_named(text, ANCRA, EVERYTHING)
        for found, expected in zip(
            look(Repeated(surface, 2), image, 1), look(surface, image, 1), strict=True
        ):
            torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("which", "vector"), [("", [0.5, 0.1, 1.0]), ("gated", [0.5, 0.0, 2.0]), ("0", [0.5, 0.1, 1.0])]
)
def test_features_are_the_vector_that_is_named(which, vector):
    surface = Features(ANCRA, which)
    outputs = ANCRA(at(0.5, 0.1, 1.0))
    assert surface.view(outputs).flatten().tolist() == pytest.approx(vector)
    assert torch.equal(surface.rank(at(0.5, 0.1, 1.0)), outputs.logits)


def test_features_are_told_apart_by_head():
    outputs = Outputs(torch.zeros(1, 2), vectors=(torch.ones(1, 3), torch.full((1, 3), 2.0)))
    assert [float(Features(ANCRA, which).view(outputs).mean()) for which in "01"] == [1.0, 2.0]


@pytest.mark.parametrize("which", ["", "gated"])
def test_a_vector_that_is_not_there_is_a_sentence(which):
    with pytest.raises(HarnessError, match="does not expose the vector"):
        Features(ANCRA, which).view(Outputs(torch.zeros(1, 2)))


def test_features_climb_towards_the_vectors_they_are_given():
    image, guide = at(1.0, 0.0, 0.0), torch.tensor([[0.0, 1.0, 0.0]])
    points = Points(image, torch.tensor([0]), guide)
    candidate = image.clone().requires_grad_()
    value, deployed = Features(ANCRA)(candidate, points, LOSSES["cosine"])
    (gradient,) = torch.autograd.grad(value.sum(), candidate)
    assert value.tolist() == [0.0]
    assert gradient.flatten().tolist() == pytest.approx([0, 1, 0])
    assert torch.equal(deployed.detach(), ANCRA(image).logits)


def test_the_training_loss_counts_its_own_passes_and_one_to_judge():
    search = search_on(ANCRA, at(0.5, 0.1, 1.0), torch.tensor([0]), linf("1/10"))
    value = TrainingLoss(lambda images, points: images.sum(dim=(1, 2, 3)), forwards=3)
    search.surface = Training(ANCRA, value)
    run_attack(attack_spec("fgsm", surface="training_loss"), search)
    assert search.forwards.tolist() == [8]
    assert search.backwards.tolist() == [1]
    assert float(search.loss_best) == pytest.approx(0.6 + 0.2 + 1.0)  # up, up, and at the box


class Gullible:
    """Decides for class 0 always, unless a caller hands it labels: then for another one."""

    def __init__(self):
        self.handed: list[bool] = []

    def __call__(self, images, *, select=None):
        is_told = isinstance(select, Tensor)
        self.handed.append(is_told)
        logits = torch.tensor([[0.0, 1.0] if is_told else [1.0, 0.0]]).expand(len(images), 2)
        logits = logits + 0 * images.sum(dim=(1, 2, 3))[:, None]
        return Outputs(logits, (logits,))


@pytest.mark.parametrize(
    "text",
    ["logits", "auxiliary(0)", "sum", "label_gate", "rival_gate", "straight_through", "two_phase"],
)
@pytest.mark.parametrize("attack", ["fgsm", "pgd", "apgd_ce", "square"])
def test_labels_never_reach_the_deployed_decision(text, attack):
    model, images = Gullible(), pictures(3, 1, 4, 4)
    surface = surface_named(text, model, EVERYTHING)
    settings = {"fgsm": {}, "square": {"queries": 4}}.get(attack, {"steps": 3})
    search = search_on(
        model, images, torch.zeros(3, dtype=torch.long), linf("1/2"), surface=surface
    )
    run_attack(attack_spec(attack, surface=text, **settings), search)
    assert not search.broken.any()
    assert any(model.handed) == text.endswith("_gate")
    if text.endswith("_gate"):  # one judging pass without a class before every climbing pass with
        assert model.handed == [False, True] * (len(model.handed) // 2)


@pytest.mark.parametrize(
    "text", ["label_gate", "rival_gate", "stripped", "surrogate(0123456789ab)", "training_loss"]
)
def test_the_judging_pass_of_two_pass_surfaces_keeps_no_graph(text):
    model = PixelGate([[1, 0, 2], [0, 1, 1]], [0.5, -0.5])
    training = TrainingLoss(lambda images, points: images.sum(dim=(1, 2, 3)), 0)
    surface = surface_named(text, model, EVERYTHING, training, OTHERS)
    image = at(0.5, 0.1, 1.0).requires_grad_()
    _, deployed = surface(image, labelled(image.detach(), 1), ce)
    assert not deployed.requires_grad


RIGHT = at(0.6, 0.5, 1.0)
"""p = (-0.2, 0), p' = (1, 3): class 1, by the gate of class 1 (`ancra.md` RA-4)."""


def climbed(surface, loss="ce"):
    search = search_on(WRONG_WAY, RIGHT, torch.tensor([1]), linf("1/5"), surface=surface)
    spec = attack_spec("pgd", loss=loss, steps=40, relative_step=0.1, random_start=False)
    run_attack(spec, search)
    return search


def test_wrong_way_gradients_have_the_published_signs():
    _, deployed, final = look(Logits(WRONG_WAY), RIGHT, 1)
    _, _, first = look(Auxiliary(WRONG_WAY, 0), RIGHT, 1)
    assert deployed.tolist()[0] == pytest.approx([1.0, 3.0])
    assert final.sign().flatten()[:2].tolist() == [0, -1]
    assert first.sign().flatten()[:2].tolist() == [-1, 1]


@pytest.mark.parametrize("loss", ["ce", "margin"])
def test_pgd_on_the_final_logits_leaves_the_wrong_way_image_standing(loss):
    search = climbed(Logits(WRONG_WAY), loss)
    assert not search.broken.any()
    assert search.backwards.tolist() == [40]


@pytest.mark.parametrize("loss", ["ce", "margin"])
@pytest.mark.parametrize(
    "surface", [Auxiliary(WRONG_WAY, 0), Twin(WRONG_WAY), TwoPhase(WRONG_WAY)], ids=repr
)
def test_pgd_on_what_chooses_the_gate_breaks_the_wrong_way_image(surface, loss):
    search = climbed(surface, loss)
    assert search.broken.all()
    assert int(WRONG_WAY(search.adversarial).logits.argmax()) == 0
    assert float((search.adversarial - RIGHT).abs().max()) <= 0.2


def test_the_wrong_way_step_on_the_final_logits_repairs_a_misclassified_image():
    wrong = at(0.4, 0.5, 1.0)
    _, deployed, gradient = look(Logits(WRONG_WAY), wrong, 1)
    assert deployed.tolist()[0] == pytest.approx([2.6, 1.0])
    step = gradient.sign() * torch.tensor([1.0, 1.0, 0.0])
    assert int(WRONG_WAY(wrong + 0.2 * step).logits.argmax()) == 1
    search = attacked("pgd", WRONG_WAY, wrong, torch.tensor([1]), linf("1/5"))
    assert search.broken.all()  # the clean image is a candidate: nothing is repaired


def test_a_supplied_label_is_echoed():
    outputs = WRONG_WAY(RIGHT, select=torch.tensor([0]))
    assert outputs.logits.tolist()[0] == pytest.approx([3.4, 1.0])
    assert int(outputs.auxiliary[0].argmax()) == 1


def test_targets_are_ranked_by_the_surface_that_is_climbed():
    image = at(0.5, 0.1, 1.0)
    for surface in (Auxiliary(ANCRA, 0), TwoPhase(ANCRA), Twin(ANCRA), Surrogate(WRONG_WAY, ANCRA)):
        first = isinstance(surface, Surrogate)
        expected = [5.0, 1.5] if first else [3.0, 0.6]
        assert surface.rank(image).tolist()[0] == pytest.approx(expected)
    mean = LogSoftmaxMean(ANCRA).rank(image)[0]
    assert float(mean[0] - mean[1]) == pytest.approx(2.95)
    for surface in (Logits(ANCRA), Gate(ANCRA), StraightThrough(ANCRA), Sum(ANCRA)):
        assert surface.rank(image).tolist()[0] == pytest.approx([5.0, 1.5])


def test_soft_selection_decides_as_the_hard_one():
    images = torch.rand(500, 1, 1, 3, generator=torch.Generator().manual_seed(0))
    hard, soft = ANCRA(images).logits, ANCRA(images, select=SoftSelect(0.5)).logits
    torch.testing.assert_close(soft, hard)
    assert torch.equal(soft.argmax(1), hard.argmax(1))
