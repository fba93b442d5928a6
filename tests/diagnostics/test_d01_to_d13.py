"""D01 to D13 on models and outcomes whose readings follow by hand."""

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from torch import nn

from harness.attacks.attack import ATTACKS
from harness.diagnostics.black_box import black_box_specs
from harness.diagnostics.convergence import STEPS
from harness.diagnostics.diagnostic import (
    AMBER,
    DIAGNOSTICS,
    GREEN,
    NOT_RUN,
    RED,
    graded_difference,
)
from harness.diagnostics.examination import Examination, NoGradient, NotRun, RowFacts, Trial
from harness.diagnostics.sweep import LEVELS
from harness.diagnostics.transfer import sources
from harness.diagnostics.unbounded import unbounded_specs, whole_box
from harness.diagnostics.white_box import union, white_box_specs
from harness.evaluation.handle import Handle
from harness.identity import Capabilities
from harness.threat import ThreatModel


@pytest.fixture(autouse=True)
def _every_number_of_images_is_few(monkeypatch):
    """The rules for few images; `test_on_a_full_subset_...` sets the real bound again."""
    list(DIAGNOSTICS)  # a module that is imported later would keep the patched number
    monkeypatch.setattr("harness.diagnostics.diagnostic.MANY", 10**9)


MINE = [f"D{number:02d}" for number in range(1, 14)]
PIXELS = 5


class FirstPixels(nn.Module):
    """Logits are the first pixels, as many as classes, changed by a function."""

    def __init__(self, change=lambda pixels: pixels, classes=4):
        super().__init__()
        self.change, self.classes = change, classes

    def forward(self, images):
        return self.change(images).flatten(1)[:, : self.classes]


def zero_gradient(pixels):
    return pixels.detach() + 0 * pixels


def examined(module=None, *, count=100, wrong=0, classes=4, norm="linf", epsilon="1/10", **more):
    """Images [count, 1, 1, 5] with the class's pixel brightest; the last `wrong` have another."""
    module = FirstPixels(classes=classes) if module is None else module
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % classes
    images = 0.3 * torch.rand(count, 1, 1, PIXELS, generator=generator) + 0.1
    images[torch.arange(count), 0, 0, labels] = 0.8
    if wrong:
        labels[-wrong:] = (labels[-wrong:] + 1) % classes
    return Examination(
        model=Handle(module, classes),
        module=module,
        images=images,
        labels=labels,
        indices=range(count),
        threat=ThreatModel(norm, Fraction(epsilon)),
        capabilities=Capabilities(classes=classes),
        effort=more.pop("effort", 0.05),
        **more,
    )


def first(count, total=500, skip=0):
    """[total] bool, true for so many images after the skipped ones."""
    found = torch.zeros(total, dtype=torch.bool)
    found[skip : skip + count] = True
    return found


def trial(broken, *, last_wrong=None, first_success=None, start=None, best=None):
    count = len(broken)
    zeros = torch.zeros(count)
    return Trial(
        broken=broken,
        last_wrong=broken if last_wrong is None else last_wrong,
        last=zeros,
        adversarial=zeros,
        loss_start=zeros if start is None else start,
        loss_best=zeros if best is None else best,
        nearest=zeros,
        first_success=zeros.long() if first_success is None else first_success,
        trace=zeros[None],
        queries=zeros,
    )


def pretend(examination, spec, found, *, epsilon=None, stream=""):
    """Make the examination believe that this attack has run and found this."""
    threat = examination.threat
    if epsilon is not None:
        threat = ThreatModel(threat.norm, epsilon)
    examination._trials[(spec.hash, threat, stream or spec.hash)] = found


def read(identity, examination):
    return DIAGNOSTICS[identity].read(examination)


@pytest.mark.parametrize(
    ("only_first", "only_second", "points", "state"),
    [
        (7, 0, 7.0, RED),  # 1/128 is below 1 %
        (6, 0, 6.0, GREEN),  # 1/64 is not
        (12, 3, 9.0, GREEN),  # 576/32768 = 1.76 %
        (13, 2, 11.0, RED),  # 121/32768 = 0.37 %
        (2, 13, -11.0, GREEN),
        (0, 0, 0.0, GREEN),
    ],
)
def test_a_difference_counts_only_beyond_chance(only_first, only_second, points, state):
    one, other = first(only_first, 100), first(only_second, 100, skip=50)
    found = graded_difference(one, other, first(100, 100), amber=0.5, red=2.0)
    assert (found.points, found.state) == (points, state)
    assert torch.equal(found.proof, one)


