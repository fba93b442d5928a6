"""Training with a second network (`frpat.md` sections 1 to 5) on real steps."""

import pytest
import torch
from torch import nn

from harness.batch import Batch, InnerBudget, PerHead
from harness.catalogue import DEFENSES
from harness.data import DATASETS
from harness.errors import HarnessError
from harness.models.weights import read_weights
from harness.training.checkpoint import checkpoint_record
from harness.training.loop import Training, train
from harness.training.request import training_request
from harness.training.state import state_file

PASSES = {
    "pgd_at_frpat": (1, 1),
    "trades_frpat": (2, 1),
    "pgd_at_lbgat": (1, 1),
    "pgd_at_lbgat_detach": (1, 1),
    "trades_lbgat": (2, 1),
    "pgd_at_lbgat_frpat": (1, 1),
    "trades_lbgat_frpat": (2, 1),
    "pgd_at_rkd": (1, 1),
    "pgd_at_crd": (1, 1),
    "mca": (2,),
}
"""Train-mode passes per step: of the student, of the teacher."""


def run_of(request, data, folder, steps=0):
    run = Training(request, data, folder, "cpu")
    order = torch.arange(len(data))
    for step in range(steps):
        run.step(step // run.steps_per_epoch, step % run.steps_per_epoch, order)
    return run


def passes(run):
    """Updates that every BatchNorm layer of a network has seen, by network."""
    found = []
    for network in run.players.modules().values():
        layers = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
        found.append({int(layer.num_batches_tracked) for layer in layers})
    return found


@pytest.mark.parametrize(("defense", "counts"), PASSES.items())
def test_batch_norm_sees_as_many_passes_as_the_losses_have_needs(
    defense, counts, few, tiny, tmp_path
):
    run = run_of(tiny(defense), few(64), tmp_path, 2)
    assert passes(run) == [{2 * count} for count in counts]


@pytest.mark.parametrize(
    ("defense", "settings", "counts"),
    [
        ("trades_lbgat", {"beta": 0.0}, (1, 1)),
        ("trades_lbgat_frpat", {"beta": 0.0}, (1, 1)),
        ("pgd_at_lbgat", {"lbgat_teacher_input": "adv"}, (1, 2)),
        ("pgd_at_lbgat_detach", {"lbgat_teacher_input": "adv"}, (1, 2)),
    ],
)
def test_settings_that_change_what_is_looked_at_change_the_passes(
    defense, settings, counts, few, tiny, tmp_path
):
    run = run_of(tiny(defense, settings=settings), few(64), tmp_path, 1)
    assert passes(run) == [{count} for count in counts]


@pytest.mark.parametrize(
    ("base", "added", "weight"),
    [
        ("pgd_at", "pgd_at_frpat", "relation_weight"),
        ("trades", "trades_frpat", "relation_weight"),
        ("pgd_at_lbgat", "pgd_at_lbgat_frpat", "relation_weight"),
        ("trades_lbgat", "trades_lbgat_frpat", "relation_weight"),
        ("pgd_at", "pgd_at_rkd", "rkd_weight"),
        ("pgd_at", "pgd_at_crd", "crd_weight"),
    ],
)
def test_with_weight_zero_the_student_is_that_of_the_base_bit_for_bit(
    base, added, weight, few, tiny, same_bits, tmp_path
):
    def student(defense, **settings):
        run = run_of(tiny(defense, settings=settings), few(), tmp_path, 14)
        return dict(run.players.network.state_dict())

    expected = student(base)
    assert same_bits(student(added, **{weight: 0.0}), expected)
    assert not same_bits(student(added), expected)


@pytest.mark.parametrize("defense", ["pgd_at_frpat", "pgd_at_lbgat_detach", "pgd_at_crd"])
def test_a_teacher_that_nothing_reaches_learns_as_if_it_were_alone(
    defense, few, tiny, same_bits, tmp_path
):
    teachers = []
    for name in (defense, "trades_frpat"):
        request = tiny(name, settings={"start": "uniform"} if name == defense else {})
        teachers.append(dict(run_of(request, few(), tmp_path, 9).players.companion.state_dict()))
    assert same_bits(*teachers)


def gradients(players):
    return {
        role: [parameter.grad for parameter in network.parameters()]
        for role, network in players.modules().items()
    }


@pytest.fixture
def gradients_of(few, tiny, tmp_path):
    """(defense, name of a regulariser's class) -> gradients of that term alone, by network."""

    def of(defense, term, **settings):
        request, data = tiny(defense, settings=settings), few(16)
        run = run_of(request, data, tmp_path)
        batch = Batch(
            run.players.network,
            data.images.float() / 255,
            data.labels,
            budget=InnerBudget(request.threat, 2, 0.05),
            combine=PerHead(),
            generator=torch.Generator().manual_seed(0),
            maximiser=run.defense.maximiser,
            companion=run.players.companion,
            extras=run.players.extras,
            memory=run.memory,
        )
        parts = {type(part).__name__: part for part in run.defense.regularisers}
        parts[term](batch).backward()
        return gradients(run.players)

    return of


def test_the_teacher_answers_once_to_each_kind_of_image(few, tiny, tmp_path):
    request, data = tiny("pgd_at_lbgat"), few(16)
    players = run_of(request, data, tmp_path).players
    teacher = players.companion.eval()
    images = data.images.float() / 255
    moved = (images + 0.1).clamp(max=1)
    batch = Batch(
        players.network,
        images,
        data.labels,
        budget=InnerBudget(request.threat, 2, 0.05),
        combine=PerHead(),
        generator=torch.Generator().manual_seed(0),
        maximiser=lambda _: moved,
        companion=teacher,
    )
    assert torch.equal(batch.teacher.deployed(), teacher(images).logits)
    assert torch.equal(batch.teacher_adversarial.deployed(), teacher(moved).logits)
    assert batch.on(players.network).teacher_adversarial is batch.teacher_adversarial


def is_reached(found):
    return all(gradient is not None and gradient.abs().max() > 0 for gradient in found)


@pytest.mark.parametrize(
    ("defense", "settings"),
    [
        ("pgd_at_lbgat", {}),
        ("trades_lbgat", {}),
        ("trades_lbgat_frpat", {}),
        ("pgd_at_lbgat", {"lbgat_teacher_input": "adv"}),
    ],
)
def test_guidance_reaches_every_weight_of_both_networks(defense, settings, gradients_of):
    found = gradients_of(defense, "BoundaryGuidance", **settings)
    assert is_reached(found["student"])
    assert is_reached(found["teacher"])


@pytest.mark.parametrize(
    ("defense", "term", "settings"),
    [
        ("pgd_at_lbgat_detach", "BoundaryGuidance", {}),
        ("pgd_at_lbgat_detach", "BoundaryGuidance", {"lbgat_teacher_input": "adv"}),
        ("pgd_at_lbgat_frpat", "FlexibleRelations", {}),
        ("pgd_at_frpat", "FlexibleRelations", {"shared_rho": True}),
        ("pgd_at_rkd", "RelationalDistillation", {}),
        ("pgd_at_rkd", "RelationalDistillation", {"rkd_relation": "original"}),
        ("pgd_at_crd", "ContrastiveDistillation", {}),
    ],
)
def test_terms_of_the_student_alone_send_nothing_to_the_teacher(
    defense, term, settings, gradients_of
):
    found = gradients_of(defense, term, **settings)
    assert all(gradient is None for gradient in found["teacher"])
    trunk = found["student"][:-2]  # relations look at features: the head has no part in them
    assert is_reached(found["student"] if term == "BoundaryGuidance" else trunk)


@pytest.mark.parametrize("defense", ["pgd_at_crd", "mca"])
def test_projections_learn_beside_the_networks(defense, few, tiny, tmp_path):
    fresh, run = (run_of(tiny(defense), few(64), tmp_path, steps) for steps in (0, 2))
    assert run.players.extras
    for name, module in run.players.extras.items():
        before = dict(fresh.players.extras[name].named_parameters())
        assert all(not torch.equal(value, before[key]) for key, value in module.named_parameters())


class Killed(Exception):
    """What a kill looks like from inside."""


class Killer:
    """A report that kills the run at one epoch and step."""

    def __init__(self, epoch, step):
        self.place = (epoch, step)

    def started(self, epochs, steps, resumed_at):
        self.resumed_at = resumed_at

    def stepped(self, epoch, step, loss):
        if self.place == (epoch, step):
            raise Killed

    def finished_epoch(self, epoch, loss, seconds):
        pass


def test_banks_and_normalisers_survive_a_kill_exactly(few, tiny, same_bits, tmp_path, monkeypatch):
    monkeypatch.setattr("harness.training.loop.SAVE_EVERY", 0.0)
    monkeypatch.setattr("harness.training.loop._CHECK_EVERY", 1)
    request, data = tiny("pgd_at_crd"), few()
    for place in ((1, 3), (2, 2)):
        with pytest.raises(Killed):
            train(request, data, tmp_path / "killed", report=Killer(*place))
    states = []
    for folder in ("killed", "whole"):
        train(request, data, tmp_path / folder)
        states.append(read_weights(state_file(tmp_path / folder, request.digest(data))))
    for part in ("networks", "optimiser", "memory", "best"):
        assert same_bits(states[0][part], states[1][part])
    sizes = {name: value.shape for name, value in states[0]["memory"].items()}
    assert sizes == {
        "crd_student_bank": (200, 128),
        "crd_teacher_bank": (200, 128),
        "crd_student_log_normaliser": (),
        "crd_teacher_log_normaliser": (),
    }


def test_the_strength_of_relations_is_a_training_curve(few, tiny, tmp_path):
    request = tiny("pgd_at_frpat", settings={"epochs": 4})
    curve = train(request, few(64), tmp_path).progress.measures["relation_gradient_ratio"]
    assert len(curve) == 4
    assert [value > 0 for value in curve] == [True, True, False, False]  # epochs 25, 50, 75, 100


@pytest.fixture
def stored(few, tiny, tmp_path):
    """A stored checkpoint of standard training."""
    request, data = tiny("standard"), few()
    return checkpoint_record(request, train(request, data, tmp_path), data, tmp_path)


@pytest.mark.parametrize("defense", ["trades_frpat", "pgd_at_lbgat", "pgd_at_crd", "pgd_at_rkd"])
def test_a_stored_teacher_is_left_as_it_is(defense, stored, few, tiny, same_bits, tmp_path):
    request = tiny(defense, teacher=stored)
    fresh, run = (run_of(request, few(), tmp_path, steps) for steps in (0, 3))
    teacher = run.players.companion
    assert same_bits(dict(teacher.state_dict()), read_weights(tmp_path / stored.weights))
    assert not any(module.training for module in teacher.modules())
    before = fresh.players.network.head.weight
    assert not torch.equal(run.players.network.head.weight, before)
    assert request.digest(few()) != tiny(defense).digest(few())


@pytest.mark.parametrize("defense", ["pgd_at", "trades", "mca"])
def test_a_defense_without_second_network_takes_no_teacher(defense, stored, tiny):
    with pytest.raises(HarnessError, match="has no second network"):
        tiny(defense, teacher=stored)


CIFAR10, CIFAR100, TINY = (DATASETS[name] for name in ("cifar10", "cifar100", "tiny_imagenet"))


@pytest.mark.parametrize(
    ("defense", "first"),
    [
        ("pgd_at_frpat", 0.0),
        ("trades_frpat", 0.0),
        ("pgd_at_lbgat_frpat", 0.0),
        ("trades_lbgat_frpat", 0.0),
        ("pgd_at_lbgat", 0.02),
        ("pgd_at_lbgat_detach", 0.02),
        ("trades_lbgat", 0.02),
        ("pgd_at_rkd", 0.0),
        ("pgd_at_crd", 0.0),
        ("mca", 0.0),
    ],
)
def test_full_scale_is_the_main_setting_and_only_pure_guidance_warms_up(defense, first):
    recipe = training_request(defense, CIFAR10, scale="full").recipe
    assert (recipe.architecture, recipe.teacher) == ("wrn_34_10", "resnet18")
    assert (recipe.epochs, recipe.drops, recipe.epsilon) == (100, "76,91", "0.031")
    assert recipe.warm_up == first


def test_the_teacher_of_the_ablation_is_a_setting(few, tiny, tmp_path):
    request = training_request(
        "trades_lbgat_frpat", CIFAR100, scale="full", settings={"teacher": "wrn_34_10"}
    )
    assert request.build().teacher == "wrn_34_10"
    other = tiny("pgd_at_frpat", settings={"teacher": "small_preactresnet"})
    run = run_of(other, few(64), tmp_path, 1)
    assert type(run.players.companion.trunk) is not type(run.players.network.trunk)


@pytest.mark.parametrize("dataset", [CIFAR100, TINY], ids=["cifar100", "tiny_imagenet"])
@pytest.mark.parametrize("defense", [name for name in PASSES if name.endswith("frpat")])
def test_relations_weigh_more_and_ramp_up_where_there_are_more_classes(defense, dataset):
    settings = training_request(defense, dataset).settings
    assert (settings["relation_weight"], settings["relation_schedule"]) == (20.0, "ramp")
    plain = training_request(defense, CIFAR10).settings
    assert (plain["relation_weight"], plain["relation_schedule"]) == (5.0, "none")


def test_the_distances_of_rkd_weigh_as_relations_do():
    settings = training_request("pgd_at_rkd", CIFAR100).settings
    assert (settings["rkd_weight"], settings["rkd_schedule"]) == (20.0, "ramp")


def test_the_parts_in_another_order_are_the_published_row():
    assert DEFENSES["trades+frpat+lbgat"].name == "trades_lbgat_frpat"
    assert DEFENSES["pgd_at+lbgat"].name == "pgd_at_lbgat"
    assert DEFENSES["pgd_at+supcon"].name == "mca"


def test_mca_says_that_it_is_a_reconstruction():
    assert DEFENSES["mca"].description.startswith("MCA-style reconstruction")
