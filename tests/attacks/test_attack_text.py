"""From text to specification and identity: one attack, one hash, and only sentences as errors."""

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.attacks.attack import (
    ATTACKS,
    attack_spec,
    parse_attack,
    parse_value,
    split_outside_parentheses,
)
from harness.attacks.losses import LOSSES
from harness.attacks.surface_text import SURFACES
from harness.errors import HarnessError
from harness.identity import CLEAN


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("pgd", attack_spec("pgd")),
        ("pgd()", attack_spec("pgd")),
        (" pgd ( steps = 100 , loss = margin ) ", attack_spec("pgd", steps=100, loss="margin")),
        ("pgd(random_start=false)", attack_spec("pgd", random_start=False)),
        ("pgd(relative_step=1)", attack_spec("pgd", relative_step=1.0)),
        ("apgd_ce(surface=auxiliary(0))", attack_spec("apgd_ce", surface="auxiliary(0)")),
        (
            "apgd_dlr(steps=5,surface=straight_through(0.1),restarts=2)",
            attack_spec("apgd_dlr", surface="straight_through(0.1)", steps=5, restarts=2),
        ),
        ("fgsm(surface=training_loss)", attack_spec("fgsm", surface="training_loss")),
        ("pgd(loss=ce(10))", attack_spec("pgd", loss="ce(10)")),
        (
            "apgd_ce(loss=ce(std),surface=sum)",
            attack_spec("apgd_ce", loss="ce(std)", surface="sum"),
        ),
        ("pgd(surface=weighted(0:1:1))", attack_spec("pgd", surface="weighted(0:1:1)")),
        (
            "feature_attack(surface=features(gated))",
            attack_spec("feature_attack", surface="features(gated)"),
        ),
        ("feature_attack", attack_spec("feature_attack", surface="features")),
        ("pgd(eot=20,steps=3)", attack_spec("pgd", steps=3, eot=20)),
        ("square(p_init=0.05,queries=10)", attack_spec("square", p_init=0.05, queries=10)),
    ],
)
def test_text_means_what_it_says(text, spec):
    assert parse_attack(text) == spec
    assert parse_attack(text).hash == spec.hash


def other(entry, key):
    """An allowed value that is not the default of this parameter."""
    default = entry.parameters[key]
    if isinstance(default, bool):
        return not default
    if isinstance(default, str):
        return entry.choices[key][-1]
    low, high = entry.limits.get(key, (0, 1e9))
    if isinstance(default, int):
        return default + 1 if default < high else default - 1
    return (low + default) / 2 if low < default else (default + high) / 2


def changeable(entry):
    """The parameters that have another allowed value."""
    return [key for key in entry.parameters if len(entry.choices.get(key, "ab")) > 1]


@pytest.mark.parametrize("name", list(ATTACKS))
def test_the_text_of_every_label_reads_back_as_the_same_attack(name):
    entry = ATTACKS[name]
    changed = {key: other(entry, key) for key in changeable(entry)}
    surface = "features(gated)" if entry.surface == "features" else "weighted(0:1:0.5)"
    if "parity" in changed:
        surface = "logits"
    loss = f"{entry.losses[0]}(15)" if entry.losses[0].startswith("ce") else entry.losses[0]
    spec = attack_spec(name, surface=surface, loss=loss, eot=3, **changed)
    shown, _, rest = spec.label.partition("@")
    surface, _, loss = rest.rpartition(":")
    inner = shown.partition("(")[2].removesuffix(")")
    text = f"{name}({inner},surface={surface},loss={loss})"
    assert parse_attack(text) == spec


@pytest.mark.parametrize("name", ["apgd_ce", "apgd_dlr", "apgd_t", "autoattack"])
def test_parity_with_a_reference_is_for_the_deployed_logits_only(name):
    attack_spec(name, parity=True)
    with pytest.raises(HarnessError, match="knows the deployed logits alone, not 'sum"):
        attack_spec(name, parity=True, surface="sum")


def test_the_label_shows_attack_surface_loss_and_what_is_not_the_default():
    assert attack_spec("pgd").label == "pgd@logits:ce"
    assert attack_spec("pgd", steps=40).label == "pgd@logits:ce"
    assert attack_spec("pgd", steps=100, surface="sum(2)", loss="margin").label == (
        "pgd(steps=100)@sum(2):margin"
    )
    assert attack_spec("apgd_ce", surface="training_loss").label == "apgd_ce@training_loss:own"
    assert CLEAN.label == "none@logits:none"


