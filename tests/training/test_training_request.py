"""Requests: defaults, where a setting belongs, and what the digest of a run depends on."""

import dataclasses
from fractions import Fraction

import pytest
import torch

from harness.catalogue import DEFENSES, DefenseEntry
from harness.data import DATASETS, Split
from harness.errors import HarnessError
from harness.identity import Capabilities, CheckpointRecord
from harness.models.architectures import ARCHITECTURES, Architecture
from harness.recipe import DIGITS, RECIPES
from harness.threat import ThreatModel
from harness.training.request import default_name, sort_settings, training_request

CIFAR10 = DATASETS["cifar10"]
ON_DIGITS = DATASETS["digits"]


def test_defaults_on_digits_are_a_smoke_run_at_the_dataset_s_threat():
    request = training_request("trades_ancra", ON_DIGITS)
    assert request.recipe == DIGITS
    assert (request.scale, request.seed) == ("smoke", 0)
    assert request.threat == ON_DIGITS.threat
    assert request.settings == dict(DEFENSES["trades_ancra"].settings)
    assert request.architecture_settings == {"width": 16}
    assert request.name == "trades_ancra-digits-small_resnet-smoke-s0"


def test_defaults_elsewhere_are_a_reduced_run_of_a_resnet18():
    request = training_request("trades_he", CIFAR10, seed=3)
    assert (request.scale, request.architecture, request.recipe.epochs) == (
        "reduced",
        "resnet18",
        30,
    )
    assert request.architecture_settings == {"width": 64}
    assert request.name == "trades_he-cifar10-resnet18-reduced-s3"
    build = request.build()
    assert (build.shape, build.classes, build.seed) == ((3, 32, 32), 10, 3)


def test_full_scale_is_the_defense_s_own_recipe():
    request = training_request("trades_ancra", CIFAR10, scale="full")
    assert request.recipe == RECIPES["A-R18"]
    frpat = training_request("trades_frpat", CIFAR10, scale="full")
    assert (frpat.architecture, frpat.build().teacher) == ("wrn_34_10", "resnet18")


def test_a_smoke_run_elsewhere_is_a_quarter_as_wide():
    assert training_request("trades", CIFAR10, scale="smoke").architecture_settings == {"width": 16}
    wide = training_request("trades", CIFAR10, scale="smoke", architecture="wrn_34_10")
    assert wide.architecture_settings == {"width": 4}


def test_fewer_epochs_keep_the_drops_at_their_fractions():
    assert training_request("trades_ancra", CIFAR10, epochs=12).recipe.drops == "8,10,11"
    asked = training_request("trades_ancra", CIFAR10, epochs=12, settings={"drops": "5"})
    assert asked.recipe.drops == "5"


def test_everything_given_is_taken():
    threat = ThreatModel("l2", Fraction(1, 2))
    request = training_request(
        "pgd_at", ON_DIGITS, epochs=2, seed=7, threat=threat, name="mine",
        architecture="small_preactresnet", settings={"width": 3, "learning_rate": 1},
    )  # fmt: skip
    assert (request.recipe.epochs, request.seed, request.threat) == (2, 7, threat)
    assert (request.name, request.architecture) == ("mine", "small_preactresnet")
    assert request.architecture_settings == {"width": 3}
    assert request.recipe.learning_rate == 1.0


@pytest.mark.parametrize(
    ("dataset", "short"),
    [
        ("digits", "digits"),
        ("folder:/data/my-cats", "my-cats"),
        ("folder:/data/cats/", "cats"),
        ("parquet:cats", "cats"),
    ],
)
def test_names_of_runs_take_the_last_part_of_a_path(dataset, short):
    assert default_name("trades", dataset, "resnet18", "smoke", 1) == (
        f"trades-{short}-resnet18-smoke-s1"
    )


