"""Protocols: named, versioned suites that are fixed before any result is seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.attacks.attack import ATTACKS, attack_spec, with_settings
from harness.attacks.autoattack import random_parts, standard_parts
from harness.attacks.losses import check_classes, split_loss
from harness.attacks.surface_text import check_reachable
from harness.errors import HarnessError, unknown_name
from harness.identity import CORRECT, AttackSpec, Capabilities

Wanted = tuple[tuple[AttackSpec, str], ...]
"""Attacks in order, each with its population."""

RESTARTS = 10
"""Random starts that the adaptive protocol spends on the survivors of its best objectives."""

BEST = 2
"""How many objectives get them."""

DRAWS = 20
"""Passes per look at a random model (AutoAttack `rand`)."""

TEMPERATURES = ("0.1", "1")
FACTORS = ("std", "0.1", "10")
"""What multiplies logits under cross-entropy (A8, RA-S4); other losses do not depend on it."""


@dataclass(frozen=True)
class Target:
    """What a suite is made for; nothing else may decide which attacks it holds.

    Args:
        capabilities: what the model exposes.
        norm: of the threat model; attacks that it does not define are left out of later stages.
        surrogates: checkpoints of the pool to transfer from, by the start of their digest.
        checkpoint: digest; only a search, which finds other attacks for each, looks at it.
        has_guides: whether training images are here, which feature attacks draw from.
    """

    capabilities: Capabilities
    norm: str = "linf"
    surrogates: tuple[str, ...] = ()
    checkpoint: str = ""
    has_guides: bool = True


Suite = Callable[[Target], list[AttackSpec]]


@dataclass(frozen=True)
class Protocol:
    """A suite of attacks in up to three stages.

    Args:
        name: what people type.
        version: raised whenever the suite changes; results of two versions are never mixed.
        description: one sentence.
        first: attacks on every image that the checkpoint classifies correctly.
        second: attacks on what survived the first stage.
        first_stage: key of the protocol that the first stage is.
        has_restarts: whether a third stage repeats the best attacks of the second.
    """

    name: str
    version: int
    description: str
    first: Suite
    second: Suite | None = None
    first_stage: str = ""
    has_restarts: bool = False

    @property
    def key(self) -> str:
        """Name and version: `adaptive-2`."""
        return f"{self.name}-{self.version}"

    def wanted(self, target: Target) -> Wanted:
        """Every attack of the first two stages that the model allows."""
        second = self.second(target) if self.second else []
        survivors = f"survivors:{self.first_stage}"
        return (
            *((spec, CORRECT) for spec in self.first(target)),
            *((spec, survivors) for spec in second),
        )

    def restarts(self, best: Iterable[AttackSpec]) -> Wanted:
        """The third stage: the best untargeted gradient attack of each of the best two surfaces.

        Args:
            best: attacks of the second stage, those that broke most first.
        """
        if not self.has_restarts:
            return ()
        chosen: dict[str, AttackSpec] = {}
        for spec in best:
            parameters = dict(spec.parameters)
            is_white = ATTACKS[spec.attack].knowledge == "white_box"
            if is_white and "restarts" in parameters and "targets" not in parameters:
                chosen.setdefault(spec.surface, spec)
        return tuple(
            (with_settings(spec, restarts=RESTARTS), f"survivors:{self.key}")
            for spec in list(chosen.values())[:BEST]
        )


def _standard(target: Target) -> list[AttackSpec]:
    """AutoAttack `standard` (`rand` for a random model) in its parts, and PGD-100."""
    if target.capabilities.is_random:
        parts = random_parts(target.capabilities.classes, draws=DRAWS)
        return [*parts, attack_spec("pgd", steps=100, eot=DRAWS)]
    return [*_auto_attack(target, "logits"), attack_spec("pgd", steps=100)]


def _auto_attack(target: Target, surface: str) -> list[AttackSpec]:
    return standard_parts(target.capabilities.classes, surface=surface)


def _adaptive(target: Target) -> list[AttackSpec]:
    """Objectives A0 to A11 and rows RA-S1 to RA-S13, as far as the model has them."""
    suite = [
        *_deployed(target),
        *_scaled(target),
        *_angles(target),
        *_heads(target),
        *_gates(target),
        *_whole_defense(target),
        *_features(target),
        *_transfer(target),
    ]
    if target.capabilities.is_random:
        suite = [
            with_settings(spec, eot=DRAWS)
            for spec in suite
            if ATTACKS[spec.attack].knowledge == "white_box"
        ]
    done = _standard(target)
    return [spec for spec in _defined(suite, target) if spec not in done]


def _deployed(target: Target) -> list[AttackSpec]:
    """A0: what the standard suite has not climbed on the deployed logits."""
    return [
        *_free(target, "logits"),
        attack_spec("apgd_ce", loss="margin"),
        attack_spec("pgd", steps=100, loss="margin"),
        attack_spec("cw_linf"),
        attack_spec("mim"),
        attack_spec("fab"),
        attack_spec("deepfool"),
        attack_spec("uniform_noise"),
        attack_spec("rays"),
    ]


def _scaled(target: Target) -> list[AttackSpec]:
    """A8: cross-entropy of rescaled logits."""
    return [attack_spec("apgd_ce", loss=f"ce({factor})") for factor in _factors(target)]


def _factors(target: Target) -> list[str]:
    scale = target.capabilities.scale
    if scale != 1.0 or "bounded_logits" in target.capabilities.signs:
        return [*FACTORS, *(f"{factor:.12g}" for factor in sorted({10.0, 15.0, 20.0, scale}))]
    return [*FACTORS]


def _angles(target: Target) -> list[AttackSpec]:
    """A8 where logits are negative angles: their cosines, at every scale."""
    if "angular_logits" not in target.capabilities.signs:
        return []
    scaled = [
        attack_spec("apgd_ce", surface="cosine", loss=f"ce({factor})")
        for factor in _factors(target)
    ]
    return [*_on(target, "cosine"), *scaled]


def _heads(target: Target) -> list[AttackSpec]:
    """A1 to A3, A5: auxiliary heads alone, in sums, together, and one after the other."""
    suite: list[AttackSpec] = []
    heads = target.capabilities.auxiliary
    if heads == 0:
        return suite
    for head in range(heads):
        surface = f"auxiliary({head})"
        suite += _on(target, surface)
        suite += [attack_spec("apgd_ce", surface=surface, loss=f"ce({f})") for f in FACTORS]
        suite += _auto_attack(target, surface)
    suite += _auto_attack(target, "log_softmax_mean")
    for weight in ("0.5", "1", "2", "8"):
        suite += _on(target, f"sum({weight})")
    for final, each in ((1, 1), (0, 1), (1, 2)):
        surface = f"weighted({':'.join([str(final), *[str(each)] * heads])})"
        suite += [*_on(target, surface), attack_spec("apgd_ce", surface=surface, loss="ce(std)")]
    suite.append(attack_spec("apgd_ce", surface="smallest(1)", loss="margin"))
    for head in range(heads):
        surface = f"two_phase({head})"
        suite += [
            attack_spec("pgd", steps=100, surface=surface, loss=loss) for loss in ("ce", "margin")
        ]
        targets = min(9, target.capabilities.classes - 1)
        suite.append(attack_spec("pgd_t", steps=100, surface=surface, targets=targets))
    return suite


def _gates(target: Target) -> list[AttackSpec]:
    """A4, A6 and A11: soft choices backward, and gates of chosen classes."""
    suite: list[AttackSpec] = []
    capabilities = target.capabilities
    if capabilities.select or capabilities.hard:
        for temperature in TEMPERATURES:
            surface = f"straight_through({temperature})"
            suite += [*_on(target, surface), *_auto_attack(target, surface)[1:3]]
    if capabilities.select:
        for surface in ("label_gate", "rival_gate"):
            suite += _on(target, surface)
        targets = min(9, capabilities.classes - 1)
        suite.append(
            attack_spec("apgd_t", surface="target_gate", loss="ce_targeted", targets=targets)
        )
    return suite


def _whole_defense(target: Target) -> list[AttackSpec]:
    """A7 and A9: the training loss, and the same weights without the defense's module."""
    suite: list[AttackSpec] = []
    if target.capabilities.training_loss:
        suite += [
            attack_spec("apgd_ce", surface="training_loss"),
            attack_spec("pgd", steps=100, surface="training_loss"),
        ]
    if target.capabilities.strip:
        for surface in ("stripped", "mixed"):
            suite += _on(target, surface)
    return suite


