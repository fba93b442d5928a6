"""FAT: friendly adversarial training, on a base whose attack stops early."""

from dataclasses import replace

from harness.catalogue import DEFENSES, Paper, Variant, defense
from harness.defense import Defense
from harness.errors import HarnessError
from harness.maximisers.early_stopped import EarlyStoppedPgd
from harness.maximisers.pgd import Pgd
from harness.recipe import RECIPES
from harness.steps.schedules import parse_drops

RECIPES["FAT"] = replace(
    RECIPES["F-main"], epochs=120, drops="60,90,110", factors="0.1,0.01,0.005", teacher=""
)
RECIPES["FAT-TRADES"] = replace(RECIPES["F-main"], epochs=85, drops="75", teacher="")


@defense(
    paper=Paper(
        "Attacks Which Do Not Kill Training Make Adversarial Learning Stronger",
        "2002.11242",
        "Zhang et al.",
        2020,
    ),
    recipe="FAT",
    variants=(
        Variant(
            base="trades",
            recipe="FAT-TRADES",
            settings={
                "start": "normal",
                "patience_ends": "30,50,70",
                "patience_epochs": 85,
                "escape": 0.0,
            },
        ),
    ),
)
def fat(
    *,
    base: str = "pgd_at",
    start: str = "uniform",
    patience_ends: str = "50,90",
    patience_epochs: int = 120,
    escape: float = 0.001,
) -> Defense:
    """A base whose PGD leaves an image alone soon after it is misclassified.

    How soon depends on the epoch: at once up to epoch 50 of 120, one step later up to 90, then
    two. With `base=trades` the ends are 30, 50 and 70 of 85.

    Args:
        base: name of the defense that it is put on.
        start: of the training attack: `uniform` in the ball for PGD-AT, `normal` for TRADES.
        patience_ends: last epochs with patience 0, 1 and so on, of `patience_epochs` (authors'
            code).
        patience_epochs: length of the authors' run; a shorter one changes at the same fractions.
        escape: deviation of the normal noise in every step, on the [0, 1] pixel scale (authors'
            code).
    """
    plain, _ = DEFENSES[base].compose({})
    attack = plain.maximiser
    if type(attack) is not Pgd:
        raise HarnessError(
            f"fat stops plain PGD early, and the training attack of {base} is "
            f"{plain.composition().get('maximiser', 'none')}. Choose base=pgd_at or base=trades."
        )
    stopped = EarlyStoppedPgd(
        climbs=attack.climbs,
        start=start,
        noise=attack.noise,
        patience_ends=_ends(patience_ends),
        run_length=patience_epochs,
        escape=escape,
    )
    return replace(plain, maximiser=stopped)


def _ends(text: str) -> tuple[int, ...]:
    try:
        return parse_drops(text)
    except HarnessError as error:
        raise HarnessError(
            f"patience_ends are increasing epochs such as 50,90 but are '{text[:60]}'."
        ) from error
