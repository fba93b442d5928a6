"""Hypersphere embedding: unit features, unit class weights, cosines or angles, on every base."""

from dataclasses import dataclass, replace

from harness.catalogue import PUBLISHED, UNVALIDATED, Paper, Variant, addition, composed
from harness.defense import Defense
from harness.errors import HarnessError
from harness.heads.hypersphere import Hypersphere
from harness.heads.linear import Linear
from harness.recipe import RECIPES

HE = Paper(
    "Boosting Adversarial Training with Hypersphere Embedding", "2002.08619", "Pang et al.", 2020
)

RECIPES["H-C10-wd"] = replace(RECIPES["H-C10"], weight_decay=5e-4)
RECIPES["H-C10-code"] = replace(
    RECIPES["H-C10"], epochs=77, drops="75", epsilon="0.031", relative_step=0.007 / 0.031
)


@addition(paper=HE)
def he(
    base: Defense,
    *,
    scale: float = 15.0,
    margin: float = 0.2,
    weight_norm: str = "divide",
    inner_scale: str = "s",
) -> Defense:
    """Cosine logits: unit features, unit class weights, a margin on the true class in training.

    Deployed logits are bare cosines, on which cross-entropy attacks are weak; the adaptive
    protocol attacks them at the scale of training.

    Args:
        base: what it is added to.
        scale: s, what unit logits are multiplied by in training, in [0.1, 1000] (HE, eq. 6).
        margin: m, subtracted from the true class's logit in training only (HE, eq. 6).
        weight_norm: `divide` differentiates through the length of the class weights, `project`
            overwrites them with unit rows as the authors' code does.
        inner_scale: what inner attacks and agreements multiply logits by: `s` as the authors'
            code, or `1` as the formulas (HE, table 1).
    """
    head = Hypersphere(scale, margin, weight_norm=weight_norm, inner_scale=inner_scale)
    return _with_head(base, head)


@addition(paper=HE)
def mhe(
    base: Defense,
    *,
    scale: float = 15.0,
    margin: float = 0.1,
    weight_norm: str = "divide",
    inner_scale: str = "s",
) -> Defense:
    """Negative angles as logits, with a margin on the true class in training (m-HE).

    The decision is that of the cosines, the losses and their gradients are not.

    Args:
        base: what it is added to.
        scale: s, what unit logits are multiplied by in training, in [0.1, 1000] (HE, eq. 6).
        margin: m, subtracted from the true class's angle logit in training only (HE, table 10).
        weight_norm: `divide` differentiates through the length of the class weights, `project`
            overwrites them with unit rows as the authors' code does.
        inner_scale: what inner attacks and agreements multiply logits by: `s` as the authors'
            code, or `1` as the formulas (HE, table 1).
    """
    head = Hypersphere(
        scale, margin, view="angle", weight_norm=weight_norm, inner_scale=inner_scale
    )
    return _with_head(base, head)


@addition(paper=HE)
def fn(
    base: Defense,
    *,
    scale: float = 10.0,
    margin: float = 0.0,
    inner_scale: str = "s",
) -> Defense:
    """Unit features before the linear layer, class weights of any length (FN alone).

    The paper gives no scale for it; 10 is that of the authors' ImageNet commands.

    Args:
        base: what it is added to.
        scale: s, what logits are multiplied by in training, in [0.1, 1000]; 10 as in the authors'
            ImageNet commands, since the paper gives none.
        margin: m, subtracted from the true class's logit in training only (HE, eq. 6).
        inner_scale: what inner attacks and agreements multiply logits by: `s` as the authors'
            code, or `1` as the formulas (HE, table 1).
    """
    head = Hypersphere(scale, margin, units="features", inner_scale=inner_scale)
    return _with_head(base, head)


@addition(paper=HE)
def wn(
    base: Defense,
    *,
    scale: float = 1.0,
    margin: float = 0.0,
    weight_norm: str = "divide",
    inner_scale: str = "s",
) -> Defense:
    """Unit class weights, features of any length (WN alone).

    The paper gives no scale for it; 1 is that of the authors' ImageNet commands.

    Args:
        base: what it is added to.
        scale: s, what logits are multiplied by in training, in [0.1, 1000]; 1 as in the authors'
            ImageNet commands, since the paper gives none.
        margin: m, subtracted from the true class's logit in training only (HE, eq. 6).
        weight_norm: `divide` differentiates through the length of the class weights, `project`
            overwrites them with unit rows as the authors' code does.
        inner_scale: what inner attacks and agreements multiply logits by: `s` as the authors'
            code, or `1` as the formulas (HE, table 1).
    """
    head = Hypersphere(
        scale, margin, units="weights", weight_norm=weight_norm, inner_scale=inner_scale
    )
    return _with_head(base, head)