@pytest.mark.parametrize(
    ("key", "home", "plain"),
    [
        ("beta", "defense", "beta"),
        ("scale", "defense", "scale"),
        ("width", "arch", "width"),
        ("epochs", "recipe", "epochs"),
        ("defense.beta", "defense", "beta"),
        ("arch.width", "arch", "width"),
        ("recipe.weight_decay", "recipe", "weight_decay"),
    ],
)
def test_settings_find_their_home_with_and_without_a_prefix(key, home, plain):
    found = sort_settings(DEFENSES["trades_he"], "small_resnet", {key: 1})
    assert found.pop(home) == {plain: 1}
    assert found == {part: {} for part in {"defense", "arch", "recipe"} - {home}}


def test_no_setting_of_a_defense_shipped_here_has_two_homes():
    for name in DEFENSES:
        for architecture in ARCHITECTURES:
            keys = {*DEFENSES[name].settings, *ARCHITECTURES[architecture].settings}
            sort_settings(DEFENSES[name], architecture, dict.fromkeys(keys, 1))


@pytest.fixture
def twins(monkeypatch):
    """A defense and an architecture that share the setting `width`, and with a recipe `epochs`."""
    assert "trades" in DEFENSES
    assert "resnet18" in ARCHITECTURES
    entry = dataclasses.replace(
        DEFENSES["trades"], name="twin", function=lambda *, width=1.0, epochs=1, beta=6.0: None
    )
    assert isinstance(entry, DefenseEntry)
    monkeypatch.setitem(DEFENSES._entries, "twin", entry)


def test_a_key_with_two_homes_must_say_which(twins):
    with pytest.raises(
        HarnessError, match=r"'width' is ambiguous: write defense.width or arch.width"
    ):
        sort_settings(DEFENSES["twin"], "resnet18", {"width": 2})
    with pytest.raises(HarnessError, match=r"defense.epochs or recipe.epochs"):
        sort_settings(DEFENSES["twin"], "resnet18", {"epochs": 2})
    found = sort_settings(DEFENSES["twin"], "resnet18", {"arch.width": 2, "defense.width": 3})
    assert found == {"defense": {"width": 3}, "arch": {"width": 2}, "recipe": {}}


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("bata", "no setting of trades named 'bata'. Did you mean 'beta'"),
        ("learning-rate", "Did you mean 'learning_rate'"),
        ("recipe.beta", "no setting of trades named 'recipe.beta'"),
        ("model.beta", "no setting of trades named 'model.beta'"),
        ("zeta", "no setting of trades named 'zeta'"),
    ],
)
def test_unknown_keys_get_the_nearest_name(key, sentence):
    with pytest.raises(HarnessError, match=sentence):
        training_request("trades", ON_DIGITS, settings={key: 1.0})


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"defense": "trade"}, "Did you mean 'trades'"),
        ({"architecture": "resnet"}, "Did you mean 'resnet18'"),
        ({"scale": "huge"}, "no scale named 'huge'"),
        ({"scale": "full"}, "digits has no full scale"),
        ({"epochs": 0}, "epochs must lie in"),
        ({"settings": {"beta": "many"}}, "beta takes a number"),
        ({"settings": {"inner": "fgsm"}}, "no inner loss named 'fgsm'"),
        ({"settings": {"drops": "²"}}, "drops are epochs"),
        ({"settings": {"architecture": "resnet"}}, "Did you mean 'resnet18'"),
        ({"settings": {"architecture": True}}, "no architecture named 'True'"),
    ],
)
def test_requests_that_mean_nothing_are_refused(arguments, sentence):
    with pytest.raises(HarnessError, match=sentence):
        training_request(**{"defense": "trades", "dataset": ON_DIGITS, **arguments})


@pytest.fixture
def without_width(monkeypatch):
    assert "resnet18" in ARCHITECTURES
    small = ARCHITECTURES["small_resnet"].function
    entry = Architecture("widthless", small, {"blocks": 2}, "", "")  # only described, never built
    monkeypatch.setitem(ARCHITECTURES._entries, "widthless", entry)


