"""From text to surface: one text per meaning, and a sentence for what means or reaches nothing."""

import re
from dataclasses import replace

import pytest
from attacked_models import PixelGate
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.attacks.attack import attack_spec
from harness.attacks.surface_text import (
    DIGITS,
    SURFACES,
    canonical_surface,
    check_reachable,
    split_surface,
    surface_named,
)
from harness.attacks.surfaces import (
    Auxiliary,
    Cosine,
    Features,
    Gate,
    Logits,
    LogSoftmaxMean,
    Smallest,
    StraightThrough,
    Sum,
    Surrogate,
    Training,
    TrainingLoss,
    Twin,
    TwoPhase,
    Weighted,
)
from harness.errors import HarnessError
from harness.identity import Capabilities

MODEL = PixelGate([[1, 0, 2], [0, 1, 1]], [0.5, -0.5])
OTHER = PixelGate([[-2, 0, 1], [0, -2, 1]], [0.0, 0.0])
OWN = TrainingLoss(lambda images, points: images.sum(dim=(1, 2, 3)), 1)
EVERYTHING = Capabilities(
    classes=2,
    auxiliary=2,
    select=True,
    features=True,
    training_loss=True,
    strip=True,
    signs=("angular_logits",),
)
NOTHING = Capabilities(classes=2)


@pytest.mark.parametrize(
    ("text", "surface"),
    [
        ("logits", Logits(MODEL)),
        ("cosine", Cosine(MODEL)),
        ("auxiliary(1)", Auxiliary(MODEL, 1)),
        ("sum", Sum(MODEL, 2.0)),
        ("sum(0.5)", Sum(MODEL, 0.5)),
        ("weighted(0:1:2.5)", Weighted(MODEL, (0.0, 1.0, 2.5))),
        ("smallest", Smallest(MODEL, 1.0)),
        ("smallest(0.1)", Smallest(MODEL, 0.1)),
        ("log_softmax_mean", LogSoftmaxMean(MODEL)),
        ("straight_through", StraightThrough(MODEL, 1.0)),
        ("straight_through(0.1)", StraightThrough(MODEL, 0.1)),
        ("two_phase", TwoPhase(MODEL, 0)),
        ("two_phase(1)", TwoPhase(MODEL, 1)),
        ("label_gate", Gate(MODEL, "label")),
        ("rival_gate", Gate(MODEL, "rival")),
        ("target_gate", Gate(MODEL, "target")),
        ("training_loss", Training(MODEL, OWN)),
        ("stripped", Twin(MODEL, 1.0)),
        ("mixed", Twin(MODEL, 0.5)),
        ("features", Features(MODEL, "")),
        ("features(gated)", Features(MODEL, "gated")),
        ("features(1)", Features(MODEL, "1")),
        ("surrogate(0123456789ab)", Surrogate(MODEL, OTHER)),
    ],
)
def test_a_text_names_its_surface(text, surface):
    assert surface_named(text, MODEL, EVERYTHING, OWN, {"0123456789ab": OTHER}) == surface
    canonical = canonical_surface(text)
    assert surface_named(canonical, MODEL, EVERYTHING, OWN, {"0123456789ab": OTHER}) == surface


def test_every_name_has_its_surface_tested():
    (mark,) = test_a_text_names_its_surface.pytestmark
    assert {split_surface(text)[0] for text, _ in mark.args[1]} == set(SURFACES)


@pytest.mark.parametrize(
    ("texts", "canonical"),
    [
        (("logits", " logits "), "logits"),
        (("sum", "sum(2)", "sum(2.0)", " sum(2) ", "sum(02)"), "sum(2)"),
        (("sum(0.0001)", "sum(0.00010)"), "sum(0.0001)"),
        (("auxiliary(0)", "auxiliary(00)"), "auxiliary(0)"),
        (("weighted(0:1:1)", "weighted(0.0:1:01)", "weighted(0:1.00:1.0)"), "weighted(0:1:1)"),
        (("smallest", "smallest(1)", "smallest(1.0)"), "smallest(1)"),
        (("straight_through", "straight_through(1.0)"), "straight_through(1)"),
        (("two_phase", "two_phase(0)", "two_phase(000)"), "two_phase(0)"),
        (("features",), "features"),
        (("features(0)", "features(00)"), "features(0)"),
        (("features(gated)",), "features(gated)"),
        (("surrogate(0123456789ab)",), "surrogate(0123456789ab)"),
        (("surrogate(000000000001)",), "surrogate(000000000001)"),
    ],
)
def test_one_meaning_has_one_text(texts, canonical):
    assert {canonical_surface(text) for text in texts} == {canonical}
    assert canonical_surface(canonical) == canonical


