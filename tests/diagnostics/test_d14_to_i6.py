"""D14 to D26 and I1 to I6 on models and trials whose answer is known by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from scipy.stats import binom
from torch import Tensor, nn
from torch.autograd import grad as grad_by_another_name

from harness.diagnostics.counts import as_percent, graded_share, passes
from harness.diagnostics.diagnostic import AMBER, DIAGNOSTICS, GREEN, NOT_RUN, RED, Reading
from harness.diagnostics.eight_bit import rounded_inwards
from harness.diagnostics.examination import Examination, RowFacts, Trial
from harness.diagnostics.indicators import still_climbing
from harness.evaluation.handle import Handle
from harness.identity import AttackSpec, Capabilities
from harness.outputs import Outputs
from harness.threat import ThreatModel

IDS = [f"D{number}" for number in range(14, 27)] + [f"I{number}" for number in range(1, 7)]
CLASSES = 4


class Pixels(nn.Module):
    """The logits are the first four pixels, times a factor."""

    def __init__(self, factor: float = 10.0) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, images: Tensor) -> Tensor:
        return self.factor * images.flatten(1)[:, :CLASSES]


class Through(nn.Module):
    """A model made of one function of images."""

    def __init__(self, function: Callable[[Tensor], Tensor | Outputs]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Tensor | Outputs:
        return self.function(images)


def some_images(count: int = 20) -> tuple[Tensor, Tensor]:
    """8-bit images whose brightest of the first four pixels is their class."""
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(20, 100, (count, 1, 2, 4), generator=generator) / 255
    labels = torch.arange(count) % CLASSES
    images.flatten(1)[torch.arange(count), labels] = 200 / 255
    return images, labels


def examine(
    module: nn.Module,
    images: Tensor | None = None,
    *,
    norm: str = "linf",
    epsilon: str = "1/10",
    count: int = 20,
    capabilities: Capabilities | None = None,
) -> Examination:
    known, labels = some_images(count if images is None else len(images))
    return Examination(
        model=Handle(module, CLASSES),
        module=module,
        images=known if images is None else images,
        labels=labels,
        indices=range(len(labels)),
        threat=ThreatModel(norm, Fraction(epsilon)),
        capabilities=capabilities or Capabilities(CLASSES),
        effort=0.1,
    )


def read(identity: str, examination: Examination) -> Reading:
    return DIAGNOSTICS[identity].read(examination)


def masks(count: int, *ranges: tuple[int, int]) -> list[Tensor]:
    """[count] bool each, true from the first to before the last."""
    numbers = torch.arange(count)
    return [(numbers >= first) & (numbers < last) for first, last in ranges]


def trial(examination: Examination, broken: Tensor, **more: Tensor) -> Trial:
    """What an attack that broke these images would leave."""
    count = len(broken)
    empty = torch.zeros(count)
    plain = Trial(
        broken=broken,
        last_wrong=broken,
        last=examination.images,
        adversarial=examination.images,
        loss_start=empty,
        loss_best=empty,
        nearest=torch.full((count,), torch.inf, dtype=torch.float64),
        first_success=torch.where(broken, 0, -1),
        trace=torch.empty(0, count),
        queries=empty,
    )
    return replace(plain, **more)


def scripted(
    monkeypatch: pytest.MonkeyPatch, examination: Examination, trials: Mapping[str, Trial]
) -> Examination:
    """`trials` by attack or `attack:loss` instead of running anything."""

    def run(self: Examination, spec: AttackSpec, **_: object) -> Trial:
        return trials.get(f"{spec.attack}:{spec.loss}") or trials[spec.attack]

    monkeypatch.setattr(Examination, "run", run)
    return examination


def test_every_id_of_the_second_half_is_registered():
    assert [identity for identity in IDS if identity not in DIAGNOSTICS] == []


@pytest.mark.parametrize(("total", "share"), [(20, 0.02), (87, 0.1), (300, 0.3)])
def test_a_share_is_passed_where_the_binomial_tail_is_below_one_percent(total, share):
    for count in range(total + 1):
        tail = binom.sf(count - 1, total, share)
        assert passes(count, total, share) == (tail < 0.01 and count > share * total)


def test_nothing_passes_a_share_of_no_images():
    assert graded_share(0, 0, amber=0.05, red=0.2) == GREEN
    assert as_percent(*masks(4, (0, 2), (4, 4))) == 0


# D14 and D15


@pytest.mark.parametrize(
    ("margin", "count", "state", "points"),
    [(17, 100, RED, 7), (16, 100, GREEN, 6), (17, 200, AMBER, 3.5), (16, 200, GREEN, 3)],
)
def test_loss_sensitivity_is_the_largest_gap_that_is_more_than_chance(
    monkeypatch, margin, count, state, points
):
    examination = examine(Pixels(), count=count)
    ce, dlr, other = masks(count, (0, 10), (0, 12), (0, margin))
    trials = {
        "apgd_ce:ce": trial(examination, ce),
        "apgd_dlr": trial(examination, dlr),
        "apgd_ce:margin": trial(examination, other),
    }

    reading = read("D14", scripted(monkeypatch, examination, trials))

    assert (reading.state, reading.value) == (state, pytest.approx(points))
    assert torch.equal(reading.proof, other & ~ce)
    assert reading.details["ce"] == (pytest.approx(100 - 1000 / count),)


@pytest.mark.parametrize(
    ("function", "state"),
    [
        (lambda z: z.softmax(1), AMBER),
        (lambda z: z / 10, AMBER),  # at most 200 / 255
        (lambda z: 10 + z / 100, AMBER),  # all alike
        (lambda z: 30 * z, AMBER),  # three best apart by more than 50
        (lambda z: z, GREEN),
    ],
)
def test_outputs_of_an_unusual_type_are_amber(monkeypatch, function, state):
    examination = examine(Through(lambda images: function(Pixels()(images))))
    (nothing,) = masks(20, (0, 0))

    reading = read(
        "D15", scripted(monkeypatch, examination, {"apgd_ce": trial(examination, nothing)})
    )

    assert (reading.state, reading.value) == (state, 0)


@pytest.mark.parametrize(("shift", "is_said"), [(0.0, True), (0.1, False), (-0.1, False)])
def test_outputs_that_sum_to_one_are_called_probabilities(monkeypatch, shift, is_said):
    examination = examine(Through(lambda images: Pixels()(images).softmax(1) + shift))
    (nothing,) = masks(20, (0, 0))

    reading = read(
        "D15", scripted(monkeypatch, examination, {"apgd_ce": trial(examination, nothing)})
    )

    assert ("probabilities" in reading.note) == is_said


@pytest.mark.parametrize(("extra", "state"), [(7, RED), (6, GREEN)])
def test_a_scale_that_breaks_more_is_red_and_one_that_breaks_less_is_nothing(
    monkeypatch, extra, state
):
    examination = examine(Pixels())
    plain, more, less = masks(20, (0, 10), (0, 10 + extra), (0, 1))
    trials = {
        "apgd_ce:ce": trial(examination, plain),
        "apgd_ce:ce(0.1)": trial(examination, less),
        "apgd_ce:ce(10)": trial(examination, more),
        "apgd_ce:ce(20)": trial(examination, less),
    }

    reading = read("D15", scripted(monkeypatch, examination, trials))

    assert (reading.state, reading.value) == (state, pytest.approx(5 * extra))
    assert torch.equal(reading.proof, more & ~plain)


# D16 and D17


@pytest.mark.parametrize(("noise", "state"), [(0.0, GREEN), (1e-2, AMBER), (100.0, RED)])
def test_randomness_is_amber_where_logits_move_and_red_where_predictions_flip(noise, state):
    torch.manual_seed(0)

    reading = read(
        "D16", examine(Through(lambda images: Pixels()(images) + noise * torch.rand(CLASSES)))
    )

    assert reading.state == state
    assert bool(reading.proof.any()) == (state == RED)


def test_randomness_is_seen_though_the_way_to_the_model_hides_it():
    torch.manual_seed(0)
    examination = examine(Through(lambda images: Pixels()(images) + 100 * torch.rand(CLASSES)))
    examination.model = Handle(Pixels(), CLASSES)

    assert read("D16", examination).state == RED


def differentiates(calls: int, way: str) -> Through:
    """Differentiates `calls` times in a forward pass, by one of autograd's entry points."""

    def forward(images: Tensor) -> Tensor:
        for _ in range(calls):
            with torch.enable_grad():
                moved = images.detach().clone().requires_grad_()
                if way == "func":
                    torch.func.grad(lambda x: x.square().sum())(images)
                elif way == "method":
                    moved.square().sum().backward()
                elif way == "function":
                    torch.autograd.backward(moved.square().sum())
                elif way == "imported before":
                    grad_by_another_name(moved.square().sum(), moved)
                else:
                    torch.autograd.grad(moved.square().sum(), moved)
        return Pixels()(images)

    return Through(forward)


