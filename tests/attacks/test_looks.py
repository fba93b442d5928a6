"""What a search keeps of a look: candidates, distances, slopes, parts, votes, repeated passes."""

import math

import pytest
import torch
from attacked_models import (
    Always,
    Linear,
    PixelGate,
    attacked,
    l2,
    linf,
    pictures,
    search_on,
    small_convolution,
)

from harness.attacks.attack import ATTACKS, attack_spec, most_passes, run_attack
from harness.attacks.geometry import Ball
from harness.attacks.losses import LOSSES, ce, margin_targeted
from harness.attacks.search import Guides, Search
from harness.attacks.streams import Streams
from harness.attacks.surface_text import surface_named
from harness.attacks.surfaces import (
    Auxiliary,
    Gate,
    Logits,
    Points,
    Repeated,
    Smallest,
    Sum,
    Training,
    TrainingLoss,
    TwoPhase,
)
from harness.errors import HarnessError
from harness.evaluation.handle import Handle
from harness.identity import Capabilities
from harness.outputs import Outputs

FIELDS = ("broken", "adversarial", "first_success", "loss_start", "loss_best", "looks")
FIELDS += ("forwards", "backwards", "nearest", "last", "last_wrong")


def one(*pixels):
    """One image of these pixels."""
    return torch.tensor(pixels).reshape(1, 1, 1, -1)


def valued(*values):
    """A loss that has these values whatever the logits, and a zero gradient."""
    return lambda logits, labels, targets: torch.tensor(values) + 0 * logits.sum(1)


FIRST = torch.tensor([0])
THRESHOLD = Linear(torch.tensor([[0.0, 0.0], [1.0, 0.0]]), torch.tensor([0.0, -0.7]))
"""Class 1 where the first pixel exceeds 0.7."""


def at_threshold(threat, **how):
    return search_on(THRESHOLD, one(0.5, 0.5), FIRST, threat, **how)


@pytest.mark.parametrize("how", ["climb", "judge", "explore"])
def test_the_point_of_the_highest_value_is_kept_where_nothing_breaks(how):
    search = search_on(Always(), one(0.5, 0.5), FIRST, linf("1/2"))
    for value, pixel in ((1.0, 0.1), (3.0, 0.2), (2.0, 0.3), (3.0, 0.4), (math.nan, 0.6)):
        getattr(search, how)(FIRST, one(pixel, pixel), valued(value))
    assert torch.equal(search.adversarial, one(0.2, 0.2))
    assert search.loss_best.tolist() == [3.0]
    assert not search.broken.any()


def test_a_broken_image_outlives_every_higher_value():
    search = at_threshold(linf("1/2"), drops_broken=False)
    for value, pixel in ((5.0, 0.6), (1.0, 0.8), (9.0, 0.9), (8.0, 0.5)):
        search.judge(FIRST, one(pixel, 0.5), valued(value))
    assert torch.equal(search.adversarial, one(0.8, 0.5))
    assert search.first_success.tolist() == [1]
    assert search.loss_best.tolist() == [9.0]


@pytest.mark.parametrize(
    "spec",
    [
        attack_spec("fgsm"),
        attack_spec("pgd", steps=4, restarts=2),
        attack_spec("apgd_ce", steps=5),
        attack_spec("apgd_dlr", steps=5),
        attack_spec("square", queries=20),
    ],
    ids=lambda spec: spec.label,
)
def test_the_returned_image_of_an_unbroken_one_has_the_best_value_of_the_search(spec):
    model, images = Handle(small_convolution(), 10), pictures(30, 3, 8, 8)
    labels = model(images).logits.argmax(1)
    search = attacked(spec, model, images, labels, linf("3/255"))
    standing = ~search.broken
    assert 0 < int(standing.sum()) < 30
    found = LOSSES[spec.loss](model(search.adversarial).logits, labels, None)
    assert torch.equal(found[standing], search.loss_best[standing])
    assert (search.loss_best[standing] > search.loss_start[standing]).any()
    assert search.ball.contains(search.adversarial).all()


def test_the_last_candidate_is_remembered_beside_the_first_that_broke():
    search = at_threshold(linf("1/2"), drops_broken=False)
    assert search.judge(FIRST, one(0.8, 0.5), ce).wrong.tolist() == [True]
    assert search.last_wrong.tolist() == [True]
    assert search.judge(FIRST, one(0.6, 0.5), ce).wrong.tolist() == [False]
    assert search.broken.tolist() == [True]
    assert search.last_wrong.tolist() == [False]
    assert torch.equal(search.last, one(0.6, 0.5))