def test_one_meaning_has_one_hash_and_another_meaning_another():
    same = [("sum", "sum(2.0)"), ("smallest", "smallest(1)"), ("two_phase", "two_phase(0)")]
    for one, other in same:
        assert attack_spec("pgd", surface=one).hash == attack_spec("pgd", surface=other).hash
    texts = ["logits", "sum", "sum(1)", "smallest", "smallest(2)", "two_phase", "two_phase(1)"]
    texts += ["weighted(1:1:1)", "weighted(0:1:1)", "label_gate", "rival_gate", "stripped", "mixed"]
    texts += ["surrogate(0123456789ab)", "surrogate(0123456789ac)", "log_softmax_mean"]
    assert len({attack_spec("pgd", surface=text).hash for text in texts}) == len(texts)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("rescaled(10)", "write loss=ce(10) or loss=ce(std)"),
        ("rescaled(std)", "part of the loss"),
        ("rescaled", "no surface any more"),
        ("auxilary(0)", "Did you mean 'auxiliary'"),
        ("two_phases", "Did you mean 'two_phase'"),
        ("auxiliary", "auxiliary head number N alone: auxiliary(0)"),
        ("weighted(1)", "losses of final and auxiliary logits by weight: weighted(0:1:1)"),
        ("weighted", "weighted(0:1:1)"),
        ("weighted(0:0:0)", "weighted(0:1:1)"),
        ("weighted(1:-1)", "no surface named 'weighted(1:-1)'"),
        ("weighted(1::1)", "weighted(0:1:1)"),
        ("surrogate(xyz)", f"another checkpoint, by {DIGITS} digits of its digest"),
        ("surrogate(0123456789abc)", f"by {DIGITS} digits"),
        ("surrogate", f"by {DIGITS} digits"),
        ("smallest(0)", "smooth minimum of all losses at this temperature"),
        ("features(other)", "features(gated), features(0)"),
        ("two_phase(x)", "until it is wrong"),
        ("mixed(0.5)", "'mixed(0.5)' is no surface"),
    ],
)
def test_a_refused_text_is_told_what_to_write(text, sentence):
    with pytest.raises(HarnessError, match=re.escape(sentence)):
        split_surface(text)


@pytest.mark.parametrize(
    "text",
    [
        *["", "auxiliary()", "auxiliary(-1)", "auxiliary(1.5)", "sum(0)", "sum(x)", "sum(0.00001)"],
        *["straight_through(0)", "straight_through(nan)", "smallest(inf)", "sum(1e3)"],
        *["logits(1)", "label_gate(0)", "training_loss(2)", "sum(2", "sum 2", "stripped(1)"],
        *[
            "Logits",
            "logits,sum",
            "two_phase(1:2)",
            "surrogate(0123456789AB)",
            "sum(1:2)",
            "sum(²)",
        ],
    ],
)
def test_a_text_that_names_no_surface_is_refused(text):
    with pytest.raises(HarnessError):
        split_surface(text)


def test_a_long_text_is_not_repeated_whole():
    for text in ("sum(" + "9" * 5000 + ")", "x" * 5000, "rescaled(" + "1" * 5000 + ")"):
        with pytest.raises(HarnessError) as caught:
            split_surface(text)
        assert len(str(caught.value)) < 1000


