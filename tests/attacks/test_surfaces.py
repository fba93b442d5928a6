"""Surfaces: what each climbs, what judges, and the attack that only an aware surface finds."""

import pytest
import torch
from attacked_models import PixelGate, attacked, linf, pictures, search_on
from torch import Tensor
from torch.nn import functional

from harness.attacks.attack import attack_spec, run_attack
from harness.attacks.losses import LOSSES, ce
from harness.attacks.surfaces import (
    SURFACES,
    Auxiliary,
    LabelGate,
    Logits,
    Points,
    StraightThrough,
    Sum,
    Training,
    TrainingLoss,
    check_reachable,
    split_surface,
    surface_named,
)
from harness.errors import HarnessError
from harness.identity import Capabilities
from harness.outputs import Outputs, SoftSelect

ANCRA = PixelGate([[1, 0, 2], [0, 1, 1]], [0.5, -0.5])
WRONG_WAY = PixelGate([[-2, 0, 1], [0, -2, 1]], [0.0, 0.0])
EVERYTHING = Capabilities(classes=2, auxiliary=2, select=True, scale=15.0, training_loss=True)


def at(*features):
    """One image whose pixels are these features."""
    return torch.tensor(features).reshape(1, 1, 1, -1)


def labelled(image, *labels):
    return Points(image, torch.tensor(labels))


def look(surface, image, *labels, loss=ce):
    image = image.clone().requires_grad_()
    value, deployed = surface(image, labelled(image.detach(), *labels), loss)
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
        ("auxiliary(0)", cross_entropy([3.0, 0.6], 1)),
        ("sum", cross_entropy([5.0, 1.5], 1) + 2 * cross_entropy([3.0, 0.6], 1)),
        ("sum(0.5)", cross_entropy([5.0, 1.5], 1) + 0.5 * cross_entropy([3.0, 0.6], 1)),
        ("label_gate", cross_entropy([2.5, 0.6], 1)),
        ("straight_through", cross_entropy([5.0, 1.5], 1)),
        ("straight_through(0.1)", cross_entropy([5.0, 1.5], 1)),
        ("rescaled(10)", cross_entropy([50.0, 15.0], 1)),
        ("rescaled(std)", cross_entropy([5.0 / 2.4748737, 1.5 / 2.4748737], 1)),
        ("training_loss", 7.0),
    ],
)
def test_every_surface_climbs_its_formula_and_is_judged_by_the_deployed_logits(text, value):
    training = TrainingLoss(lambda images, points: 7.0 + 0 * images.sum(dim=(1, 2, 3)), 1)
    surface = surface_named(text, ANCRA, EVERYTHING, training)
    found, deployed, _ = look(surface, at(0.5, 0.1, 1.0), 1)
    assert float(found) == pytest.approx(value, abs=1e-5)
    assert deployed.tolist()[0] == pytest.approx([5.0, 1.5])


def test_every_surface_that_people_may_write_has_its_value_tested():
    (mark,) = test_every_surface_climbs_its_formula_and_is_judged_by_the_deployed_logits.pytestmark
    assert {split_surface(text)[0] for text, _ in mark.args[1]} == set(SURFACES)


def test_the_sum_weighs_the_mean_of_the_auxiliary_losses():
    class Three:
        def __call__(self, images, *, select=None):
            z = images.flatten(1)
            return Outputs(z, (2 * z, -z))

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


def test_the_gradient_of_scale_free_logits_does_not_depend_on_their_scale():
    class Scaled:
        def __init__(self, factor):
            self.factor = factor

        def __call__(self, images, *, select=None):
            return Outputs(self.factor * images.flatten(1) ** 2)

    image = pictures(3, 1, 1, 5)
    for factor in (1e-4, 8.0, 1e4):
        one = look(Logits(Scaled(1.0), factor=None), image, 0, 1, 2)
        other = look(Logits(Scaled(factor), factor=None), image, 0, 1, 2)
        torch.testing.assert_close(other[0], one[0])
        torch.testing.assert_close(other[2], one[2])
    plain = [look(Logits(Scaled(factor)), image, 0, 1, 2)[2] for factor in (1.0, 8.0)]
    assert not torch.allclose(*plain)


def test_the_scale_that_is_divided_out_is_held_constant_in_the_gradient():
    class Squares:
        def __call__(self, images, *, select=None):
            return Outputs(images.flatten(1) ** 2)

    image, labels = pictures(3, 1, 1, 5), torch.tensor([0, 1, 2])
    _, _, found = look(Logits(Squares(), factor=None), image, 0, 1, 2)
    pixels = image.flatten(1).requires_grad_()
    deviation = (pixels.detach() ** 2).std(dim=1, keepdim=True)
    (expected,) = torch.autograd.grad(ce(pixels**2 / deviation, labels).sum(), pixels)
    torch.testing.assert_close(found.flatten(1), expected)


