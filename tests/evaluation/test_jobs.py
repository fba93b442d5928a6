"""One job in, one outcome out: the same bits whatever the batches, and only verified breaks."""

from fractions import Fraction

import pytest
import torch
from evaluated_subjects import (
    COUNT,
    bits,
    convolution,
    job_of,
    labelled_by,
    random_pixels,
    reverse_attention_network,
    run,
    split_of,
    subject_of,
)
from torch import nn

from harness.attacks.attack import ATTACKS, attack_spec
from harness.attacks.surfaces import TrainingLoss
from harness.errors import HarnessError, ModelError
from harness.evaluation.estimate import most_passes, seconds_per_pass
from harness.evaluation.evaluate import check_range, check_reproducible
from harness.evaluation.subject import Subject
from harness.identity import CLEAN
from harness.outputs import Outputs
from harness.threat import ThreatModel
from harness.verification import VerificationError

SPECS = [
    attack_spec("fgsm"),
    attack_spec("pgd", steps=3, restarts=2),
    attack_spec("apgd_ce", steps=4),
    attack_spec("apgd_dlr", steps=4),
    attack_spec("apgd_ce", steps=4, loss="ce(std)"),
    attack_spec("apgd_t", steps=2, targets=3),
    attack_spec("square", queries=12),
]
AWARE = [
    attack_spec("fgsm"),
    attack_spec("apgd_ce", steps=3, surface="auxiliary(0)"),
    attack_spec("apgd_dlr", steps=3, surface="sum(2)"),
    attack_spec("pgd", steps=3, surface="label_gate"),
    attack_spec("pgd", steps=3, surface="two_phase"),
    attack_spec("apgd_ce", steps=3, surface="mixed"),
    attack_spec("pgd", steps=3, surface="stripped", eot=2),
    attack_spec("apgd_ce", steps=3, surface="straight_through(0.1)"),
    attack_spec("square", queries=10, surface="auxiliary(1)"),
]


@pytest.fixture(scope="module")
def plain():
    module, pixels = convolution(), random_pixels(3, 16, 16)
    return subject_of(module), split_of(pixels, labelled_by(module, pixels))


@pytest.fixture(scope="module")
def gated():
    module, pixels = reverse_attention_network(), random_pixels(1, 8, 8)
    data = split_of(pixels, labelled_by(module, pixels))
    return subject_of(module, auxiliary=2, select=True, strip=True), data


def cases():
    for kind, specs in (("plain", SPECS), ("gated", AWARE)):
        for spec in specs:
            yield pytest.param(kind, spec, id=f"{kind}-{spec.label}")


THREATS = {"plain": ThreatModel.parse("linf", "2/255"), "gated": ThreatModel.parse("linf", "8/255")}
every_case = pytest.mark.parametrize(("kind", "spec"), list(cases()))


@every_case
def test_batches_of_1_7_and_50_give_the_same_bits_and_numbers(kind, spec, request):
    subject, data = request.getfixturevalue(kind)
    job = job_of(spec, threat=THREATS[kind])
    found = [bits(run(job, subject, data, batch_size=size)) for size in (1, 7, 50)]
    assert 0 < sum(found[0].broken) < COUNT
    assert found[0] == found[1] == found[2]


@every_case
def test_the_part_of_the_population_or_of_the_test_set_changes_nothing_for_an_image(
    kind, spec, request
):
    subject, data = request.getfixturevalue(kind)
    threat = THREATS[kind]
    whole = bits(run(job_of(spec, threat=threat), subject, data))
    attackable = torch.arange(COUNT) % 3 == 0
    some = bits(run(job_of(spec, threat=threat), subject, data, attackable=attackable))
    part = bits(run(job_of(spec, 20, 31, threat), subject, data))
    assert some.attacked == tuple(attackable.tolist())
    assert part.broken == whole.broken[20:31]
    for name, column in whole.columns.items():
        assert some.columns[name][::3] == column[::3], name
        assert set(some.columns[name][1::3]) == {None}
        assert part.columns[name] == column[20:31], name
    assert not any(some.broken[1::3])


