"""Asymmetric negative contrast against `ancra.md` section 8, ANC-1 to ANC-5."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.batch import CLEAN, NEGATIVE, Batch, InnerBudget, PerHead
from harness.errors import HarnessError
from harness.heads.linear import Linear
from harness.hooks.reverse_attention import ReverseAttention
from harness.maximisers.negatives import InBatchNegatives
from harness.models.architectures import ARCHITECTURES
from harness.models.network import Network
from harness.regularisers.negative_contrast import NegativeContrast, contrast
from harness.threat import ThreatModel

P = [[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]]
Q = [[0.5, 0.3, 0.2], [0.2, 0.3, 0.5]]


def leaf(rows):
    return torch.tensor(rows, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize(
    ("alpha", "to_anchor", "to_negative"),
    [(1.0, 0.0, 0.295804), (0.5, 0.105644, 0.147902), (0.0, 0.211289, 0.0)],
)
def test_value_ignores_alpha_and_the_gradient_follows_it(alpha, to_anchor, to_negative):
    p, q = leaf(P), leaf(Q)
    value = contrast(p, q, alpha).mean()
    value.backward()
    assert value.item() == pytest.approx(0.295804, abs=1e-6)
    expected = torch.zeros(2, 3, dtype=torch.float64)
    expected[0, 0] = 1.0
    torch.testing.assert_close(p.grad, to_anchor * expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(q.grad, to_negative * expected, rtol=0, atol=1e-6)


def test_with_alpha_one_no_gradient_at_all_passes_through_the_anchor():
    p, q = leaf(P), leaf(Q)
    contrast(p, q, 1.0).sum().backward()
    assert torch.count_nonzero(p.grad) == 0
    assert torch.count_nonzero(q.grad) == 1


def test_without_a_match_the_value_is_exactly_zero_and_so_is_every_gradient():
    p, q = leaf([[0.6, 0.4]]), leaf([[0.4, 0.6]])
    value = contrast(p, q, 0.5).mean()
    value.backward()
    assert value.item() == 0.0
    assert torch.count_nonzero(p.grad) + torch.count_nonzero(q.grad) == 0


def test_every_image_matches_in_anc_5():
    p, q = leaf([[0.81, 0.19], [0.19, 0.81]]), leaf([[0.64, 0.36], [0.36, 0.64]])
    assert contrast(p, q, 1.0).mean().item() == pytest.approx(0.72, abs=1e-12)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_gradients_are_those_of_the_value_with_one_side_frozen(alpha):
    p, q = leaf(P), leaf(Q)
    frozen_p, frozen_q = p.detach(), q.detach()
    gradient_p, gradient_q = torch.autograd.grad(contrast(p, q, alpha).sum(), (p, q))
    both = leaf(P), leaf(Q)
    assert torch.autograd.gradcheck(
        lambda a, b: alpha * contrast(frozen_p, b, 1.0) + (1 - alpha) * contrast(a, frozen_q, 0.0),
        both,
    )
    expected = torch.autograd.grad(
        (alpha * contrast(frozen_p, both[1], 1.0)).sum()
        + ((1 - alpha) * contrast(both[0], frozen_q, 0.0)).sum(),
        both,
    )
    torch.testing.assert_close((gradient_p, gradient_q), expected)


def test_certain_answers_of_different_classes_give_no_nan():
    p, q = (torch.tensor(rows, requires_grad=True) for rows in ([[200.0, 0.0]], [[0.0, 200.0]]))
    contrast(p.softmax(1), q.softmax(1), 0.5).sum().backward()
    assert torch.equal(p.grad, torch.zeros(1, 2))
    assert torch.equal(q.grad, torch.zeros(1, 2))


@given(st.lists(st.floats(-20, 20), min_size=8, max_size=8), st.floats(0, 1))
@settings(max_examples=60)
def test_similarity_lies_between_zero_and_one(logits, alpha):
    p, q = torch.tensor(logits, dtype=torch.float64).reshape(2, 2, 2).softmax(2)
    value = contrast(p, q, alpha)
    assert ((value >= 0) & (value <= 1 + 1e-12)).all()
    matching = p.argmax(1) == q.argmax(1)
    assert ((value >= 0.5 - 1e-12) == matching).all()  # a largest of two is at least 1/2


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_alpha_outside_the_unit_interval_is_refused(alpha):
    with pytest.raises(HarnessError, match=r"alpha must lie in \[0, 1\]"):
        NegativeContrast(alpha=alpha)


def real_batch(labels, *, negatives="random"):
    torch.manual_seed(0)
    trunk = ARCHITECTURES["small_resnet"].build((1, 8, 8), width=3)
    hook = ReverseAttention().build(trunk)
    network = Network(trunk, Linear().build(trunk.features, 4), hook).train()
    return Batch(
        network,
        torch.rand(len(labels), 1, 8, 8),
        torch.tensor(labels),
        budget=InnerBudget(ThreatModel.parse("linf", "1/10"), 2, 0.03),
        combine=PerHead(),
        generator=torch.Generator().manual_seed(3),
        negatives=InBatchNegatives(negatives),
    )


def test_the_share_of_matching_anchors_is_measured_for_every_output():
    batch = real_batch([0, 1, 2, 3] * 8)
    NegativeContrast()(batch)
    for k in range(3):
        predicted, other = (a.deployed(k).argmax(1) for a in (batch.clean, batch.negative))
        share = (predicted == other).float().mean().item()
        assert batch.measures[f"match_rate_{k}"].item() == pytest.approx(share)
    assert set(batch.measures) == {f"match_rate_{k}" for k in range(3)}
    assert batch.measures["match_rate_1"] > 0


def test_anchors_without_a_negative_match_nothing():
    batch = real_batch([1, 1, 1])
    assert NegativeContrast()(batch).item() == 0.0
    assert [value.item() for value in batch.measures.values()] == [0.0, 0.0, 0.0]


def test_label_gates_let_hardly_any_but_the_first_auxiliary_output_match():
    """With rows that are apart the label is echoed, and no negative has the anchor's label."""
    batch = real_batch([0, 1, 2, 3] * 8)
    with torch.no_grad():
        batch.network.head.weight.copy_(8 * torch.eye(4, 6))
    NegativeContrast()(batch)
    rates = [batch.measures[f"match_rate_{k}"].item() for k in range(3)]
    assert rates[0] == rates[2] == 0.0
    assert rates[1] > 0


