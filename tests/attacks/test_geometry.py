"""Bounds, projections and starts: never outside, in exact arithmetic."""

import math
from fractions import Fraction

import pytest
import torch
from attacked_models import l2, linf, pictures
from hypothesis import given
from hypothesis import strategies as st

from harness.attacks.geometry import Ball, floor_float, per_image_norm

EIGHT = Fraction(8, 255)
GRID = (torch.arange(256, dtype=torch.float64) / 255).float()


def exact(tensor):
    return [Fraction(value) for value in tensor.double().flatten().tolist()]


def on(values):
    """A batch of one image that holds these values in one row."""
    return torch.as_tensor(values, dtype=torch.float32).reshape(1, 1, 1, -1)


def test_adding_epsilon_in_float32_leaves_the_ball_on_48_of_the_256_grid_values_and_24_below():
    epsilon = torch.tensor(8 / 255, dtype=torch.float32)
    above = (GRID + epsilon).clamp(max=1).double() - GRID.double() > 8 / 255
    below = GRID.double() - (GRID - epsilon).clamp(min=0).double() > 8 / 255
    assert (int(above.sum()), int(below.sum())) == (48, 24)
    assert Fraction(float(epsilon)) > EIGHT


def test_bounds_exceed_the_exact_fraction_on_no_grid_value():
    ball = Ball.around(on(GRID), linf("8/255"))
    for clean, low, high in zip(exact(GRID), exact(ball.low), exact(ball.high), strict=True):
        assert 0 <= low <= clean <= high <= 1
        assert high - clean <= EIGHT
        assert clean - low <= EIGHT


def test_bounds_are_the_outermost_floats_that_the_exact_fraction_allows():
    ball = Ball.around(on(GRID), linf("8/255"))
    up = torch.nextafter(ball.high, torch.tensor(torch.inf))
    down = torch.nextafter(ball.low, torch.tensor(-torch.inf))
    for clean, beyond in zip(exact(GRID), exact(up), strict=True):
        assert beyond > 1 or beyond - clean > EIGHT
    for clean, beyond in zip(exact(GRID), exact(down), strict=True):
        assert beyond < 0 or clean - beyond > EIGHT


def test_inward_rounding_moves_36_upper_and_8_lower_bounds_by_one_float():
    ball = Ball.around(on(GRID), linf("8/255"))
    nearest_high = (GRID.double() + 8 / 255).float().clamp(max=1)
    nearest_low = (GRID.double() - 8 / 255).float().clamp(min=0)
    assert int((ball.high.flatten() != nearest_high).sum()) == 36
    assert int((ball.low.flatten() != nearest_low).sum()) == 8


def test_an_8_bit_neighbour_at_distance_8_lies_above_36_upper_bounds_by_at_most_6e_8():
    ball = Ball.around(on(GRID[:248]), linf("8/255"))
    excess = GRID[8:].double() - ball.high.flatten().double()
    assert int((excess > 0).sum()) == 36
    assert float(excess.max()) <= 6e-8


@given(
    st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20),
    st.fractions(0, 1, max_denominator=1000),
)
def test_bounds_never_exceed_any_epsilon_around_any_pixel(pixels, epsilon):
    ball = Ball.around(on(pixels), linf(epsilon))
    clean = exact(on(pixels))
    for value, low, high in zip(clean, exact(ball.low), exact(ball.high), strict=True):
        assert 0 <= low <= value <= high <= 1
        assert max(high - value, value - low) <= epsilon


@pytest.mark.parametrize(
    ("clean", "candidate", "projected"),
    [(0.02, 0.07, 0.0513725), (0.02, -0.03, 0.0), (0.99, 1.03, 1.0), (0.99, 0.9, 0.9586275)],
)
def test_projection_has_the_values_worked_out_by_hand(clean, candidate, projected):
    ball = Ball.around(on([clean]), linf("8/255"))
    assert float(ball.project(on([candidate]))) == pytest.approx(projected, abs=1e-7)