@every_case
def test_an_outcome_agrees_with_itself(kind, spec, request):
    subject, data = request.getfixturevalue(kind)
    outcome = run(job_of(spec, threat=THREATS[kind]), subject, data)
    columns = {
        name: torch.tensor(column, dtype=torch.float64) for name, column in outcome.columns.items()
    }
    broken = torch.tensor(outcome.broken)
    labels = data.labels
    assert torch.equal(columns["predicted"] != labels, broken)
    assert torch.equal(columns["first_success"] >= 0, broken)
    assert (columns["distance"][broken] > 0).all()
    assert torch.equal(columns["margin_final"] < 0, broken)
    assert torch.equal(columns["last_wrong"] > 0, broken)
    assert (columns["l2"] >= columns["distance"]).all()
    assert Fraction(float(columns["distance"].max())) <= THREATS[kind].epsilon
    assert (columns["loss_best"] >= columns["loss_start"]).all()
    assert outcome.forwards == columns["forwards"].sum()
    assert outcome.backwards == columns["backwards"].sum()
    is_query = ATTACKS[spec.attack].knowledge == "query"
    assert outcome.queries == (outcome.forwards if is_query else 0)
    assert (outcome.backwards == 0) == is_query


def test_the_clean_job_finds_exactly_the_misclassified_images(plain):
    subject, data = plain
    labels = torch.where(torch.arange(COUNT) % 5 == 0, (data.labels + 1) % 10, data.labels)
    outcome = run(job_of(CLEAN), subject, split_of(data.images, labels), batch_size=7)
    assert outcome.broken == tuple((torch.arange(COUNT) % 5 == 0).tolist())
    assert outcome.columns["predicted"] == tuple(data.labels.double().tolist())
    assert (outcome.forwards, outcome.backwards, outcome.queries) == (COUNT, 0, 0)
    assert all(outcome.attacked)


def test_an_empty_population_is_an_empty_outcome(plain):
    subject, data = plain
    outcome = run(job_of(), subject, data, attackable=torch.zeros(COUNT, dtype=torch.bool))
    assert not any(outcome.attacked)
    assert not any(outcome.broken)
    assert outcome.forwards == 0
    assert outcome.columns == {}


class Scripted(nn.Module):
    """Answers by a function of (images, number of the call)."""

    def __init__(self, answer):
        super().__init__()
        self.answer, self.calls = answer, 0

    def forward(self, images):
        self.calls += 1
        return self.answer(images, self.calls) + 0 * images.sum(dim=(1, 2, 3))[:, None]


def says(*logits):
    return lambda images, call: torch.tensor([logits]).expand(len(images), -1)


def zeros(count=5):
    return split_of(random_pixels(1, 4, 4, count=count), torch.zeros(count, dtype=torch.long))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_clean_logits_that_are_not_finite_are_a_model_error(bad):
    with pytest.raises(ModelError, match="NaN or infinite") as caught:
        run(job_of(CLEAN, last=5), subject_of(Scripted(says(1.0, bad)), 2), zeros())
    assert caught.value.status == "non_finite"


def test_an_allowed_image_that_makes_the_logits_nan_counts_as_broken():
    def answer(images, call):
        moved = (images - images.mul(255).round().div(255)).abs().amax(dim=(1, 2, 3)) > 1e-4
        return (
            torch.tensor([[1.0, 0.0]])
            .expand(len(images), -1)
            .masked_fill(moved[:, None], torch.nan)
        )

    outcome = run(job_of("pgd", last=5, steps=2), subject_of(Scripted(answer), 2), zeros())
    assert all(outcome.broken)
    assert set(outcome.columns["predicted"]) == {-1.0}


def wrong_at(number):
    def answer(images, call):
        return says(0.0, 1.0)(images, call) if call == number else says(1.0, 0.0)(images, call)

    return Scripted(answer)


