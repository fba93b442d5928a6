"""The way to a hyperplane inside the box, against hand values, the reference and an LP or QP."""

from fractions import Fraction

import pytest
import torch
from attacked_models import Always, linf, search_on

from harness.attacks import hyperplanes
from harness.attacks.hyperplanes import contenders, dual_norm, nearest_plane, way_to_plane

NORMS = pytest.mark.parametrize("norm", ["linf", "l2"])


def problem(count, size, seed=0):
    """Points, some on faces, normals, some with zeros, and gaps, some beyond the box's reach."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.randint(0, 6, (count, size), generator=generator).double() / 5
    normals = torch.randn(count, size, generator=generator, dtype=torch.float64)
    normals[torch.rand(count, size, generator=generator) < 0.1] = 0
    gaps = torch.randn(count, generator=generator, dtype=torch.float64) * size**0.5
    return points, normals, gaps


def exactly(values):
    return torch.tensor(values, dtype=torch.float64)


def way(points, normals, gaps, norm):
    shape = (len(points), 1, 1, -1)
    found = way_to_plane(points.reshape(shape), normals.reshape(shape), gaps, norm)
    return found.reshape(points.shape)


def reach(points, normals, gaps):
    """The displacement to the corner of the box towards the plane, and whether it suffices."""
    downhill = normals * torch.where(gaps >= 0, 1.0, -1.0)[:, None]
    room = torch.where(downhill > 0, points, 1 - points).where(normals != 0, 0.0)
    corner = -downhill.sign() * room
    return corner, (downhill * -corner).sum(1) >= gaps.abs()


@pytest.mark.parametrize(
    ("point", "normal", "offset", "expected"),
    [
        ((0.5, 0.9), (1, 2), 1.0, (-1.3 / 3, -1.3 / 3)),
        ((0.5, 0.9), (1, 2), 0.3, (-0.5, -0.75)),
        ((0.5, 0.9), (1, 2), 3.0, (0.5, 0.1)),
        ((0.5, 0.9), (1, 2), 3.5, (0.5, 0.1)),
        ((0.2, 0.3), (1, 1), 1.9, (0.7, 0.7)),
    ],
)
def test_the_way_in_l_infinity_has_the_hand_checked_values(point, normal, offset, expected):
    points, normals, expected = (exactly([value]) for value in (point, normal, expected))
    gaps = (points * normals).sum(1) - offset
    found = way(points, normals, gaps, "linf")
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("point", "normal", "offset", "expected"),
    [
        ((0.5, 0.9), (1, 2), 1.8, (-0.1, -0.2)),  # no face: along the normal, by 0.5 / 5
        ((0.1, 0.9), (1, 2), 0.9, (-0.1, -0.45)),  # the first pixel stops at its face
        ((0.5, 0.9), (1, 2), 3.5, (0.5, 0.1)),  # out of reach: the corner
        ((0.5, 0.9), (0, 2), 1.0, (0.0, -0.4)),
    ],
)
def test_the_way_in_l2_has_the_hand_checked_values(point, normal, offset, expected):
    points, normals, expected = (exactly([value]) for value in (point, normal, expected))
    gaps = (points * normals).sum(1) - offset
    found = way(points, normals, gaps, "l2")
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


@NORMS
def test_the_way_ends_on_the_plane_where_it_can_and_in_the_nearest_corner_where_not(norm):
    points, normals, gaps = problem(300, 20)
    found = way(points, normals, gaps, norm)
    corner, can = reach(points, normals, gaps)
    assert 30 < int(can.sum()) < 270
    assert bool(((points + found >= 0) & (points + found <= 1)).all())
    torch.testing.assert_close((normals * -found).sum(1)[can], gaps[can], atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(found[~can], corner[~can], atol=1e-15, rtol=0)
    assert not found[normals == 0].any()


def test_no_way_in_l_infinity_is_shorter_by_linear_programming():
    linprog = pytest.importorskip("scipy.optimize").linprog
    points, normals, gaps = problem(25, 8)
    found = way(points, normals, gaps, "linf")
    _, can = reach(points, normals, gaps)
    for row in can.nonzero()[:, 0]:
        point, normal, gap, ours = points[row], normals[row], gaps[row], found[row]
        size = len(point)
        level = torch.eye(size).tolist()
        rows = [[*row, -1.0] for row in level] + [[-x for x in row] + [-1.0] for row in level]
        answer = linprog(
            [0.0] * size + [1.0],
            A_ub=rows,
            b_ub=[0.0] * (2 * size),
            A_eq=[[*normal.tolist(), 0.0]],
            b_eq=[-float(gap)],
            bounds=[(-float(x), 1 - float(x)) for x in point] + [(0, None)],
        )
        assert answer.success
        assert float(ours.abs().max()) == pytest.approx(answer.fun, abs=1e-9)


def test_no_way_in_l2_is_shorter_by_the_conditions_of_optimality():
    """One multiplier makes every pixel `-multiplier * w` cut to the box; the problem is convex."""
    points, normals, gaps = problem(200, 30)
    found = way(points, normals, gaps, "l2")
    _, can = reach(points, normals, gaps)
    for row in can.nonzero()[:, 0]:
        point, normal, ours = points[row], normals[row], found[row]
        end = point + ours
        free = (end > 1e-12) & (end < 1 - 1e-12) & (normal != 0)
        if not free.any():
            continue
        multiplier = (-ours[free] / normal[free]).mean()
        expected = torch.clamp(point - multiplier * normal, 0, 1)
        torch.testing.assert_close(end, expected, atol=1e-10, rtol=0)


@NORMS
@pytest.mark.parametrize("size", [1, 2, 7, 48])
def test_the_way_is_that_of_the_reference(norm, size):
    import pyautoattack.fab_projections as reference

    points, normals, gaps = problem(200, size, seed=size)
    normals = torch.where(normals == 0, 0.5, normals)  # the reference divides by weights
    project = {"linf": reference.projection_linf, "l2": reference.projection_l2}[norm]
    offsets = (points * normals).sum(1) - gaps
    theirs = project(points, normals, offsets)
    ours = way(points, normals, gaps, norm)
    _, can = reach(points, normals, gaps)
    torch.testing.assert_close(ours[can], theirs[can], atol=1e-9, rtol=0)


@NORMS
def test_opposite_signs_of_normal_and_gap_give_the_same_way(norm):
    points, normals, gaps = problem(50, 9)
    assert torch.equal(way(points, normals, gaps, norm), way(points, -normals, -gaps, norm))


@NORMS
def test_the_length_of_the_normal_does_not_matter(norm):
    points, normals, gaps = problem(50, 9)
    expected = way(points, normals, gaps, norm)
    for factor in (1e-30, 1e30):
        found = way(points, normals * factor, gaps * factor, norm)
        torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)


@NORMS
@pytest.mark.parametrize("gap", [0.0, -0.0, 1.0, -1.0])
def test_a_normal_of_zero_moves_nothing(norm, gap):
    points = exactly([[0.0, 0.3, 1.0]])
    found = way(points, torch.zeros_like(points), exactly([gap]), norm)
    assert torch.equal(found.abs(), torch.zeros_like(points))


@NORMS
def test_no_gap_moves_nothing(norm):
    points, normals, gaps = problem(50, 9)
    assert not way(points, normals, 0 * gaps, norm).any()


def test_the_dual_norm_is_the_climb_of_the_steepest_unit_step():
    gradients = torch.tensor([[3.0, -4.0], [0.0, 0.0]]).reshape(2, 1, 1, 2)
    assert dual_norm(gradients, "linf").tolist() == [7.0, 0.0]
    assert dual_norm(gradients, "l2").tolist() == [5.0, 0.0]


def chosen(differences, gradients, norm="linf", least=0.0):
    wide = torch.tensor(gradients).reshape(1, len(differences), 1, 1, -1)
    difference, gradient = nearest_plane(torch.tensor([differences]), wide, norm, least)
    return float(difference), gradient.flatten().tolist()


def test_the_nearest_plane_is_the_one_of_smallest_difference_per_slope():
    differences, gradients = [-2.0, -1.0, -3.0], [[3.0, 4.0], [1.0, 0.5], [5.0, 0.0]]
    assert chosen(differences, gradients) == (-2.0, [3.0, 4.0])  # 2/7, 1/1.5, 3/5
    assert chosen([-4.0, *differences[1:]], gradients, "l2") == (-3.0, [5.0, 0.0])  # 4/5, .9, 3/5
    assert chosen([4.0, *differences[1:]], gradients, "l2") == (-3.0, [5.0, 0.0])  # size counts


def test_what_is_added_to_every_difference_can_change_which_plane_is_nearest():
    differences, gradients = [-1.0, 0.0], [[4.0, 0.0], [1.0, 0.0]]
    assert chosen(differences, gradients) == (0.0, [1.0, 0.0])
    assert chosen(differences, gradients, least=1.0) == (-1.0, [4.0, 0.0])


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_classes_without_a_finite_difference_or_a_gradient_have_no_plane(bad):
    assert chosen([bad, -9.0, 0.0], [[8.0], [1.0], [0.0]]) == (-9.0, [1.0])
    assert chosen([bad, -9.0], [[8.0], [0.0]]) == (0.0, [0.0])


@pytest.mark.parametrize(("classes", "looked_at"), [(2, 1), (20, 19), (21, 5), (30, 5)])
def test_above_twenty_classes_only_the_best_few_are_contenders(classes, looked_at):
    labels = torch.tensor([0, classes - 1])
    search = search_on(Always(classes), torch.zeros(2, 1, 2, 2), labels, linf("1/10"))
    ranked = contenders(search, 5)
    assert ranked[0].tolist() == list(range(1, looked_at + 1))  # logits fall with the class
    assert ranked[1].tolist() == list(range(looked_at))
    assert search.forwards.tolist() == [1, 1]


def terms(kind, size, generator):
    """Rates and ends [1, size]: random, spread over sixty decades, tied, mostly 0, geometric."""
    draw = torch.rand(2, 1, size, generator=generator, dtype=torch.float64)
    rates, ends = draw[0], draw[1]
    powers = torch.arange(size, dtype=torch.float64)[None]
    if kind == "spread":
        rates = rates * 10.0 ** torch.randint(-30, 30, (1, size), generator=generator)
    if kind == "tied":
        ends = (ends * 4).round() / 4
    if kind == "mostly zero":
        rates = rates.where(torch.rand(1, size, generator=generator) > 0.7, 0.0)
    if kind == "geometric":
        rates, ends = 10.0**powers, 10.0**-powers
    return rates, ends


KINDS = ("random", "spread", "tied", "mostly zero", "geometric")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [None, 1, 2])
def test_newtons_level_reaches_what_is_needed_and_no_more(kind, steps, monkeypatch):
    if steps is not None:  # so soon unfinished that sorting has to help
        monkeypatch.setattr(hyperplanes, "_STEPS", steps)
    if steps is not None and kind == "spread":
        pytest.skip("sorting itself loses the small rates")
    generator = torch.Generator().manual_seed(7)
    for number in range(300):
        size = 1 + number % 40
        rates, ends = terms(kind, size, generator)
        whole = (rates * ends).sum(1)
        share = (0, 1e-9, 0.1, 0.5, 0.9, 0.999, 1.5)[number % 7]
        level = hyperplanes._level(rates, ends, share * whole)
        reached = (rates * torch.minimum(level, ends)).sum(1)
        expected = min(share, 1) * whole
        torch.testing.assert_close(reached, expected, atol=0, rtol=1e-12)
        if share < 1 and bool((rates > 0).any()):
            assert bool(level <= ends[rates > 0].max())


@pytest.mark.parametrize("kind", ["random", "tied", "mostly zero"])
def test_newtons_level_is_the_exact_one_in_rational_numbers(kind):
    generator = torch.Generator().manual_seed(8)
    compared = 0
    for number in range(400):
        rates, ends = terms(kind, 1 + number % 25, generator)
        needed = float((rates * ends).sum()) * (0.05, 0.3, 0.8, 0.98)[number % 4]
        exact = rational_level(rates[0].tolist(), ends[0].tolist(), needed)
        if exact is None:
            continue
        found = hyperplanes._level(rates, ends, exactly([needed]))
        sorted_ = hyperplanes.sorted_level(rates, ends, exactly([needed]))
        assert float(found) == pytest.approx(float(exact), rel=1e-12)
        assert float(sorted_) == pytest.approx(float(exact), rel=1e-12)
        compared += 1
    assert compared > 200


def rational_level(rates, ends, needed):
    """The smallest level in exact arithmetic, None where there is none above 0."""
    left, finished = sum(map(Fraction, rates)), Fraction(0)
    for end, rate in sorted(zip(map(Fraction, ends), map(Fraction, rates), strict=True)):
        if left == 0:
            return None
        if finished + left * end >= Fraction(needed):
            return (Fraction(needed) - finished) / left
        finished, left = finished + rate * end, left - rate
    return None


@NORMS
@pytest.mark.parametrize("size", [1, 3, 40, 3072])
def test_the_way_is_the_sorted_one(norm, size, monkeypatch):
    points, normals, gaps = problem(60, size, seed=size + 1)
    found = way(points, normals, gaps, norm)
    monkeypatch.setattr(hyperplanes, "_level", hyperplanes.sorted_level)
    torch.testing.assert_close(found, way(points, normals, gaps, norm), atol=1e-13, rtol=1e-11)


@NORMS
def test_the_way_of_an_image_does_not_depend_on_its_batch_mates(norm):
    points, normals, gaps = problem(60, 48, seed=3)
    whole = way(points, normals, gaps, norm)
    for row in range(0, 60, 7):
        piece = slice(row, row + 1)
        assert torch.equal(way(points[piece], normals[piece], gaps[piece], norm), whole[piece])


def test_a_gap_beyond_all_numbers_leads_to_the_corner_and_not_to_a_number_that_is_none():
    points, normals = exactly([[0.25, 0.5, 1.0]]), exactly([[1e-300, 0.0, -1e-300]])
    for norm in ("linf", "l2"):
        found = way(points, normals, exactly([1e308]), norm)
        assert torch.isfinite(found).all()
        assert not found[0, 1]
    assert way(points, normals, exactly([1e308]), "linf").tolist() == [[-0.25, 0.0, 0.0]]


@NORMS
def test_how_pixels_lie_in_memory_changes_nothing_but_rounding(norm):
    generator = torch.Generator().manual_seed(2)
    points = torch.rand(9, 3, 6, 5, generator=generator, dtype=torch.float64)
    normals, gaps = torch.randn(9, 3, 6, 5, generator=generator), torch.ones(9).double() * 4
    expected = way_to_plane(points, normals, gaps, norm)
    assert expected.abs().amax((1, 2, 3)).min() > 0
    last = torch.channels_last
    for there in (points, points.contiguous(memory_format=last)):
        for theirs in (normals, normals.contiguous(memory_format=last)):
            found = way_to_plane(there, theirs, gaps, norm)
            torch.testing.assert_close(found, expected, atol=1e-14, rtol=1e-12)