@pytest.mark.parametrize(
    "way",
    [
        pytest.param("func", marks=pytest.mark.slow),  # its first use imports for seconds
        *("method", "function", "imported before", "grad"),
    ],
)
@pytest.mark.parametrize(("calls", "state"), [(0, GREEN), (1, AMBER), (2, RED)])
def test_a_forward_pass_that_differentiates_is_caught_whichever_way(way, calls, state):
    reading = read("D17", examine(differentiates(calls, way)))

    assert (reading.state, reading.value) == (state, calls)


def test_a_forward_pass_that_turns_gradients_on_is_amber():
    def forward(images: Tensor) -> Tensor:
        with torch.enable_grad():
            return Pixels()(images)

    assert read("D17", examine(Through(forward))).state == AMBER


def test_autograd_is_left_as_it_was_even_by_a_model_that_raises():
    def forward(images: Tensor) -> Tensor:
        raise ValueError("out of order")

    before = (torch.autograd.grad, torch.Tensor.backward, torch.func.grad)
    reading = read("D17", examine(Through(forward)))

    assert (reading.state, reading.note) == (
        NOT_RUN,
        "the model raised ValueError: out of order",
    )
    assert (torch.autograd.grad, torch.Tensor.backward, torch.func.grad) == before


# D18 and D19


