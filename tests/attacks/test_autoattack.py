"""AutoAttack is exactly its parts, by hash; parity with the reference is in the next file."""

import pytest
import torch
from attacked_models import Always, attacked, l2, linf, pictures, search_on, small_convolution

from harness.attacks.attack import ATTACKS, attack_spec, most_passes, parse_attack
from harness.attacks.autoattack import random_parts, standard_parts
from harness.attacks.geometry import Ball
from harness.attacks.losses import LOSSES
from harness.attacks.parity import ReferenceBall, reference_start
from harness.errors import HarnessError
from harness.evaluation.handle import Handle

COUNT = 30


def problem(classes=10):
    model = Handle(small_convolution(classes), classes)
    images = pictures(COUNT, 3, 8, 8)
    return model, images, model(images).logits.argmax(1)


def union(parts, model, images, labels, threat, seed=0):
    """Broken and first adversarial image of attacks that run alone on every image."""
    broken, adversarial = torch.zeros(len(labels), dtype=torch.bool), images.clone()
    for part in parts:
        alone = attacked(part, model, images, labels, threat, key=part.hash, seed=seed)
        new = alone.broken & ~broken
        adversarial[new] = alone.adversarial[new]
        broken |= alone.broken
    return broken, adversarial


@pytest.mark.parametrize("threat", [linf("4/255"), l2("1/3")], ids=str)
@pytest.mark.parametrize("seed", [0, 1])
def test_what_the_standard_version_finds_is_the_union_of_its_parts(threat, seed):
    model, images, labels = problem()
    parts = standard_parts(10, steps=3, targets=2, queries=20)
    broken, adversarial = union(parts, model, images, labels, threat, seed)
    spec = attack_spec("autoattack", steps=3, targets=2, queries=20)
    search = attacked(spec, model, images, labels, threat, seed=seed)
    assert 0 < int(broken.sum()) < COUNT
    assert torch.equal(search.broken, broken)
    assert torch.equal(search.adversarial[broken], adversarial[broken])


def test_what_the_random_version_finds_is_the_union_of_its_parts():
    model, images, labels = problem()
    broken, adversarial = union(random_parts(10, 3, 2), model, images, labels, linf("4/255"))
    spec = attack_spec("autoattack_rand", steps=3, draws=2)
    search = attacked(spec, model, images, labels, linf("4/255"))
    assert 0 < int(broken.sum()) < COUNT
    assert torch.equal(search.broken, broken)
    assert torch.equal(search.adversarial[broken], adversarial[broken])


def test_a_broken_image_takes_no_further_pass_and_a_standing_one_takes_them_all():
    model, images, labels = problem()
    spec = attack_spec("autoattack", steps=3, targets=2, queries=20)
    search = attacked(spec, model, images, labels, linf("4/255"))
    in_the_first_part = search.broken & (search.first_success <= 1 + 3)
    assert in_the_first_part.any()
    ranking, first = 1, search.first_success[in_the_first_part]
    assert torch.equal(search.forwards[in_the_first_part], ranking + first + 1)
    assert (search.forwards[~search.broken] == most_passes(spec)[0]).all()


def test_the_standard_version_is_the_published_one():
    assert [part.label for part in standard_parts(10)] == [
        "apgd_ce@logits:ce",
        "apgd_t@logits:dlr_targeted",
        "fab_t@logits:margin_targeted",
        "square@logits:margin",
    ]
    settings = [dict(part.parameters) for part in standard_parts(10)]
    assert [each.get("steps", each.get("queries")) for each in settings] == [100, 100, 100, 5000]
    assert [each.get("targets") for each in settings] == [None, 9, 9, None]
    assert {each["restarts"] for each in settings} == {1}
    fab, square = settings[2:]
    assert (fab["alpha_max"], fab["overshoot"], fab["pull_back"]) == (0.1, 1.05, 0.9)
    assert square["p_init"] == 0.8
    assert [part.label for part in random_parts(10)] == [
        "apgd_ce(eot=20)@logits:ce",
        "apgd_dlr(eot=20)@logits:dlr",
    ]


@pytest.mark.parametrize(
    ("name", "composition"), [("autoattack", "c23f10e9a42a"), ("autoattack_rand", "dd6b46f97dd7")]
)
def test_the_composition_is_pinned_and_no_other_is_accepted(name, composition):
    """It changes when a part's hash does: then results under the old one are another attack's."""
    assert dict(attack_spec(name).parameters)["composition"] == composition
    assert parse_attack(f"{name}(composition={composition})") == attack_spec(name)
    with pytest.raises(HarnessError, match="composition"):
        attack_spec(name, composition="0" * 12)
    search = search_on(Always(), pictures(1, 3, 4, 4), torch.tensor([0]), linf("1/255"))
    with pytest.raises(HarnessError, match="its parts have changed"):
        ATTACKS[name].run(search, loss=LOSSES["ce"], composition="0" * 12)


def test_passes_are_those_of_the_parts_and_one_that_counts_the_classes():
    assert most_passes(attack_spec("autoattack")) == (1 + 102 + 911 + 1801 + 5000, 101 + 909 + 900)


@pytest.mark.parametrize("classes", [2, 3, 4, 5])
def test_targets_and_losses_adapt_to_few_classes(classes):
    parts = standard_parts(classes)
    targets = [dict(part.parameters).get("targets") for part in parts]
    assert all(number <= classes - 1 for number in targets if number)
    assert ("dlr" in parts[1].loss) == (classes >= 3)
    model, images, labels = problem(classes)
    spec = attack_spec("autoattack", steps=2, queries=3)
    broken, _ = union(standard_parts(classes, 2, 9, 3), model, images, labels, linf("4/255"))
    search = attacked(spec, model, images, labels, linf("4/255"))
    assert broken.any()
    assert torch.equal(search.broken, broken)
    random = attack_spec("autoattack_rand", steps=2, draws=2)
    assert attacked(random, model, images, labels, linf("4/255")).broken.any()


def test_a_given_loss_is_climbed_by_the_first_part_alone():
    model, images, labels = problem()
    climbed = []

    def spy(logits, labels, targets=None):
        climbed.append(len(labels))
        return LOSSES["ce"](logits, labels)

    search = search_on(model, images, labels, linf("1/255"))
    ATTACKS["autoattack"].run(search, loss=spy, steps=2, targets=1, queries=1)
    assert len(climbed) == 4  # the clean images, the start and two steps of apgd_ce alone


def test_with_parity_every_part_runs_as_the_reference_makes_it():
    images, labels, seen = pictures(3, 3, 8, 8), torch.zeros(3, dtype=torch.long), []

    def recorded(candidates, *, select=None):
        seen.append(candidates.detach().clone())
        return Always()(candidates)

    spec = attack_spec("autoattack", steps=4, targets=2, queries=5, parity=True)
    search = attacked(spec, recorded, images, labels, linf("1/10"), seed=11)
    apgd_ce, apgd_t, fab_t, square = 1 + (1 + 4), 2 + 2 * (1 + 4), 1 + 2 * 2 * 4, 1 + 5
    assert set(search.forwards.tolist()) == {1 + apgd_ce + apgd_t + fab_t + square}
    assert set(search.backwards.tolist()) == {5 + 10 + 8}
    ball = ReferenceBall.of(Ball.around(images, linf("1/10")))
    start = reference_start(ball, torch.Generator().manual_seed(11))
    for first in (2, 1 + apgd_ce + 2):  # both runs of Auto-PGD draw from the same seed
        assert torch.equal(seen[first], start)