def _features(target: Target) -> list[AttackSpec]:
    """A10: features before and after a gate, those of the first head, or the logits themselves."""
    surfaces = ["logits"]
    if target.capabilities.features:
        surfaces.append("features")
    if target.capabilities.features and target.capabilities.strip:
        surfaces += ["features(gated)", "features(0)"]
    return [attack_spec("feature_attack", guides=50, surface=surface) for surface in surfaces]


def _transfer(target: Target) -> list[AttackSpec]:
    """From every surrogate of the pool (`attacks.md` section 8)."""
    return [
        attack_spec(attack, surface=f"surrogate({digest})", loss=loss, steps=steps)
        for digest in target.surrogates
        for attack, steps in (("pgd", 20), ("pgd", 100), ("mim", 20))
        for loss in ("ce", "margin")
    ]


def _gradient_standard(target: Target) -> list[AttackSpec]:
    """The standard suite without its queries."""
    return _without_queries(_standard(target))


def _gradient_adaptive(target: Target) -> list[AttackSpec]:
    """The adaptive suite without queries, for further training seeds of a defense."""
    return _without_queries(_adaptive(target))


def _without_queries(suite: Sequence[AttackSpec]) -> list[AttackSpec]:
    queries = {"query", "decision"}
    return [spec for spec in suite if ATTACKS[spec.attack].knowledge not in queries]