@pytest.mark.parametrize(
    ("share", "state"), [(0.0, GREEN), (1e-6, GREEN), (1e-2, AMBER), (20.0, RED)]
)
def test_logits_that_lean_on_their_batch_are_amber_and_changed_predictions_red(share, state):
    def forward(images: Tensor) -> Tensor:
        logits = Pixels()(images)
        return logits - share * logits.mean(0)

    assert read("D18", examine(Through(forward))).state == state


def test_an_image_that_is_the_only_one_of_its_class_is_asked_about_twice_at_once():
    seen = []

    def forward(images: Tensor) -> Tensor:
        seen.append(len(images))
        return Pixels()(images)

    images, _ = some_images(3)
    reading = read("D18", examine(Through(forward), images))

    assert reading.state == GREEN
    assert min(seen) == 2


def test_batches_of_a_random_model_are_not_compared():
    torch.manual_seed(0)
    reading = read("D18", examine(Through(lambda images: Pixels()(images) + torch.rand(CLASSES))))

    assert reading.state == NOT_RUN
    assert "D16" in reading.note


class Leaks(Pixels):
    """A buffer, not saved, that counts if it is told to, and batch normalisation."""

    def __init__(self, *, counts: bool = False, switches: bool = False) -> None:
        super().__init__()
        self.counts = counts
        self.switches = switches
        self.register_buffer("passes", torch.zeros(()), persistent=False)
        self.normalise = nn.BatchNorm2d(1)

    def forward(self, images: Tensor) -> Tensor:
        self.passes += self.counts
        if self.switches:
            self.normalise.train()
            return super().forward(images)
        return super().forward(self.normalise(images))


@pytest.mark.parametrize(
    ("leak", "state"), [({}, GREEN), ({"counts": True}, RED), ({"switches": True}, AMBER)]
)
def test_a_pass_that_changes_the_model_is_caught_and_undone(leak, state):
    module = Leaks(**leak)
    examination = examine(module)

    reading = read("D19", examination)

    assert reading.state == state
    assert float(module.passes) == 0
    assert not any(each.training for each in module.modules())