@settings(max_examples=300)
@given(
    st.lists(
        st.sampled_from([*SURFACES, "(", ")", ":", ".", "0", "1", "12", "gated", "ab", "std", "²"]),
        max_size=7,
    ).map("".join)
)
def test_any_text_has_a_canonical_text_that_means_the_same_or_gets_a_sentence(text):
    try:
        canonical = canonical_surface(text)
    except HarnessError:
        return
    assert canonical_surface(canonical) == canonical
    assert split_surface(canonical) == split_surface(text)


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("cosine", {"signs": ("bounded_logits",)}),
        ("auxiliary(2)", {}),
        ("auxiliary(0)", {"auxiliary": 0}),
        ("sum", {"auxiliary": 0}),
        ("weighted(1:1:1)", {"auxiliary": 1}),
        ("weighted(1:1:1)", {"auxiliary": 3}),
        ("smallest", {"auxiliary": 0}),
        ("log_softmax_mean", {"auxiliary": 0}),
        ("two_phase(2)", {}),
        ("two_phase", {"auxiliary": 0}),
        ("label_gate", {"select": False}),
        ("rival_gate", {"select": False}),
        ("target_gate", {"select": False}),
        ("straight_through(1)", {"select": False}),
        ("training_loss", {"training_loss": False}),
        ("stripped", {"strip": False}),
        ("mixed", {"strip": False}),
        ("features", {"features": False}),
        ("features(gated)", {"strip": False}),
        ("features(0)", {"strip": False}),
        ("features(2)", {}),
    ],
)
def test_a_surface_that_the_model_does_not_expose_is_refused(text, changes):
    capabilities = replace(EVERYTHING, **changes)
    with pytest.raises(HarnessError, match="is not there: this model exposes"):
        check_reachable(text, capabilities)
    with pytest.raises(HarnessError, match="is not there"):
        surface_named(text, MODEL, capabilities, OWN)


@pytest.mark.parametrize(
    "text",
    [
        *["logits", "auxiliary(1)", "sum", "weighted(1:1:1)", "smallest", "log_softmax_mean"],
        "cosine",
        *["two_phase(1)", "label_gate", "rival_gate", "target_gate", "straight_through"],
        *["training_loss", "stripped", "mixed", "features", "features(gated)", "features(1)"],
    ],
)
def test_a_surface_that_the_model_exposes_is_reachable(text):
    check_reachable(text, EVERYTHING)


def test_a_plain_model_has_its_logits_and_a_hard_one_a_soft_backward_pass():
    reachable = []
    texts = {"weighted": "weighted(1:1)", "auxiliary": "auxiliary(0)"}
    texts["surrogate"] = "surrogate(0123456789ab)"
    for name in SURFACES:
        try:
            check_reachable(texts.get(name, name), NOTHING)
        except HarnessError:
            continue
        reachable.append(name)
    assert reachable == ["logits", "surrogate"]
    check_reachable("straight_through", replace(NOTHING, hard=("round",)))


def test_a_training_loss_without_a_recipe_is_refused():
    with pytest.raises(HarnessError, match="needs the defense's recipe"):
        surface_named("training_loss", MODEL, EVERYTHING)


def test_a_surrogate_that_is_not_here_is_refused():
    for others in (None, {}, {"ba9876543210": OTHER}):
        with pytest.raises(HarnessError, match="needs a checkpoint that is not here"):
            surface_named("surrogate(0123456789ab)", MODEL, NOTHING, None, others)


@pytest.mark.parametrize(
    ("attack", "settings", "sentence"),
    [
        ("pgd", {"surface": "features"}, "'features' is a vector without classes, which pgd"),
        ("square", {"surface": "features(0)"}, "without classes"),
        ("pgd", {"surface": "target_gate"}, "needs a targeted attack such as pgd_t"),
        ("apgd_dlr", {"surface": "target_gate"}, "apgd_dlr climbs dlr"),
        ("pgd", {"surface": "rescaled(10)"}, "write loss=ce(10)"),
    ],
)
def test_an_attack_that_cannot_climb_a_surface_says_so_at_once(attack, settings, sentence):
    with pytest.raises(HarnessError, match=re.escape(sentence)):
        attack_spec(attack, **settings)


def test_targeted_attacks_climb_the_gate_of_their_target():
    assert attack_spec("apgd_t", surface="target_gate").surface == "target_gate"
