"""Methods that the papers' tables only quote: their claims are shown, nothing is trained."""

from harness.catalogue import Paper, quoted

quoted(
    "las_trades",
    Paper(
        "LAS-AT: Adversarial Training with Learnable Attack Strategy",
        "2203.06616",
        "Jia et al.",
        2022,
    ),
    "a second network chooses the training attack of each image and learns by reinforcement, and "
    "FRPAT takes its rows over from that paper.",
)
quoted(
    "sat_sitawarin",
    Paper(
        "Improving Adversarial Robustness Through Progressive Hardening",
        "2003.09347",
        "Sitawarin et al.",
        2020,
    ),
    "FRPAT takes its row 'SAT' over from another paper and does not cite it; clean and AutoAttack "
    "accuracy are those of this curriculum method, not of self-adaptive training (sat).",
)
quoted(
    "addepalli_2022a",
    Paper(
        "Scaling Adversarial Training to Large Perturbation Bounds",
        "2210.09852",
        "Addepalli et al.",
        2022,
    ),
    "ANCRA takes the accuracies over from RobustBench, where the weights can be had.",
)
quoted(
    "addepalli_2022b",
    Paper(
        "Efficient and Effective Augmentation Strategy for Adversarial Training",
        "2210.15318",
        "Addepalli et al.",
        2022,
    ),
    "ANCRA takes the accuracies over from RobustBench, where the weights can be had.",
)
quoted(
    "sehwag_2021",
    Paper(
        "Robust Learning Meets Generative Models: Can Proxy Distributions Improve Adversarial "
        "Robustness?",
        "2104.09425",
        "Sehwag et al.",
        2021,
    ),
    "it needs millions of generated images, and the accuracies that ANCRA gives for it are those "
    "of another entry of RobustBench (Gowal et al., 2021).",
)
quoted(
    "alp_lbgat",
    Paper("Learnable Boundary Guided Adversarial Training", "2011.11164", "Cui et al.", 2021),
    "FRPAT takes its row over from that paper without saying how the pairing and the teacher were "
    "weighed against each other.",
)
