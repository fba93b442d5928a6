"""The search over attacks: what it tries, what that costs, what it keeps."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from evaluated_subjects import subject_of
from torch import nn
from torch.nn import functional

from harness.attacks.attack import attack_spec, most_passes, parse_attack, with_settings
from harness.attacks.surface_text import SURFACES, split_surface
from harness.cli.search import as_text
from harness.data.splits import Split
from harness.errors import HarnessError, ModelError
from harness.evaluation import attack_search
from harness.evaluation.attack_search import (
    MOST_STEPS,
    ROUNDS,
    Hunt,
    candidates,
    hunt,
)
from harness.identity import CORRECT, Capabilities, CheckpointRecord, Failure
from harness.outputs import Outputs
from harness.protocols import check_wanted
from harness.threat import ThreatModel

THREAT = ThreatModel("linf", Fraction(1, 10))
PLAIN = Capabilities(10)
GATED = Capabilities(
    10, auxiliary=2, select=True, training_loss=True, features=True, strip=True, hard=("argmax",)
)
KINDS = {
    "plain": PLAIN,
    "gated": GATED,
    "trained": Capabilities(10, training_loss=True),
    "one head": Capabilities(5, auxiliary=1),
    "two classes": Capabilities(2, auxiliary=2, strip=True),
    "hard": Capabilities(10, hard=("round",)),
}
every_kind = pytest.mark.parametrize("capabilities", KINDS.values(), ids=KINDS)


def record_of(capabilities=PLAIN):
    return CheckpointRecord(
        name="toy",
        digest="d" * 64,
        kind="trained",
        dataset="digits",
        threat=THREAT,
        weights="w",
        weights_sha256="e" * 64,
        capabilities=capabilities,
    )


def hunt_of(budget=30_000, seed=0, capabilities=PLAIN, threat=THREAT):
    return Hunt(record_of(capabilities), "digits", Path(), None, threat, seed, budget)


# What is tried


@every_kind
def test_candidates_are_what_the_model_and_both_norms_allow_each_once(capabilities):
    found = candidates(capabilities)
    assert len({spec.hash for spec in found}) == len(found) > 10
    for norm in ("linf", "l2"):
        check_wanted(tuple((spec, CORRECT) for spec in found), capabilities, norm)


def test_a_gate_with_a_twin_is_climbed_on_every_surface_that_takes_an_untargeted_loss():
    angular = replace(GATED, signs=("angular_logits",))
    tried = {split_surface(spec.surface)[0] for spec in candidates(angular)}
    other = {"features", "surrogate", "target_gate"}  # vectors, another model, targeted attacks
    assert tried == set(SURFACES) - other


def test_auto_pgd_never_compares_the_values_of_two_phases():
    found = {s.attack for s in candidates(GATED) if s.surface.startswith("two_phase")}
    assert found == {"pgd", "mim"}


def test_a_plain_model_has_nothing_but_its_logits():
    found = candidates(PLAIN)
    assert {spec.surface for spec in found} == {"logits"}
    assert {spec.loss for spec in found} == {"ce", "ce(std)", "dlr", "margin"}
    starts = {
        (
            spec.attack,
            *(dict(spec.parameters).get(key) for key in ("relative_step", "random_start")),
        )
        for spec in found
        if spec.loss == "ce"
    }
    assert starts == {
        ("apgd_ce", None, None),
        ("mim", 0.25, None),
        *(("pgd", step, start) for step in (0.25, 0.05) for start in (True, False)),
    }


@every_kind
def test_every_candidate_and_winner_is_run_again_by_what_is_printed(capabilities):
    for spec in candidates(capabilities):
        for shown in (spec, attack_search._full(spec)):
            assert parse_attack(as_text(shown)) == shown


def test_a_winner_gets_all_steps_and_a_second_start():
    winner = attack_search._full(attack_spec("pgd", steps=5, loss="margin", random_start=False))
    again = attack_spec("pgd", steps=100, loss="margin", random_start=False, restarts=2)
    assert winner == again


# What it costs


def passes(spec):
    forwards, backwards = most_passes(spec)
    return forwards * SURFACES[split_surface(spec.surface)[0]].forwards + 2 * backwards


@every_kind
@pytest.mark.parametrize("budget", [100, 1_000, 30_000])
def test_no_round_spends_more_than_its_third_and_nearly_all_of_it(capabilities, budget):
    asked = []

    class Attempt:
        def broken(self, spec, only=None):
            asked.append(spec)
            return torch.zeros(10, dtype=torch.bool)

    everything = candidates(capabilities)
    found, spent = attack_search._rounds(
        Attempt(), everything, torch.ones(10, dtype=torch.bool), hunt_of(budget)
    )
    assert spent == sum(passes(spec) for spec in asked) <= budget
    rounds = _by_steps(asked)
    assert len(rounds) <= ROUNDS
    assert [spec for spec, _ in found] == rounds[-1]
    for each in rounds:
        price = sum(passes(spec) for spec in each)
        steps = dict(each[0].parameters)["steps"]
        one_more = sum(passes(with_settings(spec, steps=steps + 1)) for spec in each)
        assert price <= budget // ROUNDS
        assert steps == MOST_STEPS or one_more > budget // ROUNDS


def _by_steps(asked):
    """Rounds, each of which runs its candidates with more steps than the one before."""
    rounds = []
    for spec in asked:
        steps = dict(spec.parameters)["steps"]
        if not rounds or dict(rounds[-1][0].parameters)["steps"] != steps or spec in rounds[-1]:
            rounds.append([])
        rounds[-1].append(spec)
    return rounds


def test_each_round_keeps_a_quarter_and_gives_it_more_steps():
    asked = []

    class Attempt:
        def broken(self, spec, only=None):
            asked.append(spec)
            return torch.zeros(10, dtype=torch.bool)

    everything = candidates(GATED)
    attack_search._rounds(Attempt(), everything, torch.ones(10).bool(), hunt_of())
    first, second, third = _by_steps(asked)
    steps = [dict(each[0].parameters)["steps"] for each in (first, second, third)]
    assert len(first) == len(everything)
    assert len(second) == -(-len(first) // 4)
    assert len(third) == -(-len(second) // 4)
    assert steps[0] < steps[1] < steps[2]


# What it keeps


def bits(*positions):
    found = torch.zeros(6, dtype=torch.bool)
    found[list(positions)] = True
    return found


def test_the_cover_takes_what_adds_most_and_stops_when_nothing_adds_any():
    a, b, c, d, e = (attack_spec("pgd", steps=steps) for steps in (1, 2, 3, 4, 5))
    found = [(c, bits(4)), (a, bits(0, 1, 2, 3)), (b, bits(0, 1, 4, 5)), (d, bits()), (e, bits(1))]
    winners, table = attack_search._cover(found)
    assert winners == [a, b]
    assert [(one.spec, one.broke, one.alone) for one in table] == [
        *((a, 4, 4), (b, 4, 2), (c, 1, 0), (e, 1, 0), (d, 0, 0)),
    ]


def test_nothing_that_breaks_is_kept_of_nothing():
    assert attack_search._cover([]) == ([], [])
    assert attack_search._cover([(attack_spec("pgd"), bits())])[0] == []


def test_a_sole_break_is_not_lost_to_many_attacks_that_do_the_same():
    odd = attack_spec("mim", steps=5, loss="dlr")

    class Attempt:
        def broken(self, spec, only=None):
            is_odd = (spec.attack, spec.loss) == ("mim", "dlr")
            return bits(5) if is_odd else bits(0, 1, 2)

    found, _ = attack_search._rounds(Attempt(), candidates(PLAIN), bits(), hunt_of())
    winners, _ = attack_search._cover(found)
    assert len(winners) == 2
    assert (winners[1].attack, winners[1].loss) == (odd.attack, odd.loss)


# The whole of it


class Masked(nn.Module):
    """Decides by the brightest of three pixels and says so in constants: no gradient.

    Its first head gives the pixels; its second head the opposite, eightfold, so that every sum of
    heads climbs the wrong way.
    """

    def forward(self, images):
        pixels = 10 * images.flatten(1)[:, :3]
        logits = functional.one_hot(pixels.argmax(1), 3).float() + 0 * pixels
        return Outputs(logits, (pixels, -8 * pixels))


MASKED = Capabilities(3, auxiliary=2)


def training_images(count=12):
    """The brightest pixel is 50/255 = 0.196 above the next: epsilon 0.1 turns that at a corner."""
    labels = torch.arange(count) % 3
    pixels = torch.full((count, 4), 51, dtype=torch.uint8)
    pixels[torch.arange(count), labels] = 153
    pixels[torch.arange(count), (labels + 1) % 3] = 103
    return Split("digits", "train", pixels.reshape(-1, 1, 2, 2), labels, "s", "l", None)


@pytest.fixture
def toy(monkeypatch):
    asked = []

    def load(*arguments, **settings):
        asked.append((arguments, settings))
        return training_images()

    monkeypatch.setattr(attack_search, "load", load)
    monkeypatch.setattr(attack_search, "_LOSSES", ("ce",))
    monkeypatch.setattr(attack_search, "MOST_STEPS", 10)
    monkeypatch.setattr(
        attack_search, "load_subject", lambda *_, **__: subject_of(Masked(), 3, auxiliary=2)
    )
    return asked


def test_a_masked_model_is_broken_through_the_head_that_tells_the_truth(toy):
    catch = hunt(hunt_of(capabilities=MASKED, budget=1_500))
    assert (catch.held, catch.standing) == (12, 12)  # the standard attacks break nothing
    honest = {"auxiliary(0)", "two_phase(0)", "smallest(1)"}  # the first head loses least
    assert catch.winners[0].surface in honest
    assert len(catch.winners) == 1
    assert catch.tried[0].broke == catch.tried[0].alone == 12
    assert {one.spec.surface for one in catch.tried if one.broke == 12} <= honest
    assert catch.passes <= 1_500
    assert catch.candidates == len(candidates(MASKED))
    assert toy == [(("digits", "train"), {"data_dir": None, "download": False})]


def test_a_search_finds_the_same_again_and_another_seed_draws_other_candidates(toy):
    work = hunt_of(capabilities=MASKED, budget=150)
    first, again, other = (hunt(replace(work, seed=seed)) for seed in (0, 0, 1))
    assert first == again
    assert {one.spec for one in first.tried} != {one.spec for one in other.tried}


def test_nothing_is_searched_where_standard_attacks_left_nothing(toy, monkeypatch):
    def honest(*_, **__):
        return subject_of(Through(lambda x: 10 * x.flatten(1)[:, :3]), 3)

    monkeypatch.setattr(attack_search, "load_subject", honest)
    catch = hunt(hunt_of(capabilities=Capabilities(3), budget=100))
    assert (catch.held, catch.standing, catch.winners) == (12, 0, ())


class Through(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, images):
        return self.function(images)


def test_only_images_that_are_right_are_searched(toy, monkeypatch):
    def half(images):
        logits = 10 * images.flatten(1)[:, :3]
        return torch.where(torch.arange(len(images))[:, None] % 2 == 0, logits, -logits)

    monkeypatch.setattr(
        attack_search, "load_subject", lambda *_, **__: subject_of(Through(half), 3)
    )
    assert hunt(hunt_of(capabilities=Capabilities(3), budget=100)).held == 6


def test_held_images_are_spread_over_the_split_and_carry_their_indices(toy, monkeypatch):
    monkeypatch.setattr(attack_search, "HELD", 5)
    images, labels, indices = attack_search._held(hunt_of(), subject_of(Masked(), 3, auxiliary=2))
    assert indices == [0, 2, 4, 7, 9]
    assert torch.equal(labels, training_images().labels[indices])
    assert torch.equal(images, training_images().images[indices].float() / 255)


def _raises(error):
    def call(*_, **__):
        raise error

    return call


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ModelError("raised", "out of order"), "raised"),
        (HarnessError("no training images"), "not_loaded"),
        (torch.OutOfMemoryError("full"), "out_of_memory"),
    ],
)
def test_what_goes_wrong_is_a_failure(toy, monkeypatch, error, status):
    monkeypatch.setattr(attack_search, "load_subject", _raises(error))
    failure = hunt(hunt_of())
    assert isinstance(failure, Failure)
    assert (failure.checkpoint, failure.attack, failure.status) == ("d" * 64, "search", status)


def test_a_random_model_is_not_broken_by_one_lucky_pass_but_refused():
    failure = hunt(hunt_of(capabilities=Capabilities(10, is_random=True)))
    assert "harness eval --adaptive" in failure.message