@pytest.mark.parametrize("name", ["y", "label", "labels", "target", "targets"])
@pytest.mark.parametrize(("weight", "state"), [(0.0, AMBER), (1.0, RED)])
def test_labels_that_are_taken_are_amber_and_labels_that_change_logits_red(name, weight, state):
    scope: dict[str, type[nn.Module]] = {}
    exec(  # noqa: S102 - the keyword's name is what is tested
        "class Takes(Pixels):\n"
        f"    def forward(self, images, {name}=None):\n"
        "        logits = super().forward(images)\n"
        f"        return logits if {name} is None else logits + weight * {name}[:, None]\n",
        {"Pixels": Pixels, "weight": weight},
        scope,
    )

    reading = read("D19", examine(scope["Takes"]()))

    assert reading.state == state
    assert bool(reading.proof.any()) == (state == RED)


def test_noise_is_not_taken_for_labels():
    class Noisy(Pixels):
        def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
            return super().forward(images) + torch.rand(len(images), CLASSES)

    torch.manual_seed(0)
    assert read("D19", examine(Noisy())).state == AMBER


# D20, D25, D26: rows


@pytest.mark.parametrize(
    ("standard", "robust", "state"),
    [
        (0.61, 0.60, GREEN),
        (0.62, 0.60, AMBER),
        (0.65, 0.60, AMBER),
        (0.651, 0.60, RED),
        (0.6, 0.6, GREEN),
    ],
)
def test_the_adaptive_gap_is_standard_minus_worst_in_points(standard, robust, state):
    examination = examine(Pixels())
    examination.row = RowFacts(robust=robust, standard=standard, is_adaptive=True)

    reading = read("D20", examination)

    assert (reading.state, reading.value) == (state, pytest.approx(100 * (standard - robust)))


@pytest.mark.parametrize(
    ("lost", "examples", "state"),
    [
        *((2, 100, GREEN), (6, 100, GREEN), (7, 100, RED), (8, 499, AMBER)),
        *((5, 500, GREEN), (6, 500, AMBER), (26, 500, RED)),
    ],
)
def test_a_gap_on_few_images_must_be_more_than_chance(lost, examples, state):
    examination = examine(Pixels())
    examination.row = RowFacts(0.9 - lost / examples, 0.9, is_adaptive=True, examples=examples)

    assert read("D20", examination).state == state


@pytest.mark.parametrize(
    "row", [RowFacts(), RowFacts(0.5, 0.6), RowFacts(0.5, None, is_adaptive=True)]
)
def test_there_is_no_adaptive_gap_without_an_adaptive_row(row):
    examination = examine(Pixels())
    examination.row = row

    assert read("D20", examination).state == NOT_RUN


@pytest.mark.parametrize(
    ("best", "level", "state"),
    [
        (0.57, "E1", GREEN),
        (0.56, "E1", RED),
        (0.56, "E2", RED),
        (0.56, "E3", AMBER),
        (0.56, "E4", AMBER),
        (0.8, "E0", GREEN),
        (None, "E1", NOT_RUN),
    ],
)
def test_a_lead_of_more_than_three_points_is_red_below_level_e3(best, level, state):
    examination = examine(Pixels())
    examination.row = RowFacts(robust=0.6, best=best, level=level)

    assert read("D25", examination).state == state


@pytest.mark.parametrize(
    ("claimed", "state"),
    [(0.61, GREEN), (0.612, AMBER), (0.65, AMBER), (0.66, RED), (0.5, GREEN), (None, NOT_RUN)],
)
def test_a_claim_is_graded_by_how_far_it_lies_above_what_was_measured(claimed, state):
    examination = examine(Pixels())
    examination.row = RowFacts(robust=0.6, claimed=claimed)

    assert read("D26", examination).state == state


# D21


def with_head(head: Callable[[Tensor], Tensor]) -> Examination:
    return examine(
        Through(lambda images: Outputs(Pixels()(images), (head(Pixels()(images)),))),
        capabilities=Capabilities(CLASSES, auxiliary=1),
    )


def test_a_head_that_decides_alone_is_amber_and_with_an_adaptive_gap_red():
    examination = with_head(lambda logits: logits / 4)

    alone = read("D21", examination)
    examination.row = RowFacts(robust=0.5, standard=0.6, is_adaptive=True)

    assert (alone.state, alone.value) == (AMBER, 100)
    assert alone.details["margin_ratio"] == (pytest.approx(4),)
    assert alone.details["rank_correlation"] == (pytest.approx(1),)
    assert read("D21", examination).state == RED


