"""Runs that share passes leave behind what runs one after the other do, to the last bit."""

from __future__ import annotations

import pytest
import torch
from attacked_models import (
    Always,
    Linear,
    l2,
    linf,
    pictures,
    search_on,
    small_convolution,
)

from harness.attacks.attack import attack_spec, run_attack
from harness.attacks.losses import LOSSES
from harness.attacks.pooling import pooled
from harness.attacks.search import ROOM
from harness.attacks.surface_text import surface_named
from harness.catalogue import DEFENSES
from harness.defense import Build
from harness.evaluation.handle import Handle
from harness.evaluation.randomised import RandomHandle
from harness.evaluation.searching import NO_AIDS, Aids, search_of
from harness.evaluation.subject import Subject
from harness.identity import CORRECT, PRECISIONS, Capabilities, Job

COUNT = 20
SHAPE = (1, 8, 8)
FIELDS = (
    "broken",
    "adversarial",
    "first_success",
    "loss_start",
    "loss_best",
    "last",
    "last_wrong",
    "nearest",
    "looks",
    "forwards",
    "backwards",
)
SMALL, LARGE, ROUND = linf("4/255"), linf("12/255"), l2("1/5")
APGD_T = attack_spec("apgd_t", steps=7, targets=9)
APGD_CE = attack_spec("apgd_ce", steps=2, restarts=7)
PGD = attack_spec("pgd", steps=4, restarts=6)
PGD_T = attack_spec("pgd_t", steps=4, targets=4, restarts=2)
FAB_T = attack_spec("fab_t", steps=6, targets=9)
SEVERAL = [
    APGD_T,
    APGD_CE,
    PGD,
    PGD_T,
    FAB_T,
    attack_spec("apgd_t", steps=4, targets=3, restarts=3, loss="ce_targeted"),
    attack_spec("apgd_t", steps=4, targets=5, eot=2),
    attack_spec("apgd_dlr", steps=5, restarts=5),
    attack_spec("fab_t", steps=5, targets=3, restarts=2),
    attack_spec("autoattack", steps=5, targets=6, queries=5),
]
BOTH = [
    *((spec, threat) for spec in SEVERAL for threat in (SMALL, ROUND)),
    (APGD_CE, LARGE),
    (attack_spec("cw_linf", steps=4, restarts=5), SMALL),
]


def labelled(value):
    return getattr(value, "label", str(value))


with_threat = pytest.mark.parametrize(("spec", "threat"), BOTH, ids=labelled)
drops = pytest.mark.parametrize("drops_broken", [True, False])


def subject_of(defense, **capabilities):
    """A small network with statistics of its own that decides for every class now and then."""
    composition, _ = DEFENSES[defense].compose({})
    build = Build(SHAPE, 10, "small_preactresnet", {"width": 8}, seed=3)
    network = composition.build(build).network.train()
    torch.manual_seed(1)
    for _ in range(5):
        network(torch.rand(64, *SHAPE))
    with torch.no_grad():
        network.head.weight *= 4
        found = network.eval()(torch.rand(256, *SHAPE))
        network.head.bias -= (found.auxiliary or (found.logits,))[0].mean(0)
    shown = Capabilities(10, features=True, **capabilities)
    return Subject(Handle(network, 10, has_gate=shown.select), shown)


PLAIN = subject_of("pgd_at")
GATED = subject_of("trades_ancra", auxiliary=2, select=True, strip=True)
IMAGES = pictures(COUNT, *SHAPE)


def decided(subject):
    with torch.no_grad():
        return subject.model(IMAGES).logits.argmax(1)


def attacked(spec, subject, threat, room, *, drops_broken=True, confirm=None, outside=False):
    """The finished search, a few of whose images are misclassified as they are."""
    labels = decided(subject)
    labels[:2] = (labels[:2] + 1) % 10
    surface = surface_named(spec.surface, subject.model, subject.capabilities)
    search = search_on(
        subject.model, IMAGES, labels, threat, surface=surface, drops_broken=drops_broken
    )
    search.room, search.confirm, search.confirms_outside = room, confirm, outside
    run_attack(spec, search)
    return search


def assert_equal(found, expected):
    for name in FIELDS:
        one, other = getattr(found, name), getattr(expected, name)
        assert not one.isnan().any(), name
        assert torch.equal(one, other), name
    assert found.notes.keys() == expected.notes.keys()


def assert_broken_in_several_runs(search, looks):
    """Some as they are, some in the first run, some in later ones, some in none."""
    runs = (search.first_success[search.broken] + looks - 1) // looks
    assert {0, 1} < set(runs.tolist())
    assert not search.broken.all()


