"""UDR's soft ball and its lambda (`baselines.md` sections 13 and 17)."""

import pytest
import torch
from climbed_models import Slope, batch_of, pixels

from harness.batch import Memory
from harness.errors import HarnessError
from harness.maximisers import soft_ball
from harness.maximisers.pgd import Pgd
from harness.maximisers.soft_ball import SoftBall, SoftBallPgd
from harness.threat import ThreatModel

UNIT = 1 / 255


def ball(weight, images):
    threat = ThreatModel.parse("linf", "8/255")
    edge = torch.zeros_like(images)
    return SoftBall(images, edge, edge, threat, torch.tensor(weight))


@pytest.mark.parametrize(
    ("move", "weight", "left"),
    [(10, 0.5, 9), (10, 1.0, 8), (-12, 0.5, -10), (-12, 1.0, -8), (4, 0.5, 4), (4, 1.0, 4)],
)
def test_the_projection_is_that_of_the_check_cases(move, weight, left):
    images = pixels(0.5)
    found = ball(weight, images).project(images + move * UNIT) - images
    assert found.item() / UNIT == pytest.approx(left, abs=1e-4)


def test_without_weight_the_box_alone_holds():
    images = pixels((0.5, 0.9, 0.1))
    found = ball(0.0, images).project(images + pixels((0.3, 0.3, -0.3)))
    assert found.flatten().tolist() == pytest.approx([0.8, 1.0, 0.0])


def memory_of(weight=None):
    memory = Memory(torch.zeros(1, dtype=torch.int64))
    if weight is not None:
        memory.put("soft_ball.lambda", torch.tensor(weight))
    return memory


def attacked(network, images, memory, **parts):
    settings = parts.pop("settings", {})
    batch = batch_of(network, images, memory=memory, epsilon="8/255", **parts)
    return SoftBallPgd(**settings)(batch), batch


@pytest.mark.parametrize(
    ("moves", "expected"),
    [
        ([6] * 10, 0.9998431),
        ([9] * 10, 1.0000784),
        ([1, 2, 3, 4, 5, 6, 7, 8, 9, 15], 0.9998431),  # the mean of all ten
    ],
)
def test_lambda_follows_the_mean_of_ten_batches_as_in_the_check_cases(moves, expected, monkeypatch):
    memory, images, seen = memory_of(), pixels(0.5, 0.5), []
    for move in moves:
        found = images + move * UNIT * pixels(1.0, -1.0)
        monkeypatch.setattr(soft_ball, "ascend", lambda *_, found=found: found)
        _, batch = attacked(Slope([1.0]), images, memory)
        seen.append(batch.measures["soft_ball_lambda"].item())
    assert seen == [1.0] * 10
    assert memory.values["soft_ball.lambda"].item() == pytest.approx(expected, abs=1e-7)
    assert len(memory.values["soft_ball.moves"]) == 0


def test_a_period_ends_every_so_many_batches_and_starts_afresh(monkeypatch):
    memory, images, lambdas = memory_of(), pixels(0.5), []
    for move in (6, 6, 9, 9, 8, 8):
        monkeypatch.setattr(soft_ball, "ascend", lambda *_, m=move: images + m * UNIT)
        attacked(Slope([1.0]), images, memory, settings={"lambda_period": 2, "lambda_rate": 1.0})
        lambdas.append(memory.get("soft_ball.lambda", lambda: None).item())
    low = 1 - 2 * UNIT
    assert lambdas == pytest.approx([1, low, low, low + UNIT, low + UNIT, low + UNIT], abs=1e-6)


def test_lambda_never_becomes_negative(monkeypatch):
    memory, images = memory_of(), pixels(0.5)
    monkeypatch.setattr(soft_ball, "ascend", lambda *_: images)
    attacked(Slope([1.0]), images, memory, settings={"lambda_period": 1, "lambda_rate": 1e6})
    assert memory.values["soft_ball.lambda"].item() == 0.0


@pytest.mark.parametrize("start", ["normal", "uniform"])
def test_at_lambda_one_the_attack_is_pgd(start):
    network, images = Slope([1.0, -2.0, 0.5]), pixels((0.5, 0.4, 0.99), (0.2, 0.01, 0.3))
    parts = {"steps": 2, "step": 2 * UNIT}
    soft, _ = attacked(network, images, memory_of(), settings={"start": start}, **parts)
    hard = Pgd(start=start)(batch_of(network, images, epsilon="8/255", **parts))
    torch.testing.assert_close(soft, hard, atol=1e-6, rtol=0)


@pytest.mark.parametrize("weight", [0.5, 0.8])
def test_a_linear_model_is_climbed_to_where_step_and_pull_balance(weight):
    direction = [1.0, -2.0]
    images = pixels((0.5, 0.5), (0.4, 0.6))
    step = 2 * UNIT
    found, _ = attacked(Slope(direction), images, memory_of(weight), steps=80, step=step)
    # a step later d + step - weight (d + step - epsilon) is d again
    balance = 8 * UNIT + step * (1 - weight) / weight
    expected = balance * torch.tensor(direction).sign().expand(2, 2)
    torch.testing.assert_close((found - images).flatten(1), expected, atol=1e-5, rtol=0)
    assert balance > 8 * UNIT


def test_the_box_holds_where_the_ball_does_not():
    images = pixels((0.99, 0.01))
    found, _ = attacked(Slope([1.0, -1.0]), images, memory_of(0.01), steps=30, step=4 * UNIT)
    assert found.flatten().tolist() == [1.0, 0.0]


def test_batch_norm_s_mode_is_that_of_the_budget():
    for bn, mode in (("eval", False), ("train", True)):
        network = Slope([1.0]).train()
        attacked(network, pixels(0.5), memory_of(), bn=bn, steps=3)
        assert network.passes == [(mode, False)] * 3


def test_a_threat_without_coordinates_is_refused():
    with pytest.raises(HarnessError, match="for linf, but the threat is l2 8/255"):
        attacked(Slope([1.0]), pixels(0.5), memory_of(), norm="l2")


def test_an_empty_period_is_refused():
    with pytest.raises(HarnessError, match="lambda_period must be at least 1 but is 0"):
        SoftBallPgd(lambda_period=0)