@pytest.mark.parametrize(
    "head",
    [
        lambda logits: logits / 2,  # margin ratio 2
        lambda logits: logits.roll(1, dims=1) / 4,  # never agrees
    ],
)
def test_a_head_of_like_margin_or_of_another_mind_is_green(head):
    examination = with_head(head)
    examination.row = RowFacts(robust=0.5, standard=0.6, is_adaptive=True)

    assert read("D21", examination).state == GREEN


def test_a_head_that_agrees_on_clean_images_only_is_green():
    """Its pixels are frozen to what is on the 8-bit grid's upper half: attacks do not move it."""
    images, labels = some_images()
    answers = {tuple(image.flatten().tolist()): label for image, label in zip(images, labels)}  # noqa: B905

    def head(batch: Tensor) -> Tensor:
        known = [answers.get(tuple(image.flatten().tolist()), 0) for image in batch]
        return nn.functional.one_hot(torch.tensor(known), CLASSES).float() / 100

    examination = examine(
        Through(lambda batch: Outputs(Pixels()(batch), (head(batch),))),
        capabilities=Capabilities(CLASSES, auxiliary=1),
    )
    reading = read("D21", examination)

    assert reading.details["agreement_clean"] == (1.0,)
    assert reading.details["agreement_attacked"][0] < 0.99
    assert reading.state == GREEN


def test_a_model_without_heads_has_none_that_agree():
    assert read("D21", examine(Pixels())).state == NOT_RUN


# D22 to D24


@pytest.mark.parametrize(("near", "state"), [(7, RED), (6, GREEN), (0, GREEN)])
def test_what_only_minimal_norm_attacks_break_is_counted(monkeypatch, near, state):
    examination = examine(Pixels())
    broken, found = masks(20, (0, 5), (5, 5 + near))
    distance = torch.where(found, 0.0999, 0.1001).double()
    plain = trial(examination, broken)
    minimal = trial(examination, found, nearest=distance)
    trials = {"pgd": plain, "apgd_ce": plain, "apgd_dlr": plain, "fab": minimal}
    trials["deepfool"] = trial(examination, broken)

    reading = read("D22", scripted(monkeypatch, examination, trials))

    assert (reading.state, reading.value) == (state, pytest.approx(5 * near))
    assert torch.equal(reading.proof, found)


@pytest.mark.parametrize(
    ("below", "pile", "above", "state"),
    [(2, 20, 3, AMBER), (0, 20, 0, AMBER), (2, 6, 2, GREEN), (0, 3, 0, GREEN), (8, 20, 8, GREEN)],
)
def test_distances_that_pile_up_just_above_epsilon_are_amber(
    monkeypatch, below, pile, above, state
):
    examination = examine(Pixels(), count=40)
    bins = [0.97] * below + [1.02] * pile + [1.07] * above
    relative = torch.tensor([*bins, *[2.0] * (40 - len(bins))], dtype=torch.float64)
    (nothing,) = masks(40, (0, 0))
    far = trial(examination, nothing, nearest=torch.full((40,), 9.0, dtype=torch.float64))
    near = trial(examination, nothing, nearest=relative / 10)

    reading = read("D23", scripted(monkeypatch, examination, {"fab": far, "rays": near}))

    assert reading.state == state
    assert reading.value == pytest.approx(pile / max(0.5, (below + above) / 2))


def test_rounding_stays_inside_the_integer_ball():
    examination = examine(Pixels())  # epsilon is 25.5 grey levels
    clean = examination.images
    moved = torch.zeros_like(clean)
    moved[:, 0, 0, :4] = torch.tensor([25.5, -25.5, 0.6, -0.4]) / 255

    levels = ((rounded_inwards(examination, clean + moved) - clean) * 255).round()

    assert (levels[:, 0, 0, :4] == torch.tensor([25.0, -25.0, 1.0, 0.0])).all()


def test_rounding_never_leaves_an_l2_ball_or_the_box():
    examination = examine(Pixels(), norm="l2", epsilon="1/100")
    clean = examination.images
    step = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    step *= 0.01 / step.flatten(1).norm(dim=1)[:, None, None, None]

    rounded = rounded_inwards(examination, clean + step)

    assert float((rounded - clean).flatten(1).norm(dim=1).max()) <= 0.01
    assert (rounded != clean).any()
    assert rounded_inwards(examination, clean + 9).max() == 1


