"""Evidence levels E1 to E4 and verdicts (protocol.md section 4), from synthetic findings."""

from dataclasses import replace
from fractions import Fraction

import pytest

from harness.diagnostics.diagnostic import DIAGNOSTICS as REGISTERED
from harness.identity import Capabilities, Finding
from harness.standings.levels import DIAGNOSTICS, RERUN, TITLES, evidence_level, verdict
from harness.threat import ThreatModel

PLAIN = Capabilities(classes=10)
GREEN = tuple(
    Finding(
        *("c" * 64, "digits", "f" * 64, ThreatModel("linf", Fraction(1, 5)), 0, 100),
        *(identity, "green", 0.0, "amber: more"),
        is_adaptive=True,
    )
    for identity in DIAGNOSTICS
)
EVERYTHING = {
    "has_standard": True,
    "is_adaptive": True,
    "knowledge": {"white_box", "query", "transfer"},
    "capabilities": PLAIN,
    "findings": GREEN,
}


def with_state(identity, **changes):
    return tuple(replace(f, **changes) if f.diagnostic == identity else f for f in GREEN)


def without(*identities):
    return tuple(f for f in GREEN if f.diagnostic not in identities)


def level(**changes):
    return evidence_level(**{**EVERYTHING, **changes})


def test_the_known_ids_are_the_registered_ones():
    assert set(DIAGNOSTICS) == set(REGISTERED)
    assert len(DIAGNOSTICS) == 32


def test_titles_that_need_no_torch_are_those_of_the_registered_diagnostics():
    assert {identity: REGISTERED[identity].title for identity in REGISTERED} == TITLES


def test_everything_done_and_green_is_e3_and_names_what_e4_lacks():
    assert level().name == "E3"
    assert "re-run" in level().lacking[0]


def test_without_a_standard_suite_there_is_no_level():
    assert level(has_standard=False).name == ""


def test_standard_alone_is_e1():
    found = level(is_adaptive=False, knowledge={"white_box"}, findings=())
    assert found.name == "E1"
    assert any("no query attack" in sentence for sentence in found.lacking)
    assert any("no transferred attack" in sentence for sentence in found.lacking)
    assert any("D01, D02" in sentence for sentence in found.lacking)


def test_everything_but_the_adaptive_protocol_is_e2():
    fresh = tuple(replace(f, is_adaptive=False) for f in GREEN)
    found = level(is_adaptive=False, findings=fresh)
    assert found == ("E2", ("the adaptive protocol is not complete",))


@pytest.mark.parametrize(
    "capabilities",
    [
        Capabilities(classes=10, auxiliary=1),
        Capabilities(classes=10, select=True),
        Capabilities(classes=10, scale=15.0),
        Capabilities(classes=10, hard=("round",)),
        Capabilities(classes=10, signs=("bounded_logits",)),
        Capabilities(classes=10, is_random=True),
    ],
)
def test_what_makes_adaptive_attacks_compulsory_keeps_a_row_at_e1_without_them(capabilities):
    assert level(capabilities=capabilities, is_adaptive=False).name == "E1"
    assert level(capabilities=capabilities).name == "E3"


@pytest.mark.parametrize("state", ["amber", "red"])
def test_a_coloured_diagnostic_makes_adaptive_attacks_compulsory(state):
    findings = with_state("D14", state=state)
    assert level(findings=findings, is_adaptive=False).name == "E1"
    assert level(findings=findings).name == "E3"


@pytest.mark.parametrize("identity", ["D04", "D05", "D06", "D07"])
def test_a_red_that_bars_keeps_even_an_adaptive_row_at_e1(identity):
    found = level(findings=with_state(identity, state="red"))
    assert found.name == "E1"
    assert any(identity in sentence for sentence in found.lacking)


@pytest.mark.parametrize("identity", ["D01", "D20"])
def test_a_red_of_d01_or_d20_is_a_banner_and_no_bar(identity):
    assert level(findings=with_state(identity, state="red")).name == "E3"


@pytest.mark.parametrize("identity", ["D04", "D05", "D06"])
def test_what_was_computed_before_the_adaptive_union_does_not_count_for_e3(identity):
    found = level(findings=with_state(identity, is_adaptive=False))
    assert found.name == "E2"
    assert identity in found.lacking[0]


@pytest.mark.parametrize("identity", sorted(set(DIAGNOSTICS) - {"D20", "D25", "D26"}))
def test_every_diagnostic_that_needs_no_adaptive_run_is_needed_for_e2(identity):
    assert level(findings=without(identity)).name == "E1"


@pytest.mark.parametrize("identity", ["D20", "D25", "D26"])
def test_those_about_rows_are_not_waited_for(identity):
    assert level(findings=without(identity)).name == "E3"


@pytest.mark.parametrize(("identity", "name"), [("D21", "E3"), ("D03", "E1"), ("D05", "E1")])
def test_not_run_counts_only_where_the_model_may_have_nothing_for_it(identity, name):
    assert level(findings=with_state(identity, state="not_run", value=None)).name == name


def test_an_adaptive_protocol_without_feature_attacks_is_not_e3():
    found = level(has_features=False)
    assert found.name == "E2"
    assert "training images" in found.lacking[0]
    assert level(has_features=False, is_adaptive=False).name == "E2"


@pytest.mark.parametrize(
    ("sign", "name"), [("changed_by_recording", "E1"), ("custom_gradient", "E3")]
)
def test_a_model_whose_decision_stays_closed_is_no_more_than_e1(sign, name):
    assert level(capabilities=Capabilities(classes=10, signs=(sign,))).name == name


@pytest.mark.parametrize(("state", "name"), [("green", "E4"), ("red", "E3")])
def test_an_independent_rerun_that_agrees_is_e4(state, name):
    rerun = replace(GREEN[0], diagnostic=RERUN, state=state)
    assert level(findings=(*GREEN, rerun)).name == name


def test_a_verdict_is_the_worst_state_and_names_the_reds():
    found = verdict((*with_state("D01", state="red")[:5], *with_state("D20", state="red")[5:20]))
    assert found.state == "red"
    assert str(found) == "2 red: D01, D20"
    assert found.counts["not_run"] == 12


def test_what_was_not_run_is_never_green():
    assert verdict(()).state == "not_run"
    assert verdict(()).counts["not_run"] == 32
    assert str(verdict(GREEN)) == "0 amber, 0 not run"
