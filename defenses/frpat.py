"""FRPAT: flexible relation preserving, with a clean teacher beside the student."""

from dataclasses import replace

from harness.catalogue import Paper, Variant, addition, composed
from harness.defense import Companion, Defense
from harness.identity import Value
from harness.regularisers.flexible_relations import FlexibleRelations

FRPAT = Paper("Flexible Relation Preserving Adversarial Training")

_HARDER: dict[str, Value] = {"relation_weight": 20.0, "relation_schedule": "ramp"}
_VARIANTS = (
    Variant(dataset="cifar100", settings=_HARDER),
    Variant(dataset="tiny_imagenet", settings=_HARDER),
    Variant(dataset="tiny_imagenet_32", recipe="F-TIN", settings=_HARDER),
)


@addition(paper=FRPAT)
def frpat(
    base: Defense,
    *,
    relation_weight: float = 5.0,
    relation_schedule: str = "none",
    relation_reduction: str = "sum",
    shared_rho: bool = False,
    detach_rho: bool = False,
) -> Defense:
    """Adversarial features keep the neighbourhoods of a clean teacher's.

    The weight is CIFAR-10's; with more classes the paper uses 20 and `relation_schedule=ramp`.

    Args:
        base: what it is added to.
        relation_weight: lambda: 5 on CIFAR-10, 20 with more classes (FRPAT, table 6).
        relation_schedule: of the weight over the epochs: `none`, `ramp` from 0 to 1, or `literal`
            as printed, which starts at 1.46 and so is hardly meant.
        relation_reduction: `sum` as eq. 8 prints it, `row` (over N) or `pair` (over N^2).
        shared_rho: whether the student's affinities count from the teacher's nearest distances, as
            eq. 7 prints it.
        detach_rho: whether to cut the gradient of the nearest distances; the paper is silent.
    """
    relations = FlexibleRelations(
        weight=relation_weight,
        schedule=relation_schedule,
        reduction=relation_reduction,
        shared_rho=shared_rho,
        detach_rho=detach_rho,
    )
    return replace(
        base,
        regularisers=(*base.regularisers, relations),
        companion=base.companion or Companion(),
    )


def _compose(*parts: str, description: str) -> None:
    """One row of FRPAT's tables."""
    composed(
        *parts,
        paper=FRPAT,
        recipe="F-main",
        family="FRPAT",
        description=description,
        variants=_VARIANTS,
    )


_compose(
    "pgd_at",
    "frpat",
    description="PGD-AT whose adversarial features keep the neighbourhoods of a clean teacher's.",
)
_compose(
    "trades",
    "frpat",
    description="TRADES whose adversarial features keep the neighbourhoods of a clean teacher's.",
)
_compose(
    "pgd_at",
    "lbgat",
    "frpat",
    description="PGD-AT with a clean teacher for logits (LBGAT) and neighbourhoods (FRPAT).",
)
_compose(
    "trades",
    "lbgat",
    "frpat",
    description="TRADES with a clean teacher for logits (LBGAT) and neighbourhoods (FRPAT).",
)