def test_wrong_answers_between_two_grey_levels_do_not_survive_rounding():
    def forward(images: Tensor) -> Tensor:
        off_grid = (images * 255 - (images * 255).round()).abs().flatten(1).amax(1) > 0.01
        return Pixels()(images) * torch.where(off_grid, -1.0, 1.0)[:, None]

    reading = read("D24", examine(Through(forward)))

    assert (reading.state, reading.value) == (RED, 0)
    assert reading.proof.all()


def test_broken_images_of_a_linear_model_survive_rounding():
    examination = examine(Pixels(), epsilon="1/2")

    assert (read("D24", examination).state, read("D24", examination).value) == (GREEN, 100)


@pytest.mark.parametrize(
    ("images", "epsilon", "reason"),
    [
        (some_images()[0] * 0.999, "1/2", "not 8-bit"),
        (some_images()[0], "1/255", "no attack broke"),
    ],
)
def test_rounding_is_not_judged_without_grey_levels_or_broken_images(images, epsilon, reason):
    reading = read("D24", examine(Pixels(), images, epsilon=epsilon))

    assert reading.state == NOT_RUN
    assert reason in reading.note


# I1 to I6


@pytest.mark.parametrize(("flat", "state"), [(0, GREEN), (1, AMBER), (5, AMBER), (6, RED)])
def test_images_without_a_gradient_are_amber_and_more_than_five_percent_red(flat, state):
    images, _ = some_images(100)
    images[:flat, 0, 1, 3] = 1.0  # a switch that only these images have on

    def forward(batch: Tensor) -> Tensor:
        on = (batch[:, 0, 1, 3] == 1).float()[:, None]
        logits = Pixels()(batch)
        return on * logits.detach() + (1 - on) * logits

    reading = read("I1", examine(Through(forward), images))

    assert (reading.state, reading.value) == (state, flat)
    assert int(reading.proof.sum()) == flat


def test_a_model_whose_backward_pass_raises_has_no_gradients():
    reading = read("I1", examine(Through(lambda images: Pixels()(images).detach())))

    assert (reading.state, reading.value) == (RED, 100)


def test_the_margin_of_a_linear_model_moves_as_the_integral_says():
    """Rivals dark, so the margin is -10 (a - b): E|u - v| of two uniforms is a third of width."""
    images = torch.zeros(20, 1, 2, 4)
    images.flatten(1)[torch.arange(20), torch.arange(20) % CLASSES] = 0.8
    images.flatten(1)[torch.arange(20), (torch.arange(20) + 1) % CLASSES] = 0.4
    examination = examine(Pixels(), images)
    examination.effort = 4

    reading = read("I2", examination)

    expected = (8 / 255) / 3 / 0.4
    assert reading.details["margin"][0] == pytest.approx(expected, rel=0.05)
    assert (reading.state, reading.value) == (GREEN, min(v for (v,) in reading.details.values()))


def test_a_loss_that_jumps_counts_at_most_once_per_image():
    torch.manual_seed(0)
    reading = read("I2", examine(Through(lambda images: 1e6 * torch.rand(len(images), CLASSES))))

    assert reading.state == RED
    assert 0.3 < reading.value <= 1


@pytest.mark.parametrize(("silent", "state"), [(7, RED), (6, GREEN), (0, GREEN)])
def test_successes_that_the_last_iterate_lost_are_silent(monkeypatch, silent, state):
    examination = examine(Pixels())
    broken, last = masks(20, (0, 15), (silent, 15))
    trials = {"pgd": trial(examination, broken, last_wrong=last)}

    reading = read("I3", scripted(monkeypatch, examination, trials))

    assert (reading.state, reading.value) == (state, pytest.approx(5 * silent))
    assert reading.details["our_runner"] == (0.0,)
    assert torch.equal(reading.proof, broken & ~last)


