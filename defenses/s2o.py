"""S2O: second-order statistics on PGD-AT or TRADES, as a defense and as an addition."""

from dataclasses import replace

from harness.batch import ADVERSARIAL, CLEAN
from harness.catalogue import Paper, Variant, addition, by_name, defense
from harness.defense import Defense
from harness.errors import HarnessError
from harness.objectives.cross_entropy import CrossEntropy
from harness.objectives.second_order import SecondOrder
from harness.objectives.trades import Trades
from harness.recipe import RECIPES

S2O = Paper(
    "Enhancing Adversarial Training with Second-Order Statistics of Weights",
    "2203.06020",
    "Jin et al.",
    2022,
)

RECIPES["S2O"] = replace(
    RECIPES["A-R18"],
    architecture="preactresnet18",
    epochs=200,
    learning_rate=0.1,
    drops="100,150",
    weight_decay=5e-4,
    relative_step=0.25,
)


@addition(paper=S2O)
@defense(paper=S2O, variants=(Variant(base="trades"),))
def s2o(
    base: Defense | str = "pgd_at", *, target_share: float = 0.0, own_class_mass: float = 0.2
) -> Defense:
    """Part of the cross-entropy learns how the classes of the batch relate.

    A `target_share` of 0 means the authors': 0.1 on PGD-AT, 0.3 on TRADES. They put 0.02 on the
    own class for CIFAR-100 with AWP. The default recipe is that of ANCRA's table (A-R18);
    `--recipe S2O` is the authors' own. A base given by name starts its attack as theirs does:
    uniformly in the ball where it has the choice.

    Args:
        base: name of the defense that it is put on, or the defense itself.
        target_share: share of the soft targets in the cross-entropy, in [0, 1]; 0 means the
            authors' (code: 0.1 on PGD-AT, 0.3 on TRADES).
        own_class_mass: of a soft target, on the label, in [0, 1] (authors' code: 0.2; 0.02 for
            CIFAR-100 with AWP).
    """
    plain = by_name(base) if isinstance(base, str) else base
    objective = plain.objective
    if isinstance(objective, Trades):
        made = SecondOrder(
            on=CLEAN,
            beta=objective.beta,
            target_share=target_share or 0.3,
            own_class_mass=own_class_mass,
            detach_clean=objective.detach_clean,
        )
    elif isinstance(objective, CrossEntropy) and objective.on == ADVERSARIAL:
        made = SecondOrder(target_share=target_share or 0.1, own_class_mass=own_class_mass)
    else:
        raise HarnessError(
            "s2o is defined for the losses of PGD-AT and TRADES alone, and this defense has "
            f"{plain.composition()['objective']}. Choose base=pgd_at or base=trades."
        )
    return replace(plain, objective=made)
