"""The hypersphere family against `he.md` section 7, invariances and a second implementation."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from harness.batch import Answers, kl
from harness.errors import HarnessError
from harness.heads.hypersphere import CLEARANCE, Hypersphere, negative_angles, unit_rows
from harness.heads.linear import Linear
from harness.objectives.trades import Trades
from harness.outputs import Outputs

W = torch.tensor([[1, 0], [0, 2], [-1, 0]], dtype=torch.float64)
Z = torch.tensor([[3, 4]], dtype=torch.float64)
Z_ADVERSARIAL = torch.tensor([[4, 3]], dtype=torch.float64)

KINDS = {
    "fn": {"units": "features"},
    "wn": {"units": "weights"},
    "fn_wn": {"margin": 0.0},
    "he": {},
    "mhe": {"view": "angle"},
    "wn, projected": {"units": "weights", "weight_norm": "project"},
    "he, projected": {"weight_norm": "project"},
    "mhe, projected": {"view": "angle", "weight_norm": "project"},
}
every_kind = pytest.mark.parametrize("parts", KINDS.values(), ids=KINDS)


def some(*names):
    return pytest.mark.parametrize("parts", [KINDS[name] for name in names], ids=names)


unit_features = some("fn", "fn_wn", "he", "mhe", "he, projected", "mhe, projected")
unit_weights = some("wn", "fn_wn", "he", "mhe", "wn, projected", "he, projected")
projected = some("wn, projected", "he, projected", "mhe, projected")


def head_of(*, weight=W, **parts):
    head = Hypersphere(**parts).build(weight.shape[1], weight.shape[0]).double()
    head.weight.data.copy_(weight)
    return head


def random_head(seed, features, classes, **parts):
    draws = torch.Generator().manual_seed(seed)
    weight = torch.randn(classes, features, dtype=torch.float64, generator=draws)
    vectors = torch.randn(6, features, dtype=torch.float64, generator=draws)
    return head_of(weight=weight, **parts), vectors


def answers(head, features, label):
    labels = torch.full((len(features),), label)
    outputs = Outputs(head(features), (), features, head.scale)
    return Answers(outputs, labels, SimpleNamespace(head=head))


def losses_of(**parts):
    """Cross-entropy of the training logits for y = 0 and y = 1."""
    head = head_of(**parts)
    return [
        functional.cross_entropy(answers(head, Z, label).training(), torch.tensor([label])).item()
        for label in (0, 1)
    ]


@pytest.mark.parametrize(
    ("kind", "clean", "adversarial"),
    [
        ("fn", [0.6, 1.6, -0.6], [0.8, 1.2, -0.8]),
        ("wn", [3, 4, -3], [4, 3, -4]),
        ("fn_wn", [0.6, 0.8, -0.6], [0.8, 0.6, -0.8]),
        ("he", [0.6, 0.8, -0.6], [0.8, 0.6, -0.8]),
        ("mhe", [-0.927295, -0.643501, -2.214297], [-0.643501, -0.927295, -2.498092]),
        ("wn, projected", [3, 4, -3], [4, 3, -4]),
        ("he, projected", [0.6, 0.8, -0.6], [0.8, 0.6, -0.8]),
    ],
)
def test_deployed_logits_are_those_of_the_check_cases(kind, clean, adversarial):
    found = head_of(**KINDS[kind])(torch.cat([Z, Z_ADVERSARIAL]))
    expected = torch.tensor([clean, adversarial], dtype=torch.float64)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("view", "scale", "margin", "values"),
    [
        ("cosine", 1.0, 0.0, (0.925289, 0.725289)),
        ("cosine", 15.0, 0.0, (3.048587, 0.048587)),
        ("cosine", 15.0, 0.2, (6.002476, 0.693147)),
        ("cosine", 10.0, 0.2, (4.018151, 0.693150)),
        ("angle", 1.0, 0.0, (0.957147, 0.673353)),
        ("angle", 15.0, 0.0, (4.270978, 0.014067)),
        ("angle", 15.0, 0.1, (5.760068, 0.061554)),
    ],
    ids=["HE-1", "HE-2", "HE-3", "HE-4", "m-HE-1", "m-HE-2", "m-HE-3"],
)
@pytest.mark.parametrize("weight_norm", ["divide", "project"])
def test_cross_entropy_with_scale_and_margin_is_that_of_the_check_cases(
    view, scale, margin, values, weight_norm
):
    found = losses_of(view=view, scale=scale, margin=margin, weight_norm=weight_norm)
    assert found == pytest.approx(values, abs=1e-6)


def test_divergences_are_those_of_he_5_and_he_6():
    head = head_of()
    clean, adversarial = answers(head, Z, 1), answers(head, Z_ADVERSARIAL, 1)
    assert kl(clean.scaled(), adversarial.scaled()).item() == pytest.approx(2.715445, abs=1e-6)
    assert kl(clean.deployed(), adversarial.deployed()).item() == pytest.approx(0.019552, abs=1e-6)


@pytest.mark.parametrize(
    ("inner_scale", "total"),
    [("s", 16.985816), ("1", 0.693147 + 6 * 0.019552)],
    ids=["HE-7", "HE-6 in its place"],
)
def test_trades_has_the_margin_in_cross_entropy_and_the_inner_scale_in_its_divergence(
    inner_scale, total
):
    head, label = head_of(inner_scale=inner_scale), torch.tensor([1])
    batch = SimpleNamespace(
        clean=answers(head, Z, 1), adversarial=answers(head, Z_ADVERSARIAL, 1), labels=label
    )
    assert Trades(beta=6.0)(batch, 0).item() == pytest.approx(total, abs=4e-6)
    assert head.scale == 15.0  # what attackers are told


def test_the_squared_difference_of_cosines_is_that_of_he_8():
    head = head_of()
    difference = answers(head, Z, 1).deployed() - answers(head, Z_ADVERSARIAL, 1).deployed()
    assert difference.square().mean().item() == pytest.approx(0.04, abs=1e-12)


@every_kind
def test_logits_are_those_of_a_second_implementation(parts):
    head, vectors = random_head(3, 5, 4, **parts)
    weight = head.weight.tolist()  # before a pass may overwrite it
    found = head(vectors)
    for n, z in enumerate(vectors.tolist()):
        for k, w in enumerate(weight):
            value = math.fsum(a * b for a, b in zip(z, w, strict=True))
            value /= 1.0 if head.parts.units == "weights" else math.hypot(*z)
            value /= 1.0 if head.parts.units == "features" else math.hypot(*w)
            value = -math.acos(value) if head.parts.view == "angle" else value
            assert found[n, k].item() == pytest.approx(value, abs=1e-12)


@every_kind
def test_the_margin_lowers_the_scaled_logit_of_the_label_alone(parts):
    head = head_of(**{**parts, "scale": 10.0, "margin": 0.3})
    logits = head(torch.cat([Z, Z_ADVERSARIAL]))
    lowered = 10 * logits - head.training_logits(logits, torch.tensor([2, 0]))
    expected = torch.tensor([[0, 0, 3.0], [3.0, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(lowered, expected)


def test_without_margin_at_scale_one_the_loss_is_cross_entropy_of_the_cosines():
    head = head_of(scale=1.0, margin=0.0)
    assert torch.equal(head.training_logits(head(Z), torch.tensor([0])), head(Z))


@unit_features
def test_lengths_of_features_change_nothing(parts):
    head, vectors = random_head(0, 4, 3, **parts)
    torch.testing.assert_close(head(7 * vectors), head(vectors))


@unit_weights
def test_lengths_of_class_weights_change_nothing(parts):
    lengths = torch.tensor([[0.01], [3.0], [100.0]], dtype=torch.float64)
    torch.testing.assert_close(head_of(weight=lengths * W, **parts)(Z), head_of(**parts)(Z))


def test_lengths_count_where_they_are_not_taken_out():
    torch.testing.assert_close(head_of(units="weights")(7 * Z), 7 * head_of(units="weights")(Z))
    by_features = head_of(units="features")(Z)
    torch.testing.assert_close(head_of(weight=7 * W, units="features")(Z), 7 * by_features)


def gradients(head, vectors):
    """Of a loss with margin and divergence: with respect to features and class weights."""
    vectors = vectors.clone().requires_grad_()
    labels = torch.arange(len(vectors)) % head.weight.shape[0]
    logits = head(vectors)
    other = head(vectors.detach().flip(0))
    loss = functional.cross_entropy(head.training_logits(logits, labels), labels)
    loss = loss + kl(head.scale * logits, head.scale * other).mean()
    return torch.autograd.grad(loss, [vectors, head.weight])


@unit_features
def test_the_gradient_of_a_loss_is_orthogonal_to_the_features(parts):
    head, vectors = random_head(1, 4, 3, **parts)
    gradient, _ = gradients(head, vectors)
    assert gradient.abs().max() > 1e-3
    assert (gradient * vectors).sum(1).abs().max() < 1e-12


@some("wn", "fn_wn", "he", "mhe")
def test_the_gradient_of_a_loss_is_orthogonal_to_divided_class_weights(parts):
    head, vectors = random_head(2, 4, 3, **parts)
    _, gradient = gradients(head, vectors)
    assert gradient.abs().max() > 1e-3
    assert (gradient * head.weight).sum(1).abs().max() < 1e-12


@projected
def test_projected_class_weights_get_the_gradient_of_the_plain_linear_layer(parts):
    head, vectors = random_head(2, 4, 3, **parts)
    _, found = gradients(head, vectors)
    plain = head_of(weight=unit_rows(head.weight), **{**parts, "weight_norm": "divide"})
    rows = plain.rows.detach().requires_grad_()

    class Unit(type(plain)):
        rows = property(lambda _: rows)
        weight = property(lambda _: rows)

    plain.__class__ = Unit
    _, expected = gradients(plain, vectors)
    torch.testing.assert_close(found, expected)
    assert (found * head.weight).sum(1).abs().max() > 1e-3  # which is not orthogonal


@every_kind
def test_gradients_are_those_of_the_values(parts):
    head, vectors = random_head(4, 3, 3, **parts)
    labels = torch.arange(6) % 3
    assert torch.autograd.gradcheck(
        lambda z: functional.cross_entropy(head.training_logits(head(z), labels), labels),
        (vectors.requires_grad_(),),
    )


def test_cosines_scaled_cosines_and_angles_decide_alike():
    head, _ = random_head(5, 8, 10)
    vectors = torch.randn(300, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    angles = head_of(weight=head.weight.detach(), view="angle")(vectors)
    cosines = head(vectors)
    assert torch.equal(cosines.argmax(1), (15 * cosines).argmax(1))
    assert torch.equal(cosines.argmax(1), angles.argmax(1))


@pytest.mark.parametrize("cosine", [1.0, -1.0, 1.0000001, 1 - 1e-7, 0.9999985, 0.0])
def test_the_arccosine_and_its_gradient_are_finite_at_every_cosine(cosine):
    value = torch.tensor([cosine], requires_grad=True)
    angle = -negative_angles(value)
    (gradient,) = torch.autograd.grad(angle.sum(), value)
    clear = min(max(cosine, -1 + CLEARANCE), 1 - CLEARANCE)
    assert angle.item() == pytest.approx(math.acos(clear), rel=0.02)
    assert abs(gradient.item()) < 750
    assert (gradient == 0).item() is (abs(cosine) > 1 - CLEARANCE)


@pytest.mark.parametrize("training", [True, False])
def test_training_and_attacks_see_the_same_clearance(training):
    head = head_of(view="angle").float().train(training)
    on_a_weight = torch.tensor([[5.0, 0.0]], requires_grad=True)
    logits = head(on_a_weight)
    assert logits[0, 0].item() == pytest.approx(-math.acos(1 - CLEARANCE), rel=0.02)
    (gradient,) = torch.autograd.grad(logits[0, 0], on_a_weight)
    assert torch.count_nonzero(gradient) == 0


@projected
def test_a_pass_of_training_puts_the_class_weights_on_the_sphere_and_a_second_changes_no_bit(parts):
    head, vectors = random_head(6, 40, 10, **parts)
    head, vectors = head.float(), vectors.float()
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        head.weight.data.copy_(3 * torch.randn(10, 40, generator=generator))
        first = head(vectors)
        once = head.weight.detach().clone()
        torch.testing.assert_close(once.norm(dim=1), torch.ones(10))
        assert torch.equal(head(vectors), first)
        assert torch.equal(head.weight, once)


@projected
def test_a_pass_in_evaluation_changes_no_weight_and_gives_the_same_logits(parts):
    head, vectors = random_head(7, 40, 10, **parts)
    before = head.weight.detach().clone()
    evaluated = head.eval()(vectors)
    assert torch.equal(head.weight, before)
    assert torch.equal(head.train()(vectors), evaluated)
    assert not torch.equal(head.weight, before)


@projected
def test_two_passes_before_one_backward_pass_are_allowed(parts):
    head, vectors = random_head(8, 4, 3, **parts)
    (head(vectors).sum() + head(2 * vectors).square().sum()).backward()
    assert head.weight.grad.isfinite().all()


@every_kind
def test_rows_are_the_class_weights_of_the_forward_pass(parts):
    head, vectors = random_head(9, 4, 3, **parts)
    directions = vectors
    if head.parts.units != "weights":
        directions = vectors / vectors.norm(dim=1, keepdim=True)
    logits = directions @ head.rows.T
    logits = -logits.arccos() if head.parts.view == "angle" else logits
    torch.testing.assert_close(head(vectors), logits)


@pytest.mark.parametrize("view", ["cosine", "angle"])
def test_the_head_computes_in_float32_under_autocast(view):
    head = Hypersphere(view=view).build(64, 10)
    vectors = torch.randn(5, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    vectors[0] = head.weight[0].detach().bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = head(vectors.requires_grad_())
    assert found.dtype == torch.float32
    assert torch.equal(found, head(vectors.float()))
    (gradient,) = torch.autograd.grad(found.sum(), vectors)
    assert gradient.isfinite().all()


@every_kind
def test_features_of_zero_length_give_finite_logits_and_gradients(parts):
    features = torch.zeros(2, 2, requires_grad=True)
    logits = head_of(**parts).float()(features)
    expected = -math.pi / 2 if parts.get("view") == "angle" else 0.0
    torch.testing.assert_close(logits, torch.full((2, 3), expected))
    logits.sum().backward()
    assert features.grad.isfinite().all()


@every_kind
def test_the_head_has_one_weight_and_no_bias(parts):
    assert [*Hypersphere(**parts).build(4, 3).state_dict()] == ["weight"]


@pytest.mark.parametrize(
    ("parts", "projects"),
    [
        ({}, False),
        ({"weight_norm": "project"}, True),
        ({"weight_norm": "project", "units": "weights"}, True),
        ({"weight_norm": "project", "units": "features"}, False),
    ],
)
def test_a_factory_says_whether_passes_change_the_weights(parts, projects):
    assert Hypersphere(**parts).projects is projects


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"units": "logits"}, "no units named 'logits'. Known: both, features, weights"),
        ({"view": "sine"}, "no view named 'sine'. Did you mean 'cosine'"),
        ({"weight_norm": "divid"}, "no weight norm named 'divid'. Did you mean 'divide'"),
        ({"inner_scale": "15"}, "no inner scale named '15'. Did you mean '1'"),
        ({"view": "angle", "units": "features"}, "not of features alone: choose view cosine"),
        ({"scale": 0.0}, r"scale must lie in \[0.1, 1000\] but is 0.0"),
    ],
)
def test_parts_that_mean_nothing_are_refused(parts, sentence):
    with pytest.raises(HarnessError, match=sentence):
        Hypersphere(**parts)


def test_the_linear_head_is_pytorchs_and_trains_on_what_it_deploys():
    torch.manual_seed(5)
    head = Linear().build(4, 3)
    torch.manual_seed(5)
    theirs = torch.nn.Linear(4, 3)
    features = torch.rand(2, 4)
    assert torch.equal(head(features), theirs(features))
    logits = head(features)
    assert head.training_logits(logits, torch.tensor([0, 1])) is logits
    assert head.scale == 1.0