@pytest.mark.parametrize(
    "value", [Fraction(8, 255), Fraction(1, 3), Fraction("0.031"), Fraction(0)]
)
def test_the_float_epsilon_is_the_largest_that_does_not_exceed_the_fraction(value):
    found = floor_float(value)
    assert Fraction(found) <= value
    assert Fraction(math.nextafter(found, math.inf)) > value


@pytest.mark.parametrize("epsilon", ["0.5", "0.1", "0.01", "0.001", "1e-6", "0"])
@pytest.mark.parametrize("kind", ["noise", "flat"])
def test_l2_projection_stays_inside_even_where_every_pixel_rounds_the_same_way(epsilon, kind):
    clean = pictures(40, 3, 16, 16)
    if kind == "flat":  # rounding errors add up instead of cancelling
        clean = clean[:, :1, :1, :1].expand_as(clean).contiguous()
    step = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    step = torch.where(clean < 0.5, 1.0, -1.0) if kind == "flat" else step
    ball = Ball.around(clean, l2(epsilon))
    found = ball.project(clean + step)
    assert found.min() >= 0
    assert found.max() <= 1
    length = per_image_norm(found.double() - clean.double())
    assert all(Fraction(value) <= Fraction(epsilon) for value in length.flatten().tolist())


def test_l2_projection_loses_less_than_a_thousandth_of_epsilon():
    clean = torch.full((20, 3, 16, 16), 0.5) + 0.1 * pictures(20, 3, 16, 16)
    step = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    ball = Ball.around(clean, l2("0.5"))
    length = per_image_norm(ball.project(clean + step).double() - clean.double())
    assert float(length.min()) > 0.4999


@pytest.mark.parametrize("threat", [linf("8/255"), l2("0.5")], ids=str)
def test_projection_leaves_points_inside_as_they_are(threat):
    clean = pictures(10, 3, 8, 8)
    ball = Ball.around(clean, threat)
    inside = ball.project(clean + 0.02 * torch.randn(clean.shape))
    assert torch.equal(ball.project(inside), inside)
    assert torch.equal(ball.project(clean), clean)


@pytest.mark.parametrize("threat", [linf("8/255"), l2("0.5"), linf(0), l2(0)], ids=str)
@pytest.mark.parametrize("start", ["random_start", "surface_start"])
def test_starts_lie_in_ball_and_box(threat, start):
    clean = pictures(20, 3, 8, 8)
    ball = Ball.around(clean, threat)
    draws = [torch.rand(clean.shape)]
    if start == "random_start":
        draws.append(torch.rand(20, 1, 1, 1))
    found = getattr(ball, start)(*draws)
    assert torch.equal(ball.project(found), found)
    assert ball.contains(found).all()
    if threat.epsilon == 0:
        assert torch.equal(found, clean)


def test_a_surface_start_touches_the_surface():
    clean = 0.4 + 0.2 * pictures(20, 3, 8, 8)
    far = Ball.around(clean, linf("1/10")).surface_start(torch.rand(clean.shape)) - clean
    assert torch.allclose(far.abs().amax(dim=(1, 2, 3)), torch.tensor(0.1), atol=1e-6)
    far = Ball.around(clean, l2("1/10")).surface_start(torch.rand(clean.shape)) - clean
    assert torch.allclose(per_image_norm(far), torch.tensor(0.1), atol=1e-5)


def test_a_random_start_is_uniform_in_the_linf_ball():
    clean = torch.full((50, 3, 16, 16), 0.5)
    uniform = torch.rand(clean.shape, generator=torch.Generator().manual_seed(0))
    offset = (Ball.around(clean, linf("1/10")).random_start(uniform) - clean).flatten() / 0.1
    assert float(offset.mean()) == pytest.approx(0, abs=0.01)
    assert float(offset.square().mean()) == pytest.approx(1 / 3, abs=0.01)