class Flat:
    """Equal logits for every image."""

    def __call__(self, images, *, select=None):
        return Outputs(images.mean(dim=(1, 2, 3))[:, None].expand(-1, 4))


def test_equal_logits_survive_being_made_scale_free():
    value, _, gradient = look(Logits(Flat(), factor=None), pictures(2, 3, 2, 2), 0, 0)
    assert not torch.isinf(gradient).any()
    assert value.shape == (2,)


@pytest.mark.parametrize(
    ("text", "forwards"), [("logits", 1), ("sum", 1), ("label_gate", 2), ("straight_through", 1)]
)
def test_the_announced_passes_are_those_that_the_model_counts(text, forwards):
    model = PixelGate([[1, 0, 2], [0, 1, 1]], [0.5, -0.5])
    surface = surface_named(text, model, EVERYTHING)
    look(surface, at(0.5, 0.1, 1.0), 1)
    assert surface.forwards == len(model.selects) == forwards


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
    "text", ["logits", "auxiliary(0)", "sum", "label_gate", "straight_through", "rescaled(std)"]
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
    assert any(model.handed) == (text == "label_gate")
    if text == "label_gate":  # one judging pass without labels beside every climbing pass with
        assert model.handed == [True, False] * (len(model.handed) // 2)


@pytest.mark.parametrize("text", ["label_gate", "training_loss"])
def test_the_judging_pass_of_two_pass_surfaces_keeps_no_graph(text):
    model = PixelGate([[1, 0, 2], [0, 1, 1]], [0.5, -0.5])
    training = TrainingLoss(lambda images, points: images.sum(dim=(1, 2, 3)), 0)
    surface = surface_named(text, model, EVERYTHING, training)
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
def test_pgd_on_the_first_auxiliary_logits_breaks_the_wrong_way_image(loss):
    search = climbed(Auxiliary(WRONG_WAY, 0), loss)
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


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("auxiliary(2)", {}),
        ("auxiliary(0)", {"auxiliary": 0}),
        ("sum", {"auxiliary": 0}),
        ("label_gate", {"select": False}),
        ("straight_through(1)", {"select": False}),
        ("training_loss", {"training_loss": False}),
    ],
)
def test_a_surface_that_the_model_does_not_expose_is_refused(text, changes):
    capabilities = Capabilities(
        **{"classes": 2, "auxiliary": 2, "select": True, "training_loss": True, **changes}
    )
    with pytest.raises(HarnessError, match="is not there: this model exposes"):
        check_reachable(text, capabilities)
    with pytest.raises(HarnessError, match="is not there"):
        surface_named(text, ANCRA, capabilities)
    check_reachable(text.replace("2", "1"), EVERYTHING)


def test_a_training_loss_without_a_recipe_is_refused():
    with pytest.raises(HarnessError, match="needs the defense's recipe"):
        surface_named("training_loss", ANCRA, EVERYTHING)


@pytest.mark.parametrize(
    "text",
    [
        *["", "auxiliary", "auxiliary()", "auxiliary(-1)", "auxiliary(1.5)", "sum(0)", "sum(x)"],
        *["straight_through(0)", "straight_through(nan)", "rescaled", "rescaled(1e9)"],
        *["rescaled(-1)", "logits(1)", "label_gate(0)", "training_loss(2)", "sum(2", "sum 2"],
        *["Logits", "logits,sum"],
    ],
)
def test_a_text_that_names_no_surface_is_refused(text):
    with pytest.raises(HarnessError):
        split_surface(text)


def test_a_misspelt_surface_is_told_the_nearest():
    with pytest.raises(HarnessError, match="Did you mean 'auxiliary'"):
        split_surface("auxilary(0)")


def test_targets_are_ranked_by_the_surface_that_is_climbed():
    image = at(0.5, 0.1, 1.0)
    assert Auxiliary(ANCRA, 0).rank(image).tolist()[0] == pytest.approx([3.0, 0.6])
    for surface in (Logits(ANCRA), LabelGate(ANCRA), StraightThrough(ANCRA), Sum(ANCRA)):
        assert surface.rank(image).tolist()[0] == pytest.approx([5.0, 1.5])


def test_soft_selection_decides_as_the_hard_one():
    images = torch.rand(500, 1, 1, 3, generator=torch.Generator().manual_seed(0))
    hard, soft = ANCRA(images).logits, ANCRA(images, select=SoftSelect(0.5)).logits
    torch.testing.assert_close(soft, hard)
    assert torch.equal(soft.argmax(1), hard.argmax(1))
