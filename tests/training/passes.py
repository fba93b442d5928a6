"""Train-mode passes of one update, by defense: of the student, of the teacher.

As many as the losses have distinct needs (`composition.md` section 3), with training attacks in
evaluation mode. Every defense that the papers print figures of has a line here; another may have
one. Free training counts all its replays.
"""

_ADVERSARIAL_ALONE = (1, 0)
_CLEAN_AND_ADVERSARIAL = (2, 0)
_WITH_NEGATIVES = (3, 0)
_REPLAYS = (8, 0)

PASSES = {
    "standard": (1, 0),
    **dict.fromkeys(["pgd_at", "fast_at", "fat", "gairat", "udr"], _ADVERSARIAL_ALONE),
    **dict.fromkeys(["trades", "mart", "alp", "sat", "s2o", "awp"], _CLEAN_AND_ADVERSARIAL),
    "free_at": _REPLAYS,
    "mca": _CLEAN_AND_ADVERSARIAL,
    # ANCRA: contrast needs clean images and negatives.
    **dict.fromkeys(["pgd_at_ancra", "trades_ancra", "mart_ancra", "trades_anc"], _WITH_NEGATIVES),
    "trades_ra": _CLEAN_AND_ADVERSARIAL,
    # FRPAT and what it is compared with: the student as without a teacher, the teacher once.
    **dict.fromkeys(["pgd_at_frpat", "pgd_at_rkd", "pgd_at_crd"], (1, 1)),
    **dict.fromkeys(["pgd_at_lbgat", "pgd_at_lbgat_detach", "pgd_at_lbgat_frpat"], (1, 1)),
    **dict.fromkeys(["trades_frpat", "trades_lbgat", "trades_lbgat_frpat"], (2, 1)),
    # Heads change no pass.
    **{
        f"{base}_{head}": passes
        for base, passes in {
            "pgd_at": _ADVERSARIAL_ALONE,
            "fast_at": _ADVERSARIAL_ALONE,
            "trades": _CLEAN_AND_ADVERSARIAL,
            "alp": _CLEAN_AND_ADVERSARIAL,
            "free_at": _REPLAYS,
        }.items()
        for head in ("he", "mhe", "fn", "wn", "fn_wn")
    },
}