def _quick_standard(target: Target) -> list[AttackSpec]:
    """A first look in seconds; AutoAttack's minimal-norm attack and most queries are left out."""
    suite = [attack_spec("fgsm"), attack_spec("pgd", steps=40)]
    return [*_in_expectation(target, suite), *_first_gradients(target), *_few_queries(target)]


def _first_gradients(target: Target) -> list[AttackSpec]:
    """The two parts of AutoAttack that find nearly everything, both by gradients."""
    return _in_expectation(target, _auto_attack(target, "logits")[:-2])


def _few_queries(target: Target) -> list[AttackSpec]:
    """A guard against gradients that lead nowhere, for a fifth of AutoAttack's queries."""
    return _in_expectation(target, [attack_spec("square", queries=1000)])


def _in_expectation(target: Target, suite: list[AttackSpec]) -> list[AttackSpec]:
    if not target.capabilities.is_random:
        return suite
    return [with_settings(spec, eot=DRAWS) for spec in suite]


def _quick_adaptive(target: Target) -> list[AttackSpec]:
    """Most kinds of surface, by Auto-PGD once each and PGD-100 on the margin."""
    capabilities = target.capabilities
    surfaces = ["logits", *(f"auxiliary({head})" for head in range(capabilities.auxiliary))]
    surfaces += ["cosine"] * ("angular_logits" in capabilities.signs)
    surfaces += ["sum(2)"] * (capabilities.auxiliary > 0)
    surfaces += ["label_gate"] * capabilities.select
    if capabilities.select or capabilities.hard:
        surfaces += [f"straight_through({temperature})" for temperature in TEMPERATURES]
    surfaces += ["stripped"] * capabilities.strip
    suite = [spec for surface in surfaces for spec in _on(target, surface)]
    suite.append(attack_spec("pgd", steps=100, loss="margin"))
    suite += _scaled(target)
    if capabilities.training_loss:
        suite.append(attack_spec("apgd_ce", surface="training_loss"))
    suite = _in_expectation(target, suite)
    done = _quick_standard(target)
    return [spec for spec in _defined(suite, target) if spec not in done]


def _adaptive_auto_attack(target: Target) -> list[AttackSpec]:
    """`attacks.md` section 9.2: AutoAttack that knows heads and gate."""
    capabilities = target.capabilities
    surfaces = ["logits", *(f"auxiliary({head})" for head in range(capabilities.auxiliary))]
    if capabilities.select or capabilities.hard:
        surfaces.append("straight_through(1)")
    first = attack_spec("apgd_ce", surface="sum(2)" if capabilities.auxiliary else "logits")
    targeted = [spec for surface in surfaces for spec in _auto_attack(target, surface)[1:3]]
    suite = [first, *targeted, attack_spec("square")]
    return _in_expectation(target, suite)


def _queries(_: Target) -> list[AttackSpec]:
    """Everything that sees scores or labels only."""
    return [
        attack_spec("square"),
        attack_spec("rays"),
        attack_spec("nes", steps=80),
        attack_spec("spsa", steps=80),
        attack_spec("zoo"),
        attack_spec("uniform_noise"),
    ]


def _free(target: Target, surface: str) -> list[AttackSpec]:
    """Auto-PGD with a loss that no rescaling changes."""
    if target.capabilities.classes >= 3:
        return [attack_spec("apgd_dlr", surface=surface)]
    return [attack_spec("apgd_ce", surface=surface, loss="margin")]


def _on(target: Target, surface: str) -> list[AttackSpec]:
    """Auto-PGD with cross-entropy, the ratio and the margin."""
    return [
        attack_spec("apgd_ce", surface=surface),
        *_free(target, surface),
        attack_spec("apgd_ce", surface=surface, loss="margin"),
    ]


