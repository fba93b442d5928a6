"""The feature attack: which guides it draws, what it climbs, what it costs."""

import math

import pytest
import torch
from attacked_models import Always, PixelGate, guides_like, l2, linf, pictures, search_on
from torch.nn import functional

from harness.attacks.attack import attack_spec, most_passes, run_attack
from harness.attacks.search import Guides
from harness.attacks.surface_text import SURFACES, surface_named
from harness.errors import HarnessError
from harness.identity import Capabilities
from harness.outputs import Outputs

GATED = Capabilities(2, auxiliary=1, select=True, features=True, strip=True)


def spec(**settings):
    return attack_spec("feature_attack", **{"surface": "logits", **settings})


class Watched(Always):
    """Class 0 for every image, then 1, 2, 3, ...; keeps the images that it sees."""

    def __init__(self):
        super().__init__(10)
        self.seen = []

    def __call__(self, images, *, select=None):
        self.seen.append(images.detach().clone())
        return super().__call__(images, select=select)


def drawn(count, *, images=1, labels=None, index=0, seed=0, guide_labels=None):
    """Labels of the guides, in the order in which the image of that index meets them."""
    model, guide_labels = Watched(), torch.arange(60) % 10 if guide_labels is None else guide_labels
    pixels = (torch.arange(len(guide_labels)) + 1.0) / 100
    clean = torch.full((images, 1, 1, 1), 0.999)
    labels = torch.zeros(images, dtype=torch.long) if labels is None else labels
    search = search_on(model, clean, labels, linf("1/1000"), seed=seed)
    search.guides = Guides(pixels.reshape(-1, 1, 1, 1), guide_labels)
    run_attack(spec(guides=count, steps=1), search)
    met = [batch[index] for batch in model.seen if len(batch) == images]
    return [int(guide_labels[(pixels == p.item()).nonzero()[0]]) for p in met if p < 0.9]


def test_guides_are_never_of_the_images_own_class():
    for label in (0, 4, 9):  # wrong images keep nothing from being attacked in diagnostics
        model = Watched()
        clean = torch.full((1, 1, 1, 1), 0.999)
        search = search_on(model, clean, torch.tensor([label]), linf("1/1000"), drops_broken=False)
        pixels = (torch.arange(60) + 1.0) / 100
        search.guides = Guides(pixels.reshape(-1, 1, 1, 1), torch.arange(60) % 10)
        run_attack(spec(guides=80, steps=1), search)
        met = [batch for batch in model.seen if batch < 0.9]
        labels = {int((pixels == batch.item()).nonzero()[0]) % 10 for batch in met}
        assert len(met) == 80
        assert labels == set(range(10)) - {label}


@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_half_of_the_guides_come_from_the_three_best_wrong_classes(count):
    labels = drawn(count)
    half = math.ceil(count / 2)
    assert len(labels) == count
    assert set(labels[:half]) <= {1, 2, 3}
    if count == 40:
        assert set(labels[:half]) == {1, 2, 3}
        assert set(labels[half:]) - {1, 2, 3}


def test_guides_of_an_image_depend_on_the_seed_and_its_index_and_on_nothing_else():
    alone = drawn(20)
    assert drawn(20, images=3) == alone
    assert drawn(20, images=3, index=1) != alone
    assert drawn(20, seed=1) != alone


def test_without_guides_of_the_rivals_all_other_classes_serve():
    assert set(drawn(6, guide_labels=torch.tensor([0, 9, 0, 9, 8]))) == {8, 9}


@pytest.mark.parametrize(
    ("guides", "sentence"),
    [
        (None, "needs training images"),
        (Guides(torch.zeros(2, 1, 1, 1), torch.tensor([0, 0])), "no training image of another"),
    ],
)
def test_there_is_no_attack_without_guides_of_another_class(guides, sentence):
    search = search_on(Always(), torch.zeros(1, 1, 1, 1), torch.tensor([0]), linf("1/10"))
    search.guides = guides
    with pytest.raises(HarnessError, match=sentence):
        run_attack(spec(guides=2), search)


class TwoPixels:
    """Two features, the pixels; the larger one decides. A third class has no logit ever."""

    def __call__(self, images, *, select=None):
        pixels = images.flatten(1)
        return Outputs(functional.pad(pixels, (0, 1)), (), pixels)