@drops
@with_threat
def test_shared_passes_leave_what_runs_one_after_the_other_leave(spec, threat, drops_broken):
    alone, *shared = (
        attacked(spec, PLAIN, threat, room, drops_broken=drops_broken) for room in (1, ROOM, 1000)
    )
    for one in shared:
        assert_equal(one, alone)


@pytest.mark.parametrize(
    ("spec", "threat", "looks"),
    [(APGD_T, SMALL, 8), (APGD_CE, LARGE, 3), (PGD, SMALL, 5), (PGD_T, ROUND, 5)],
    ids=labelled,
)
def test_these_cases_break_images_in_different_runs(spec, threat, looks):
    assert_broken_in_several_runs(attacked(spec, PLAIN, threat, ROOM), looks)


OF_HEADS = ["logits", "auxiliary(1)", "sum(2)", "weighted(0:1:1)", "smallest(1)", "stripped"]
OF_HEADS += ["log_softmax_mean", "straight_through(1)", "label_gate", "rival_gate", "mixed"]
PHASED = [attack_spec("pgd_t", steps=4, targets=4, surface=s) for s in ("two_phase", "target_gate")]


@drops
@pytest.mark.parametrize(
    "spec",
    [
        *(attack_spec("apgd_t", steps=4, targets=4, surface=surface) for surface in OF_HEADS),
        *(
            attack_spec("fab_t", steps=8, targets=4, surface=surface)
            for surface in ("logits", "auxiliary(1)", "sum(2)", "stripped", "mixed")
        ),
        *PHASED,
    ],
    ids=labelled,
)
def test_on_every_surface_of_a_gated_model_too(spec, drops_broken):
    alone, shared = (attacked(spec, GATED, LARGE, n, drops_broken=drops_broken) for n in (1, ROOM))
    assert_equal(shared, alone)
    assert 2 < int(alone.broken.sum()) < COUNT


@pytest.mark.parametrize("outside", [True, False])
@drops
@pytest.mark.parametrize("spec", [APGD_T, PGD, FAB_T], ids=labelled)
def test_a_last_word_that_refuses_some_has_it_in_shared_passes_too(spec, drops_broken, outside):
    answers = []

    def other(candidates):
        """Blind to what is light: often, not always, another decision than the model's."""
        with torch.no_grad():
            logits = PLAIN.model(candidates.clamp(max=0.95)).logits
        answers.append(logits.argmax(1) == PLAIN.model(candidates).logits.argmax(1))
        return logits

    how = {"drops_broken": drops_broken, "confirm": other, "outside": outside}
    alone, shared = (attacked(spec, PLAIN, SMALL, room, **how) for room in (1, ROOM))
    assert_equal(shared, alone)
    agreed = torch.cat(answers)
    assert agreed.any()
    assert not agreed.all()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("subject", [PLAIN, GATED], ids=["plain", "gated"])
@pytest.mark.parametrize("attack", ["apgd_t", "pgd_t", "fab_t"])
def test_whatever_copy_of_the_model_is_searched(attack, subject, precision):
    spec = attack_spec(attack, steps=6, targets=6)
    found = []
    for room in (1, ROOM, 1000):
        job = Job("c", "pictures", "s", SMALL, spec, CORRECT, 0, precision, 0, COUNT)
        search = search_of(job, subject, NO_AIDS, IMAGES, decided(subject), range(COUNT), room)
        run_attack(spec, search)
        found.append(search)
    assert_equal(found[1], found[0])
    assert_equal(found[2], found[0])
    assert 0 < int(found[0].broken.sum()) < COUNT


def rows_passed(room, count=7, keeps_trace=False, **settings):
    """Rows of each pass on a model of ten classes that nothing breaks."""
    model, labels = Always(), torch.zeros(count, dtype=torch.long)
    search = search_on(model, pictures(count, 1, 2, 2), labels, linf("1/255"))
    search.room, search.keeps_trace = room, keeps_trace
    run_attack(attack_spec("pgd_t", steps=1, **settings), search)
    return model.batches[2:]  # rivals and the clean look come first


def test_as_few_groups_of_runs_as_fit_into_the_room_and_of_nearly_equal_size():
    assert rows_passed(30) == [21, 21] * 3  # nine runs, four would fit
    assert rows_passed(35) == [35, 35, 28, 28]
    assert rows_passed(63) == [63, 63]
    assert rows_passed(62) == [35, 35, 28, 28]
    assert rows_passed(14, targets=3) == [14, 14, 7, 7]