def test_a_climb_is_measured_over_its_last_ten_looks():
    steps = torch.arange(20.0)
    paths = torch.stack(
        [
            steps,  # still climbing: 9 of 19
            steps.clamp(max=10),  # arrived at look 10: nothing since
            torch.where(steps == 5, 50.0, steps),  # was higher before
            torch.full_like(steps, 3.0),
            -7 + 1000 * steps,
        ],
        dim=1,
    )
    trace = torch.cat([torch.full((1, 5), 1e6), paths])  # the clean image comes first
    examination = examine(Pixels())
    (nothing,) = masks(20, (0, 0))

    rise = still_climbing(trial(examination, nothing, trace=trace))

    assert rise.tolist() == pytest.approx([9 / 19, 0, 0, 0, 9 / 19])


@pytest.mark.parametrize(("climbing", "state"), [(0, GREEN), (2, GREEN), (5, AMBER), (10, RED)])
def test_survivors_that_still_climb_are_counted_and_broken_images_are_not(
    monkeypatch, climbing, state
):
    examination = examine(Pixels(), count=40)
    broken, moving = masks(40, (20, 40), (0, climbing))
    steps = torch.arange(31.0)[:, None]
    trace = torch.where(moving | broken, steps, steps.clamp(max=3))
    found = trial(examination, broken, trace=trace)

    reading = read("I4", scripted(monkeypatch, examination, {"pgd": found, "apgd_ce": found}))

    assert (reading.state, reading.value) == (state, pytest.approx(5 * climbing))
    assert torch.equal(reading.proof, moving)


def test_an_attack_on_a_head_that_does_not_decide_fails_to_transfer():
    def fragile(images: Tensor) -> Outputs:
        logits = Pixels()(images)
        return Outputs(logits, (logits + 60 * (images[:, 0, 1] - 0.3),))  # pixels of its own

    examination = examine(
        Through(fragile), epsilon="1/5", capabilities=Capabilities(CLASSES, auxiliary=1)
    )
    reading = read("I5", examination)

    assert reading.state == AMBER
    assert reading.value > 60
    attacked = examination.run(examination.spec("apgd_ce", steps=100, surface="auxiliary(0)"))
    assert not (reading.proof & attacked.broken).any()


def test_an_attack_on_a_head_that_is_the_decision_transfers():
    examination = examine(
        Through(lambda images: Outputs(Pixels()(images), (Pixels()(images),))),
        epsilon="1/2",
        capabilities=Capabilities(CLASSES, auxiliary=1),
    )

    assert (read("I5", examination).state, read("I5", examination).value) == (GREEN, 0)


def test_a_surrogate_that_was_not_broken_either_is_no_transfer_failure():
    examination = examine(
        Through(lambda images: Outputs(Pixels()(images), (Pixels()(images),))),
        epsilon="1/255",
        capabilities=Capabilities(CLASSES, auxiliary=1),
    )

    assert (read("I5", examination).state, read("I5", examination).value) == (GREEN, 0)


def test_without_a_surrogate_nothing_can_fail_to_transfer():
    assert read("I5", examine(Pixels())).state == NOT_RUN


def test_another_checkpoint_is_a_surrogate():
    examination = examine(Pixels())
    mirrored = Through(lambda images: Pixels()(images).roll(1, dims=1))
    examination.surrogates = {"0" * 12: Handle(mirrored, CLASSES)}

    reading = read("I5", examination)

    assert (reading.state, reading.value) == (AMBER, 100)
    assert list(reading.details) == [f"surrogate({'0' * 12})"]


def test_the_whole_box_breaks_a_linear_model_and_not_one_that_always_says_the_same():
    constant = Through(lambda images: Pixels()(0 * images) + torch.eye(CLASSES)[0])

    honest, stubborn = read("I6", examine(Pixels())), read("I6", examine(constant))

    assert (honest.state, honest.value) == (GREEN, 0)
    assert (stubborn.state, stubborn.value) == (RED, 100)
    assert int(stubborn.proof.sum()) == 5  # a quarter of 20 images is of that class


@pytest.mark.parametrize("identity", ["D14", "D15", "D22", "D23", "I1", "I2", "I3", "I4", "I6"])
def test_a_model_that_is_never_right_is_not_green(identity):
    """Percentages are of clean-correct images, of which there are none."""
    reading = read(identity, examine(Through(lambda images: -Pixels()(images))))

    assert reading.state == NOT_RUN
    assert not math.isnan(reading.value or 0.0)
