"""Results as a run would leave them."""

from dataclasses import replace

from benchmarks.results import Comparison, Run, Setting, Side

SETTING = Setting(
    device="cpu",
    commit="abc",
    machine="a processor, 2 cores",
    versions={"torch": "2", "foolbox": "not installed"},
    threads=2,
    seed=0,
    rounds=3,
    batch=250,
    images=4,
    model="pgd_at",
    checkpoint="c" * 64,
    parameters=700_000,
    threat="linf 8/255",
    clean=3,
)
PEER = Side("pyautoattack", (8.0, 9.0, 10.0), "1101", 4, 400, 300)
MIXED = Side("mixed", (2.0, 2.5, 2.2), "1101", 4, 200, 150)


def whole(*sides):
    """One run of AutoAttack by these sides."""
    return Run(SETTING, {"autoattack": (Comparison("whole", sides),)})


def of(side, **changed):
    """A side with other values."""
    return replace(side, **changed)