def test_a_trace_has_a_row_per_look_and_nothing_for_images_that_were_not_looked_at():
    search = Search(
        Logits(Always()),
        Ball.around(pictures(3, 1, 2, 2), linf("1/2")),
        torch.zeros(3, dtype=torch.long),
        Streams(0, "attack", [0, 1, 2]),
        keeps_trace=True,
    )
    search.judge(torch.arange(3), search.ball.images, valued(1.0, 2.0, 3.0))
    search.climb(torch.tensor([2, 0]), search.ball.images[[2, 0]], valued(7.0, 5.0))
    assert torch.stack(search.trace).nan_to_num(-1).tolist() == [[1, 2, 3], [5, -1, 7]]
    assert search_on(Always(), pictures(1, 1, 2, 2), FIRST, linf(0)).trace == []


@pytest.mark.parametrize("gradient", [True, False])
def test_outside_the_ball_nothing_breaks_and_the_nearest_wrong_decision_is_kept(gradient):
    search = at_threshold(linf("1/10"))
    for pixel, nearest in ((0.65, math.inf), (0.95, 0.45), (0.75, 0.25), (0.9, 0.25)):
        look = search.explore(FIRST, one(pixel, 0.5), valued(pixel), gradient=gradient)
        assert look.wrong.tolist() == [pixel > 0.7]
        assert look.kept.tolist() == [True]
        assert search.nearest.tolist() == [pytest.approx(nearest, abs=1e-7)]
    assert not search.broken.any()
    assert not search.last_wrong.any()
    assert torch.equal(search.last, one(0.9, 0.5))
    assert torch.equal(search.adversarial, search.ball.images)
    assert search.loss_best.tolist() == [-math.inf]
    assert (search.looks.tolist(), search.forwards.tolist()) == ([4], [4])
    assert search.backwards.tolist() == [4 if gradient else 0]


def test_the_nearest_wrong_decision_is_measured_in_the_norm_of_the_threat_model():
    far = one(0.8, 0.1)  # 0.3 and 0.4 away
    for threat, distance in ((linf("1/10"), 0.4), (l2("1/10"), 0.5)):
        search = at_threshold(threat)
        search.explore(FIRST, far, ce)
        assert search.nearest.tolist() == [pytest.approx(distance, abs=1e-7)]


@pytest.mark.parametrize("pixel", [1.5, -0.5, math.nan, math.inf])
def test_a_candidate_outside_the_box_is_no_distance(pixel):
    search = search_on(Always(2), one(0.5, 0.5), torch.tensor([1]), linf("1/10"))
    search.explore(FIRST, one(pixel, 0.5), ce)
    assert search.nearest.tolist() == [math.inf]
    assert not search.broken.any()
    search.explore(FIRST, one(0.75, 0.5), ce)
    assert search.nearest.tolist() == [0.25]


def test_one_float_beyond_the_linf_bounds_is_outside():
    clean = pictures(16, 1, 3, 3)
    ball = Ball.around(clean, linf("8/255"))
    for bound, beyond in ((ball.high, 2.0), (ball.low, -1.0)):
        assert ball.contains(bound).all()
        moved = bound.clone()
        moved[:, 0, 1, 1] = torch.nextafter(bound, torch.full_like(bound, beyond))[:, 0, 1, 1]
        assert not ball.contains(moved).any()


def test_one_float_beyond_the_l2_radius_is_outside():
    clean = torch.full((1, 1, 1, 4), 0.25)
    ball = Ball.around(clean, l2("1/4"))
    moved = clean.clone()
    for value, is_inside in ((0.5, True), (0.5 + 2**-23, False)):
        moved[..., 2] = torch.nextafter(
            torch.tensor(value), torch.tensor(0.0 if is_inside else 1.0)
        )
        assert ball.contains(moved).tolist() == [is_inside]
    assert ball.distance(torch.tensor([[[[0.25, 0.55, 0.25, 0.65]]]])).item() == pytest.approx(0.5)


@pytest.mark.parametrize("threat", [linf("8/255"), l2("1/2"), linf(0), l2(0)], ids=str)
def test_every_projected_image_is_contained(threat):
    clean = pictures(50, 3, 8, 8)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    ball = Ball.around(clean, threat)
    assert ball.contains(ball.project(clean + noise)).all()
    assert not ball.contains((clean + noise).clamp(0, 1)).any()
    assert not ball.contains(clean.masked_fill(clean > -1, math.nan)).any()


