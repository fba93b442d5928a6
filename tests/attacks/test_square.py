"""Square: its schedule, its windows, and what it keeps."""

import itertools

import pytest
import torch
from attacked_models import (
    Always,
    Linear,
    attacked,
    l2,
    linf,
    pictures,
    search_on,
    small_convolution,
)
from pyautoattack.square import SquareAttack
from test_linear_models import distances, epsilons, problem

from harness.attacks.attack import attack_spec, run_attack
from harness.attacks.losses import LOSSES
from harness.attacks.square import square
from harness.attacks.square_bumps import Bumps, bump, bump_side, move_mass
from harness.attacks.square_windows import Squares, window_side
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
    search.room = 1  # one query of an image in one pass
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
    search.room, losses = 1, []

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
    search.room = 1
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
    search.room = 1
    run_attack(attack_spec("square", queries=50, restarts=2), search)
    assert search.broken.tolist() == [True, True, False]
    assert search.looks[2] == 100
    assert not torch.equal(model.seen[0][2], model.seen[-50][0])


def one_after_the_other(search, loss, queries, p_init):
    """The attack as it is written: each proposal starts from what the one before left."""
    active = search.standing()
    squares = Squares.drawn(search, active, queries, p_init, 0)
    best = squares.start(search.ball)
    look = search.judge(active, best, loss)
    value, kept = look.value, look.kept
    _, _, height, width = best.shape
    for query in range(queries - 1):
        active, best, value, squares = active[kept], best[kept], value[kept], squares.take(kept)
        ball, side = search.ball.take(active), window_side(query, p_init, height, width)
        top, left = (
            int(share * (size - side + 1))
            for share, size in zip(squares.corners[query], (height, width), strict=True)
        )
        window = (..., slice(top, top + side), slice(left, left + side))
        candidate = best.clone()
        moved = best[window] + 2 * ball.epsilon * squares.colours[:, query, :, None, None]
        candidate[window] = torch.minimum(torch.maximum(moved, ball.low[window]), ball.high[window])
        look = search.judge(active, candidate, loss)
        kept, better = look.kept, look.value > value
        best = torch.where(better[:, None, None, None], candidate, best)
        value = torch.where(better, look.value, value)


RECORDED = ("broken", "adversarial", "first_success", "loss_start", "loss_best", "last")
COUNTED = ("last_wrong", "nearest", "looks", "forwards", "backwards")


@pytest.mark.parametrize("drops_broken", [True, False])
@pytest.mark.parametrize("refuses", [False, True])
def test_several_queries_in_one_pass_leave_what_one_after_the_other_leaves(drops_broken, refuses):
    network, images = Handle(small_convolution(), 10), pictures(12, 3, 8, 8)
    model, labels = Watched(network), network(images).logits.argmax(1)

    def confirm(candidates):
        """Takes back every other wrong decision, whatever else is asked at once."""
        odd = (candidates.flatten(1).sum(1) * 1e4).long() % 2 == 1
        logits = network(candidates).logits.clone()
        originals = (candidates[:, None] - images).flatten(2).abs().amax(2).argmin(1)
        logits[odd, labels[originals[odd]]] = 1e3
        return logits

    def searched(room):
        search = search_on(model, images, labels, linf("12/255"), drops_broken=drops_broken)
        search.room, search.confirm = room, confirm if refuses else None
        return search

    alone = searched(1)
    one_after_the_other(alone, LOSSES["margin"], 150, 0.8)
    assert 0 < int(alone.broken.sum()) < len(images)
    for room in (1, 40, 64, 5000):
        several = searched(room)
        model.seen.clear()
        run_attack(attack_spec("square", queries=150), several)
        for name in (*RECORDED, *COUNTED):
            assert torch.equal(getattr(several, name), getattr(alone, name)), (room, name)
        if drops_broken:
            assert (len(model.seen) == 150) if room == 1 else (len(model.seen) < 140)


class Undefined:
    """Decides by a network; its auxiliary head has no value for a third of all images."""

    def __init__(self, network):
        self.network = network

    def __call__(self, images, *, select=None):
        logits = self.network(images).logits
        without = (images.flatten(1).double().sum(1) * 1e4).long() % 3 == 0
        return Outputs(logits, (logits.flip(1).masked_fill(without[:, None], torch.nan),))