@pytest.mark.parametrize("alone", [{"room": 1}, {"room": 13}, {"room": 64, "keeps_trace": True}])
def test_without_room_or_with_a_trace_runs_follow_each_other(alone):
    assert rows_passed(**alone) == [7, 7] * 9


def two_images(**how):
    """Of class 0, which the model leaves for class 1 above 0.5."""
    model = Linear(torch.tensor([[0.0], [1.0]]), torch.tensor([0.0, -0.5]))
    images = torch.full((2, 1, 1, 1), 0.375)
    return search_on(model, images, torch.zeros(2, dtype=torch.long), linf("1/2"), **how)


def kept_of(rows, positions, pixels):
    candidate = torch.tensor(pixels).reshape(-1, 1, 1, 1)
    return rows.judge(torch.tensor(positions), candidate, LOSSES["margin"]).kept.tolist()


def test_a_lower_run_goes_on_when_a_higher_one_breaks_and_counts_if_it_breaks_later():
    search = two_images()
    for runs in pooled(search, 4):
        rows = runs.search
        assert runs.images.tolist() == [0, 1] * 4
        assert runs.numbers.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
        first = [0.25, 0.25, 0.5, 0.25, 0.75, 0.375, 0.875, 0.25]  # image 0 in runs 2 and 3
        assert kept_of(rows, range(8), first) == [True] * 4 + [False, True, False, True]
        second = [0.125, 0.0, 0.625, 0.25, 0.25, 0.4375]  # and in run 1
        kept = kept_of(rows, [0, 1, 2, 3, 5, 7], second)
        assert kept == [True, True, False, True, True, True]
    assert search.broken.tolist() == [True, False]
    assert search.first_success.tolist() == [3, -1]
    assert search.adversarial.flatten().tolist() == [0.625, 0.4375]
    assert search.last.flatten().tolist() == [0.625, 0.4375]
    assert search.last_wrong.tolist() == [True, False]
    assert search.loss_start.tolist() == [-0.25, -0.25]
    assert search.loss_best.tolist() == [0.125, -0.0625]
    assert search.looks.tolist() == search.forwards.tolist() == [4, 8]


def test_without_dropping_every_run_of_every_image_is_recorded():
    search = two_images(drops_broken=False)
    for runs in pooled(search, 3):
        pixels = [0.25, 0.5, 0.625, 0.25, 0.875, 0.4375]
        assert kept_of(runs.search, range(6), pixels) == [True] * 6
    assert search.broken.tolist() == [True, False]
    assert search.first_success.tolist() == [1, -1]
    assert search.adversarial.flatten().tolist() == [0.625, 0.5]
    assert search.last.flatten().tolist() == [0.875, 0.4375]
    assert search.loss_best.tolist() == [0.375, 0.0]
    assert search.looks.tolist() == [3, 3]


def test_of_equal_values_the_image_of_the_first_run_is_returned():
    search = two_images()
    for runs in pooled(search, 2):
        candidate = torch.tensor([0.25, 0.5, 0.375, 0.0]).reshape(4, 1, 1, 1)
        runs.search.judge(torch.arange(4), candidate, lambda logits, *_: 0 * logits[:, 0])
    assert search.adversarial.flatten().tolist() == [0.25, 0.5]
    assert search.last.flatten().tolist() == [0.375, 0.0]


def test_later_groups_attack_what_the_groups_before_left():
    search, seen = two_images(), []
    search.room = 4
    for runs in pooled(search, 5):
        seen.append((runs.images.tolist(), runs.numbers.tolist()))
        start = torch.full((len(runs.images), 1, 1, 1), 0.25)
        start[-1] = 0.75 if len(seen) == 1 else 0.25  # image 1 in run 1
        runs.search.judge(runs.search.standing(), start, LOSSES["margin"])
    assert seen == [([0, 1, 0, 1], [0, 0, 1, 1]), ([0] * 3, [2, 3, 4])]
    assert search.looks.tolist() == [5, 2]


@pytest.mark.parametrize("who", ["model", "surrogate"])
def test_where_draws_follow_the_order_of_passes_runs_follow_each_other(who):
    drawing = RandomHandle(small_convolution(), 10)
    subject = Subject(drawing, Capabilities(10)) if who == "model" else PLAIN
    aids = Aids({"0" * 12: drawing}) if who == "surrogate" else NO_AIDS
    spec = attack_spec("pgd", restarts=2)
    job = Job("c", "pictures", "s", SMALL, spec, CORRECT, 0, "float32", 0, 1)
    one = (IMAGES[:1], torch.tensor([0]), [0])
    assert search_of(job, subject, aids, *one, 1000).room == 1
    assert search_of(job, PLAIN, NO_AIDS, *one, 1000).room == 1000
