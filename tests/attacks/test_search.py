"""What every attack owes to the search: candidates, bits, passes, and independence of the batch."""

import pytest
import torch
from attacked_models import (
    Always,
    Times,
    attacked,
    l2,
    linf,
    pictures,
    search_on,
    small_convolution,
)
from torch import nn

from harness.attacks.attack import ATTACKS, attack_spec, run_attack
from harness.attacks.geometry import Ball
from harness.attacks.losses import LOSSES
from harness.attacks.search import Search, is_right
from harness.attacks.surfaces import Logits
from harness.errors import ModelError
from harness.evaluation.handle import Handle
from harness.outputs import Outputs

SMALL = [
    attack_spec("fgsm"),
    attack_spec("fgsm", random_start=True, relative_step=0.5),
    attack_spec("bim", steps=4),
    attack_spec("mim", steps=4, momentum=0.5),
    attack_spec("cw_linf", steps=4, confidence=0.0, restarts=2),
    attack_spec("pgd_t", steps=3, targets=3, restarts=2),
    attack_spec("pgd", steps=4, restarts=2),
    attack_spec("pgd", steps=4, random_start=False, loss="margin"),
    attack_spec("apgd_ce", steps=7, restarts=2),
    attack_spec("apgd_dlr", steps=7),
    attack_spec("apgd_t", steps=4, targets=3, restarts=2),
    attack_spec("fab", steps=6, restarts=2),
    attack_spec("fab_t", steps=6, targets=3, restarts=2),
    attack_spec("deepfool", steps=6),
    attack_spec("nes", steps=3, pairs=10, relative_step=0.5),
    attack_spec("spsa", steps=3, pairs=9, optimiser="adam", learning_rate=0.4),
    attack_spec("zoo", queries=101, learning_rate=0.5),
    attack_spec("rays", queries=70),
    attack_spec("uniform_noise", draws=5, vertices=6),
    attack_spec("square", queries=25, restarts=2),
    attack_spec("autoattack", steps=3, targets=2, queries=9),
    attack_spec("autoattack_rand", steps=3, draws=2),
    attack_spec("feature_attack", surface="logits", guides=3, steps=4, relative_step=0.5),
]
PROBES_OUTSIDE = {"nes", "spsa", "zoo"}
LEAVES_THE_BALL = {"fab", "fab_t", "deepfool", "rays", "autoattack"}
DRAWS_NOTHING = {"bim", "mim", "deepfool", "rays"}
SCALE_FREE = {"apgd_dlr", "apgd_t", "fab", "fab_t", "square", "nes", "rays", "uniform_noise"}
SCALE_FREE.add("feature_attack")
BOTH = [(spec, threat) for spec in SMALL for threat in (linf("4/255"), l2("1/3"))]
BOTH = [(spec, threat) for spec, threat in BOTH if threat.norm in ATTACKS[spec.attack].norms]
named = pytest.mark.parametrize("spec", SMALL, ids=lambda spec: spec.label)
with_norm = pytest.mark.parametrize(("spec", "threat"), BOTH, ids=str)


def test_every_registered_attack_is_tried_here():
    assert {spec.attack for spec in SMALL} == set(ATTACKS)


NET = small_convolution()


def correct(count=40):
    """A model as evaluations use it, and images that it classifies correctly."""
    model, images = Handle(NET, 10), pictures(count, 3, 8, 8)
    return model, images, model(images).logits.argmax(1)


def fields_of(search):
    names = ("broken", "adversarial", "first_success", "loss_start", "loss_best", "looks")
    return {name: getattr(search, name) for name in (*names, "forwards", "backwards")}


@with_norm
def test_what_an_attack_finds_for_an_image_does_not_depend_on_order(spec, threat):
    model, images, labels = correct()
    whole = attacked(spec, model, images, labels, threat)
    assert whole.broken.any()
    assert not whole.broken.all()
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    mixed = attacked(spec, model, images[order], labels[order], threat, indices=order.tolist())
    for name, values in fields_of(whole).items():
        assert torch.equal(getattr(mixed, name), values[order]), name