def test_where_a_run_starts_without_a_value_every_query_is_recorded_too():
    model, images = Undefined(Handle(small_convolution(), 10)), pictures(20, 3, 8, 8)
    labels, found = model(images).logits.argmax(1), {}
    for room in (1, 100, 1000):
        search = search_on(model, images, labels, linf("6/255"), surface=Auxiliary(model, 0))
        search.room = room
        run_attack(attack_spec("square", queries=40, surface="auxiliary(0)"), search)
        found[room] = search
    assert 0 < int(found[1].loss_start.isnan().sum()) < len(images)
    for name in (*RECORDED, *COUNTED):
        expected = getattr(found[1], name)
        for room in (100, 1000):
            torch.testing.assert_close(
                getattr(found[room], name), expected, rtol=0, atol=0, equal_nan=True
            )


def test_with_a_trace_every_query_has_a_row_of_its_own():
    model, images, labels = standing_images()
    search = search_on(model, images, labels, linf("1/1000"))
    search.keeps_trace = True
    run_attack(attack_spec("square", queries=60), search)
    assert len(search.trace) == 60
    assert not torch.stack(search.trace).isnan().any()


def test_in_l2_the_best_images_keep_the_layout_of_the_images():
    model, images, labels = standing_images()
    images = images.contiguous(memory_format=torch.channels_last)
    search = search_on(model, images, labels, l2("1/50"))
    run_attack(attack_spec("square", queries=30), search)
    assert {seen.stride() for seen in model.seen} == {images.stride()}


@pytest.mark.parametrize("side", [1, 2, 3, 4, 5, 8, 13, 29])
@pytest.mark.parametrize("is_turned", [False, True])
def test_bumps_are_those_of_the_reference(side, is_turned):
    expected = reference_bump(Reference(None), side, is_turned)
    assert torch.allclose(bump(side, is_turned=is_turned).float(), expected, atol=1e-6)


def test_a_bump_by_hand():
    """Side 4: two halves of two rows; the top adds 1, 1/4 and 1/9, one step away 1/4 and 1/9."""
    top, foot, far = 1 + 1 / 4 + 1 / 9, 1 / 4 + 1 / 9, 1 / 9
    hill = torch.tensor([[far, foot, foot, foot], [far, foot, top, foot]], dtype=torch.float64)
    expected = torch.cat([hill, -hill])
    assert torch.allclose(bump(4, is_turned=False), expected / expected.norm())


@pytest.mark.parametrize(
    ("query", "side"),
    [(0, 29), (11, 21), (51, 15), (201, 11), (501, 7), (1001, 5), (2001, 5), (4001, 3), (9000, 3)],
)
def test_windows_of_bumps_have_the_next_odd_side(query, side):
    assert bump_side(query, 0.8, 32, 32) == side
    assert bump_side(query, 0.8, 2, 32) == 2


def test_moving_mass_empties_one_window_spends_the_budget_and_leaves_the_rest():
    generator = torch.Generator().manual_seed(0)
    difference = torch.randn(4, 3, 9, 9, generator=generator, dtype=torch.float64)
    norm = difference.flatten(1).norm(dim=1)
    epsilon = float(norm.max()) * 1.1
    bumps = bump(3, is_turned=False) * torch.tensor([1.0, -1.0, 1.0])[None, :, None, None]
    bumps = bumps.expand(4, 3, 3, 3)
    moved = move_mass(difference, bumps, corners=((1, 2), (3, 4)), epsilon=epsilon)
    assert torch.allclose(moved.flatten(1).norm(dim=1), torch.tensor(epsilon).double())
    outside = torch.ones(9, 9, dtype=torch.bool)
    outside[1:4, 2:5], outside[3:6, 4:7] = False, False
    assert torch.equal(moved[..., outside], difference[..., outside])
    emptied = torch.zeros(9, 9, dtype=torch.bool)
    emptied[3:6, 4:7], emptied[1:4, 2:5] = True, False
    assert not moved[..., emptied].any()
    held = difference[..., ~outside].square().sum(-1)
    spent = (epsilon**2 - norm**2) / 3
    first = moved[:, :, 1:4, 2:5].square().sum((2, 3))
    assert torch.allclose(first, held + spent[:, None])
    old = difference[:, :, 1:4, 2:5]
    shape = bumps + old / old.square().sum((2, 3), keepdim=True).sqrt()
    cosine = torch.cosine_similarity(moved[:, :, 1:4, 2:5].flatten(2), shape.flatten(2), dim=2)
    assert torch.allclose(cosine, torch.ones(4, 3, dtype=torch.float64))