def _defined(suite: Sequence[AttackSpec], target: Target) -> list[AttackSpec]:
    """Each once, those left out that the norm or want of training images does not allow."""
    return [
        spec
        for spec in dict.fromkeys(suite)
        if target.norm in ATTACKS[spec.attack].norms
        and (target.has_guides or not ATTACKS[spec.attack].needs_guides)
    ]


def needs_guides(wanted: Wanted) -> bool:
    """Whether any of these attacks draws from training images."""
    return any(ATTACKS[spec.attack].needs_guides for spec, _ in wanted)


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "standard",
            2,
            "apgd_ce, apgd_t, fab_t and square (AutoAttack) and pgd-100 on the deployed logits",
            first=_standard,
        ),
        Protocol(
            "adaptive",
            2,
            "standard 2, then on the survivors every objective that the model's capabilities "
            "allow, then restarts of the best two",
            first=_standard,
            second=_adaptive,
            first_stage="standard-2",
            has_restarts=True,
        ),
        Protocol(
            "standard_gradient",
            1,
            "standard 2 without its queries",
            first=_gradient_standard,
        ),
        Protocol(
            "adaptive_gradient",
            1,
            "adaptive 2 without queries, for further training seeds of a defense",
            first=_gradient_standard,
            second=_gradient_adaptive,
            first_stage="standard_gradient-1",
            has_restarts=True,
        ),
        Protocol(
            "standard_quick",
            1,
            "a reduced look: fgsm, pgd-40, apgd_ce, apgd_t and 1,000 queries of square",
            first=_quick_standard,
        ),
        Protocol(
            "adaptive_quick",
            1,
            "a reduced look: standard_quick 1, then Auto-PGD on most kinds of surface",
            first=_quick_standard,
            second=_quick_adaptive,
            first_stage="standard_quick-1",
        ),
        Protocol(
            "quick_gradient",
            1,
            "apgd_ce and apgd_t, the first stage of quick",
            first=_first_gradients,
        ),
        Protocol(
            "quick",
            1,
            "quick_gradient 1, then 1,000 queries of square on the survivors; not AutoAttack, of "
            "which it leaves out fab_t and most queries",
            first=_first_gradients,
            second=_few_queries,
            first_stage="quick_gradient-1",
        ),
        Protocol(
            "adaptive_autoattack",
            1,
            "AutoAttack with apgd_ce on the sum of all outputs, apgd_t and fab_t on each output "
            "and the soft gate, and square",
            first=_adaptive_auto_attack,
        ),
        Protocol(
            "query",
            1,
            "square, rays, nes, spsa, zoo and uniform noise on every correct image",
            first=lambda target: _defined(_queries(target), target),
        ),
        Protocol(
            "transfer",
            1,
            "pgd-20, pgd-100 and mim-20 from every checkpoint of the pool",
            first=lambda target: _defined(_transfer(target), target),
        ),
    )
}


SEARCH = "search-1"
"""Key of the plan of `harness search`: standard 2, then on the survivors the attacks it found."""


def with_found(found: Mapping[str, Sequence[AttackSpec]]) -> Callable[[Target], Wanted]:
    """What a search wants of each checkpoint.

    Args:
        found: the winning attacks by the checkpoint's digest.
    """
    standard = PROTOCOLS["standard"]
    survivors = f"survivors:{standard.key}"

    def wanted(target: Target) -> Wanted:
        first = standard.wanted(target)
        done = {spec for spec, _ in first}
        second = [spec for spec in found.get(target.checkpoint, ()) if spec not in done]
        return (*first, *((spec, survivors) for spec in second))

    return wanted


def protocol_named(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        HarnessError: nothing has that name.
    """
    if name == "search":
        raise HarnessError("the protocol 'search' needs a budget: harness search NAME --budget N.")
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


def check_wanted(
    wanted: Wanted, capabilities: Capabilities, norm: str, *, has_guides: bool = True
) -> None:
    """Refuse what this model, norm or folder does not allow, before anything runs.

    Raises:
        HarnessError: an attack is not defined for the norm, a loss not for so few classes, a
            surface is not exposed, or there are no training images to draw from.
    """
    for spec, _ in wanted:
        entry = ATTACKS[spec.attack]
        if entry.needs_guides and not has_guides:
            raise HarnessError(
                f"the attack '{spec.attack}' draws from training images, and there are none here: "
                "add the training split to the data, or choose other attacks with --attacks."
            )
        if norm not in entry.norms:
            raise HarnessError(
                f"the attack '{spec.attack}' is not defined for {norm}, only for "
                f"{', '.join(entry.norms)}. Choose attacks with --attacks."
            )
        check_reachable(spec.surface, capabilities)
        if spec.loss != "own":
            check_classes(split_loss(spec.loss)[0], capabilities.classes)