@with_norm
def test_keeping_broken_images_in_the_batch_changes_nothing_for_any_image(spec, threat):
    model, images, labels = correct()
    dropped = attacked(spec, model, images, labels, threat)
    kept = attacked(spec, model, images, labels, threat, drops_broken=False)
    for name in ("broken", "adversarial", "first_success", "loss_start"):
        assert torch.equal(getattr(kept, name), getattr(dropped, name)), name
    standing = ~dropped.broken
    assert torch.equal(kept.loss_best[standing], dropped.loss_best[standing])
    assert (kept.looks >= dropped.looks).all()


@with_norm
def test_every_candidate_stays_in_the_ball_and_every_broken_image_is_broken(spec, threat):
    model, images, labels = correct()
    search = search_on(model, images, labels, threat)

    class Guard(Logits):
        def __call__(self, candidates, points, loss):
            ball = Ball.around(points.clean, threat)
            allowed = ball.project(candidates.detach())
            if spec.attack in LEAVES_THE_BALL:
                allowed = candidates.detach().clamp(0, 1)
            if spec.attack in PROBES_OUTSIDE:
                return super().__call__(candidates, points, loss)
            assert torch.equal(allowed, candidates.detach())
            return super().__call__(candidates, points, loss)

    search.surface = Guard(model)
    ATTACKS[spec.attack].run(search, loss=LOSSES[spec.loss], **dict(spec.parameters))
    wrong = model(search.adversarial).logits.argmax(1) != labels
    assert torch.equal(wrong, search.broken)
    assert search.ball.contains(search.adversarial).all()


@named
def test_passes_are_exactly_the_declared_ones_when_nothing_breaks(spec):
    images = pictures(5, 3, 8, 8)
    model = Always()
    search = search_on(model, images, torch.zeros(5, dtype=torch.long), linf("8/255"))
    search.room = 1  # queries tried ahead of others may be in vain: they are no queries then
    run_attack(spec, search)
    forwards, backwards = ATTACKS[spec.attack].cost(dict(spec.parameters))
    assert not search.broken.any()
    assert set(search.forwards.tolist()) == {forwards}
    assert set(search.backwards.tolist()) == {backwards}
    assert sum(model.batches) == 5 * forwards


@with_norm
def test_no_correct_image_breaks_at_epsilon_zero(spec, threat):
    model, images, labels = correct()
    search = attacked(spec, model, images, labels, type(threat)(threat.norm, threat.epsilon * 0))
    assert not search.broken.any()
    assert torch.equal(search.adversarial, images)
    if spec.attack == "deepfool":
        return  # it stops at its first wrong decision, however far that is
    forwards, backwards = ATTACKS[spec.attack].cost(dict(spec.parameters))
    assert set(search.forwards.tolist()) == {forwards}
    assert set(search.backwards.tolist()) == {backwards}


@pytest.mark.parametrize(
    "spec", [spec for spec in SMALL if spec.attack != "square"], ids=lambda spec: spec.label
)
def test_an_image_that_is_wrong_as_it_is_breaks_at_the_first_look_unchanged(spec):
    model, images, labels = correct(10)
    labels = (labels + 1) % 10
    search = attacked(spec, model, images, labels, linf("1/255"))
    assert search.broken.all()
    assert not search.first_success.any()
    assert torch.equal(search.adversarial, images)


