"""Who runs when, what is timed, and what is counted."""

import pytest
import torch

from benchmarks import timing
from benchmarks.timing import counted, in_turn, interleaved
from harness.catalogue import DEFENSES
from harness.defense import Build


@pytest.fixture
def network():
    defense, _ = DEFENSES["standard"].compose({})
    build = Build((1, 8, 8), 10, "small_resnet", {"width": 2}, seed=0)
    return defense.build(build).network


def test_every_side_is_first_equally_often():
    order = [in_turn(["a", "b", "c"], number) for number in range(3)]
    assert order == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"]]
    assert in_turn([], 1) == []


def test_rounds_are_interleaved_and_each_is_timed_alone(monkeypatch):
    ran, now = [], iter(range(100))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(now))

    def side(name):
        def run():
            ran.append(name)
            return name * 2

        return run

    taken = interleaved({"a": side("a"), "b": side("b")}, 2, "cpu")
    assert ran == ["a", "b", "b", "a"]
    assert taken == {"a": [(1, "aa"), (1, "aa")], "b": [(1, "bb"), (1, "bb")]}


def test_a_look_counts_once_and_its_gradient_once(network):
    images = torch.rand(3, 1, 8, 8)
    with counted() as passes, torch.no_grad():
        network(images)
    assert (passes.forwards, passes.backwards) == (3, 0)
    with counted() as passes:
        candidate = images.clone().requires_grad_()
        torch.autograd.grad(network(candidate).logits.sum(), candidate)
    assert (passes.forwards, passes.backwards) == (3, 3)


def test_several_gradients_of_one_look_count_each(network):
    candidate = torch.rand(3, 1, 8, 8).requires_grad_()
    with counted() as passes:
        logits = network(candidate).logits
        for k in range(2):
            torch.autograd.grad(logits[:, k].sum(), candidate, retain_graph=True)
    assert (passes.forwards, passes.backwards) == (3, 6)


def test_a_gradient_of_the_weights_counts_too_but_not_one_that_nobody_takes(network):
    images = torch.rand(3, 1, 8, 8)
    with counted() as passes:
        network(images).logits.sum().backward()
        network(images)
    assert (passes.forwards, passes.backwards) == (6, 3)


def test_nothing_is_counted_outside(network):
    with counted() as passes:
        pass
    network(torch.rand(3, 1, 8, 8))
    assert (passes.forwards, passes.backwards) == (0, 0)