def test_the_radius_draw_is_the_share_of_epsilon_and_leaves_the_direction_alone():
    clean = torch.full((4, 1, 3, 3), 0.5)
    ball = Ball.around(clean, l2("1/10"))
    uniform = torch.rand(clean.shape, generator=torch.Generator().manual_seed(0))
    units = []
    for share in (0.25, 0.5, 1.0):
        offset = ball.random_start(uniform, torch.full((4, 1, 1, 1), share)) - clean
        length = per_image_norm(offset)
        torch.testing.assert_close(length, torch.full_like(length, 0.1 * share), rtol=1e-5, atol=0)
        units.append(offset / length)
    cube = 2 * uniform - 1
    for unit in units:
        torch.testing.assert_close(unit, cube / per_image_norm(cube), rtol=1e-4, atol=1e-6)


def test_an_l2_start_without_draws_for_its_radius_is_a_bug():
    clean = torch.full((4, 1, 3, 3), 0.5)
    with pytest.raises(ValueError, match="draws for its radius"):
        Ball.around(clean, l2("1/10")).random_start(torch.rand(clean.shape))


def test_a_linf_start_is_the_clean_image_plus_epsilon_times_the_draws_whatever_the_radius():
    clean = pictures(4, 3, 8, 8)
    ball = Ball.around(clean, linf("8/255"))
    uniform = torch.rand(clean.shape, generator=torch.Generator().manual_seed(0))
    found = ball.random_start(uniform)
    assert torch.equal(found, ball.project(clean + ball.epsilon * (2 * uniform - 1)))
    assert torch.equal(found, ball.random_start(uniform, torch.zeros(4, 1, 1, 1)))


@pytest.mark.parametrize("threat", [linf("1/10"), l2("1/10")], ids=str)
def test_the_steepest_step_gains_the_dual_norm_and_is_zero_where_the_gradient_is(threat):
    gradient = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    gradient[2] = 0
    step = Ball.around(torch.zeros_like(gradient), threat).steepest(gradient)
    dual = gradient.flatten(1).norm(p=1 if threat.norm == "linf" else 2, dim=1)
    assert torch.allclose((step * gradient).sum(dim=(1, 2, 3)), dual, rtol=1e-5)
    assert not step[2].any()


@pytest.mark.parametrize("threat", [linf("8/255"), l2("1/2")], ids=["linf", "l2"])
def test_one_float_beyond_a_bound_is_outside_even_where_the_difference_is_the_smallest(threat):
    images = pictures(2, 3, 4, 4)
    images[0, 0, 0, 0] = 0.0  # the float below it is subnormal
    ball = Ball.around(images, threat)
    for bound, towards, pixel in (
        (ball.low, -math.inf, (0, 0, 0, 0)),
        (ball.low, -math.inf, (0, 1, 2, 3)),
        (ball.high, math.inf, (0, 2, 3, 1)),
    ):
        candidate = images.clone()
        candidate[pixel] = torch.nextafter(bound[pixel], torch.tensor(towards))
        assert ball.contains(candidate).tolist() == [False, True]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_lies_in_no_ball(bad):
    images = pictures(2, 1, 3, 3).contiguous(memory_format=torch.channels_last)
    candidate = images.clone()
    candidate[1, 0, 2, 1] = bad
    assert Ball.around(images, linf("8/255")).contains(candidate).tolist() == [True, False]


@pytest.mark.parametrize("threat", [linf("8/255"), l2("1/2")], ids=["linf", "l2"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_distances_of_some_images_are_those_of_their_own_ball(threat, layout):
    images, others = (pictures(6, 3, 4, 5, seed=seed) for seed in (0, 1))
    ball = Ball.around(images.contiguous(memory_format=layout), threat)
    chosen = torch.tensor([4, 1, 3])
    found = ball.distance(others[chosen].contiguous(memory_format=layout), chosen)
    flat = (others.double() - images.double()).flatten(1)
    order = {"linf": torch.inf, "l2": 2}[threat.norm]
    torch.testing.assert_close(found, torch.linalg.vector_norm(flat, order, dim=1)[chosen])
    assert torch.equal(found, ball.distance(others)[chosen])
    assert torch.equal(found, ball.take(chosen).distance(others[chosen]))