def test_points_are_of_the_images_that_count_and_others_do_not():
    broken = first(20, 100)
    found = graded_difference(broken, ~first(100, 100), first(50, 100, skip=10), amber=0, red=50)
    assert (found.points, found.state) == (20.0, AMBER)
    assert int(found.proof.sum()) == 10
    with pytest.raises(NotRun, match="nothing to attack"):
        graded_difference(broken, broken, first(0, 100), amber=0, red=0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("classes", [2, 3, 4])
def test_a_linear_model_is_green_in_every_norm_and_for_few_classes(norm, classes):
    other = Handle(FirstPixels(lambda pixels: 2 * pixels, classes), classes)
    examination = examined(
        classes=classes, norm=norm, epsilon="1/4", surrogates={"ab" * 6: other}, effort=0.4
    )
    patient = replace(examination, effort=1.0, _trials={})  # DLR needs its hundred steps in L2
    readings = {
        identity: read(identity, patient if identity == "D09" else examination) for identity in MINE
    }
    states = {identity: reading.state for identity, reading in readings.items()}
    assert states == {**dict.fromkeys(MINE, GREEN), "D08": GREEN if norm == "linf" else NOT_RUN}
    assert all(len(reading.note) > 20 for reading in readings.values())
    assert "L-infinity" in readings["D08"].note or norm == "linf"


def test_a_model_that_is_never_right_is_not_run_rather_than_green():
    examination = examined(wrong=100, surrogates={"ab" * 6: Handle(FirstPixels(), 4)})
    states = {identity: read(identity, examination).state for identity in MINE}
    by_every_image = {"D01", "D11"}
    assert states == {
        identity: GREEN if identity in by_every_image else NOT_RUN for identity in MINE
    }


class Untouchable(nn.Module):
    """Computes its logits out of sight of back-propagation."""

    def forward(self, images):
        return images.detach().flatten(1)[:, :4]


def test_a_model_without_back_propagation_has_no_gradient_and_breaks_by_queries_alone():
    examination = examined(Untouchable(), epsilon="2/5", effort=0.2)
    assert read("D10", examination).state == RED
    assert "grad" in read("D10", examination).note
    reading = read("D04", examination)
    assert (reading.state, reading.value) == (RED, 100.0)
    assert "No gradient attack could run" in reading.note
    assert read("D09", examination).state == NOT_RUN
    assert read("D12", examination).state == NOT_RUN
    with pytest.raises(NoGradient):
        examination.run(examination.spec("fgsm"))


# D01


def healed_by_fgsm(healed, hurt, count=500, wrong=50):
    examination = examined(count=count, wrong=wrong)
    calm = trial(~examination.right)
    last_wrong = ~examination.right & ~first(healed, count, skip=count - healed)
    last_wrong |= first(hurt, count)
    spec = examination.spec
    pretend(examination, spec("pgd", steps=40), calm)
    pretend(examination, spec("apgd_ce", steps=100), calm)
    pretend(examination, spec("fgsm"), trial(calm.broken, last_wrong=last_wrong))
    return read("D01", examination)


@pytest.mark.parametrize(
    ("healed", "hurt", "state"),
    [(0, 0, GREEN), (6, 0, GREEN), (10, 0, RED), (10, 8, AMBER), (10, 40, AMBER)],
)
def test_healed_images_are_amber_and_accuracy_above_clean_is_red(healed, hurt, state):
    reading = healed_by_fgsm(healed, hurt)
    assert (reading.state, reading.value) == (state, healed / 5)
    assert reading.proof.nonzero()[:, 0].tolist() == list(range(500 - healed, 500))
    assert reading.details["fgsm@logits:ce"] == pytest.approx(
        (90 + (healed - hurt) / 5, healed / 5)
    )


def test_the_note_says_by_which_attack_the_accuracy_rises():
    assert "rises under attack fgsm@logits:ce: 92.0 > 90.0" in healed_by_fgsm(10, 0).note


# D02


@pytest.mark.parametrize(
    ("fgsm", "pgd", "state"), [(12, 2, AMBER), (13, 2, RED), (2, 13, GREEN), (6, 0, GREEN)]
)
def test_one_step_is_compared_with_a_hundred_net_of_the_other_way_round(fgsm, pgd, state):
    examination = examined(count=500)
    pretend(examination, examination.spec("fgsm"), trial(first(fgsm + 100)))
    pretend(
        examination,
        examination.spec("pgd", steps=100),
        trial(first(100, skip=0) | first(pgd, skip=300)),
    )
    reading = read("D02", examination)
    assert (reading.state, reading.value) == (state, pytest.approx((fgsm - pgd) / 5))
    assert reading.proof.nonzero()[:, 0].tolist() == list(range(100, 100 + fgsm))


# D03


def steps_break(every, last=None):
    examination = examined(count=500, effort=1.0)
    for steps, best, final in zip(STEPS, every, last or every, strict=True):
        found = trial(first(best), last_wrong=first(final))
        pretend(examination, examination.spec("pgd", steps=steps), found, stream="D03")
    return read("D03", examination)


@pytest.mark.parametrize(
    ("every", "last", "state", "value"),
    [
        ((10, 20, 30, 40, 40), None, GREEN, 0.0),
        ((10, 20, 30, 40, 46), None, GREEN, 1.2),  # six images are chance
        ((10, 20, 30, 40, 47), None, AMBER, 1.4),
        ((10, 20, 30, 40, 51), None, RED, 2.2),
        ((0, 0, 0, 90, 90), None, GREEN, 0.0),  # only the last stretch must be flat
        ((90, 90, 90, 90, 90), (40, 40, 40, 40, 60), GREEN, 0.0),  # every iterate counts
        ((40, 40, 40, 40, 40), (40, 40, 40, 40, 33), RED, 1.4),
        ((40, 40, 40, 40, 40), (40, 36, 40, 40, 34), GREEN, 1.2),
        ((40, 40, 40, 40, 40), (40, 36, 33, 40, 40), RED, 1.4),  # from 10 to 50, not from 20
    ],
)
def test_accuracy_must_fall_with_iterations_and_then_settle(every, last, state, value):
    reading = steps_break(every, last)
    assert (reading.state, reading.value) == (state, pytest.approx(value))
    assert reading.details["steps"] == STEPS
    assert reading.details["every_iterate"] == pytest.approx([100 - each / 5 for each in every])


def test_runs_of_every_length_start_at_the_same_point():
    examination = examined(FirstPixels(zero_gradient), count=20, effort=1.0)
    lengths = [examination.spec("pgd", steps=steps) for steps in (1, 3)]
    one, three = (examination.run(spec, stream="D03").last for spec in lengths)
    torch.testing.assert_close(one, three, rtol=0, atol=0)
    assert not torch.equal(examination.run(lengths[0]).last, one)
    assert not torch.equal(one, examination.images)


# D04 to D06


def compared(identity, specs_of, white, black, *, wrong=0, **more):
    """Reading where gradients break some images and each of the others breaks its own."""
    examination = examined(count=500, wrong=wrong, **more)
    for spec in white_box_specs(examination, adaptive=examination.row.is_adaptive):
        pretend(examination, spec, trial(~examination.right))
    pretend(examination, examination.spec("pgd", steps=100), trial(white))
    for number, spec in enumerate(specs_of(examination)):
        pretend(examination, spec, trial(black if number == 0 else first(0)))
    return read(identity, examination)


def noise_spec(examination):
    return [examination.spec("uniform_noise", draws=100, vertices=100)]


def twin_specs(examination):
    from harness.diagnostics.transfer import transfer_specs

    return [spec for source in sources(examination) for spec in transfer_specs(examination, source)]


@pytest.mark.parametrize(
    ("identity", "specs"),
    [("D04", black_box_specs), ("D05", twin_specs), ("D06", noise_spec)],
)
@pytest.mark.parametrize(("only", "state"), [(0, GREEN), (6, GREEN), (7, RED)])
def test_what_gradients_do_not_break_is_a_set_difference(identity, specs, only, state):
    more = {"surrogates": {"ab" * 6: Handle(FirstPixels(), 4)}} if identity == "D05" else {}
    white = first(100)  # most of it is broken by gradients alone: that is no excuse
    reading = compared(identity, specs, white, first(only + 5, skip=95), **more)
    assert (reading.state, reading.value) == (state, only / 5)
    assert reading.proof.nonzero()[:, 0].tolist() == list(range(100, 100 + only))


@pytest.mark.parametrize(
    ("count", "needs_test", "state"),
    [
        *((0, False, GREEN), (1, False, GREEN), (2, False, AMBER), (5, False, AMBER)),
        *((6, False, RED), (2, True, GREEN), (5, True, GREEN), (6, True, RED)),
    ],
)
def test_on_a_full_subset_thresholds_stand_without_the_test(monkeypatch, count, needs_test, state):
    monkeypatch.setattr("harness.diagnostics.diagnostic.MANY", 500)
    some, none, everyone = first(count), first(0), first(500)
    bounds = {"amber": 0.2, "red": 1.0, "needs_test": needs_test}
    assert graded_difference(some, none, everyone, **bounds).state == state
    fewer = first(499)
    assert graded_difference(some, none, fewer, **bounds).state == GREEN


def test_small_set_differences_are_amber():
    total = 2000
    states = {}
    for identity, amber, red in (("D04", 0.2, 1.0), ("D05", 0.3, 1.0), ("D06", 0.0, 0.5)):
        found = graded_difference(
            first(9, total), first(0, total), first(total, total), amber=amber, red=red
        )
        states[identity] = found.state
    assert states == {"D04": AMBER, "D05": AMBER, "D06": AMBER}


@pytest.mark.parametrize(
    ("identity", "specs"), [("D04", black_box_specs), ("D06", noise_spec), ("D05", twin_specs)]
)
def test_images_that_are_wrong_as_they_are_never_count(identity, specs):
    more = {"surrogates": {"ab" * 6: Handle(FirstPixels(), 4)}} if identity == "D05" else {}
    reading = compared(identity, specs, first(0), first(50, skip=450), wrong=50, **more)
    assert (reading.state, reading.value) == (GREEN, 0.0)


def test_an_adaptive_row_is_compared_with_the_adaptive_attacks_too():
    plain, adaptive = examined(), examined(row=RowFacts(is_adaptive=True))
    with_heads = replace(
        adaptive, capabilities=Capabilities(classes=4, auxiliary=1, select=True, strip=True)
    )
    surfaces = {spec.surface for spec in white_box_specs(with_heads, adaptive=True)}
    assert {"auxiliary(0)", "straight_through(1)", "label_gate", "stripped"} <= surfaces
    assert not any(surface.startswith("surrogate") for surface in surfaces)
    everything = white_box_specs(with_heads, adaptive=True)
    assert {ATTACKS[spec.attack].knowledge for spec in everything} == {"white_box"}
    assert {spec.surface for spec in white_box_specs(plain, adaptive=False)} == {"logits"}
    assert set(white_box_specs(plain, adaptive=False)) < set(white_box_specs(plain, adaptive=True))


@pytest.mark.parametrize(
    ("identity", "specs", "name"),
    [("D04", black_box_specs, "standard_white_box"), ("D06", noise_spec, "only_noise_not_pgd")],
)
def test_the_adaptive_attacks_clear_what_others_alone_broke(identity, specs, name):
    examination = examined(count=500, row=RowFacts(is_adaptive=True))
    for number, spec in enumerate(specs(examination)):
        pretend(examination, spec, trial(first(0 if number else 50)))
    everything = white_box_specs(examination, adaptive=True)
    standard = white_box_specs(examination, adaptive=False)
    for spec in everything:
        pretend(examination, spec, trial(first(0 if spec in standard else 50)))
    reading = read(identity, examination)
    assert (reading.state, reading.value) == (GREEN, 0.0)
    assert reading.details[name] == (10.0,)


def test_what_cannot_run_breaks_nothing_and_is_named():
    examination = examined(norm="l2", effort=0.01)
    found = union(examination, [examination.spec("rays", queries=1000), examination.spec("fgsm")])
    assert [spec.attack for spec in found.done] == ["fgsm"]
    (reason,) = found.skipped.values()
    assert "not defined for l2" in reason


def test_transfer_needs_another_model_and_a_stripped_twin_is_one():
    alone = examined()
    assert read("D05", alone).state == NOT_RUN
    assert "add another checkpoint" in read("D05", alone).note
    twin = replace(alone, capabilities=Capabilities(classes=4, strip=True))
    other = replace(twin, surrogates={"ab" * 6: alone.model})
    assert sources(twin) == ["stripped"]
    assert sources(other) == ["surrogate(abababababab)", "stripped"]


def test_the_surrogate_matrix_has_a_row_per_model_and_six_attacks():
    surrogates = {"ab" * 6: Handle(FirstPixels(), 4), "cd" * 6: Handle(FirstPixels(torch.neg), 4)}
    reading = read("D05", examined(epsilon="2/5", surrogates=surrogates, effort=0.4))
    same, opposite = (reading.details[f"surrogate({name})"] for name in sorted(surrogates))
    assert len(same) == len(opposite) == 6
    assert min(same) == 100.0
    assert max(opposite) < 50.0  # what random starts alone break
    assert opposite[4:] == (0.0, 0.0)  # MIM starts at the clean image


# D07


def test_unbounded_attacks_have_the_whole_box_and_twice_its_width_to_go():
    for effort in (1.0, 0.3):
        pgd, apgd = unbounded_specs(examined(effort=effort))
        settings = dict(pgd.parameters)
        assert settings["steps"] * settings["relative_step"] == pytest.approx(2.0)
        assert apgd.attack == "apgd_ce"
    assert dict(unbounded_specs(examined(effort=1.0))[0].parameters)["relative_step"] == 0.02
    assert whole_box(examined()) == 1
    assert whole_box(examined(norm="l2")) ** 2 >= PIXELS


@pytest.mark.parametrize(
    ("pgd", "apgd", "state", "value"),
    [(500, 0, GREEN, 0.0), (250, 500, GREEN, 0.0), (400, 499, AMBER, 0.2), (0, 494, RED, 1.2)],
)
def test_a_survivor_survives_both_unbounded_attacks(pgd, apgd, state, value):
    examination = examined(count=500)
    for spec, count in zip(unbounded_specs(examination), (pgd, apgd), strict=True):
        pretend(examination, spec, trial(first(count)), epsilon=Fraction(1))
    reading = read("D07", examination)
    assert (reading.state, reading.value) == (state, pytest.approx(value))
    assert int(reading.proof.sum()) == round(value * 5)


# D08


def swept(counts):
    examination = examined(count=500)
    for level, count in zip(LEVELS[1:], counts, strict=True):
        for name in ("apgd_ce", "apgd_dlr"):
            spec = examination.spec(name, steps=100)
            pretend(examination, spec, trial(first(count)), epsilon=Fraction(level, 255))
    return read("D08", examination)


RISING = [0, 10, 20, 50, 80, 100, 150, 200, 300, 400, 450, 500]


@pytest.mark.parametrize(
    ("changes", "state", "value"),
    [
        ({}, GREEN, 0.0),
        ({8: 193}, RED, 1.4),  # 200 at 24/255, then 193 at 32/255
        ({8: 194}, GREEN, 1.2),
        ({5: 80, 6: 94, 4: 101}, RED, 4.2),  # compared with every smaller epsilon
        ({9: 375, 10: 375}, RED, 0.0),  # a quarter is left at 128/255: K is 4, so that is the limit
    ],
)
def test_accuracy_must_not_rise_with_epsilon(changes, state, value):
    counts = [changes.get(number, count) for number, count in enumerate(RISING)]
    if 10 in changes:
        assert swept(counts).state == GREEN
        counts[10] = counts[9] = 374
    reading = swept(counts)
    assert (reading.state, reading.value) == (state, pytest.approx(value))


def test_the_security_curve_keeps_what_a_smaller_epsilon_broke():
    counts = [*RISING[:8], 190, *RISING[9:]]
    reading = swept(counts)
    assert reading.details["epsilon_255ths"] == LEVELS
    assert reading.details["as_run"] == pytest.approx([100, *(100 - each / 5 for each in counts)])
    curve = reading.details["security_curve"]
    assert curve[9] == pytest.approx(100 - 200 / 5)
    assert list(curve) == sorted(curve, reverse=True)


# D09


def test_a_loss_grows_only_beyond_a_millionth_and_a_number():
    examination = examined(count=500)
    best = torch.full((500,), 2.0)
    best[:3] = 1.0  # no gain
    best[3:5] = 1.0 + 4e-7
    best[5] = torch.nan
    best[6] = 1.0 + 1e-5
    grown = trial(first(0), start=torch.ones(500), best=torch.full((500,), 2.0))
    for loss in ("margin", "dlr"):
        pretend(examination, examination.spec("pgd", steps=100, loss=loss), grown)
    stuck = trial(first(0), start=torch.ones(500), best=best)
    pretend(examination, examination.spec("pgd", steps=100), stuck)
    reading = read("D09", examination)
    assert (reading.state, reading.value) == (AMBER, pytest.approx(1.2))
    assert reading.proof.nonzero()[:, 0].tolist() == list(range(6))
    assert reading.details["margin"] == (0.0,)
    assert sum(reading.details["ce_counts"]) == 499


# D10 and D11


class DeadFor(nn.Module):
    """No gradient for images whose last pixel is above 0.395: some of those of `examined`."""

    def forward(self, images):
        dead = (images[:, :, :, -1:] > 0.39).expand_as(images)
        return torch.where(dead, zero_gradient(images), images).flatten(1)[:, :4]


def test_zero_gradients_are_counted_at_the_image_and_at_a_random_point():
    examination = examined(DeadFor(), count=500)
    dead = examination.images[:, 0, 0, -1] > 0.39
    moved = examination.random_points("D10")[:, 0, 0, -1] > 0.39
    assert 0 < int(dead.sum()) < int(moved.sum())
    reading = read("D10", examination)
    assert reading.state == RED
    assert reading.details["margin_clean"] == (pytest.approx(float(dead.sum()) / 5),)
    assert reading.details["dlr_random"] == (pytest.approx(float(moved.sum()) / 5),)
    assert reading.value == max(rate for (rate,) in reading.details.values())
    assert torch.equal(reading.proof, dead | moved)


def test_a_gradient_that_is_no_number_is_not_zero():
    examination = examined(FirstPixels(lambda pixels: pixels + 0 * (pixels - pixels).sqrt()))
    assert read("D10", examination).state == GREEN
    reading = read("D11", examination)
    assert (reading.state, reading.value) == (RED, 100.0)
    assert reading.details["logits"] == (0.0,)


def test_logits_that_are_no_numbers_are_counted_though_their_images_are_wrong():
    def infinite_for_one(pixels):
        first_of_all = (pixels.sum(dim=(1, 2, 3), keepdim=True) > 2.0).to(pixels)
        return pixels / (1 - first_of_all)

    examination = examined(FirstPixels(infinite_for_one), count=500, epsilon="1/100000")
    bright = examination.images.flatten(1).sum(1) > 2.0
    assert 1 < int(bright.sum()) < 100
    assert not (examination.right & bright).any()
    reading = read("D11", examination)
    assert reading.value == pytest.approx(float(bright.sum()) / 5)
    assert torch.equal(reading.proof, bright)


class InfiniteOutOfSight(nn.Module):
    def forward(self, images):
        return images.detach().flatten(1)[:, :4] / 0


def test_logits_are_looked_at_where_there_is_no_gradient_to_look_at():
    reading = read("D11", examined(InfiniteOutOfSight()))
    assert (reading.state, reading.value) == (RED, 100.0)
    assert reading.details["gradients"] == (0.0,)


# D12


FLAT = 2 / 16
"""Share of sign vectors that move all four logits alike, which cross-entropy does not notice."""


def gradient_times(factor):
    """The identity, whose gradient is so many times too large."""
    return FirstPixels(lambda pixels: pixels.detach() + factor * (pixels - pixels.detach()))


@pytest.mark.parametrize(
    ("factor", "error", "agreement", "state"),
    [(1.0, 0.0, 1.0, GREEN), (4.0, 0.75, 1.0, AMBER), (0.4, 1.5, 1.0, RED), (-1.0, 2.0, FLAT, RED)],
)
def test_a_gradient_that_is_wrong_by_a_factor_is_off_by_its_share(factor, error, agreement, state):
    reading = read("D12", examined(gradient_times(factor)))
    assert reading.value == pytest.approx(error, abs=1e-3)
    assert reading.state == state
    assert reading.details["sign_agreement"] == pytest.approx([agreement] * 3, abs=0.03)
    assert reading.details["radius"] == pytest.approx([1e-3, 0.0125, 0.1])
    assert "float64" in reading.note


def test_a_gradient_that_is_zero_where_the_loss_moves_is_as_wrong_as_can_be():
    reading = read("D12", examined(FirstPixels(zero_gradient)))
    assert (reading.state, reading.value) == (RED, 1000.0)
    assert reading.proof.all()


def test_signs_that_disagree_are_red_even_where_most_slopes_are_right():
    def turned_for_two_in_five(pixels):
        turned = (torch.arange(len(pixels)) % 5 < 2).to(pixels)[:, None, None, None]
        return pixels.detach() + (1 - 2 * turned) * (pixels - pixels.detach())

    reading = read("D12", examined(FirstPixels(turned_for_two_in_five)))
    assert reading.value < 0.1
    assert reading.state == RED
    assert reading.details["sign_agreement"][1] == pytest.approx(0.6 + 0.4 * FLAT, abs=0.03)


def test_a_clamp_to_the_box_inside_the_model_is_no_infidelity():
    module = FirstPixels(lambda pixels: pixels.clamp(0, 1))
    examination = examined(module)
    examination.images = examination.images.round()
    examination.images[torch.arange(100), 0, 0, examination.labels] = 1.0
    reading = read("D12", examination)
    assert (reading.state, reading.value) == (GREEN, pytest.approx(0.0, abs=1e-2))


def test_a_model_that_refuses_float64_is_read_in_float32_and_says_so():
    module = FirstPixels(lambda pixels: pixels.float())
    reading = read("D12", examined(module))
    assert "float32" in reading.note
    assert (reading.state, reading.value) == (GREEN, pytest.approx(0.0, abs=1e-2))


def test_the_model_itself_stays_in_float32():
    module = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 4))
    read("D12", examined(module))
    assert {each.dtype for each in module.parameters()} == {torch.float32}


