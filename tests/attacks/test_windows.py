"""Square through recomputed windows: the same search as through whole passes."""

import pytest
import torch
from attacked_models import l2, linf
from torch import nn

from harness.attacks.attack import ATTACKS, attack_spec, run_attack
from harness.attacks.geometry import Ball
from harness.attacks.losses import LOSSES
from harness.attacks.search import Search
from harness.attacks.streams import Streams
from harness.attacks.surfaces import Cosine, Logits
from harness.evaluation.handle import Handle
from harness.heads.linear import LinearHead
from harness.models.incremental import neighbourhood
from harness.models.network import Network
from harness.models.prepared import folded
from harness.models.resnet import SmallResNet


def network():
    torch.manual_seed(0)
    trunk = SmallResNet((1, 8, 8), 8)
    found = Network(trunk, LinearHead(trunk.features, 10)).train()
    for module in found.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            module(torch.randn(64, module.num_features, 4, 4))
    found.eval()
    with torch.no_grad():
        found.head.bias -= found(torch.rand(256, 1, 8, 8)).logits.mean(0)
    return folded(found)


NETWORK = network()
IMAGES = torch.rand(30, 1, 8, 8, generator=torch.Generator().manual_seed(5))


class Asked:
    """`neighbourhood` that counts what it is asked."""

    def __init__(self):
        self.sides, self.accepted, self.calls = [], 0, 0

    def __call__(self, images):
        self.calls += 1
        self.near = neighbourhood(NETWORK, images)
        return self

    def logits(self, candidates, of, corners, side):
        self.sides += [side] * len(candidates)
        return self.near.logits(candidates, of, corners, side)

    def accept(self, rows):
        self.accepted += len(rows)
        self.near.accept(rows)

    def take(self, kept):
        self.near.take(kept)


NEAR = linf("6/255")


def searched(spec, local, threat=NEAR, surface=Logits, drops_broken=True):
    model = Handle(NETWORK, 10)
    labels = model(IMAGES).logits.argmax(1)
    streams = Streams(0, "key", list(range(len(IMAGES))))
    search = Search(
        surface(model),
        Ball.around(IMAGES, threat),
        labels,
        streams,
        local=local,
        drops_broken=drops_broken,
    )
    run_attack(spec, search)
    return search


SPEC = attack_spec("square", queries=150, restarts=2)


@pytest.mark.parametrize("drops_broken", [True, False])
def test_windows_break_the_images_that_whole_passes_break_at_the_same_query(drops_broken):
    asked = Asked()
    whole = searched(SPEC, None, drops_broken=drops_broken)
    windows = searched(SPEC, asked, drops_broken=drops_broken)
    assert 0 < int(whole.broken.sum()) < len(IMAGES)
    for name in ("broken", "first_success", "looks", "forwards"):
        assert torch.equal(getattr(windows, name), getattr(whole, name)), name
    torch.testing.assert_close(windows.loss_best, whole.loss_best, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(windows.adversarial, whole.adversarial)
    assert asked.calls == 2  # once per restart
    assert len(asked.sides) >= int(whole.looks.sum()) - 2 * len(IMAGES)
    assert asked.accepted > 50


def test_the_first_look_is_a_whole_pass_and_every_query_counts_as_one():
    asked = Asked()
    search = searched(attack_spec("square", queries=9), asked)
    assert len(asked.sides) >= 8 * int((~search.broken).sum())
    assert set(search.forwards[~search.broken].tolist()) == {9}
    assert ATTACKS["square"].cost({"queries": 9, "restarts": 1}) == (9, 0)


def test_candidates_differ_from_the_best_image_only_in_the_window_that_is_announced():
    differences = []

    class Looking(Asked):
        def logits(self, candidates, of, corners, side):
            known = next(iter(self.near.known().values()))
            for candidate, image, (top, left) in zip(candidates, of, corners, strict=True):
                outside = torch.ones(8, 8, dtype=torch.bool)
                outside[top : top + side, left : left + side] = False
                moved = (candidate != known[image]).any(0)
                assert not moved[outside].any()
                differences.append(int(moved.sum()))
            return super().logits(candidates, of, corners, side)

    searched(attack_spec("square", queries=120), Looking())
    assert sum(differences) > 120


@pytest.mark.parametrize(
    ("spec", "threat", "surface"),
    [
        (attack_spec("square", queries=9), NEAR, Cosine),
        (attack_spec("square", queries=9), l2("1/3"), Logits),
        (attack_spec("pgd", steps=3), NEAR, Logits),
    ],
)
def test_other_surfaces_norms_and_attacks_ask_for_no_window(spec, threat, surface):
    asked = Asked()
    search = searched(spec, asked, threat, surface)
    assert int(search.looks.sum()) > 0
    assert not asked.sides
    assert asked.calls == 0


def test_a_batch_whose_maps_do_not_fit_is_judged_by_whole_passes():
    whole, refused = searched(SPEC, None), searched(SPEC, lambda images: None)
    for name in ("broken", "adversarial", "loss_best", "first_success", "forwards"):
        assert torch.equal(getattr(refused, name), getattr(whole, name)), name


def test_a_part_of_a_search_may_use_the_windows_too():
    asked = Asked()
    searched(attack_spec("autoattack", steps=2, targets=1, queries=30), asked)
    assert asked.sides


def test_a_wrong_decision_in_a_window_breaks_only_what_the_last_word_confirms():
    labels = NETWORK(IMAGES).logits.argmax(1)

    def doubt(candidates):
        return nn.functional.one_hot(labels[:1].expand(len(candidates)), 10).float()

    search = Search(
        Logits(Handle(NETWORK, 10)),
        Ball.around(IMAGES, NEAR),
        labels,
        Streams(0, "key", list(range(len(IMAGES)))),
        confirm=doubt,
        local=Asked(),
    )
    ATTACKS["square"].run(search, loss=LOSSES["margin"], queries=150)
    assert not search.broken[labels == labels[0]].any()
    assert search.broken.any()


def test_the_ball_of_some_images_follows_the_positions_and_the_ball_of_the_search():
    search = Search(
        Logits(Handle(NETWORK, 10)),
        Ball.around(IMAGES, NEAR),
        torch.zeros(30, dtype=torch.long),
        Streams(0, "key", list(range(30))),
    )
    for positions in (torch.arange(30), torch.tensor([3, 1]), torch.tensor([1, 3])):
        for _ in range(2):
            assert torch.equal(search.around(positions).low, search.ball.low[positions])
    again = search.around(positions.clone())
    assert again is search.around(positions)
    search.ball = Ball.around(IMAGES, linf("1/255"))
    assert torch.equal(search.around(positions).low, search.ball.low[positions])
