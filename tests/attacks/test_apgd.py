"""Auto-PGD's own machinery: when it looks back, how it steps, when it halves."""

from dataclasses import replace

import pytest
import torch
from attacked_models import (
    Always,
    Linear,
    attacked,
    linf,
    pictures,
    search_on,
    small_convolution,
)

from harness.attacks.apgd import _examine, _remember_best, _State, _step, apgd_ce, checkpoints
from harness.attacks.attack import attack_spec
from harness.attacks.geometry import Ball
from harness.attacks.losses import LOSSES
from harness.evaluation.handle import Handle


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (100, [22, 41, 57, 70, 80, 87, 93, 99]),
        (50, [11, 21, 30, 38, 45]),
        (40, [8, 15, 21, 26, 30, 33, 35, 37, 39]),
        (20, [4, 7, 9, *range(10, 21)]),
        (10, [2, *range(3, 11)]),
        (200, [44, 82, 114, 140, 160, 174, 186, 198]),
    ],
)
def test_checkpoints_are_the_published_ones(steps, expected):
    found = checkpoints(steps)
    assert found[: len(expected)] == expected
    assert all(number > expected[-1] for number in found[len(expected) :])


@pytest.mark.parametrize("steps", range(1, 120))
def test_checkpoints_rise_and_stay_within_the_run(steps):
    found = checkpoints(steps)
    assert found == sorted(set(found))
    assert 1 <= found[0] <= found[-1] <= steps


def one(value):
    return torch.full((1, 1, 1, 1), value)


def state_of(count=1, **changes):
    zero, point = torch.zeros(count), torch.full((count, 1, 1, 1), 0.5)
    values = {
        "position": torch.arange(count),
        "candidate": point,
        "previous": point,
        "gradient": torch.ones_like(point),
        "loss": zero,
        "best": point,
        "best_gradient": torch.ones_like(point),
        "best_loss": zero,
        "step": torch.full((count,), 0.2),
        "increases": torch.zeros(count, dtype=torch.long),
        "loss_at_check": zero,
        "halved_at_check": torch.ones(count, dtype=torch.bool),
    }
    return _State(**{**values, **changes})


def test_steps_have_the_values_worked_out_by_hand():
    ball = Ball.around(one(0.5), linf("1/10"))
    first = _step(state_of(), ball, is_first=True)
    assert float(first) == pytest.approx(0.6, abs=1e-6)
    state = state_of(candidate=first, previous=one(0.5), gradient=one(-1.0))
    second = _step(state, ball, is_first=False)
    assert float(second) == pytest.approx(0.475, abs=1e-6)
    state = state_of(candidate=second, previous=first, step=torch.tensor([0.1]))
    assert float(_step(state, ball, is_first=False)) == pytest.approx(0.51875, abs=1e-6)


@pytest.mark.parametrize(("window", "most"), [(22, 16), (19, 14)])
def test_the_step_is_halved_when_at_most_three_quarters_of_the_window_climbed(window, most):
    growing = {"best_loss": torch.ones(2)}  # so that the second condition is silent
    state = state_of(2, increases=torch.tensor([most, most + 1]), **growing)
    _examine(state, window)
    assert state.step.tolist() == pytest.approx([0.1, 0.2])
    assert state.halved_at_check.tolist() == [True, False]
    assert state.increases.tolist() == [0, 0]


def test_the_step_is_halved_when_the_best_loss_stands_still_unless_it_was_just_halved():
    state = state_of(
        3,
        increases=torch.tensor([22, 22, 22]),
        halved_at_check=torch.tensor([False, True, False]),
        best_loss=torch.tensor([1.0, 1.0, 2.0]),
        loss_at_check=torch.ones(3),
    )
    _examine(state, 22)
    assert state.step.tolist() == pytest.approx([0.1, 0.2, 0.2])
    assert torch.equal(state.loss_at_check, torch.tensor([1.0, 1.0, 2.0]))


def test_each_look_back_covers_the_iterations_since_the_last(monkeypatch):
    windows = []

    def spy(state, window, parity):
        windows.append(window)
        assert not state.increases.any()  # an unchanged loss has not increased

    monkeypatch.setattr("harness.attacks.apgd._examine", spy)
    images = pictures(2, 3, 4, 4)
    attacked("apgd_ce", Always(), images, torch.zeros(2, dtype=torch.long), linf("1/255"))
    assert windows == [22, 19, 16, 13, 10, 7, 6, 6]


def test_a_halved_image_goes_back_to_its_best_point_at_rest_and_the_others_go_on():
    here, best = torch.full((2, 1, 1, 1), 0.4), torch.full((2, 1, 1, 1), 0.6)
    state = state_of(
        2,
        candidate=here,
        previous=0.5 * here,
        gradient=here,
        best=best,
        best_gradient=best,
        best_loss=torch.full((2,), 3.0),
        increases=torch.tensor([0, 22]),
    )
    _examine(state, 22)
    for name in ("candidate", "previous", "gradient"):
        assert float(getattr(state, name)[0]) == pytest.approx(0.6)
    assert state.loss.tolist() == [3.0, 0.0]
    assert float(state.candidate[1]) == pytest.approx(0.4)
    assert float(state.previous[1]) == pytest.approx(0.2)