@pytest.mark.parametrize(("anchors", "passes"), [("shared", 2), ("train", 2), ("eval", 1)])
def test_anchors_move_the_running_statistics_in_train_mode_alone(anchors, passes):
    batch = real_batch([0, 1, 2, 3])
    NegativeContrast(anchors=anchors)(batch)
    assert int(batch.network.trunk.bn1.num_batches_tracked) == passes
    assert all(module.training for module in batch.network.modules())


@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_anchors_of_their_own_have_the_value_and_gradient_of_shared_ones(alpha):
    found = []
    for anchors in ("shared", "train"):
        batch = real_batch([0, 1, 2, 3] * 4)
        value = NegativeContrast(alpha=alpha, anchors=anchors)(batch)
        value.backward()
        found.append([value.detach(), *(p.grad for p in batch.network.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("alpha", "has_gradient"), [(1.0, False), (0.99, True)])
def test_frozen_anchors_of_their_own_build_no_graph(alpha, has_gradient):
    batch, seen = real_batch([0, 1, 2, 3]), []
    batch.network.register_forward_hook(lambda *found: seen.append(found[2].logits.requires_grad))
    NegativeContrast(alpha=alpha, anchors="train")(batch)
    assert seen == [has_gradient, True]  # the anchors, then the negatives


def test_only_shared_anchors_need_the_clean_answers_of_others():
    assert NegativeContrast().needs == {CLEAN, NEGATIVE}
    assert NegativeContrast(anchors="train").needs == {NEGATIVE}
    assert NegativeContrast(anchors="eval").needs == {NEGATIVE}


def test_an_unknown_mode_of_the_anchors_is_refused():
    with pytest.raises(HarnessError, match=r"no mode of the anchors named 'evl'.*eval"):
        NegativeContrast(anchors="evl")
