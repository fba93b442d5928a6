"""LBGAT: a clean teacher's logits guide the student's boundary."""

from dataclasses import replace

from harness.batch import ADVERSARIAL
from harness.catalogue import Paper, addition, composed
from harness.defense import Companion, Defense
from harness.errors import HarnessError
from harness.objectives.agreement import Agreement
from harness.objectives.cross_entropy import CrossEntropy
from harness.objectives.trades import Trades
from harness.recipe import RECIPES
from harness.regularisers.boundary_guidance import BoundaryGuidance

LBGAT = Paper("Learnable Boundary Guided Adversarial Training", "2011.11164", "Cui et al.", 2021)

RECIPES["LBGAT"] = replace(RECIPES["F-main"], warm_up=0.02)


@addition(paper=LBGAT)
def lbgat(
    base: Defense, *, lbgat_teacher_input: str = "clean", lbgat_detach: bool = False
) -> Defense:
    """Adversarial logits follow those of a clean teacher, which learns beside the student.

    On PGD-AT the student keeps its cross-entropy; on TRADES the teacher alone sees the labels and
    the student keeps the agreement (beta). `lbgat_detach` keeps the term from the teacher.

    Args:
        base: what it is added to.
        lbgat_teacher_input: images that the teacher answers to: `clean` as in the authors' code,
            or `adv` as FRPAT prints it (supplement A).
        lbgat_detach: whether the teacher ignores the term (FRPAT, supplement, table 6).
    """
    objective = base.objective
    if isinstance(objective, Trades):
        objective = Agreement(beta=objective.beta, detach_clean=objective.detach_clean)
    elif not (isinstance(objective, CrossEntropy) and objective.on == ADVERSARIAL):
        raise HarnessError(
            "lbgat says what is left of the student's own loss for PGD-AT and TRADES alone (ALP + "
            "LBGAT is only quoted in the papers, without a formula): choose pgd_at or trades."
        )
    guidance = BoundaryGuidance(teacher_input=lbgat_teacher_input, detach=lbgat_detach)
    return replace(
        base,
        objective=objective,
        regularisers=(*base.regularisers, guidance),
        companion=base.companion or Companion(),
    )


composed(
    "pgd_at",
    "lbgat",
    paper=LBGAT,
    recipe="LBGAT",
    family="LBGAT",
    description="PGD-AT whose adversarial logits follow those of a clean teacher.",
)
composed(
    "pgd_at",
    "lbgat",
    name="pgd_at_lbgat_detach",
    paper=LBGAT,
    recipe="LBGAT",
    family="LBGAT",
    description="PGD-AT + LBGAT whose teacher ignores the student.",
    defaults={"lbgat_detach": True},
)
composed(
    "trades",
    "lbgat",
    paper=LBGAT,
    recipe="LBGAT",
    family="LBGAT",
    description="A clean teacher's logits in place of the student's labels, agreement as TRADES.",
)