def test_with_parity_a_halved_image_keeps_the_momentum_and_loss_of_the_point_it_left():
    best, left = one(0.6), one(0.1)
    state = state_of(
        candidate=one(0.4),
        previous=left,
        best=best,
        best_gradient=best,
        best_loss=torch.tensor([3.0]),
        loss=torch.tensor([1.0]),
    )
    _examine(state, 22, parity=True)
    assert state.halved_at_check.tolist() == [True]
    assert float(state.candidate) == float(best)
    assert float(state.gradient) == float(best)
    assert float(state.previous) == float(left)
    assert state.loss.tolist() == [1.0]


@pytest.mark.parametrize(("offset", "parity", "climbed"), [(-9, True, 0), (-9, False, 1)])
def test_with_parity_the_first_comparison_is_with_zero(monkeypatch, offset, parity, climbed):
    """A loss that rises by 1 per look and stays below 0 has never risen above 0."""
    counts = []

    def spy(state, window, parity):
        del window, parity
        counts.append(state.increases.tolist())

    monkeypatch.setattr("harness.attacks.apgd._examine", spy)
    looks = iter(range(offset, 0))

    def rising(logits, labels, targets=None):
        return 0 * logits[:, 0] + next(looks)

    search = search_on(Always(), pictures(1, 3, 4, 4), torch.tensor([0]), linf("1/255"))
    apgd_ce(search, loss=rising, steps=1, parity=parity)
    assert counts == [[climbed]]


def test_with_parity_nothing_leaves_a_run_and_restarts_attack_what_stands():
    images, model = pictures(12, 3, 8, 8), Handle(small_convolution(), 10)
    labels = model(images).logits.argmax(1)
    seen = []

    def recorded(candidates, *, select=None):
        seen.append(len(candidates))
        return model(candidates)

    spec = attack_spec("apgd_ce", steps=3, restarts=2, parity=True)
    search = attacked(spec, recorded, images, labels, linf("4/255"))
    assert seen[:5] == [12] * 5  # the clean images, the start and three steps
    standing = seen[6]
    assert 0 < standing < 12
    assert seen[5] == 12 - standing  # what broke is judged once more inside the exact ball
    assert seen[6:10] == [standing] * 4
    assert int(search.broken.sum()) >= 12 - standing


def test_the_best_point_moves_only_to_a_strictly_larger_loss():
    new = torch.full((3, 1, 1, 1), 0.9)
    state = state_of(3, candidate=new, gradient=new, loss=torch.tensor([1.0, 0.0, torch.nan]))
    _remember_best(state)
    assert state.best_loss.tolist() == [1.0, 0.0, 0.0]
    assert state.best.flatten().tolist() == pytest.approx([0.9, 0.5, 0.5])
    assert state.best_gradient.flatten().tolist() == pytest.approx([0.9, 1.0, 1.0])


@pytest.mark.parametrize("name", ["apgd_ce", "apgd_dlr"])
def test_the_best_loss_never_falls_with_more_steps_of_the_same_run(name):
    images, model = pictures(12, 3, 8, 8), Handle(small_convolution(), 10)
    labels = model(images).logits.argmax(1)
    found = [
        attacked(attack_spec(name, steps=steps), model, images, labels, linf("1/255")).loss_best
        for steps in (1, 2)  # one checkpoint rule holds for both: look back after every step
    ]
    assert (found[1] >= found[0]).all()


def test_rivals_are_the_wrong_classes_by_their_clean_logits():
    weight, bias = torch.zeros(5, 4), torch.tensor([0.3, 0.9, 0.1, 0.7, 0.5])
    model, images = Linear(weight, bias), pictures(2, 1, 2, 2)
    search = attacked("fgsm", model, images, torch.tensor([1, 1]), linf(0))
    everyone = torch.arange(2)
    assert search.rivals(everyone, 2).tolist() == [[3, 4]] * 2
    assert search.rivals(everyone, 9).tolist() == [[3, 4, 0, 2]] * 2


def test_no_run_climbs_towards_the_label_however_many_targets_are_asked_for():
    seen = []

    def spy(logits, labels, targets):
        seen.append((targets, labels))
        return LOSSES["dlr_targeted"](logits, labels, targets)

    images, model = pictures(3, 3, 4, 4), Always(classes=4)
    search = attacked("fgsm", model, images, torch.zeros(3, dtype=torch.long), linf("1/255"))
    from harness.attacks.apgd import apgd_t

    apgd_t(search, loss=spy, steps=2, targets=9)
    assert {int(target) for targets, _ in seen for target in targets} == {1, 2, 3}


def test_a_state_cut_to_some_images_keeps_all_their_rows():
    state = state_of(3, loss=torch.tensor([1.0, 2.0, 3.0]))
    cut = replace(state).take(torch.tensor([True, False, True]))
    assert cut.loss.tolist() == [1.0, 3.0]
    assert cut.position.tolist() == [0, 2]
    assert all(len(getattr(cut, name)) == 2 for name in vars(cut))