@pytest.mark.parametrize(
    "asked",
    [
        {"architecture": "widthless"},
        {"settings": {"architecture": "widthless"}},
        {"settings": {"recipe.architecture": "widthless"}},
    ],
)
def test_another_architecture_drops_the_settings_that_it_lacks(without_width, asked):
    request = training_request("trades", CIFAR10, scale="smoke", **asked)
    assert request.architecture == request.recipe.architecture == "widthless"
    assert request.architecture_settings == {"blocks": 2}
    asked = {**asked, "settings": {**asked.get("settings", {}), "width": 3}}
    with pytest.raises(HarnessError, match="no setting of trades named 'width'"):
        training_request("trades", CIFAR10, scale="smoke", **asked)


def test_another_architecture_brings_its_own_settings(without_width):
    request = training_request(
        "trades", CIFAR10, settings={"architecture": "widthless", "blocks": 3}
    )
    assert request.architecture_settings == {"blocks": 3}


DATA = Split(
    "digits", "train", torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.zeros(2).long(),
    sha256="0" * 64, labels_sha256="1" * 64, is_exact=None,
)  # fmt: skip


def test_the_digest_ignores_names_alone():
    request = training_request("trades_he", ON_DIGITS)
    renamed = dataclasses.replace(request, name="another", recipe_id="another")
    assert renamed.digest(DATA) == request.digest(DATA)


@pytest.mark.parametrize("field", ["sha256", "labels_sha256"])
def test_other_images_and_other_labels_are_another_run(field):
    request = training_request("trades_he", ON_DIGITS)
    assert request.digest(dataclasses.replace(DATA, **{field: "2" * 64})) != request.digest(DATA)


TEACHER = CheckpointRecord(
    "teacher", "7" * 64, "trained", "digits", ON_DIGITS.threat, "w", "8" * 64, Capabilities(10)
)

CHANGES = {
    "defense": "trades",
    "settings": {"beta": 1.0},
    "architecture": "small_preactresnet",
    "architecture_settings": {"width": 3},
    "recipe": DIGITS.changed(weight_decay=0.0),
    "scale": "reduced",
    "seed": 1,
    "dataset": dataclasses.replace(ON_DIGITS, name="others"),
    "threat": ThreatModel("linf", Fraction(1, 10)),
    "teacher": TEACHER,
}


def test_every_field_of_a_request_is_named_here():
    fields = {field.name for field in dataclasses.fields(training_request("trades", ON_DIGITS))}
    assert fields == {*CHANGES, "name", "recipe_id"}


@pytest.mark.parametrize("field", CHANGES)
def test_the_digest_changes_with_every_field_that_decides_the_weights(field):
    request = training_request("trades_he", ON_DIGITS)
    changed = dataclasses.replace(request, **{field: CHANGES[field]})
    assert changed.digest(DATA) != request.digest(DATA)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 3),
        ("learning_rate", 0.3),
        ("schedule", "drops"),
        ("drops", "2"),
        ("momentum", 0.5),
        ("batch_size", 64),
        ("inner_steps", 3),
        ("relative_step", 0.1),
        ("augment", True),
        ("teacher", "resnet18"),
        ("weight_decay", 0.0),
        ("architecture", "resnet18"),
        ("factors", "1"),
        ("warm_up", 0.02),
        ("epsilon", "0.031"),
        ("attack_bn", "train"),
        ("precision", "bfloat16"),
    ],
)
def test_the_digest_changes_with_every_number_of_the_recipe(key, value):
    request = training_request("trades", ON_DIGITS)
    start = request.recipe.changed(drops="3") if key == "factors" else request.recipe
    request = dataclasses.replace(request, recipe=start)
    changed = dataclasses.replace(request, recipe=start.changed(**{key: value}))
    assert changed.digest(DATA) != request.digest(DATA)


def test_where_a_collapse_stops_a_run_is_no_part_of_it():
    flag, stop = (
        training_request("trades", ON_DIGITS, settings={"on_collapse": word}).digest(DATA)
        for word in ("flag", "stop")
    )
    assert flag == stop


def test_equal_epsilons_are_the_same_run():
    runs = [
        training_request("trades", ON_DIGITS, threat=ThreatModel.parse("linf", text)).digest(DATA)
        for text in ("1/5", "0.2", "2/10", "51/255")
    ]
    assert len(set(runs)) == 1