@pytest.mark.parametrize("threat", [linf("1/4"), l2("1/4")], ids=str)
def test_exploring_breaks_exactly_inside_the_ball(threat):
    search = search_on(THRESHOLD, one(0.5, 0.5), FIRST, threat)
    look = search.explore(FIRST, one(0.76, 0.5), ce)
    assert (look.kept.tolist(), search.first_success.tolist()) == ([True], [-1])
    look = search.explore(FIRST, one(0.74, 0.5), ce)
    assert (look.kept.tolist(), search.first_success.tolist()) == ([False], [1])
    assert torch.equal(search.adversarial, one(0.74, 0.5))
    assert search.last_wrong.tolist() == [True]
    assert search.nearest.tolist() == [pytest.approx(0.24, abs=1e-6)]


THREE = PixelGate([[1, 0, 2], [0, 1, 1], [2, -1, 0]], [0.5, -0.5, 0.0])
PIXELS = torch.tensor([[0.5, 0.1, 0.3], [0.1, 0.9, 0.2], [0.9, 0.2, 0.1]]).reshape(3, 1, 1, 3)
LABELS = torch.tensor([0, 1, 0])
TARGETS = torch.tensor([[1, 2], [0, 2], [2, 1]])
SLOPED = [
    Logits(THREE),
    Auxiliary(THREE, 0),
    Sum(THREE, 2.0),
    Smallest(THREE, 0.5),
    TwoPhase(THREE, 0),
    Gate(THREE, "rival"),
    *(
        surface_named(text, THREE, Capabilities(3, 1, select=True, strip=True))
        for text in ("log_softmax_mean", "weighted(1:2)", "straight_through", "stripped", "mixed")
    ),
]


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("surface", SLOPED, ids=repr)
def test_slopes_are_what_autograd_gives_class_by_class(surface, count):
    images, labels, targets = PIXELS[:count], LABELS[:count], TARGETS[:count]
    search = search_on(THREE, images, labels, linf("1/2"), surface=surface)
    slopes = search.slopes(torch.arange(count), images, targets)
    assert slopes.differences.shape == (count, 2)
    for number in range(2):

        def towards(logits, labels, _, chosen=targets[:, number]):
            return margin_targeted(logits, labels, chosen)

        candidate = images.clone().requires_grad_()
        value, deployed = surface(candidate, Points(images, labels), towards)
        (gradient,) = torch.autograd.grad(value.sum(), candidate)
        torch.testing.assert_close(slopes.differences[:, number], value.detach())
        torch.testing.assert_close(slopes.gradients[:, number], gradient)
        assert torch.equal(slopes.wrong, deployed.argmax(1) != labels)


def test_a_single_target_is_the_target_of_the_surface():
    images, labels = PIXELS[:1], torch.tensor([1])  # the head says 0, neither label nor target
    assert int(THREE(images).auxiliary[0].argmax()) == 0
    for surface in (TwoPhase(THREE, 0), Gate(THREE, "target")):
        search = search_on(THREE, images, labels, linf("1/2"), surface=surface)
        found = search.slopes(torch.arange(1), images, torch.tensor([[2]])).differences
        points = Points(images, labels, torch.tensor([2]))
        assert torch.equal(found[:, 0], surface(images, points, margin_targeted)[0])


