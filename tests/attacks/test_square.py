"""Square: its schedule, its windows, and what it keeps."""

import itertools

import pytest
import torch
from attacked_models import Always, Linear, linf, pictures, search_on, small_convolution

from harness.attacks.attack import attack_spec, run_attack
from harness.attacks.square import square, window_side
from harness.attacks.surfaces import Auxiliary
from harness.evaluation.handle import Handle
from harness.outputs import Outputs


@pytest.mark.parametrize(
    ("first", "last", "side"),
    [
        (0, 10, 29),
        (11, 50, 20),
        (51, 200, 14),
        (201, 500, 10),
        (501, 1000, 7),
        (1001, 2000, 5),
        (2001, 4000, 4),
        (4001, 4999, 3),
    ],
)
def test_windows_follow_the_published_schedule(first, last, side):
    assert {window_side(query, 0.8, 32, 32) for query in (first, last)} == {side}


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 7), (28, 28)])
def test_windows_never_leave_the_image_nor_vanish(height, width):
    sides = [window_side(query, 1.0, height, width) for query in range(0, 9000, 7)]
    assert all(1 <= side <= min(height, width) for side in sides)
    assert sides == sorted(sides, reverse=True)


class Watched:
    """A model that keeps every batch of images it sees."""

    def __init__(self, model):
        self.model, self.seen = model, []

    def __call__(self, images, *, select=None):
        self.seen.append(images.clone())
        return self.model(images)


def standing_images():
    model = Watched(Handle(small_convolution(), 10))
    images = pictures(6, 3, 8, 8)
    labels = model(images).logits.argmax(1)
    model.seen.clear()
    return model, images, labels


def test_it_starts_with_vertical_stripes_at_full_distance():
    model, images, labels = standing_images()
    search = search_on(model, images, labels, linf("1/1000"))
    run_attack(attack_spec("square", queries=1), search)
    (start,) = model.seen
    inside = (images > 0.01) & (images < 0.99)
    far = torch.where(inside, (start - images) * 1000, torch.nan)
    assert torch.allclose(far.nan_to_num(1).abs(), torch.tensor(1.0), atol=1e-3)
    assert torch.equal(far.nanmean(dim=2).round().nan_to_num().abs().amax(), torch.tensor(1.0))
    assert far.sign().nansum(dim=2).abs().eq(inside.sum(dim=2)).all()


def test_one_query_changes_one_square_window_per_image_the_same_place_for_all():
    images = torch.full((5, 3, 8, 8), 0.5)
    model = Watched(Always())
    search = search_on(model, images, torch.zeros(5, dtype=torch.long), linf("1/10"))
    run_attack(attack_spec("square", queries=40, p_init=0.1), search)
    start, *rest = model.seen  # a constant model accepts nothing: each differs from the start
    places = []
    for query, candidate in enumerate(rest):
        assert ((candidate - 0.5).abs() - 0.1).abs().max() < 1e-6
        rows, columns = (candidate != start).any(dim=(0, 1)).nonzero().unbind(1)
        side = window_side(query, 0.1, 8, 8)
        assert int(rows.max() - rows.min()) < side
        assert int(columns.max() - columns.min()) < side
        places.append((int(rows.max()), int(columns.max())))
    assert max(row for row, _ in places) == 7  # the last row and column are reached
    assert max(column for _, column in places) == 7


def test_what_it_keeps_never_lowers_the_loss():
    model, images, labels = standing_images()
    search = search_on(model, images, labels, linf("1/1000"))
    losses = []

    def spy(logits, labels, targets):
        value = torch.where(labels == logits.argmax(1), -1.0, 1.0) * 0 + logits.sum(1)
        losses.append(value)
        return value

    square(search, loss=spy, queries=60)
    assert not search.broken.any()
    best = torch.stack(losses).cummax(0).values
    for before, candidate in itertools.pairwise(model.seen):
        assert candidate.shape == before.shape
    assert torch.equal(search.loss_best, best[-1])


class TwoHeads:
    """The decision is always class 0; the auxiliary head says class 1 and has a slope."""

    def __call__(self, images, *, select=None):
        slope = images.sum(dim=(1, 2, 3))
        final = torch.stack([torch.ones_like(slope), torch.zeros_like(slope)], 1)
        return Outputs(final, (torch.stack([torch.zeros_like(slope), 100 + slope], 1),))


def test_on_an_auxiliary_head_that_is_wrong_already_it_still_climbs():
    model = Watched(TwoHeads())
    images = torch.full((1, 1, 6, 6), 0.5)
    search = search_on(model, images, torch.tensor([0]), linf("1/10"), surface=Auxiliary(model, 0))
    run_attack(attack_spec("square", queries=600, surface="auxiliary(0)"), search)
    reached = float(search.loss_best[0]) - 100 - 18
    assert reached > 0.95 * 3.6  # 36 pixels, each up by 1/10
    accepted = [float(seen.sum()) for seen in model.seen[-20:]]
    assert min(accepted) > 18 + 0.5 * 3.6  # late candidates start from the best, not from anywhere


def test_restarts_see_only_what_is_left_and_draw_anew():
    weight = torch.cat([torch.zeros(1, 36), torch.ones(1, 36)])
    model = Watched(Linear(weight, torch.tensor([18.0, 0.0])))
    images = torch.cat([torch.full((2, 1, 6, 6), 0.49), torch.full((1, 1, 6, 6), 0.1)])
    search = search_on(model, images, torch.zeros(3, dtype=torch.long), linf("1/10"))
    run_attack(attack_spec("square", queries=50, restarts=2), search)
    assert search.broken.tolist() == [True, True, False]
    assert search.looks[2] == 100
    assert not torch.equal(model.seen[0][2], model.seen[-50][0])
