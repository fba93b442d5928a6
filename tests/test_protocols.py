"""Protocols: which attacks for which capabilities, fixed before any result is seen."""

import pytest

from harness.attacks.attack import attack_spec, parse_attack
from harness.attacks.surfaces import SURFACES, check_reachable, split_surface
from harness.errors import HarnessError
from harness.identity import CORRECT, Capabilities
from harness.protocols import PROTOCOLS, check_wanted, protocol_named

PLAIN = Capabilities(classes=10, features=True)
AUXILIARY = Capabilities(classes=10, auxiliary=2)
GATED = Capabilities(classes=10, auxiliary=2, select=True, training_loss=True)
SCALED = Capabilities(classes=10, scale=15.0)
KINDS = {
    "plain": PLAIN,
    "auxiliary": AUXILIARY,
    "gated": GATED,
    "scaled": SCALED,
    "two classes": Capabilities(classes=2, auxiliary=2, select=True, scale=15.0),
    "three classes": Capabilities(classes=3, auxiliary=1),
}
every_kind = pytest.mark.parametrize("capabilities", KINDS.values(), ids=KINDS)
STANDARD = ["fgsm", "pgd", "apgd_ce", "apgd_t", "square(queries=1000)"]
ALONE = ["apgd_dlr", "pgd(steps=100,loss=margin)", "apgd_ce(surface=rescaled(std))"]
HEADS = [
    f"{attack}(surface={surface}{loss})"
    for surface in ("auxiliary(0)", "auxiliary(1)", "sum(2)")
    for attack, loss in (("apgd_ce", ""), ("apgd_dlr", ""), ("apgd_ce", ",loss=margin"))
    if (surface, loss) != ("sum(2)", ",loss=margin")
]
GATES = [
    f"{attack}(surface={surface})"
    for surface in ("label_gate", "straight_through(0.1)", "straight_through(1)")
    for attack in ("apgd_ce", "apgd_dlr")
]
SCALES = [f"apgd_ce(surface=rescaled({factor}))" for factor in (10, 15, 20)]


def hashes(texts):
    return {parse_attack(text).hash for text in texts}


def second_stage(capabilities):
    wanted = protocol_named("adaptive").wanted(capabilities)
    return {spec.hash for spec, population in wanted if population != CORRECT}


@every_kind
def test_the_first_stage_of_adaptive_is_standard(capabilities):
    standard = protocol_named("standard").wanted(capabilities)
    adaptive = protocol_named("adaptive").wanted(capabilities)
    assert adaptive[: len(standard)] == standard
    assert all(population == CORRECT for _, population in standard)
    rest = adaptive[len(standard) :]
    assert {population for _, population in rest} == {"survivors:standard-1"}
    assert protocol_named("adaptive").first_stage == protocol_named("standard").key


@every_kind
def test_no_attack_is_run_twice(capabilities):
    wanted = [spec.hash for spec, _ in protocol_named("adaptive").wanted(capabilities)]
    assert len(set(wanted)) == len(wanted)


def test_standard_is_the_published_five():
    wanted = protocol_named("standard").wanted(PLAIN)
    assert [spec for spec, _ in wanted] == [parse_attack(text) for text in STANDARD]


@pytest.mark.parametrize(
    ("capabilities", "second"),
    [
        (PLAIN, ALONE),
        (AUXILIARY, [*ALONE, *HEADS]),
        (GATED, [*ALONE, *HEADS, *GATES, "apgd_ce(surface=training_loss)"]),
        (SCALED, [*ALONE, *SCALES]),
    ],
    ids=["plain", "auxiliary", "gated", "scaled"],
)
def test_adaptive_adds_every_surface_that_the_model_exposes(capabilities, second):
    assert second_stage(capabilities) == hashes(second)


