"""Protocols: named, versioned suites that are fixed before any result is seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.attacks.attack import ATTACKS, attack_spec
from harness.attacks.losses import check_classes
from harness.attacks.surfaces import check_reachable
from harness.errors import HarnessError, unknown_name
from harness.identity import CORRECT, AttackSpec, Capabilities

Suite = Callable[[Capabilities], list[AttackSpec]]
Wanted = tuple[tuple[AttackSpec, str], ...]
"""Attacks in order, each with its population."""


@dataclass(frozen=True)
class Protocol:
    """A suite of attacks in one or two stages.

    Args:
        name: what people type.
        version: raised whenever the suite changes; results of two versions are never mixed.
        description: one sentence.
        first: attacks on every image that the checkpoint classifies correctly.
        second: attacks on what survived the first stage.
        first_stage: key of the protocol that the first stage is.
    """

    name: str
    version: int
    description: str
    first: Suite
    second: Suite | None = None
    first_stage: str = ""

    @property
    def key(self) -> str:
        """Name and version: `adaptive-1`."""
        return f"{self.name}-{self.version}"

    def wanted(self, capabilities: Capabilities) -> Wanted:
        """Every attack of the suite that the capabilities allow."""
        second = self.second(capabilities) if self.second else []
        survivors = f"survivors:{self.first_stage}"
        return (
            *((spec, CORRECT) for spec in self.first(capabilities)),
            *((spec, survivors) for spec in second),
        )


def _standard(capabilities: Capabilities) -> list[AttackSpec]:
    suite = [attack_spec("fgsm"), attack_spec("pgd", steps=40), attack_spec("apgd_ce")]
    if capabilities.classes >= 4:
        suite.append(attack_spec("apgd_t", targets=min(9, capabilities.classes - 1)))
    else:  # the targeted loss needs four classes; the margin names the only rivals there are
        suite.append(attack_spec("apgd_ce", loss="margin"))
    return [*suite, attack_spec("square", queries=1000)]


def _surfaces(capabilities: Capabilities) -> list[AttackSpec]:
    """Every surface that the capabilities allow, with cross-entropy and a scale-free loss."""
    suite = _on(capabilities, "logits")
    suite.append(attack_spec("pgd", steps=100, loss="margin"))
    suite.append(attack_spec("apgd_ce", surface="rescaled(std)"))
    if capabilities.scale != 1.0:
        factors = sorted({10.0, 20.0, capabilities.scale})
        suite += [attack_spec("apgd_ce", surface=f"rescaled({factor:g})") for factor in factors]
    for head in range(capabilities.auxiliary):
        suite += _on(capabilities, f"auxiliary({head})")
        suite.append(attack_spec("apgd_ce", surface=f"auxiliary({head})", loss="margin"))
    if capabilities.auxiliary:
        suite += _on(capabilities, "sum(2)")
    if capabilities.select:
        suite += _on(capabilities, "label_gate")
        for temperature in ("0.1", "1"):
            suite += _on(capabilities, f"straight_through({temperature})")
    if capabilities.training_loss:
        suite.append(attack_spec("apgd_ce", surface="training_loss"))
    done = _standard(capabilities)
    return [spec for spec in dict.fromkeys(suite) if spec not in done]


def _on(capabilities: Capabilities, surface: str) -> list[AttackSpec]:
    """Auto-PGD with cross-entropy and with a loss that no rescaling changes."""
    free = (
        attack_spec("apgd_dlr", surface=surface)
        if capabilities.classes >= 3
        else attack_spec("apgd_ce", surface=surface, loss="margin")
    )
    return [attack_spec("apgd_ce", surface=surface), free]


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "standard",
            1,
            "fgsm, pgd-40, apgd_ce, apgd_t and square (1,000 queries) on the deployed logits",
            first=_standard,
        ),
        Protocol(
            "adaptive",
            1,
            "standard 1, then every surface that the model's capabilities allow, on the survivors",
            first=_standard,
            second=_surfaces,
            first_stage="standard-1",
        ),
    )
}


def protocol_named(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        HarnessError: nothing has that name.
    """
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


def check_wanted(wanted: Wanted, capabilities: Capabilities, norm: str) -> None:
    """Refuse what this model or norm does not allow, before anything runs.

    Raises:
        HarnessError: an attack is not defined for the norm, a loss not for so few classes, or a
            surface is not exposed.
    """
    for spec, _ in wanted:
        entry = ATTACKS[spec.attack]
        if norm not in entry.norms:
            raise HarnessError(
                f"the attack '{spec.attack}' is not defined for {norm}, only for "
                f"{', '.join(entry.norms)}. Choose attacks with --attacks."
            )
        check_reachable(spec.surface, capabilities)
        check_classes(spec.loss, capabilities.classes)