@named
def test_the_same_seed_repeats_every_bit_and_another_draws_anew(spec):
    model, images, labels = correct()
    first, again, other = (
        fields_of(attacked(spec, model, images, labels, linf("4/255"), seed=seed))
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    is_random = spec.attack not in DRAWS_NOTHING and dict(spec.parameters).get("random_start", True)
    assert torch.equal(first["loss_best"], other["loss_best"]) != is_random


@pytest.mark.parametrize(
    ("less", "more"),
    [
        (attack_spec("pgd", steps=1), attack_spec("pgd", steps=8)),
        (attack_spec("pgd", steps=2), attack_spec("pgd", steps=2, restarts=4)),
        (attack_spec("apgd_ce", steps=3), attack_spec("apgd_ce", steps=3, restarts=4)),
        (attack_spec("apgd_t", steps=3, targets=1), attack_spec("apgd_t", steps=3, targets=5)),
        (attack_spec("square", queries=5), attack_spec("square", queries=60)),
        (attack_spec("square", queries=20), attack_spec("square", queries=20, restarts=3)),
    ],
    ids=lambda spec: spec.label,
)
def test_more_steps_restarts_targets_or_queries_are_never_weaker_on_the_same_streams(less, more):
    model, images, labels = correct()
    weak = attacked(less, model, images, labels, linf("3/255"))
    strong = attacked(more, model, images, labels, linf("3/255"))
    assert 0 < int(weak.broken.sum()) < 40
    assert not (weak.broken & ~strong.broken).any()
    assert torch.equal(strong.adversarial[weak.broken], weak.adversarial[weak.broken])


@pytest.mark.parametrize(
    "spec", [spec for spec in SMALL if spec.attack in SCALE_FREE], ids=lambda spec: spec.label
)
def test_multiplying_all_logits_changes_no_outcome_of_a_scale_free_attack(spec):
    model, images, labels = correct()
    plain = attacked(spec, model, images, labels, linf("4/255"))
    tenfold = attacked(spec, Handle(Times(NET, 10), 10), images, labels, linf("4/255"))
    eightfold = attacked(spec, Handle(Times(NET, 8), 10), images, labels, linf("4/255"))
    assert torch.equal(tenfold.broken, plain.broken)
    assert torch.equal(eightfold.adversarial, plain.adversarial)  # a power of two rounds nothing
    assert torch.equal(eightfold.first_success, plain.first_success)


@pytest.mark.parametrize(
    ("spec", "starts"),
    [
        (attack_spec("pgd", steps=2, restarts=4), 4),
        (attack_spec("apgd_ce", steps=2, restarts=4), 4),
        (attack_spec("apgd_t", steps=2, targets=3, restarts=2), 6),
        (attack_spec("pgd_t", steps=2, targets=3, restarts=2), 6),
        (attack_spec("cw_linf", steps=2, restarts=4), 4),
        (attack_spec("square", queries=1, restarts=4), 4),
    ],
    ids=lambda value: getattr(value, "label", ""),
)
def test_every_restart_and_every_target_starts_elsewhere(spec, starts):
    images = torch.full((2, 3, 8, 8), 0.5)
    search = search_on(Always(), images, torch.zeros(2, dtype=torch.long), linf("1/10"))
    seen = []  # the zero gradient of a constant model leaves every candidate where it started

    class Watched(Logits):
        def __call__(self, candidates, points, loss):
            if not torch.equal(candidates, images):
                seen.extend(candidates.detach().clone().split(2))  # run after run
            return super().__call__(candidates, points, loss)

    search.surface = Watched(Always())
    run_attack(spec, search)
    assert len(torch.stack(seen).unique(dim=0)) == starts
    assert not torch.equal(seen[0][0], seen[0][1])


class ViewNet(nn.Module):
    """Flattens as half of all published models do, which fails on an empty batch."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(48, 10)

    def forward(self, images):
        return self.linear(images.view(images.size(0), -1))


@named
def test_the_model_never_sees_an_empty_batch_even_when_everything_breaks(spec):
    model, images = Handle(ViewNet(), 10), pictures(6, 3, 4, 4)
    labels = model(images).logits.argmax(1)
    search = attacked(spec, model, images, labels, linf("1"))
    assert search.broken.all()


def test_the_first_adversarial_image_is_kept_not_the_last():
    images, wrong = pictures(4, 3, 8, 8), torch.ones(4, dtype=torch.long)
    search = search_on(Always(), images, wrong, linf("1"), drops_broken=False)
    search.judge(torch.arange(4), images * 0.5, LOSSES["ce"])
    search.judge(torch.arange(4), images * 0.1, LOSSES["ce"])
    assert torch.equal(search.adversarial, images * 0.5)
    assert not search.first_success.any()


def test_losses_are_recorded_at_the_first_look_and_at_the_best():
    images = torch.full((2, 1, 2, 2), 0.5)
    search = search_on(Always(2), images, torch.zeros(2, dtype=torch.long), linf("1/2"))
    for value in (2.0, torch.nan, 5.0, 3.0):
        search.judge(torch.arange(2), images, lambda *_, value=value: torch.full((2,), value))
    assert search.loss_start.tolist() == [2.0, 2.0]
    assert search.loss_best.tolist() == [5.0, 5.0]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_logits_that_are_not_finite_are_wrong(bad):
    logits = torch.tensor([[1.0, 0.0], [1.0, bad]])
    assert is_right(logits, torch.tensor([0, 0])).tolist() == [True, False]


def test_equal_logits_decide_for_the_lowest_index():
    logits = torch.tensor([[1.0, 1.0, 0.0]] * 2)
    assert is_right(logits, torch.tensor([0, 1])).tolist() == [True, False]


class Breaks(nn.Module):
    """Finite logits whose gradient is NaN at zero pixels."""

    def forward(self, images):
        root = images.flatten(1).sub(0.5).abs().sqrt()  # infinite slope at 0.5
        return torch.stack([1 + 0 * root.sum(1), root.sum(1) * 0], 1)


def test_a_gradient_that_is_not_finite_counts_as_zero_and_moves_nothing_outside():
    images = torch.full((3, 1, 2, 2), 0.5)
    search = search_on(Handle(Breaks(), 2), images, torch.zeros(3, dtype=torch.long), linf("1/10"))
    look = search.climb(torch.arange(3), images, LOSSES["ce"])
    assert torch.isfinite(look.gradient).all()


@pytest.mark.parametrize("how", ["no_grad", "detached", "numpy"])
def test_a_model_without_gradients_is_a_model_error_and_not_a_crash(how):
    class Blind:
        def __call__(self, images, *, select=None):
            with torch.no_grad():
                logits = images.flatten(1)[:, :3]
            if how == "detached":
                logits = images.detach().flatten(1)[:, :3]
            if how == "numpy":
                logits = torch.from_numpy(images.detach().numpy().copy()).flatten(1)[:, :3]
            return Outputs(logits)

    images = pictures(4, 3, 4, 4)
    labels = Blind()(images).logits.argmax(1)
    with pytest.raises(ModelError, match="backward pass") as caught:
        attacked("fgsm", Blind(), images, labels, linf("1/255"))
    assert caught.value.status == "no_gradient"
    search = attacked(attack_spec("square", queries=3), Blind(), images, labels, linf(0))
    assert search.forwards.tolist() == [3] * 4  # queries need no gradient


def test_model_parameters_receive_no_gradient_and_do_not_change():
    model, images, labels = correct(8)
    before = {name: value.clone() for name, value in NET.state_dict().items()}
    for spec in SMALL:
        attacked(spec, model, images, labels, linf("4/255"))
    assert all(parameter.grad is None for parameter in NET.parameters())
    assert all(torch.equal(value, before[name]) for name, value in NET.state_dict().items())


def test_a_search_starts_with_nothing_broken_and_the_clean_images():
    images = pictures(3, 3, 4, 4)
    search = search_on(Always(), images, torch.zeros(3, dtype=torch.long), linf("1/255"))
    assert isinstance(search, Search)
    assert search.standing().tolist() == [0, 1, 2]
    search.adversarial[0] = 0
    assert images[0].any()  # a copy: writing adversarial images leaves the clean ones alone