def test_a_decision_that_is_wrong_in_the_search_alone_is_neither_a_break_nor_a_survival():
    with pytest.raises(ModelError, match="on 5 of 5 images") as caught:
        run(job_of(last=5), subject_of(wrong_at(2), 2), zeros())
    assert caught.value.status == "not_reproducible"


def test_a_decision_that_is_wrong_in_the_verifier_s_pass_alone_is_not_broken():
    module = wrong_at(3)
    outcome = run(job_of(last=5), subject_of(module, 2), zeros())
    assert module.calls == 3
    assert set(outcome.columns["first_success"]) == {-1.0}
    assert not any(outcome.broken)


@pytest.mark.parametrize(
    ("unconfirmed", "attacked", "device", "is_excused"),
    [
        (0, 100, "cpu", True),
        (1, 100, "cpu", False),
        (1, 20, "cuda", True),
        (1, 100, "cuda", True),
        (2, 100, "cuda", False),
        (2, 200, "cuda", True),
    ],
)
def test_only_another_device_than_the_cpu_excuses_one_image_in_a_hundred(
    unconfirmed, attacked, device, is_excused
):
    if is_excused:
        check_reproducible(unconfirmed, attacked, device)
    else:
        with pytest.raises(ModelError, match=f"on {unconfirmed} of {attacked} images"):
            check_reproducible(unconfirmed, attacked, device)


def test_whether_a_job_fails_does_not_depend_on_the_batch_size(monkeypatch):
    def claim_one(spec, search):
        search.broken[0] = True

    monkeypatch.setattr("harness.evaluation.evaluate.run_attack", claim_one)
    for batch_size in (5, 50):
        with pytest.raises(ModelError, match="of 50 images"):
            run(
                job_of(last=50), subject_of(Scripted(says(1.0, 0.0)), 2), zeros(50),
                batch_size=batch_size,
            )  # fmt: skip