def test_a_gate_a_scale_and_a_training_loss_together_reach_every_surface():
    capabilities = Capabilities(
        classes=10, auxiliary=2, select=True, scale=15.0, training_loss=True
    )
    wanted = protocol_named("adaptive").wanted(capabilities)
    assert {split_surface(spec.surface)[0] for spec, _ in wanted} == set(SURFACES)


@pytest.mark.parametrize("scale", [0.5, 2.0, 10.0, 15.0, 64.25, 1e-4, 999999.0])
def test_every_scale_gives_surfaces_that_can_be_named(scale):
    capabilities = Capabilities(classes=10, scale=scale)
    for spec, _ in protocol_named("adaptive").wanted(capabilities):
        check_reachable(spec.surface, capabilities)
    factors = {
        float(split_surface(spec.surface)[1])
        for spec, _ in protocol_named("adaptive").wanted(capabilities)
        if spec.surface.startswith("rescaled(") and "std" not in spec.surface
    }
    assert factors == {10.0, 20.0, scale}


@every_kind
@pytest.mark.parametrize("name", PROTOCOLS)
def test_everything_that_a_protocol_wants_is_allowed_for_its_model(name, capabilities):
    check_wanted(protocol_named(name).wanted(capabilities), capabilities, "linf")


@pytest.mark.parametrize(("classes", "targets"), [(4, 3), (5, 4), (10, 9), (200, 9)])
def test_there_are_no_more_targets_than_wrong_classes(classes, targets):
    wanted = protocol_named("standard").wanted(Capabilities(classes=classes))
    (found,) = [spec for spec, _ in wanted if spec.attack == "apgd_t"]
    assert found == attack_spec("apgd_t", targets=targets)


@pytest.mark.parametrize("classes", [2, 3])
def test_with_two_or_three_classes_the_margin_takes_the_targeted_losses_place(classes):
    wanted = protocol_named("standard").wanted(Capabilities(classes=classes))
    specs = [spec for spec, _ in wanted]
    assert attack_spec("apgd_ce", loss="margin") in specs
    assert not any(spec.attack == "apgd_t" for spec in specs)


def test_with_two_classes_no_ratio_is_climbed():
    wanted = protocol_named("adaptive").wanted(KINDS["two classes"])
    assert not any(spec.loss.startswith("dlr") for spec, _ in wanted)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_square_is_refused_for_l2_by_name_with_the_way_out(name):
    with pytest.raises(
        HarnessError, match=r"'square' is not defined for l2, only for linf.*--attacks"
    ):
        check_wanted(protocol_named(name).wanted(PLAIN), PLAIN, "l2")


@pytest.mark.parametrize(
    ("text", "capabilities", "sentence"),
    [
        ("apgd_ce(surface=auxiliary(2))", AUXILIARY, r"'auxiliary\(2\)' is not there"),
        ("apgd_ce(surface=label_gate)", AUXILIARY, "no class-conditional gate"),
        ("apgd_ce(surface=training_loss)", PLAIN, "no training loss"),
        ("apgd_dlr", Capabilities(classes=2), "'dlr' needs at least 3 classes"),
        ("apgd_t", Capabilities(classes=3), "'dlr_targeted' needs at least 4 classes"),
    ],
)
def test_what_the_model_does_not_allow_is_refused_before_anything_runs(
    text, capabilities, sentence
):
    with pytest.raises(HarnessError, match=sentence):
        check_wanted(((parse_attack(text), CORRECT),), capabilities, "linf")


def test_the_training_loss_needs_no_number_of_classes():
    two = Capabilities(classes=2, training_loss=True)
    check_wanted(((parse_attack("apgd_dlr(surface=training_loss)"), CORRECT),), two, "linf")


def test_a_misspelt_protocol_is_told_the_nearest():
    with pytest.raises(HarnessError, match="Did you mean 'adaptive'"):
        protocol_named("adaptve")


def test_keys_join_name_and_version():
    assert {protocol.key for protocol in PROTOCOLS.values()} == {"standard-1", "adaptive-1"}
