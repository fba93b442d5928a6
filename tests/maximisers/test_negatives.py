"""Negatives (`ancra.md` 3.1): another class, drawn by class, attacked towards the anchor."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.batch import Batch, InnerBudget, PerHead
from harness.errors import HarnessError
from harness.heads.linear import Linear
from harness.hooks.reverse_attention import ReverseAttention
from harness.maximisers.negatives import STRATEGIES, InBatchNegatives, other_class_partners
from harness.models.architectures import ARCHITECTURES
from harness.models.network import Network
from harness.regularisers.negative_contrast import NegativeContrast
from harness.threat import ThreatModel
from harness.verification import check_inside

SHAPE = (1, 8, 8)


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def batch_of(labels, *, hook=None, steps=5, seed=1, strategy="random_adv", bn="eval", epoch=1):
    torch.manual_seed(0)
    trunk = ARCHITECTURES["small_resnet"].build(SHAPE, width=3)
    network = Network(trunk, Linear().build(trunk.features, 4), hook and hook.build(trunk)).train()
    return Batch(
        network,
        torch.rand(len(labels), *SHAPE, generator=stream()),
        torch.tensor(labels),
        budget=InnerBudget(ThreatModel.parse("linf", "1/10"), steps, 0.03, bn),
        combine=PerHead(),
        generator=stream(seed),
        negatives=InBatchNegatives(strategy),
        epoch=epoch,
        epochs=120,
    )


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(0, 1000))
@settings(max_examples=150)
def test_a_partner_never_has_the_label_of_its_anchor(labels, seed):
    labels = torch.tensor(labels)
    partners, exists = other_class_partners(labels, stream(seed))
    assert exists.tolist() == [len(labels.unique()) > 1] * len(labels)
    assert ((labels[partners] != labels) == exists).all()
    assert ((partners >= 0) & (partners < len(labels))).all()


def test_classes_are_drawn_uniformly_and_then_images_of_the_class():
    anchors = 20_000
    labels = torch.tensor([0] * anchors + [1] * 30 + [2] * 3 + [3] * 10)
    partners = other_class_partners(labels, stream(7))[0][:anchors]
    by_class = labels[partners].bincount() / anchors
    # three standard deviations of a third are 0.01: image-uniform would give 0.70, 0.07, 0.23
    torch.testing.assert_close(by_class, torch.tensor([0, 1, 1, 1]) / 3, atol=0.01, rtol=0)
    of_class_two = partners[labels[partners] == 2] - (anchors + 30)
    within = of_class_two.bincount() / len(of_class_two)
    torch.testing.assert_close(within, torch.full((3,), 1 / 3), atol=0.02, rtol=0)


def test_every_other_image_can_be_a_partner():
    labels = torch.tensor([0, 1, 1, 2, 0])
    draws, seen = stream(), [set() for _ in labels]
    for _ in range(200):
        for anchor, partner in enumerate(other_class_partners(labels, draws)[0].tolist()):
            seen[anchor].add(partner)
    assert seen == [{1, 2, 3}, {0, 3, 4}, {0, 3, 4}, {0, 1, 2, 4}, {1, 2, 3}]


@pytest.mark.parametrize("hook", [None, ReverseAttention()], ids=["plain", "gated"])
def test_with_one_class_only_the_contrast_is_exactly_zero_and_trains(hook):
    batch = batch_of([2, 2, 2], hook=hook)
    assert not batch.negatives.exists.any()
    value = NegativeContrast(weight=3.0)(batch)
    value.backward()
    assert value.item() == 0.0
    gradients = [p.grad for p in batch.network.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.count_nonzero(gradient) == 0 for gradient in gradients)


def test_negatives_stay_within_epsilon_of_their_own_image():
    batch = batch_of([0, 1, 2, 3, 0, 1])
    labels = batch.labels
    partners, _ = other_class_partners(labels, stream(1))
    found = batch.negatives
    assert torch.equal(found.labels, labels[partners])
    check_inside(batch.images[partners], found.images, batch.budget.threat)
    assert (found.images != batch.images[partners]).any()


@pytest.mark.parametrize("hook", [None, ReverseAttention()], ids=["plain", "gated"])
def test_the_attack_moves_negatives_towards_the_anchor_s_class(hook):
    labels = [0, 1, 2, 3] * 4
    losses = []
    for steps in (0, 10):
        batch = batch_of(labels, hook=hook, steps=steps)
        images = batch.negatives.images
        batch.network.eval()
        with torch.no_grad():
            outputs = batch.network(images).every_logits()
            values = [torch.nn.functional.cross_entropy(one, batch.labels) for one in outputs]
        losses.append(PerHead()(values.__getitem__, len(values)).item())
    assert losses[1] < losses[0]


def test_statistics_and_gradients_stay_as_they_were():
    batch = batch_of([0, 1, 2, 3])
    state = {name: value.clone() for name, value in batch.network.state_dict().items()}
    _ = batch.negatives
    assert all(torch.equal(v, state[k]) for k, v in batch.network.state_dict().items())
    assert all(parameter.grad is None for parameter in batch.network.parameters())
    assert all(module.training for module in batch.network.modules())


def test_the_same_stream_gives_the_same_negatives():
    state = torch.get_rng_state()
    once, again = (batch_of([0, 1, 1, 3]) for _ in range(2))
    torch.set_rng_state(state)
    assert torch.equal(once.negatives.images, again.negatives.images)
    other = batch_of([0, 1, 1, 3], seed=5)
    assert not torch.equal(once.negatives.images, other.negatives.images)


CHOOSING = ["soft_ls", "hard_ls", "easy"]


def chosen(batch):
    """Positions that `negatives` chose, of a strategy without attack."""
    found = batch.negatives
    equal = (found.images[:, None] == batch.images[None]).flatten(2).all(2)
    assert (equal.sum(1) == 1).all()
    return equal.int().argmax(1)


def by_hand(strategy, logits, labels, drawn):
    """Section 3.1, one anchor at a time."""
    predicted = [row.index(max(row)) for row in logits]
    partners, fallbacks = [], 0
    for i, label in enumerate(labels):
        may = {
            "soft_ls": lambda j, i=i: predicted[j] == predicted[i],
            "hard_ls": lambda j, label=label: predicted[j] == label,
            "easy": lambda j, i=i, label=label: predicted[j] not in {label, predicted[i]},
        }[strategy]
        others = [j for j in range(len(labels)) if labels[j] != label and may(j)]
        fallbacks += not others
        best = max(others, key=lambda j, label=label: logits[j][label], default=drawn[i])
        partners.append(best)
    return partners, fallbacks


@pytest.mark.parametrize("hook", [None, ReverseAttention()], ids=["plain", "gated"])
@pytest.mark.parametrize("strategy", CHOOSING)
def test_a_choosing_strategy_takes_the_candidate_that_is_most_like_the_anchor_s_class(
    strategy, hook
):
    labels = [0, 1, 2, 3, 3, 2, 1, 0, 2, 1] * 2
    found_fallbacks = 0
    for seed in range(4):
        batch = batch_of(labels, hook=hook, strategy=strategy, epoch=11)
        batch.images = torch.rand(batch.images.shape, generator=stream(seed))
        with torch.no_grad():  # so that every class is predicted
            vectors = batch.network.eval()(batch.images).vectors
            features = vectors[0] if vectors else batch.network(batch.images).features
            batch.network.head.weight *= 100
            batch.network.head.bias.copy_(-batch.network.head.weight @ features.mean(0))
            logits = batch.network(batch.images).logits.tolist()
        batch.network.train()
        drawn, _ = other_class_partners(batch.labels, stream(1))
        expected, fallbacks = by_hand(strategy, logits, labels, drawn.tolist())
        assert chosen(batch).tolist() == expected
        found_fallbacks += fallbacks
    assert found_fallbacks < 4 * len(labels)


@pytest.mark.parametrize("strategy", CHOOSING)
def test_an_anchor_without_candidate_falls_back_to_the_draw(strategy):
    labels = [0, 1, 2, 3] * 3
    batch = batch_of(labels, strategy=strategy, epoch=120)
    with torch.no_grad():  # every image is predicted as class 2
        batch.network.head.bias.copy_(torch.tensor([0.0, 0.0, 1e4, 0.0]))
    drawn, _ = other_class_partners(batch.labels, stream(1))
    kept = chosen(batch) == drawn
    without = {  # anchors of which no image of another class is a candidate
        "soft_ls": torch.zeros(12, dtype=torch.bool),
        "hard_ls": batch.labels != 2,
        "easy": torch.ones(12, dtype=torch.bool),
    }[strategy]
    assert kept[without].all()
    assert not kept[~without].all() or without.all()


@pytest.mark.parametrize("strategy", CHOOSING)
@pytest.mark.parametrize(
    ("epoch", "epochs", "is_drawn"),
    [(10, 120, True), (11, 120, False), (2, 30, True), (3, 30, False), (10, 200, True)],
)
def test_the_first_ten_epochs_of_the_paper_s_run_draw(strategy, epoch, epochs, is_drawn):
    batch = batch_of([0, 1, 2, 3] * 6, strategy=strategy, epoch=epoch)
    batch.epochs = epochs
    with torch.no_grad():
        raw = batch.network.eval()(batch.images).logits
        batch.network.head.bias -= raw.mean(0)
    drawn, _ = other_class_partners(batch.labels, stream(1))
    assert torch.equal(chosen(batch), drawn) == is_drawn


def test_a_choice_looks_at_the_network_in_evaluation_mode_and_leaves_no_trace():
    batch = batch_of([0, 1, 2, 3] * 3, strategy="soft_ls", epoch=50)
    seen = []
    handle = batch.network.register_forward_pre_hook(
        lambda module, _: seen.append((module.training, torch.is_grad_enabled()))
    )
    state = {name: value.clone() for name, value in batch.network.state_dict().items()}
    _ = batch.negatives
    handle.remove()
    assert seen == [(False, False)]
    assert all(torch.equal(v, state[k]) for k, v in batch.network.state_dict().items())
    assert all(module.training for module in batch.network.modules())


@pytest.mark.parametrize("strategy", ["random", *CHOOSING])
def test_a_strategy_with_attack_moves_the_images_that_the_same_one_without_chooses(strategy):
    labels = [0, 1, 2, 3] * 4
    plain = batch_of(labels, strategy=strategy, epoch=60)
    attacked = batch_of(labels, strategy=f"{strategy}_adv", epoch=60)
    assert torch.equal(plain.negatives.labels, attacked.negatives.labels)
    images = plain.negatives.images
    check_inside(images, attacked.negatives.images, attacked.budget.threat)
    assert (attacked.negatives.images != images).flatten(1).any(1).all()
    assert torch.equal(images, plain.images[chosen(plain)])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_strategy_makes_a_negative_of_the_anchor_s_class(strategy):
    batch = batch_of([0, 1, 1, 3, 3, 3], strategy=strategy, epoch=120)
    assert batch.negatives.exists.all()
    assert (batch.negatives.labels != batch.labels).all()
    alone = batch_of([2, 2], strategy=strategy, epoch=120)
    assert not alone.negatives.exists.any()


@pytest.mark.parametrize(("bn", "steps"), [("eval", 0), ("train", 5)])
def test_the_attack_sees_batch_norm_as_the_recipe_says(bn, steps):
    batch = batch_of([0, 1, 2, 3], bn=bn, steps=5)
    _ = batch.negatives
    assert int(batch.network.trunk.bn1.num_batches_tracked) == steps


def test_an_unknown_strategy_is_refused_with_the_nearest_one():
    with pytest.raises(HarnessError, match=r"no choice of negatives named 'soft'.*soft_ls"):
        InBatchNegatives("soft")