def steered(epsilon, threat=linf, surface="features", clean=(0.6, 0.5), **settings):
    model = TwoPixels()
    view = surface_named(surface, model, Capabilities(3, features=True))
    images = torch.tensor(clean).reshape(1, 1, 1, 2)
    search = search_on(model, images, torch.tensor([0]), threat(epsilon), surface=view)
    search.guides = Guides(torch.tensor([0.1, 0.9]).reshape(1, 1, 1, 2), torch.tensor([1]))
    run_attack(spec(surface=surface, guides=1, **settings), search)
    return search


@pytest.mark.parametrize("surface", ["features", "logits"])
def test_it_reaches_the_corner_nearest_in_angle_to_the_guide(surface):
    """The cosine with (1, 9) grows towards (-, +), so the corner (0.56, 0.54) is the best."""
    search = steered("1/25", surface=surface)
    corner = torch.tensor([0.56, 0.54])
    assert not search.broken.any()
    torch.testing.assert_close(search.last.flatten(), corner)
    best = functional.cosine_similarity(corner, torch.tensor([0.1, 0.9]), dim=0)
    torch.testing.assert_close(search.loss_best[0], best)


@pytest.mark.parametrize(("epsilon", "breaks"), [("49/1000", False), ("51/1000", True)])
def test_it_breaks_exactly_where_the_corner_decides_otherwise(epsilon, breaks):
    assert steered(epsilon).broken.tolist() == [breaks]


@pytest.mark.parametrize(("epsilon", "breaks"), [("7/100", False), ("73/1000", True)])
def test_in_l2_it_turns_as_far_as_the_ball_allows(epsilon, breaks):
    """The plane of equal pixels is 0.1 / sqrt(2) = 0.0707 away; the step turns nearly along it."""
    assert steered(epsilon, l2, steps=200, relative_step=0.02).broken.tolist() == [breaks]


def test_a_clean_image_that_is_wrong_breaks_before_any_start_is_drawn():
    search = steered("1/10", clean=(0.4, 0.5))
    assert search.broken.all()
    assert search.first_success.tolist() == [0]
    assert torch.equal(search.adversarial, search.ball.images)


@pytest.mark.parametrize("surface", ["features", "features(gated)", "features(0)", "logits"])
def test_every_vector_of_a_gated_model_can_be_matched(surface):
    model = PixelGate([[2.0, 1.0], [1.0, 2.0]], [0.0, 0.0])
    images = torch.tensor([[0.52, 0.5], [0.9, 0.2]]).reshape(2, 1, 1, 2)
    view = surface_named(surface, model, GATED)
    search = search_on(model, images, torch.tensor([0, 0]), linf("1/25"), surface=view)
    search.guides = Guides(torch.tensor([0.1, 0.9]).reshape(1, 1, 1, 2), torch.tensor([1]))
    run_attack(spec(surface=surface, guides=2), search)
    assert search.broken.tolist() == [True, False]
    assert search.forwards[1] == most_passes(spec(surface=surface, guides=2))[0]


@pytest.mark.parametrize("draws", [1, 3])
def test_passes_are_the_declared_ones_in_expectation_too(draws):
    images, model = pictures(4, 3, 8, 8), Always()
    search = search_on(model, images, torch.zeros(4, dtype=torch.long), linf("1/10"))
    search.guides = guides_like(images)
    wanted = spec(guides=5, steps=3, eot=draws)
    run_attack(wanted, search)
    forwards, backwards = most_passes(wanted)
    assert (forwards, backwards) == (draws * (2 + 5 * (3 + 2)), draws * 5 * 3)
    assert set(search.forwards.tolist()) == {forwards}
    assert set(search.backwards.tolist()) == {backwards}
    assert sum(model.batches) == 4 * forwards


@pytest.mark.parametrize("surface", ["two_phase(0)", "target_gate", "training_loss"])
def test_surfaces_that_compare_classes_are_refused(surface):
    with pytest.raises(HarnessError, match="matches vectors, which the surface"):
        spec(surface=surface)


def test_every_other_surface_takes_vectors():
    refused = {name for name, kind in SURFACES.items() if kind.compares_classes}
    assert refused == {"two_phase", "target_gate", "training_loss"}
    assert spec(surface="surrogate(0123456789ab)").loss == "cosine"
