"""ANCRA: asymmetric negative contrast and reverse attention, together and apart."""

from dataclasses import replace

from harness.batch import CLEAN, PerHead
from harness.catalogue import Paper, Variant, addition, composed
from harness.defense import Defense
from harness.errors import HarnessError
from harness.hooks.reverse_attention import ReverseAttention
from harness.maximisers.negatives import InBatchNegatives
from harness.regularisers.negative_contrast import NegativeContrast

ANCRA = Paper(
    "Enhancing Robust Representation in Adversarial Training: Alignment and Exclusion Criteria",
    "2310.03358",
    "Zhou et al.",
    2023,
)


@addition(paper=ANCRA)
def ancra(
    base: Defense,
    *,
    zeta: float = 3.0,
    alpha: float = 1.0,
    negatives: str = "random_adv",
    anchor_bn: str = "train",
    auxiliary_weight: float = 2.0,
    hooked_blocks: int = 2,
    final_bn: str = "shared",
    detach_mask: bool = False,
) -> Defense:
    """Push classes apart (zeta) and reweight channels by class.

    The decision is the first auxiliary output's, so only the adaptive protocol measures this
    defense fairly. Without contrast (zeta 0) no negatives are made: that is reverse attention
    alone, at two thirds of the cost.

    Args:
        base: what it is added to.
        zeta: weight of the contrast (ANCRA, eq. 1); 0 leaves it out.
        alpha: in [0, 1]: 1 pushes the negative alone, 0 the anchor alone (ANCRA, eq. 3 and 4).
        negatives: how a negative is chosen (ANCRA, supplement): `random`, `soft_ls`, `hard_ls` or
            `easy`, attacked with `_adv` behind it.
        anchor_bn: BatchNorm mode of the anchors' own pass, `train` or `eval`; PGD-AT needs one
            (ours: the paper is silent).
        auxiliary_weight: of the mean loss of the auxiliary outputs beside that of the final one
            (ANCRA, code: 2, which is the paper's plain sum of three).
        hooked_blocks: how many of the last stage's last blocks are reweighted (ANCRA, section
            3.3): 2 in every published net.
        final_bn: `shared` as published, or `per_block`: who normalises after the hooked blocks of
            a pre-activation net.
        detach_mask: whether to cut the gradient that reaches the classifier through the masks; the
            authors' code keeps it.
    """
    contrasted = anc(base, zeta=zeta, alpha=alpha, negatives=negatives, anchor_bn=anchor_bn)
    return _gated(
        contrasted,
        ReverseAttention(blocks=hooked_blocks, final_bn=final_bn, detach_mask=detach_mask),
        auxiliary_weight,
    )


@addition(paper=ANCRA)
def anc(
    base: Defense,
    *,
    zeta: float = 3.0,
    alpha: float = 1.0,
    negatives: str = "random_adv",
    anchor_bn: str = "train",
) -> Defense:
    """Push classes apart (zeta): each image against one of another class that imitates it.

    A base that never looks at clean images, such as PGD-AT, gets a pass over them for the anchors;
    `anchor_bn=eval` keeps it from moving the running statistics.

    Args:
        base: what it is added to.
        zeta: weight of the contrast (ANCRA, eq. 1); 0 leaves it out.
        alpha: in [0, 1]: 1 pushes the negative alone, 0 the anchor alone (ANCRA, eq. 3 and 4).
        negatives: how a negative is chosen (ANCRA, supplement): `random`, `soft_ls`, `hard_ls` or
            `easy`, attacked with `_adv` behind it.
        anchor_bn: BatchNorm mode of the anchors' own pass, `train` or `eval`; PGD-AT needs one
            (ours: the paper is silent).
    """
    if base.negatives is not None or base.hook is not None:
        raise _both("contrast")
    own = anchor_bn != "train" or CLEAN not in base.needs
    contrast = NegativeContrast(weight=zeta, alpha=alpha, anchors=anchor_bn if own else "shared")
    source = InBatchNegatives(strategy=negatives)
    if not zeta:
        return base
    return replace(base, regularisers=(*base.regularisers, contrast), negatives=source)


@addition(paper=ANCRA)
def ra(
    base: Defense,
    *,
    auxiliary_weight: float = 2.0,
    hooked_blocks: int = 2,
    final_bn: str = "shared",
    detach_mask: bool = False,
) -> Defense:
    """Reweight the last channels by the class that the network itself prefers.

    The decision is the first auxiliary output's, so only the adaptive protocol measures this
    defense fairly.

    Args:
        base: what it is added to.
        auxiliary_weight: of the mean loss of the auxiliary outputs beside that of the final one
            (ANCRA, code: 2, which is the paper's plain sum of three).
        hooked_blocks: how many of the last stage's last blocks are reweighted (ANCRA, section
            3.3): 2 in every published net.
        final_bn: `shared` as published, or `per_block`: who normalises after the hooked blocks of
            a pre-activation net.
        detach_mask: whether to cut the gradient that reaches the classifier through the masks; the
            authors' code keeps it.
    """
    if base.negatives is not None:
        raise _both("reverse attention")
    hook = ReverseAttention(blocks=hooked_blocks, final_bn=final_bn, detach_mask=detach_mask)
    return _gated(base, hook, auxiliary_weight)


def _gated(base: Defense, hook: ReverseAttention, auxiliary_weight: float) -> Defense:
    if base.hook is not None:
        raise _both("reverse attention")
    return replace(base, hook=hook, combine=PerHead(auxiliary_weight=auxiliary_weight))


def _both(part: str) -> HarnessError:
    return HarnessError(
        f"{part} is added to a defense that has negatives or a hook in its last stage: ancra is "
        "contrast and reverse attention in one, so add that to a plain base, as in trades+ancra."
    )


_TINY = Variant(dataset="tiny_imagenet", recipe="A-TIN")
_WIDE = tuple(Variant(architecture=name, recipe="A-WRN") for name in ("wrn_28_10", "wrn_34_10"))
_CONTRASTED = (_TINY, replace(_WIDE[0], settings={"zeta": 6.0}), _WIDE[1])
_BASES = {"pgd_at": "PGD-AT", "trades": "TRADES", "mart": "MART"}

for _base, _title in _BASES.items():
    composed(
        _base,
        "ancra",
        paper=ANCRA,
        recipe="A-R18",
        family="ANCRA",
        description=f"{_title} with asymmetric negative contrast and reverse attention.",
        defaults={"inner": "ce"} if _base == "trades" else {},
        variants=_CONTRASTED,
    )

composed(
    "trades",
    "anc",
    paper=ANCRA,
    recipe="A-R18",
    family="ANCRA",
    description="TRADES with asymmetric negative contrast, without reverse attention.",
    defaults={"inner": "ce"},
    variants=_CONTRASTED,
)

composed(
    "trades",
    "ra",
    paper=ANCRA,
    recipe="A-R18",
    family="ANCRA",
    description="TRADES with reverse attention, without contrast.",
    defaults={"inner": "ce"},
    variants=(_TINY, *_WIDE),
)