@addition(paper=HE)
def fn_wn(
    base: Defense,
    *,
    scale: float = 15.0,
    weight_norm: str = "divide",
    inner_scale: str = "s",
) -> Defense:
    """Cosine logits without margin (FN and WN); with a margin it is `he`.

    Args:
        base: what it is added to.
        scale: s, what unit logits are multiplied by in training, in [0.1, 1000] (HE, eq. 6).
        weight_norm: `divide` differentiates through the length of the class weights, `project`
            overwrites them with unit rows as the authors' code does.
        inner_scale: what inner attacks and agreements multiply logits by: `s` as the authors'
            code, or `1` as the formulas (HE, table 1).
    """
    head = Hypersphere(scale, 0.0, weight_norm=weight_norm, inner_scale=inner_scale)
    return _with_head(base, head)


def _with_head(base: Defense, head: Hypersphere) -> Defense:
    """The base with another head.

    Raises:
        HarnessError: it has one already, or its weight perturbation moves weights that each pass
            would put back on the sphere.
    """
    if not isinstance(base.head, Linear):
        raise HarnessError(
            "two heads: a network has one classifier, and this defense already replaces its "
            "linear one. Choose one of fn, wn, fn_wn, he and mhe."
        )
    if head.projects and base.perturbation is not None:
        raise HarnessError(
            "weight_norm project overwrites the class weights at each pass, so a weight "
            "perturbation of them would be undone: choose weight_norm=divide."
        )
    return replace(base, head=head)


@dataclass(frozen=True)
class _Framework:
    """How one base is combined with every head.

    Args:
        title: of the base, in a sentence.
        recipe: id in `RECIPES`.
        scale, margin: of `he`; `fn_wn` takes the scale. The read-me of the authors' code has them
            per framework, their paper has 15 and 0.2 for all; FreeAT's and FastAT's on CIFAR-10
            are stated nowhere.
        published: heads with which the paper has results.
    """

    title: str
    recipe: str
    scale: float
    margin: float
    published: tuple[str, ...] = ("he", "mhe")


_FRAMEWORKS = {
    "pgd_at": _Framework("PGD-AT", "H-C10", 10.0, 0.2, ("fn", "wn", "fn_wn", "he", "mhe")),
    "trades": _Framework("TRADES", "H-C10", 15.0, 0.2, ("fn_wn", "he", "mhe")),
    "alp": _Framework("ALP", "H-C10", 20.0, 0.3),
    "free_at": _Framework("FreeAT", "H-Free", 15.0, 0.2),
    "fast_at": _Framework("FastAT", "H-Fast", 15.0, 0.2),
}
_HEADS = {
    "fn": "unit features",
    "wn": "unit class weights",
    "fn_wn": "unit features and unit class weights, without margin",
    "he": "cosine logits and a margin on the true class",
    "mhe": "negative angles as logits and a margin on the true class",
}
_TABLE_6 = Variant(architecture="wrn_34_20", recipe="H-C10-wd")


def _name(base: str, head: str) -> None:
    """Give the base with this head its name, recipe and defaults."""
    framework = _FRAMEWORKS[base]
    own = {"he": ("scale", "margin"), "fn_wn": ("scale",)}.get(head, ())
    is_known = head in framework.published
    ending = "." if is_known else ": no paper tried this."
    composed(
        base,
        head,
        paper=HE,
        recipe=framework.recipe,
        family="HE",
        description=f"{framework.title} with {_HEADS[head]}{ending}",
        status=PUBLISHED if is_known else UNVALIDATED,
        defaults={key: getattr(framework, key) for key in own},
        variants=(_TABLE_6,) if (base, head) == ("pgd_at", "he") else (),
    )


for _base in _FRAMEWORKS:
    for _head in _HEADS:
        _name(_base, _head)
