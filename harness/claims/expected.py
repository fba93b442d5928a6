"""What must hold of the published figures: how many they are, where they contradict themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

COUNTS: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "ancra_iclr": {
            **{"1": 120, "2": 12, "3": 12, "4": 8, "5": 16},
            **{"6": 12, "7": 12, "8": 15, "9": 16, "10": 12},
        },
        "ancra_supp": {"1": 9},
        "ancra_summary": {"headline": 4},
        "frpat": {"1": 75, "2": 75, "3": 6, "4": 20, "5": 12, "6": 10},
        "frpat_supp": {"1": 16, "2": 16, "3": 16, "4": 24, "5": 24, "6": 8, "7": 40, "8": 32},
        "he": {
            **{"2": 54, "3": 18, "4": 24, "5": 103, "6": 6, "7": 4, "8": 42},
            **{"9": 22, "10": 63, "11": 449, "12": 150, "text_4.1": 8},
        },
    }
)
"""Figures per source and table."""

_CORRUPTIONS = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur"),
    *("motion_blur", "zoom_blur", "snow", "frost", "fog"),
    *("brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)

UNITS: Mapping[str, str] = MappingProxyType(
    {
        "clean_accuracy": "percent",
        "robust_accuracy": "percent",
        "mean_robust_accuracy": "percent",
        "corruption_accuracy": "percent",
        "mean_corruption_accuracy": "percent",
        "relationship_score_clean": "percent",
        "relationship_score_robust": "percent",
        "clean_accuracy_gain": "percentage_points",
        "robust_accuracy_gain": "percentage_points",
        "relationship_score_clean_gain": "percentage_points",
        "relationship_score_robust_gain": "percentage_points",
        "robust_overfitting_gap": "percentage_points",
        "train_seconds_per_epoch": "seconds",
        "train_minutes": "minutes",
    }
)
"""Every metric with its unit."""

RANGES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "percent": (0, 100),
        "percentage_points": (0, 15),
        "seconds": (500, 1500),
        "minutes": (5, 30),
    }
)
"""Where the figures of a unit lie; a slipped decimal point falls outside."""

ALLOWED: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "source": frozenset(COUNTS),
        "dataset": frozenset(
            {"cifar10", "cifar100", "tiny_imagenet", "imagenet", "cifar10_c", "imagenet_c"}
        ),
        "architecture": frozenset(
            {
                *("resnet18", "preactresnet18", "resnet50", "resnet152", "unspecified"),
                *("wrn_28_10", "wrn_34_10", "wrn_34_20", "wrn_50_2", "wrn_101_2"),
            }
        ),
        "metric": frozenset(UNITS),
        "attack": frozenset(
            {
                *("none", "mean", "unspecified", "all_corruptions", *_CORRUPTIONS),
                *("pgd", "fgsm", "cw_linf", "autoattack", "mim", "deepfool", "feature_attack"),
                *("fab", "spsa", "nes", "zoo", "rays"),
            }
        ),
        "knowledge": frozenset(
            {
                *("white_box", "adaptive", "transfer", "query", "corruption", "none"),
                "unspecified",
            }
        ),
        "epsilon": frozenset({"", "8/255", "4/255", "0.031"}),
        "norm": frozenset({"", "linf"}),
        "unit": frozenset(UNITS.values()),
    }
)
"""The values that a column may have."""


@dataclass(frozen=True)
class Repeat:
    """Two tables that print the same figures.

    Args:
        first: source and table.
        again: source and table that repeats it.
        shared: how many figures are in both.
        variant: of the repeated figures, empty for any.
        of: the defense of `first` whose figures are repeated under another name, else empty.
    """

    first: tuple[str, str]
    again: tuple[str, str]
    shared: int
    variant: str = ""
    of: str = ""


REPEATS = (
    Repeat(("ancra_iclr", "1"), ("ancra_iclr", "5"), 5),
    Repeat(("ancra_iclr", "1"), ("ancra_iclr", "10"), 6),
    Repeat(("ancra_iclr", "1"), ("ancra_summary", "headline"), 3),
    Repeat(("ancra_iclr", "2"), ("ancra_iclr", "8"), 12),
    Repeat(("ancra_iclr", "3"), ("ancra_iclr", "5"), 6),
    Repeat(("ancra_iclr", "4"), ("ancra_iclr", "9"), 8),
    Repeat(("ancra_iclr", "8"), ("ancra_supp", "1"), 9),
    Repeat(("frpat", "2"), ("frpat", "4"), 8),
    Repeat(("frpat", "2"), ("frpat", "5"), 4, variant="batch_size=128"),
    Repeat(("frpat", "2"), ("frpat", "6"), 2, variant="lambda=20"),
    Repeat(("frpat", "2"), ("frpat_supp", "2"), 4, "teacher=resnet18", of="trades_lbgat_frpat"),
    Repeat(("frpat", "2"), ("frpat_supp", "6"), 4),
    Repeat(("he", "2"), ("he", "9"), 2, variant="s=15,m=0.2,sweep=m"),
    Repeat(("he", "2"), ("he", "9"), 2, variant="s=15,m=0.2,sweep=s"),
    Repeat(("he", "2"), ("he", "10"), 42),
)
"""Tables that print the same figures."""

_OF_FOUR = "mean_robust_accuracy mean white_box mean_of=pgd+fgsm+cw_linf+autoattack"
_GAP = "robust_overfitting_gap pgd white_box best_epoch_minus_last_epoch"
_BLUR = "corruption severity=mean_1_to_5"
_CELL = "robust_accuracy pgd"

CONTRADICTIONS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "mean over attacks": frozenset({f"ancra_iclr 1 cifar100 awp {_OF_FOUR}"}),
        "gain": frozenset(
            {
                "frpat 1 cifar10 trades_lbgat_frpat relationship_score_clean_gain "
                "relative_to=trades_lbgat"
            }
        ),
        "overfitting gap": frozenset(
            {
                f"frpat_supp 4 cifar10 trades_lbgat {_GAP}",
                f"frpat_supp 5 cifar100 trades_lbgat {_GAP}",
                f"frpat_supp 5 cifar100 pgd_at_lbgat_frpat {_GAP}",
            }
        ),
        "mean over corruptions": frozenset(
            {
                f"he 5 cifar10_c alp_he corruption_accuracy defocus_blur {_BLUR}",
                f"he 5 cifar10_c alp_he corruption_accuracy glass_blur {_BLUR}",
                f"he 5 cifar10_c pgd_at_he corruption_accuracy defocus_blur {_BLUR}",
                "he 5 imagenet_c free_at_he mean_corruption_accuracy all_corruptions "
                f"{_BLUR},corruptions=15",
            }
        ),
        "above clean accuracy": frozenset(
            {
                *(
                    f"ancra_iclr 1 cifar10 {defense} robust_accuracy {attack} white_box"
                    for defense in ("pgd_at_ancra", "trades_ancra", "mart_ancra")
                    for attack in ("pgd", "fgsm", "cw_linf")
                ),
                "ancra_iclr 1 cifar10 s2o robust_accuracy cw_linf white_box",
                "ancra_iclr 1 cifar10 s2o robust_accuracy autoattack white_box",
                "ancra_iclr 1 cifar100 s2o robust_accuracy cw_linf white_box",
                "ancra_iclr 1 cifar100 udr robust_accuracy cw_linf white_box",
                *(
                    f"ancra_iclr 6 cifar10 trades_ancra {_CELL} white_box probability_vector={one}"
                    for one in ("aux0", "aux1", "final")
                ),
            }
        ),
        "printed twice": frozenset(
            {
                "ancra_iclr 8 tiny_imagenet mart clean_accuracy",
                "ancra_summary headline cifar10 mart_ancra clean_accuracy",
                f"frpat 6 cifar100 trades_frpat {_CELL} white_box lambda=20",
                *(
                    f"ancra_supp 1 tiny_imagenet {base}_ancra {what}"
                    for base in ("pgd_at", "trades", "mart")
                    for what in ("clean_accuracy", f"{_CELL} white_box", f"{_CELL} adaptive")
                ),
            }
        ),
    }
)
"""Claims (`checks.label`) that disagree with the figures they should follow from.

A disagreement that is not listed is an error of the file; one that is listed and gone is a figure
that somebody corrected, and figures stay as printed.
"""