class Counted:
    """Three classes whose logits are multiplied by the number of the call; counts calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, images, *, select=None):
        self.calls += 1
        return Outputs(self.calls * images.flatten(1), (images.flatten(1) ** 2,))


@pytest.mark.parametrize("draws", [1, 3])
def test_slopes_of_all_classes_share_one_pass_of_the_model(draws):
    model = Counted()
    surface = Logits(model) if draws == 1 else Repeated(Logits(model), draws)
    search = search_on(model, PIXELS, LABELS, linf("1/2"), surface=surface)
    slopes = search.slopes(torch.arange(3), PIXELS, TARGETS)
    assert model.calls == draws
    assert search.forwards.tolist() == [draws] * 3
    assert search.backwards.tolist() == [2 * draws] * 3
    assert search.looks.tolist() == [1] * 3
    z, mean = PIXELS.flatten(1), (draws + 1) / 2
    expected = mean * (z.gather(1, TARGETS) - z.gather(1, LABELS[:, None]))
    torch.testing.assert_close(slopes.differences, expected)


def test_slopes_explore_and_never_break_outside_the_ball():
    search = at_threshold(linf("1/10"))
    slopes = search.slopes(FIRST, one(0.9, 0.5), torch.tensor([[1]]))
    assert (slopes.wrong.tolist(), slopes.kept.tolist()) == ([True], [True])
    assert search.nearest.tolist() == [pytest.approx(0.4, abs=1e-7)]
    assert not search.broken.any()
    assert slopes.differences.tolist() == [[pytest.approx(0.2)]]
    assert slopes.gradients.flatten().tolist() == [1.0, 0.0]


def test_slopes_of_no_image_ask_nothing_of_the_model():
    model = Counted()
    search = search_on(model, PIXELS, LABELS, linf("1/2"))
    nobody = torch.empty(0, dtype=torch.long)
    slopes = search.slopes(nobody, PIXELS[:0], TARGETS[:0])
    assert slopes.differences.shape == (0, 2)
    assert slopes.gradients.shape == (0, 2, 1, 1, 3)
    assert (len(slopes.kept), len(slopes.wrong)) == (0, 0)
    assert search.rivals(nobody, 2).shape == (0, 2)
    assert model.calls == 0


def test_slopes_of_a_value_without_classes_are_refused():
    value = TrainingLoss(lambda images, points: images.sum(dim=(1, 2, 3)), 0)
    surface = Training(THREE, value)
    search = search_on(THREE, PIXELS, LABELS, linf("1/2"), surface=surface)
    with pytest.raises(HarnessError, match=r"value of every class.*such as logits"):
        search.slopes(torch.arange(3), PIXELS, TARGETS)


MODEL = Handle(small_convolution(), 10)
IMAGES = pictures(30, 3, 8, 8)
RIGHT = MODEL(IMAGES).logits.argmax(1)
SPECS = [
    attack_spec("pgd", steps=3, restarts=2),
    attack_spec("apgd_t", steps=3, targets=2),
    attack_spec("deepfool", steps=4),
    attack_spec("square", queries=12),
]
parted = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.label)


def searching(key="attack", *, drops_broken=True):
    return Search(
        Logits(MODEL),
        Ball.around(IMAGES, linf("3/255")),
        RIGHT,
        Streams(0, key, list(range(100, 130))),
        drops_broken=drops_broken,
        keeps_trace=True,
    )


def alone(spec, **how):
    search = searching(**how)
    run_attack(spec, search)
    return search


@parted
@pytest.mark.parametrize("drops_broken", [True, False])
def test_a_part_of_everything_finds_what_the_attack_finds_alone(spec, drops_broken):
    whole, expected = searching(drops_broken=drops_broken), alone(spec, drops_broken=drops_broken)
    part = whole.part(whole.streams)
    run_attack(spec, part)
    assert not whole.broken.any()
    whole.absorb(part)
    assert 0 < int(whole.broken.sum()) < 30
    for name in FIELDS:
        assert torch.equal(getattr(whole, name), getattr(expected, name)), name
    assert len(whole.trace) == len(expected.trace)
    for found, row in zip(whole.trace, expected.trace, strict=True):
        assert torch.equal(found.nan_to_num(-99), row.nan_to_num(-99))


@parted
@pytest.mark.parametrize("drops_broken", [True, False])
def test_a_second_part_attacks_what_is_left_as_it_would_alone(spec, drops_broken):
    weak = attack_spec("square", queries=2)
    before = alone(weak, key="weak", drops_broken=drops_broken)
    whole = alone(weak, key="weak", drops_broken=drops_broken)
    expected = alone(spec, drops_broken=drops_broken)
    part = whole.part(Streams(0, "attack", list(range(100, 130))))
    left = before.standing()
    assert len(part.labels) == len(left)
    run_attack(spec, part)
    whole.absorb(part)
    assert torch.equal(whole.broken[left], (before.broken | expected.broken)[left])
    new = ~before.broken & expected.broken
    assert new.any()
    for name in ("adversarial", "first_success"):
        old = before.broken
        assert torch.equal(getattr(whole, name)[old], getattr(before, name)[old]), name
    assert torch.equal(whole.adversarial[~before.broken], expected.adversarial[~before.broken])
    offset = before.looks + expected.first_success
    assert torch.equal(whole.first_success[new], offset[new])
    assert set(whole.first_success[~whole.broken].tolist()) == {-1}
    attacked_twice = torch.isin(torch.arange(30), left)
    for name in ("looks", "forwards", "backwards"):
        more = getattr(expected, name).where(attacked_twice, torch.tensor(0))
        assert torch.equal(getattr(whole, name), getattr(before, name) + more), name
    for name in ("loss_start", "loss_best"):
        kept = getattr(expected, name).where(~before.broken, getattr(before, name))
        assert torch.equal(getattr(whole, name), kept), name
    for name in ("last", "last_wrong"):
        assert torch.equal(getattr(whole, name)[left], getattr(expected, name)[left]), name
    assert torch.equal(whole.nearest[left], expected.nearest[left])
    assert len(whole.trace) == len(before.trace) + len(part.trace)


def test_a_part_that_looked_at_nothing_changes_nothing():
    whole, before = (alone(attack_spec("pgd", steps=1)) for _ in range(2))
    whole.absorb(whole.part(whole.streams))
    for name in FIELDS:
        assert torch.equal(getattr(whole, name), getattr(before, name)), name


def test_the_nearest_wrong_decision_of_all_parts_is_kept():
    whole = at_threshold(linf("1/10"))
    for pixel, nearest in ((0.75, 0.25), (0.9, 0.25), (0.72, 0.22)):
        part = whole.part(whole.streams)
        part.explore(FIRST, one(pixel, 0.5), ce)
        whole.absorb(part)
        assert whole.nearest.tolist() == [pytest.approx(nearest, abs=1e-7)]


def test_a_part_inherits_what_the_search_was_given_and_takes_the_indices_that_stand():
    guides = Guides(pictures(2, 3, 8, 8), torch.tensor([0, 1]))
    search = searching()
    search.guides, search.confirm = guides, lambda candidates: MODEL(candidates).logits
    search.broken[[0, 3]] = True
    part = search.part(Streams(7, "other", list(range(30))))
    assert part.guides is guides
    assert part.confirm is search.confirm
    assert part.keeps_trace
    assert (part.streams.seed, part.streams.attack) == (7, "other")
    assert list(part.streams.indices) == [1, 2, *range(4, 30)]
    assert torch.equal(part.labels, RIGHT[search.standing()])


def test_what_a_part_notes_is_kept_by_image():
    search = searching()
    search.broken[0] = True
    part = search.part(search.streams)
    part.notes["zeros"] = torch.arange(29.0)
    search.absorb(part)
    assert search.notes["zeros"].nan_to_num(-1).tolist() == [-1.0, *range(29)]


def test_one_lucky_pass_breaks_nothing_where_the_votes_say_right():
    asked = []

    def votes(candidates):
        asked.append(candidates.clone())
        wrong = candidates.flatten(1)[:, 0] > 0.55
        return torch.stack([10 - 10 * wrong.float(), 10 * wrong.float()], 1)

    search = search_on(
        Always(2), torch.full((3, 1, 1, 2), 0.5), torch.tensor([1, 1, 0]), linf("1/10")
    )
    search.confirm = lambda candidates: votes(candidates)[:, [1, 0]]
    candidate = torch.tensor([[0.5, 0.5], [0.58, 0.5], [0.58, 0.5]]).reshape(3, 1, 1, 2)
    look = search.judge(torch.arange(3), candidate, ce)
    assert look.wrong.tolist() == [False, True, False]
    assert look.kept.tolist() == [True, False, True]
    assert search.broken.tolist() == [False, True, False]
    assert search.last_wrong.tolist() == [False, True, False]
    assert torch.equal(torch.cat(asked), candidate[:2])  # a right pass is not voted on


def test_without_votes_a_single_wrong_pass_breaks():
    search = search_on(Always(2), one(0.5, 0.5), torch.tensor([1]), linf("1/10"))
    search.judge(FIRST, one(0.5, 0.5), ce)
    assert search.broken.all()


def test_votes_decide_while_exploring_too():
    search = search_on(Always(2), one(0.5, 0.5), torch.tensor([1]), linf("1/10"))
    search.confirm = lambda candidates: torch.tensor([[0.0, 1.0]]).expand(len(candidates), 2)
    search.confirms_outside = True
    search.explore(FIRST, one(0.9, 0.5), ce)
    search.slopes(FIRST, one(0.55, 0.5), torch.tensor([[0]]))
    assert search.nearest.tolist() == [math.inf]
    assert not search.broken.any()


@pytest.mark.parametrize(
    "spec",
    [
        attack_spec("fgsm", eot=3),
        attack_spec("pgd", steps=3, restarts=2, eot=2),
        attack_spec("apgd_t", steps=2, targets=3, eot=2),
        attack_spec("fab_t", steps=2, targets=2, eot=3),
        attack_spec("fab", steps=2, eot=2),
        attack_spec("square", queries=4, eot=5),
    ],
    ids=lambda spec: spec.label,
)
def test_repeated_passes_are_counted_one_by_one(spec):
    model = Always()
    search = attacked(spec, model, pictures(3, 3, 8, 8), torch.zeros(3).long(), linf("8/255"))
    plain = search.surface
    assert not isinstance(plain, Repeated)
    forwards, backwards = most_passes(spec)
    assert search.forwards.tolist() == [forwards] * 3
    assert search.backwards.tolist() == [backwards] * 3
    assert sum(model.batches) == 3 * forwards
    assert backwards == dict(spec.parameters)["eot"] * most_passes(once(spec))[1]


def once(spec):
    parameters = {key: value for key, value in spec.parameters if key != "eot"}
    return attack_spec(spec.attack, **parameters)


@pytest.mark.parametrize("name", ["pgd", "apgd_t"])
def test_repeating_a_model_that_does_not_change_changes_no_bit(name):
    once = alone(attack_spec(name, steps=3))
    twice = alone(attack_spec(name, steps=3, eot=2))  # the mean of two equal floats is exact
    for field in set(FIELDS) - {"forwards", "backwards"}:
        assert torch.equal(getattr(once, field), getattr(twice, field)), field
    assert torch.equal(twice.forwards, 2 * once.forwards)


def test_the_surface_is_plain_again_after_an_attack_that_raised(monkeypatch):
    search = searching()

    def fails(search, **_):
        assert isinstance(search.surface, Repeated)
        raise RuntimeError("stop")

    monkeypatch.setitem(vars(ATTACKS["pgd"]), "run", fails)
    with pytest.raises(RuntimeError, match="stop"):
        run_attack(attack_spec("pgd", eot=4), search)
    assert isinstance(search.surface, Logits)


def test_one_pass_is_no_repetition():
    assert attack_spec("pgd", eot=1) == attack_spec("pgd")
    assert attack_spec("pgd", eot=1).hash == attack_spec("pgd").hash
    assert attack_spec("pgd", eot=2).hash != attack_spec("pgd").hash
    assert attack_spec("pgd", eot=20).label == "pgd(eot=20)@logits:ce"


def test_linf_starts_use_the_stream_of_starts_alone():
    search = search_on(Always(), pictures(4, 3, 8, 8), torch.zeros(4).long(), linf("8/255"))
    uniform = search.streams.uniform(torch.tensor([1, 3]), (3, 8, 8), restart=2, purpose="start")
    found = search.random_start(torch.tensor([1, 3]), restart=2)
    assert torch.equal(found, search.ball.take(torch.tensor([1, 3])).random_start(uniform))


def test_the_radius_of_an_l2_start_is_uniform_and_independent_of_its_direction():
    clean = torch.full((600, 1, 3, 3), 0.5)
    search = search_on(Always(), clean, torch.zeros(600).long(), l2("1/10"))
    offset = (search.random_start(torch.arange(600), restart=0) - clean).flatten(1)
    length = offset.norm(dim=1)
    assert float(length.max()) <= 0.1
    assert float(length.mean()) == pytest.approx(0.05, abs=0.005)
    assert float(length.quantile(0.25)) == pytest.approx(0.025, abs=0.005)
    direction = offset / length[:, None]
    for pixel in range(9):
        both = torch.stack([direction[:, pixel], length])
        assert abs(float(torch.corrcoef(both)[0, 1])) < 0.15


def test_every_restart_starts_elsewhere_under_l2_and_repeats_itself():
    search = search_on(Always(), pictures(3, 3, 8, 8), torch.zeros(3).long(), l2("1/2"))
    first, again, other = (search.random_start(torch.arange(3), restart=r) for r in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert search.ball.contains(first).all()


def test_outside_the_ball_nobody_is_asked_unless_it_is_wanted():
    search = search_on(Always(2), one(0.5, 0.5), torch.tensor([1]), linf("1/10"))
    asked = []

    def right(candidates):
        asked.append(candidates)
        return torch.tensor([[0.0, 1.0]]).expand(len(candidates), 2)

    search.confirm = right
    look = search.explore(FIRST, one(0.9, 0.5), ce)

    assert look.wrong.tolist() == [True]
    assert search.nearest.tolist() == pytest.approx([0.4])
    assert asked == []
    search.explore(FIRST, one(0.55, 0.5), ce)
    assert len(asked) == 1
    assert not search.broken.any()
