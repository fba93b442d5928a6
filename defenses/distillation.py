"""What FRPAT compares itself with: other relations, contrast with a teacher, contrast alone."""

from dataclasses import replace

from harness.catalogue import Paper, Variant, addition, composed
from harness.defense import Companion, Defense
from harness.regularisers.contrastive_distillation import ContrastiveDistillation
from harness.regularisers.relational_distillation import RelationalDistillation
from harness.regularisers.supervised_contrast import SupervisedContrast

RKD = Paper("Relational Knowledge Distillation", "1904.05068", "Park et al.", 2019)
CRD = Paper("Contrastive Representation Distillation", "1910.10699", "Tian et al.", 2020)
SUPCON = Paper("Supervised Contrastive Learning", "2004.11362", "Khosla et al.", 2020)


@addition(paper=RKD)
def rkd(
    base: Defense,
    *,
    rkd_weight: float = 5.0,
    rkd_schedule: str = "none",
    rkd_relation: str = "cosine",
    rkd_distance_weight: float = 25.0,
    rkd_angle_weight: float = 50.0,
) -> Defense:
    """Adversarial features keep the distances of a clean teacher's.

    `rkd_relation=original` uses that paper's distances and angles, each with its own weight, in
    place of cosine distances.

    Args:
        base: what it is added to.
        rkd_weight: of the cosine relation; as FRPAT's own lambda, since it states no other.
        rkd_schedule: of that weight over the epochs: `none`, `ramp` or `literal`.
        rkd_relation: `cosine` (FRPAT, table 4) or `original`: distances and angles
            (Park et al., 2019).
        rkd_distance_weight: of the original's distances (RKD, section 4.1).
        rkd_angle_weight: of the original's angles (RKD, section 4.1).
    """
    relations = RelationalDistillation(
        weight=rkd_weight,
        schedule=rkd_schedule,
        relation=rkd_relation,
        distance_weight=rkd_distance_weight,
        angle_weight=rkd_angle_weight,
    )
    return replace(
        base,
        regularisers=(*base.regularisers, relations),
        companion=base.companion or Companion(),
    )


@addition(paper=CRD)
def crd(
    base: Defense,
    *,
    crd_weight: float = 0.8,
    crd_negatives: int = 16384,
    crd_temperature: float = 0.07,
    crd_momentum: float = 0.5,
) -> Defense:
    """Adversarial features recognise their image in a bank of a clean teacher's, and vice versa.

    Args:
        base: what it is added to.
        crd_weight: of both directions together (CRD, code).
        crd_negatives: drawn from the bank per image, at most the other training images.
        crd_temperature: of the scores (CRD, code: 0.07).
        crd_momentum: share of the former entry when a bank is renewed, in [0, 1].
    """
    contrast = ContrastiveDistillation(
        weight=crd_weight,
        negatives=crd_negatives,
        temperature=crd_temperature,
        momentum=crd_momentum,
    )
    return replace(
        base,
        regularisers=(*base.regularisers, contrast),
        companion=base.companion or Companion(),
    )


@addition(paper=SUPCON)
def supcon(
    base: Defense, *, supcon_weight: float = 1.0, supcon_temperature: float = 0.1
) -> Defense:
    """Clean and adversarial features of one class lie together.

    Args:
        base: what it is added to.
        supcon_weight: of the contrast; ours, as no formula is public.
        supcon_temperature: of the contrast (Khosla et al.: 0.1).
    """
    contrast = SupervisedContrast(weight=supcon_weight, temperature=supcon_temperature)
    return replace(base, regularisers=(*base.regularisers, contrast))


composed(
    "pgd_at",
    "rkd",
    paper=RKD,
    recipe="F-main",
    family="baseline",
    description="PGD-AT whose adversarial features keep the distances of a clean teacher's.",
    variants=(Variant(dataset="cifar100", settings={"rkd_weight": 20.0, "rkd_schedule": "ramp"}),),
)
composed(
    "pgd_at",
    "crd",
    paper=CRD,
    recipe="F-main",
    family="baseline",
    description="PGD-AT with contrastive distillation from a clean teacher.",
)
composed(
    "pgd_at",
    "supcon",
    name="mca",
    paper=SUPCON,
    recipe="F-main",
    family="baseline",
    description="MCA-style reconstruction, PGD-AT with supervised contrast: no public formula.",
)