def test_the_hash_does_not_depend_on_the_order_of_keywords():
    one = attack_spec("pgd", steps=3, restarts=2, loss="margin")
    other = attack_spec("pgd", loss="margin", restarts=2, steps=3)
    assert one == other
    assert one.hash == other.hash
    assert parse_attack("pgd(restarts=2,steps=3,loss=margin)").hash == one.hash


@pytest.mark.parametrize("name", list(ATTACKS))
def test_the_hash_changes_with_every_parameter_surface_and_loss(name):
    entry = ATTACKS[name]
    specs = [attack_spec(name), attack_spec(name, surface="auxiliary(0)")]
    specs += [attack_spec(name, loss=loss) for loss in entry.losses[1:]]
    specs += [attack_spec(name, **{key: other(entry, key)}) for key in changeable(entry)]
    specs += [attack_spec(name, eot=2)]
    assert len({spec.hash for spec in specs}) == len(specs)
    rest = {attack_spec(one).hash for one in ATTACKS if one != name}
    assert not rest & {spec.hash for spec in specs}


def test_a_default_written_out_is_the_default():
    written = attack_spec("square", queries=5000, p_init=0.8, restarts=1, loss="margin")
    assert written == attack_spec("square")


NO_DRAWS = ("0", "-1", "1001", "1.0", "2.5", "true", "false", "many", "nan", "9" * 400)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        *((f"pgd(eot={draws})", "eot takes a whole number of passes from 1") for draws in NO_DRAWS),
        ("pgd(loss=ce(0))", "such as ce(10)"),
        ("pgd(loss=ce(nan))", "such as ce(10)"),
        ("pgd(loss=dlr(2))", "only ce and ce_targeted take a factor"),
        ("pgd(loss=ce_targeted)", "no loss of pgd named 'ce_targeted'"),
        ("pgd(surface=rescaled(10))", "write loss=ce(10)"),
        ("pgd(surface=weighted(1))", "weighted(0:1:1)"),
        ("pgd(surface=surrogate(xyz))", "digits of its digest"),
        ("pgd(surface=features)", "a vector without classes, which pgd cannot climb"),
        ("fgsm(surface=target_gate)", "needs a targeted attack"),
        ("", "is no attack: write a name"),
        ("pgd(", "is no attack"),
        ("pgd(steps=1", "is no attack"),
        ("pgd steps=1", "is no attack"),
        ("pdg", "Did you mean 'pgd'"),
        ("pgd(steps)", "is no setting: write KEY=VALUE"),
        ("pgd(=3)", "is no setting"),
        ("pgd(steps=1,steps=2)", "'steps' is given twice"),
        ("pgd(step=1)", "no parameter of pgd named 'step'. Did you mean 'steps'"),
        ("pgd(name=1)", "no parameter of pgd named 'name'"),
        ("pgd(search=1)", "no parameter of pgd named 'search'"),
        ("pgd(steps=0)", "steps must lie in"),
        ("pgd(steps=1.5)", "steps takes a int such as 40"),
        ("pgd(steps=true)", "steps takes a int"),
        ("pgd(steps=many)", "steps takes a int"),
        ("pgd(random_start=1)", "random_start takes a bool"),
        ("pgd(relative_step=nan)", "relative_step must lie in"),
        ("pgd(relative_step=inf)", "relative_step must lie in"),
        ("pgd(relative_step=1" + 400 * "0" + ")", "relative_step must lie in"),
        ("pgd(loss=dlr_targeted)", "no loss of pgd named 'dlr_targeted'"),
        ("pgd(loss=)", "no loss of pgd named ''"),
        ("pgd(loss=own)", "no loss of pgd named 'own'"),
        ("pgd(surface=training_loss,loss=ce)", "brings its own loss"),
        *[
            (f"{name}(surface=training_loss)", f"{name} needs the value of every class")
            for name in ("fab", "fab_t", "deepfool", "autoattack")
        ],
        ("pgd(surface=)", "no surface named ''"),
        ("pgd(surface=auxiliary)", "'auxiliary' is no surface"),
        ("pgd(surface=auxiliary(0)", "no surface named 'auxiliary(0'"),
        ("fgsm(steps=3)", "no parameter of fgsm named 'steps'"),
    ],
)
def test_text_that_means_nothing_gets_a_sentence(text, sentence):
    with pytest.raises(HarnessError, match=re.escape(sentence)):
        parse_attack(text)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", []),
        ("a,b", ["a", "b"]),
        ("a(1,2),b", ["a(1,2)", "b"]),
        ("a((1,2),3),b", ["a((1,2),3)", "b"]),
        (",a,,b,", ["a", "b"]),
    ],
)
def test_commas_inside_parentheses_do_not_split(text, pieces):
    assert split_outside_parentheses(text) == pieces


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("true", True), ("False", False), ("12", 12), ("-3", -3), ("0.5", 0.5), ("1e-3", 1e-3)],
        *[("word", "word"), ("", ""), ("1/2", "1/2")],
    ],
)
def test_values_read_as_truth_whole_number_decimal_or_word(text, value):
    found = parse_value(text)
    assert found == value
    assert type(found) is type(value)