# D13


@pytest.mark.parametrize(
    ("late", "state", "value"), [(0, GREEN, 0.0), (6, GREEN, 1.2), (7, AMBER, 1.4), (16, RED, 3.2)]
)
def test_restarts_gain_what_no_look_of_the_first_one_broke(late, state, value):
    examination = examined(count=500, effort=1.0)
    success = torch.full((500,), -1)
    success[100:200] = 0  # wrong as they are, had they counted
    success[200:300] = 21  # clean image, twenty steps and a last look: still the first start
    success[:late] = 22
    for name, steps in (("pgd", 20), ("apgd_ce", 100)):
        spec = examination.spec(name, steps=steps, restarts=10)
        shown = success if name == "pgd" else torch.where(success == 22, 101, success)
        pretend(examination, spec, trial(shown >= 0, first_success=shown))
    reading = read("D13", examination)
    assert (reading.state, reading.value) == (state, pytest.approx(value))
    assert reading.proof.nonzero()[:, 0].tolist() == list(range(late))
    curve = next(each for name, each in reading.details.items() if name.startswith("pgd"))
    assert len(curve) == 10
    assert curve[0] == pytest.approx(60.0)
    assert curve[1] == pytest.approx(60.0 - late / 5)


@pytest.mark.parametrize("name", ["pgd", "apgd_ce"])
def test_a_restart_is_as_many_looks_as_steps_and_one_more(name):
    examination = examined(FirstPixels(zero_gradient), effort=1.0)
    spec = examination.spec(name, steps=3, restarts=10)
    assert len(examination.run(spec).trace) == 1 + 10 * (3 + 1)


def test_every_diagnostic_reads_the_same_twice():
    other = {"ab" * 6: Handle(FirstPixels(torch.square), 4)}
    one, two = (examined(epsilon="1/4", surrogates=other) for _ in range(2))
    for identity in MINE:
        assert read(identity, one).details == read(identity, two).details


def test_a_random_model_is_not_judged_by_single_passes():
    examination = examined()
    examination = replace(examination, capabilities=Capabilities(classes=4, is_random=True))
    for identity in ("D02", "D04", "D13"):
        reading = read(identity, examination)
        assert reading.state == NOT_RUN
        assert "random" in reading.note