class Restless(nn.Module):
    """Right, but not as it was loaded once it has been asked."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.norm = nn.BatchNorm2d(1)
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images):
        if self.kind == "mode":
            self.train()
        if self.kind == "data":
            self.weight.data += 1
        if self.kind == "buffer":
            self.norm.running_mean.add_(0.5)
        return torch.tensor([[1.0, 0.0]]).expand(len(images), 2) + 0 * images.sum()


@pytest.mark.parametrize(
    ("kind", "status"),
    [("mode", "switched_mode"), ("data", "changed_state"), ("buffer", "changed_state")],
)
def test_a_model_that_does_not_stay_as_it_was_loaded_fails(kind, status):
    with pytest.raises(ModelError) as caught:
        run(job_of(CLEAN, last=5), subject_of(Restless(kind), 2), zeros())
    assert caught.value.status == status


@pytest.mark.parametrize(
    "damage",
    [
        lambda search: search.adversarial.fill_(torch.nan),
        lambda search: search.adversarial.add_(0.1).clamp_(0, 1),
        lambda search: search.adversarial.sub_(2),
    ],
    ids=["not finite", "too far", "out of the box"],
)
def test_an_image_that_is_not_allowed_stops_the_job(damage, monkeypatch):
    monkeypatch.setattr(
        "harness.evaluation.evaluate.run_attack", lambda spec, search: damage(search)
    )
    with pytest.raises(VerificationError):
        run(job_of(last=5), subject_of(Scripted(says(1.0, 0.0)), 2), zeros())


def test_a_break_that_the_attack_only_claims_does_not_count(monkeypatch):
    monkeypatch.setattr(
        "harness.evaluation.evaluate.run_attack", lambda spec, search: search.broken.fill_(True)
    )
    with pytest.raises(ModelError, match="depends on more than the image"):
        run(job_of(last=5), subject_of(Scripted(says(1.0, 0.0)), 2), zeros())


class LabelReader(nn.Module):
    """Right when left alone; wrong under the gate of any label that it is told."""

    def __init__(self):
        super().__init__()
        self.told = []

    def forward(self, images, *, select=None):
        self.told.append(select)
        right = torch.tensor([[1.0, 0.0]]) if select is None else torch.tensor([[0.0, 1.0]])
        logits = right.expand(len(images), 2) + 0 * images.sum(dim=(1, 2, 3))[:, None]
        return Outputs(logits, (logits,))


@pytest.mark.parametrize("attack", ["fgsm", "pgd", "apgd_ce", "square"])
def test_the_deployed_decision_is_judged_without_labels(attack):
    module = LabelReader()
    subject = subject_of(module, 2, auxiliary=1, select=True)
    settings = {"fgsm": {}, "square": {"queries": 3}}.get(attack, {"steps": 2})
    job = job_of(attack, last=5, surface="label_gate", **settings)
    outcome = run(job, subject, zeros())
    assert not any(outcome.broken)
    judging, climbing = module.told[:-1:2], module.told[1:-1:2]
    assert all(isinstance(select, torch.Tensor) for select in climbing)
    assert all(select is None for select in judging)
    assert module.told[-1] is None  # the verifier's own pass


def test_the_training_loss_surface_climbs_the_loss_that_the_subject_brings():
    module = Scripted(
        lambda images, call: torch.cat(
            [0 * images[:, :, 0, :1] + 1, images[:, :, 0, :1]], 1
        ).flatten(1)
    )
    seen = []

    def value(candidate, points):
        seen.append((candidate.detach().clone(), points))
        return candidate.sum(dim=(1, 2, 3))

    base = subject_of(module, 2, training_loss=True)
    subject = Subject(base.model, base.capabilities, TrainingLoss(value, 2))
    data = zeros()
    outcome = run(job_of(last=5, surface="training_loss"), subject, data)
    assert outcome.forwards == 5 * 2 * 3
    clean = data.batch(0, 5)
    assert torch.equal(seen[0][0], clean)
    assert torch.equal(seen[0][1].clean, clean)
    assert torch.equal(seen[0][1].labels, data.labels)
    assert (seen[1][0] >= clean).all()


def test_images_outside_the_box_are_refused_with_the_reason():
    with pytest.raises(HarnessError, match=r"reach 2\.64: normalisation belongs inside"):
        check_range(torch.tensor([0.5, 2.64]))
    with pytest.raises(HarnessError, match=r"reach -0\.1"):
        check_range(torch.tensor([0.5, -0.1]))
    with pytest.raises(HarnessError, match="reach nan"):
        check_range(torch.tensor([0.5, torch.nan]))
    assert torch.equal(check_range(torch.tensor([0.0, 1.0])), torch.tensor([0.0, 1.0]))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_evaluation_leaves_images_weights_and_modes_as_they_were(norm, plain):
    _, data = plain
    module = convolution()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    pixels = data.images.clone()
    threat = type(job_of().threat)(norm, job_of().threat.epsilon)
    run(job_of("pgd", steps=2, threat=threat), subject_of(module), data)
    assert torch.equal(data.images, pixels)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not any(part.training for part in module.modules())
    assert torch.is_grad_enabled()


def test_evaluation_does_not_touch_the_global_random_numbers(plain):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    run(job_of("square", queries=5), *plain)
    assert torch.equal(torch.get_rng_state(), state)


def test_estimates_count_the_passes_that_an_unbroken_image_takes(plain):
    assert most_passes(CLEAN) == (1, 0)
    assert most_passes(attack_spec("pgd", steps=40)) == (42, 40)
    assert most_passes(attack_spec("apgd_ce")) == (102, 101)
    assert most_passes(attack_spec("apgd_t")) == (911, 909)
    assert most_passes(attack_spec("pgd", steps=40, eot=20)) == (840, 800)
    assert most_passes(attack_spec("pgd", steps=40, surface="mixed")) == (84, 40)
    assert most_passes(attack_spec("square")) == (5000, 0)
    subject, data = plain
    forward, backward = seconds_per_pass(subject, data, "cpu", images=4, repeats=1)
    assert 0 < forward < 1
    assert 0 <= backward < 1