WORDS = [
    *ATTACKS,
    *SURFACES,
    *LOSSES,
    "ce(10)",
    "ce(std)",
    "sum(2)",
    "eot",
    "steps",
    "restarts",
    "loss",
    "surface",
    "name",
    "queries",
    "own",
]
WORDS += ["1", "0", "-1", "0.5", "1e999", "nan", "true", "9" * 400, "ce", "std", "²", "١"]
FRAGMENTS = st.sampled_from([*WORDS, "(", ")", ",", "=", " ", "\n", "\x00", "(1)", "(std)"])


@settings(max_examples=300)
@given(st.one_of(st.lists(FRAGMENTS, max_size=12).map("".join), st.text(max_size=30)))
@example("pgd(relative_step=" + "9" * 5000 + ")")
def test_any_text_is_an_attack_or_a_sentence(text):
    try:
        spec = parse_attack(text)
    except HarnessError:
        return
    assert spec.attack in ATTACKS
    assert len(spec.hash) == 64


@settings(max_examples=300)
@given(
    st.sampled_from(list(ATTACKS)),
    st.dictionaries(
        st.sampled_from(
            ["steps", "restarts", "relative_step", "surface", "loss", "queries", "eot"]
        ),
        st.sampled_from(WORDS),
        max_size=3,
    ),
)
def test_well_formed_text_is_an_attack_or_a_sentence(name, given_settings):
    inner = ",".join(f"{key}={value}" for key, value in given_settings.items())
    try:
        spec = parse_attack(f"{name}({inner})")
    except HarnessError:
        return
    assert spec.attack == name
    for key, value in spec.parameters:
        assert key == "eot" or type(value) is type(ATTACKS[name].parameters[key])


@pytest.mark.parametrize(
    ("texts", "canonical"),
    [
        (("sum", "sum(2)", "sum(2.0)", " sum(2) "), "sum(2)"),
        (("straight_through", "straight_through(1.0)"), "straight_through(1)"),
        (("auxiliary(0)", "auxiliary(00)"), "auxiliary(0)"),
        (("weighted(0:1:1)", "weighted(0.0:1:01)"), "weighted(0:1:1)"),
        (("two_phase", "two_phase(0)"), "two_phase(0)"),
        (("logits", " logits "), "logits"),
    ],
)
def test_one_search_has_one_hash_however_its_surface_is_spelled(texts, canonical):
    specs = {attack_spec("pgd", surface=text) for text in texts}
    assert {spec.surface for spec in specs} == {canonical}
    assert len({spec.hash for spec in specs}) == 1


@pytest.mark.parametrize(
    ("texts", "canonical"),
    [
        (("ce", "ce(1)", "ce(1.0)", " ce "), "ce"),
        (("ce(10)", "ce(10.0)", "ce(010)"), "ce(10)"),
        (("ce(std)",), "ce(std)"),
        (("margin",), "margin"),
    ],
)
def test_one_search_has_one_hash_however_its_loss_is_spelled(texts, canonical):
    specs = {attack_spec("pgd", loss=text) for text in texts}
    assert {spec.loss for spec in specs} == {canonical}
    assert {spec.hash for spec in specs} == {parse_attack(f"pgd(loss={canonical})").hash}


def test_another_factor_is_another_search():
    losses = ["ce", "ce(10)", "ce(15)", "ce(std)", "margin"]
    assert len({attack_spec("pgd", loss=loss).hash for loss in losses}) == len(losses)
    assert attack_spec("pgd", loss="ce(10)").label == "pgd@logits:ce(10)"
