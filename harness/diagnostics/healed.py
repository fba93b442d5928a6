"""D01: images that an attack repairs."""

from __future__ import annotations

from harness.diagnostics.diagnostic import (
    AMBER,
    GREEN,
    Reading,
    diagnostic,
    graded_difference,
    worst,
)
from harness.diagnostics.examination import Examination
from harness.identity import AttackSpec


def attacks(examination: Examination) -> list[AttackSpec]:
    """PGD-40, FGSM and APGD-CE."""
    spec = examination.spec
    return [spec("pgd", steps=40), spec("fgsm"), spec("apgd_ce", steps=100)]


@diagnostic(
    "D01",
    title="Accuracy rises under attack",
    amber="more than 0.5 % of the images are healed",
    red="accuracy under an attack more than 0.2 points above clean",
)
def healed(examination: Examination) -> Reading:
    """Images that are wrong as they are but right on the last iterate of an attack.

    Percentages are of all images. Every attack looks at all of them, and only its last iterate
    counts: with early drop or the best candidate kept, nothing could be healed.
    """
    right = examination.right
    everyone = right | ~right
    details: dict[str, tuple[float, ...]] = {"clean": (100 * examination.accuracy,)}
    proof, states, largest, highest = ~everyone, [GREEN], 0.0, ("", -1.0)
    for spec in attacks(examination):
        wrong = examination.run(spec).last_wrong
        repaired = ~right & ~wrong
        share = graded_difference(repaired, ~everyone, everyone, amber=0.5, red=100.0)
        rise = graded_difference(~wrong, right, everyone, amber=0.2, red=0.2)
        states += [AMBER if share.state != GREEN else GREEN, rise.state]
        proof |= repaired
        largest = max(largest, share.points)
        accuracy = 100 * float((~wrong).float().mean())
        highest = max(highest, (spec.label, accuracy), key=lambda pair: pair[1])
        details[spec.label] = (accuracy, share.points)
    clean = details["clean"][0]
    note = (
        f"accuracy rises under attack {highest[0]}: {highest[1]:.1f} > {clean:.1f}."
        if highest[1] > clean
        else f"accuracy under attack is at most {highest[1]:.1f}, clean is {clean:.1f}."
    )
    return Reading(worst(states), largest, note, proof, details)