def reference_bump(reference, side, is_turned):
    """The reference turns its bumps at random: undo or add the turn."""
    found = reference.base_eta(side)
    upright = bool((found[: side // 2] > 0).all() and (found[side // 2 :] < 0).all())
    return found if upright != is_turned else found.T


class Reference(SquareAttack):
    """The reference, with every random number handed to it."""

    def __init__(self, predict, draws=(), **settings):
        super().__init__(predict, norm="L2", resc_schedule=False, device="cpu", **settings)
        self.draws = iter(draws)

    def base_eta(self, side):
        return super().eta(side)

    def eta(self, side):
        return reference_bump(self, side, next(self.draws))

    def random_int(self, low=0, high=1, shape=None):
        return next(self.draws)

    def random_choice(self, shape):
        return next(self.draws)


def draws_of(bumps, queries, height, width):
    """What one of our runs draws, in the order in which the reference asks for it."""
    for tile in range(bumps.grid.shape[1]):
        yield bool(bumps.grid_turns[tile] >= 0.5)
        yield bumps.grid[:, tile, :, None, None]
    for query in range(queries):
        side = bump_side(query, bumps.p_init, height, width)
        top, second_top, left, second_left = (
            int(bumps.places[query, number] * (size - side + 1))
            for number, size in enumerate((height, height, width, width))
        )
        yield from (top, left, second_top, second_left)
        yield bool(bumps.places[query, 4] >= 0.5)
        yield bumps.colours[:, query, :, None, None]


def test_in_l2_it_walks_the_path_of_the_reference_on_the_same_random_numbers():
    network, images = Handle(small_convolution(side=16), 10), pictures(4, 3, 16, 16)
    ours, theirs = Watched(network), Watched(network)
    labels = network(images).logits.argmax(1)
    threat, queries = l2("1/50"), 120
    search = search_on(ours, images, labels, threat)
    bumps = Bumps.drawn(search, torch.arange(4), queries + 1, 0.5, 0)
    reference = Reference(
        lambda candidates: theirs(candidates).logits.clone(),
        draws_of(bumps, queries, 16, 16),
        n_queries=queries,
        eps=float(threat.epsilon),
        p_init=0.5,
    )
    reference.init_hyperparam(images)
    reference.attack_single_run(images, labels)
    run_attack(attack_spec("square", queries=queries + 1, p_init=0.5), search)
    assert not search.broken.any()
    assert len(ours.seen) == len(theirs.seen) == queries + 1
    for query, (mine, other) in enumerate(zip(ours.seen, theirs.seen, strict=True)):
        assert torch.allclose(mine, other, atol=2e-6), query


@pytest.mark.parametrize("shape", [(3, 4, 9), (1, 1, 1), (2, 8, 8), (1, 28, 28)])
def test_in_l2_every_candidate_spends_the_whole_budget(shape):
    images = torch.full((3, *shape), 0.5)
    model = Watched(Always())
    search = search_on(model, images, torch.zeros(3, dtype=torch.long), l2("1/4"))
    run_attack(attack_spec("square", queries=30), search)
    lengths = torch.stack([(seen - images).flatten(1).norm(dim=1) for seen in model.seen])
    assert torch.allclose(lengths, torch.tensor(0.25), atol=1e-5)


@pytest.mark.parametrize("seed", [0, 1])
def test_in_l2_it_comes_near_on_linear_models_and_never_below(seed):
    model, images, labels = problem(2, seed, channels=1)
    distance = distances(model, images, labels, "l2")
    for epsilon in epsilons(distance):
        spec = attack_spec("square", queries=600, p_init=0.3)
        broken = attacked(spec, model, images, labels, l2(str(float(epsilon)))).broken
        assert not broken[distance > epsilon].any()
        assert broken[distance < 0.7 * epsilon].all()