def test_a_setting_given_as_its_default_is_the_same_run():
    plain = training_request("trades", ON_DIGITS)
    spelled = training_request("trades", ON_DIGITS, settings={"beta": 6, "width": 16, "epochs": 20})
    assert spelled.digest(DATA) == plain.digest(DATA)


def test_a_recipe_of_another_id_can_be_asked_for():
    request = training_request("trades", CIFAR10, scale="full", recipe_id="F-new")
    assert (request.recipe_id, request.recipe) == ("F-new", RECIPES["F-new"])
    with pytest.raises(HarnessError, match="Did you mean 'F-new'"):
        training_request("trades", CIFAR10, recipe_id="F-mew")


def test_the_epsilon_of_a_paper_counts_at_full_scale_where_no_other_is_asked_for():
    full = training_request("trades_frpat", CIFAR10, scale="full")
    assert full.threat == ThreatModel("linf", Fraction(31, 1000))
    reduced = training_request("trades_frpat", CIFAR10)
    assert reduced.threat == CIFAR10.threat
    asked = ThreatModel("linf", Fraction(4, 255))
    assert training_request("trades_frpat", CIFAR10, scale="full", threat=asked).threat == asked


@pytest.mark.parametrize(
    ("dataset", "architecture", "recipe", "zeta"),
    [
        ("cifar10", None, "A-R18", 3.0),
        ("cifar10", "wrn_28_10", "A-WRN", 6.0),
        ("cifar10", "wrn_34_10", "A-WRN", 3.0),
        ("tiny_imagenet", None, "A-TIN", 3.0),
    ],
)
def test_the_dataset_and_architecture_of_a_paper_bring_its_recipe_and_settings(
    dataset, architecture, recipe, zeta
):
    request = training_request(
        "trades_ancra", DATASETS[dataset], scale="full", architecture=architecture
    )
    assert (request.recipe_id, request.settings["zeta"]) == (recipe, zeta)
    assert request.recipe == RECIPES[recipe].changed(architecture=request.architecture)
    own = training_request(
        "trades_ancra", DATASETS[dataset], architecture=architecture, settings={"zeta": 1.0}
    )
    assert own.settings["zeta"] == 1.0


@pytest.mark.parametrize("key", ["base", "defense.base"])
def test_the_base_of_a_defense_brings_its_recipe_and_settings(key):
    request = training_request("awp", CIFAR10, settings={key: "pgd_at"})
    assert (request.recipe_id, request.settings["awp_gamma"]) == ("AWP-AT", 0.01)
    assert training_request("awp", CIFAR10).recipe_id == "AWP"


@pytest.mark.parametrize(
    ("defense", "changes", "sentence"),
    [
        ("trades", {}, "trades has no second network: leave out --teacher teacher"),
        ("trades_frpat", {"kind": "added"}, "a teacher must be trained here"),
        ("trades_frpat", {"dataset": "cifar10"}, "knows cifar10, not digits"),
    ],
)
def test_teachers_that_cannot_teach_are_refused(defense, changes, sentence):
    teacher = dataclasses.replace(TEACHER, **changes)
    with pytest.raises(HarnessError, match=sentence):
        training_request(defense, ON_DIGITS, teacher=teacher)


def test_digits_has_one_recipe_and_says_so():
    assert training_request("trades_frpat", ON_DIGITS).recipe_id == "digits"
    with pytest.raises(HarnessError, match="digits has one recipe"):
        training_request("trades_frpat", ON_DIGITS, recipe_id="F-new")


def test_a_teacher_is_an_architecture_of_a_defense_that_has_one():
    known = training_request("trades_frpat", CIFAR10, settings={"teacher": "small_resnet"})
    assert known.recipe.teacher == "small_resnet"
    with pytest.raises(HarnessError, match="no architecture named 'nope'"):
        training_request("trades_frpat", CIFAR10, settings={"teacher": "nope"})
    with pytest.raises(HarnessError, match="trades has no second network"):
        training_request("trades", CIFAR10, settings={"teacher": "resnet18"})
