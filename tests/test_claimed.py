"""The claim that a measured row is held against."""

import dataclasses

import pytest

from harness.campaign.diagnosis import _facts
from harness.catalogue import DEFENSES
from harness.identity import Capabilities, CheckpointRecord
from harness.standings.claimed import claimed_accuracy
from harness.standings.values import Rate, Standing
from harness.threat import ThreatModel

EIGHT = ThreatModel.parse("linf", "8/255")
ANCRA = CheckpointRecord(
    "x",
    "d" * 64,
    "trained",
    "cifar10",
    EIGHT,
    "w",
    "e" * 64,
    Capabilities(10),
    defense="trades_ancra",
    architecture="resnet18",
    scale="full",
)


def test_the_lowest_printed_figure_is_the_claim():
    """82.96 under PGD-40, 59.70 under AutoAttack (table 1).

    52.81 in table 6 is about the network without its module, 60.43 in table 7 about transfer.
    """
    assert claimed_accuracy(ANCRA, "cifar10", EIGHT) == pytest.approx(0.5970)


@pytest.mark.parametrize(
    ("changed", "dataset", "threat", "claimed"),
    [
        ({"scale": "reduced"}, "cifar10", EIGHT, None),
        ({"scale": ""}, "cifar10", EIGHT, None),
        ({"architecture": "wrn_34_10"}, "cifar10", EIGHT, 0.5199),
        ({"architecture": "small_resnet"}, "cifar10", EIGHT, None),
        ({"defense": "trades_frpat"}, "cifar10", EIGHT, None),
        ({}, "cifar100", EIGHT, 0.3581),
        ({}, "cifar10 (other pixels)", EIGHT, None),
        ({}, "cifar10", ThreatModel.parse("linf", "0.031"), None),
        ({}, "cifar10", ThreatModel.parse("l2", "8/255"), None),
    ],
)
def test_only_the_same_thing_is_claimed(changed, dataset, threat, claimed):
    record = dataclasses.replace(ANCRA, **changed)
    assert claimed_accuracy(record, dataset, threat) == (claimed and pytest.approx(claimed))


def test_diagnostics_about_rows_are_told_of_it():
    rate = Rate(90, 100, 0.8, 0.95)
    row = Standing(
        ANCRA, "cifar10", "f" * 64, EIGHT, 0, 100, rate, rate, rate, True, ("adaptive-2",), ()
    )
    _, settings = DEFENSES["trades_ancra"].compose({})
    record = dataclasses.replace(ANCRA, settings=settings)
    facts = _facts(record, [row])
    assert facts.claimed == claimed_accuracy(ANCRA, "cifar10", EIGHT)
    assert (facts.robust, facts.is_adaptive) == (0.9, True)
    other = dataclasses.replace(record, settings={**settings, "beta": 1.0})
    assert _facts(other, [row]).claimed is None  # that is not what the paper measured
