"""Wanted minus stored is work: what is asked of whom, in which order, and what survives a stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.attacks.attack import attack_spec
from harness.campaign import (
    Campaign,
    EvaluationRequest,
    Provenance,
    Subjects,
    describe,
    missing_slices,
)
from harness.data import dataset, load
from harness.errors import HarnessError
from harness.evaluation.work import Work
from harness.identity import (
    CLEAN,
    CORRECT,
    EVERY,
    SHARD,
    Capabilities,
    CheckpointRecord,
    Failure,
    Outcome,
    Runtime,
)
from harness.store.store import Store
from harness.threat import ThreatModel

THREAT = ThreatModel("linf", Fraction(1, 5))
FIRST, SECOND = "correct", "survivors:first-1"
WANTED = (
    (attack_spec("fgsm"), CORRECT),
    (attack_spec("pgd"), CORRECT),
    (attack_spec("apgd_ce"), SECOND),
    (attack_spec("square"), SECOND),
)

WRONG = {index for index in range(500) if index % 5 == 0}
BROKEN = {
    "fgsm": {index for index in range(500) if index % 3 == 0},
    "pgd": {index for index in range(500) if index % 7 == 0},
    "apgd_ce": {index for index in range(500) if index % 11 == 0},
    "square": {index for index in range(500) if index % 13 == 0},
}
"""What the stand-in for evaluation finds, by index of the image."""


def record_of(name: str, letter: str = "a", **more: object) -> CheckpointRecord:
    return CheckpointRecord(
        name=name,
        digest=letter * 64,
        kind="trained",
        dataset="digits",
        threat=THREAT,
        weights=f"{letter}.safetensors",
        weights_sha256="e" * 64,
        capabilities=Capabilities(10),
        **more,  # type: ignore[arg-type]
    )


class Evaluation:
    """Stands in for `do`: knows what breaks, remembers what it was asked, can fail or stop."""

    def __init__(self) -> None:
        self.asked: list[Work] = []
        self.fails: Callable[[Work], bool] = lambda _: False
        self.stops_after = 10**9

    def __call__(self, work: Work) -> Outcome | Failure:
        if len(self.asked) == self.stops_after:
            raise KeyboardInterrupt
        self.asked.append(work)
        job = work.job
        if self.fails(work):
            values = (job.checkpoint, job.dataset, job.images, job.threat, job.attack.label)
            return Failure(*values, "raised", "out of order")
        finds = WRONG if job.attack == CLEAN else BROKEN[job.attack.attack]
        broken = tuple(
            attacked and index in finds
            for index, attacked in zip(range(job.first, job.last), work.attackable, strict=True)
        )
        return Outcome(job, work.attackable, broken, forwards=sum(work.attackable))

    def attacked(self, attack: str, checkpoint: str = "a") -> set[int]:
        """Indices of the images that an attack was given."""
        return {
            work.job.first + place
            for work in self.asked
            if work.job.attack.attack == attack and work.job.checkpoint == checkpoint * 64
            for place, is_attacked in enumerate(work.attackable)
            if is_attacked
        }


@pytest.fixture
def evaluation(monkeypatch: pytest.MonkeyPatch) -> Evaluation:
    stand_in = Evaluation()
    monkeypatch.setattr("harness.campaign.campaign.do", stand_in)
    return stand_in


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "results.db") as opened:
        yield opened


@pytest.fixture
def campaign(store: Store, tmp_path: Path) -> Callable[..., Campaign]:
    def make(
        *records: CheckpointRecord, examples: int = 150, protocol: str = "two-1", **more: object
    ) -> Campaign:
        chosen = records or (record_of("one"),)
        for record in chosen:
            store.add_checkpoint(record)
        request = EvaluationRequest(protocol, lambda _: WANTED, examples, THREAT)
        subjects = Subjects(chosen, dataset("digits"), load("digits", "test"), None, tmp_path)
        return Campaign(store, subjects, replace(request, **more), Runtime())  # type: ignore[arg-type]

    return make


# Slices


@st.composite
def stored_ranges(draw: st.DrawFn) -> list[tuple[int, int]]:
    edges = sorted(draw(st.sets(st.integers(0, 3 * SHARD), max_size=12)))
    return list(zip(edges[0::2], edges[1::2], strict=False))


@given(stored_ranges(), st.integers(0, 3 * SHARD + 50))
def test_missing_slices_are_exactly_what_is_not_stored_cut_at_shards(covered, examples):
    slices = missing_slices(covered, examples)
    stored = {index for first, last in covered for index in range(first, last)}
    missing = [index for index in range(examples) if index not in stored]
    starts = [i for i in missing if i - 1 in stored or i == 0 or i % SHARD == 0]

    assert [index for first, last in slices for index in range(first, last)] == missing
    assert [first for first, _ in slices] == starts


def test_growing_needs_only_the_new_images():
    assert missing_slices([], 250) == [(0, 100), (100, 200), (200, 250)]
    assert missing_slices([(0, 50)], 130) == [(50, 100), (100, 130)]
    assert missing_slices([(0, 130)], 200) == [(130, 200)]
    assert missing_slices([(0, 200)], 100) == []


def test_slices_that_lie_behind_the_wanted_images_are_no_work():
    assert missing_slices([(0, 150), (200, 300)], 150) == []
    assert missing_slices([(0, 130), (200, 300)], 120) == []


# Stages


def test_each_stage_attacks_what_the_stages_before_left_standing(campaign, evaluation):
    campaign().execute()
    right = set(range(150)) - WRONG
    survivors = right - BROKEN["fgsm"] - BROKEN["pgd"]

    assert evaluation.attacked("none") == set(range(150))
    assert evaluation.attacked("fgsm") == evaluation.attacked("pgd") == right
    assert evaluation.attacked("apgd_ce") == evaluation.attacked("square") == survivors


def test_clean_images_come_first_then_the_first_stage_then_the_second(campaign, evaluation):
    campaign(record_of("one"), record_of("two", "b")).execute()
    stages = {"none": 0, "fgsm": 1, "pgd": 1, "apgd_ce": 2, "square": 2}
    order = [stages[work.job.attack.attack] for work in evaluation.asked]

    assert order == sorted(order)
    assert len(order) == 2 * 5 * 2  # checkpoints, attacks with the clean images, slices


def test_who_survives_does_not_depend_on_what_else_is_stored(campaign, evaluation):
    other = ((attack_spec("square"), CORRECT), (attack_spec("fgsm", loss="margin"), FIRST))
    campaign(protocol="", wanted=lambda _: other).execute()
    evaluation.asked.clear()
    campaign().execute()

    assert evaluation.attacked("apgd_ce") == (
        set(range(150)) - WRONG - BROKEN["fgsm"] - BROKEN["pgd"]
    )


def test_bits_and_standing_are_the_union_of_what_was_asked_for(campaign, evaluation):
    made = campaign()
    made.execute()
    robust = [i for i in range(150) if i not in WRONG.union(*BROKEN.values())]
    bits = made.bits(record_of("one"))
    standing = made.standing(record_of("one"))

    assert bits["robust"].nonzero()[0].tolist() == robust
    assert bits["clean"].sum() == 120
    assert (standing.clean.count, standing.robust.count) == (120, len(robust))
    assert [attack.attack for attack in standing.attacks] == [spec.attack for spec, _ in WANTED]
    standard = [i for i in range(150) if i not in WRONG | BROKEN["fgsm"] | BROKEN["pgd"]]
    assert standing.standard.count == len(standard)  # the survivors' attacks are not standard


# Stored work is not done again


def test_a_second_campaign_has_nothing_to_do(campaign, evaluation):
    campaign().execute()
    evaluation.asked.clear()
    again = campaign()

    assert again.remaining() == []
    assert again.execute() == []
    assert evaluation.asked == []


def test_more_examples_add_only_the_new_images(campaign, evaluation):
    for examples in (50, 130, 200):
        campaign(examples=examples).execute()
    clean = [(w.job.first, w.job.last) for w in evaluation.asked if w.job.attack == CLEAN]

    assert clean == [(0, 50), (50, 100), (100, 130), (130, 200)]


@pytest.mark.parametrize("stop", [0, 1, 3, 5, 9])
def test_a_stopped_campaign_goes_on_where_it_was_and_finds_the_same(campaign, evaluation, stop):
    evaluation.stops_after = stop
    with pytest.raises(KeyboardInterrupt):
        campaign().execute()
    evaluation.stops_after = 10**9
    made = campaign()
    made.execute()
    jobs = [work.job for work in evaluation.asked]

    assert len(jobs) == len(set(jobs)) == 10
    assert made.standing(record_of("one")).robust.count == sum(
        i not in WRONG.union(*BROKEN.values()) for i in range(150)
    )


def test_another_seed_and_another_epsilon_are_other_work(campaign, evaluation):
    campaign().execute()

    assert len(campaign(seed=1).remaining()) == 10
    assert len(campaign(threat=ThreatModel("linf", Fraction(1, 10))).remaining()) == 10
    assert len(campaign(protocol="three-1").remaining()) == 0


def test_two_names_of_one_function_are_attacked_once(campaign, evaluation):
    campaign(record_of("one"), record_of("other"), examples=50).execute()

    assert len(evaluation.asked) == 5


def test_more_examples_than_images_are_all_images(campaign):
    assert campaign(examples=10**9).examples == 500


# Failures


def test_a_model_that_fails_is_recorded_once_and_the_others_go_on(campaign, evaluation, store):
    evaluation.fails = lambda work: work.job.checkpoint == "a" * 64
    failures = campaign(record_of("bad"), record_of("good", "b"), examples=50).execute()
    asked = [work.job.attack.attack for work in evaluation.asked if work.job.checkpoint[0] == "a"]

    assert [failure.status for failure in failures] == ["raised"]
    assert asked == ["none"]
    assert [failure.checkpoint for failure in store.failures()] == ["a" * 64]
    assert evaluation.attacked("square", "b")


def test_a_failure_in_the_first_stage_spares_the_second(campaign, evaluation, store):
    evaluation.fails = lambda work: work.job.attack.attack == "pgd"
    failures = campaign(examples=50).execute()

    assert len(failures) == 1
    assert evaluation.attacked("apgd_ce") == set()
    assert evaluation.attacked("fgsm")


def test_a_failure_that_is_mended_is_forgotten(campaign, evaluation, store):
    evaluation.fails = lambda work: work.job.attack.attack == "pgd"
    campaign(examples=50).execute()
    evaluation.fails = lambda _: False

    assert campaign(examples=50).execute() == []
    assert store.failures() == []


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (((attack_spec("pgd", surface="auxiliary(0)"), CORRECT),), "is not there"),
        (((attack_spec("rays"), CORRECT),), "not defined for l2"),
        ((), "two-1 has no attack for 'one': no checkpoint of standard, pgd_at, trades"),
    ],
)
def test_what_a_checkpoint_or_a_norm_does_not_allow_is_refused_before_anything_runs(
    campaign, evaluation, wanted, said
):
    with pytest.raises(HarnessError, match=said):
        campaign(wanted=lambda _: wanted, threat=ThreatModel("l2", Fraction(1, 2)))
    assert evaluation.asked == []


FEATURES = (attack_spec("feature_attack", surface="logits"), CORRECT)


@pytest.mark.parametrize("is_here", [True, False])
def test_a_suite_leaves_feature_attacks_out_where_there_are_no_training_images(
    campaign, evaluation, monkeypatch, caplog, is_here
):
    def suite(target):
        return (*WANTED[:2], FEATURES) if target.has_guides else WANTED[:2]

    monkeypatch.setattr("harness.campaign.campaign.is_here", lambda *_, **__: is_here)
    with caplog.at_level("INFO", logger="harness.campaign"):
        asked = [spec.attack for _, spec, _ in campaign(wanted=suite, examples=50).remaining()]

    assert asked == ["none", "fgsm", "pgd", *(["feature_attack"] if is_here else [])]
    assert ("feature attacks are left out" in caplog.text) is not is_here


def test_a_feature_attack_by_hand_is_refused_where_there_are_no_training_images(
    campaign, evaluation, monkeypatch
):
    monkeypatch.setattr("harness.campaign.campaign.is_here", lambda *_, **__: False)
    with pytest.raises(HarnessError, match="draws from training images"):
        campaign(wanted=lambda _: (FEATURES,))


def test_attacks_without_guides_do_not_ask_for_training_images(campaign, monkeypatch):
    monkeypatch.setattr("harness.campaign.campaign.is_here", None)
    assert len(campaign(examples=50).remaining()) == 5


# What is recorded and told


def test_a_plan_is_recorded_for_a_protocol_and_none_for_attacks_by_hand(
    campaign, evaluation, store
):
    campaign(protocol="", examples=20).execute()
    assert store.plans() == []
    campaign(examples=20).execute()
    first, whole = store.plans()

    assert (first.protocol, whole.protocol) == ("first-1", "two-1")
    assert whole.attacks == tuple((spec.hash, population) for spec, population in WANTED)
    assert first.attacks == whole.attacks[:2]


# Restarts


def best_twice(best):
    """A third stage: the two best attacks once more, each with another parameter."""
    chosen = [attack_spec(spec.attack, restarts=2) for spec in list(best)[:2]]
    return tuple((spec, "survivors:two-1") for spec in chosen)


def test_restarts_go_to_the_survivors_of_both_stages_best_attack_first(campaign, evaluation):
    made = campaign(restarts=best_twice)
    made.execute()
    survivors = set(range(150)) - WRONG - set().union(*BROKEN.values())
    lost = {
        name: len(BROKEN[name] - WRONG - BROKEN["fgsm"] - BROKEN["pgd"])
        for name in ("apgd_ce", "square")
    }
    repeated = [w for w in evaluation.asked if dict(w.job.attack.parameters).get("restarts") == 2]

    assert [w.job.attack.attack for w in repeated][::2] == sorted(lost, key=lambda n: -lost[n])
    for work in repeated:
        indices = range(work.job.first, work.job.last)
        kept = {i for i, yes in zip(indices, work.attackable, strict=True) if yes}
        assert kept == survivors & set(indices)
    assert len(made.standing(record_of("one")).attacks) == 6


def test_a_plan_with_restarts_is_recorded_only_when_they_are_known(campaign, evaluation, store):
    evaluation.stops_after = 7
    with pytest.raises(KeyboardInterrupt):
        campaign(restarts=best_twice).execute()
    assert [plan.protocol for plan in store.plans()] == ["first-1"]
    evaluation.stops_after = 10**9
    campaign(restarts=best_twice).execute()

    plans = {plan.protocol: plan for plan in store.plans()}
    assert len(plans["two-1"].attacks) == 6
    assert len(campaign(restarts=best_twice).remaining()) == 0


def test_a_run_is_recorded_only_where_something_was_done(store, tmp_path, evaluation):
    record = record_of("one")
    store.add_checkpoint(record)
    subjects = Subjects([record], dataset("digits"), load("digits", "test"), None, tmp_path)
    request = EvaluationRequest("two-1", lambda _: WANTED, 20, THREAT)
    provenance = Provenance("eval", {"harness": "0"}, "cpu")
    for _ in range(2):
        Campaign(store, subjects, request, Runtime(), provenance).execute()
    (run,) = store.runs()

    assert run.command == "eval"
    assert run.finished


def test_progress_counts_every_piece(campaign, evaluation):
    class Counting:
        def __init__(self) -> None:
            self.pieces, self.told = 0, []

        def planned(self, pieces: int) -> None:
            self.pieces += pieces

        def done(self, work_done: str, seconds: float) -> None:
            self.told.append(work_done)

    report = Counting()
    campaign(examples=50).execute(report)

    assert report.pieces == len(report.told) == 5
    assert report.told[0] == CLEAN.label


@pytest.mark.parametrize("name", ["fgsm", "pgd", "apgd_ce", "apgd_dlr", "apgd_t", "square"])
def test_every_attack_is_described_for_the_pages(name):
    found = describe(attack_spec(name))

    assert found["description"]
    assert found["source"]
    assert found["knowledge"] in {"white_box", "query"}
    assert describe(CLEAN)["knowledge"] == "none"


def test_clean_images_are_judged_for_everybody(campaign, evaluation):
    campaign(examples=20).execute()

    assert {w.job.population for w in evaluation.asked if w.job.attack == CLEAN} == {EVERY}


def test_bits_have_plain_names_where_no_two_attacks_would_share_one(campaign, evaluation):
    wanted = (
        (attack_spec("square", queries=7), CORRECT),
        (attack_spec("pgd", steps=3), CORRECT),
        (attack_spec("pgd", steps=4), CORRECT),
    )
    made = campaign(protocol="", wanted=lambda _: wanted)
    made.execute()
    assert list(made.bits(record_of("one"))) == [
        "clean",
        "robust",
        "square@logits:margin",
        "pgd(steps=3)@logits:ce",
        "pgd(steps=4)@logits:ce",
    ]


def test_an_unknown_surrogate_is_refused_before_any_image_is_judged(campaign, evaluation):
    wanted = ((attack_spec("pgd", surface="surrogate(0123456789ab)"), CORRECT),)
    with pytest.raises(HarnessError, match="no other checkpoint of its dataset with that digest"):
        campaign(protocol="", wanted=lambda _: wanted)
    assert evaluation.asked == []
