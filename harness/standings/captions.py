"""What every table of the published figures is about, in one line each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

CAPTIONS: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("ancra_iclr", "1"): "Ten defenses on ResNet-18 under attacks that ignore auxiliary heads",
        ("ancra_iclr", "2"): "Clean and PGD-40 accuracy on Tiny-ImageNet",
        ("ancra_iclr", "3"): "ResNet-18 on CIFAR-10 under adaptive PGD, FGSM and C&W",
        ("ancra_iclr", "4"): "WideResNets on CIFAR-10 under adaptive PGD and AutoAttack",
        ("ancra_iclr", "5"): "TRADES with negative contrast, reverse attention, and both",
        ("ancra_iclr", "6"): "TRADES-ANCRA, decided by each of its probability vectors",
        ("ancra_iclr", "7"): "PGD-100 images carried over from other models",
        ("ancra_iclr", "8"): "Tiny-ImageNet with error ranges and adaptive PGD-40",
        ("ancra_iclr", "9"): "TRADES and TRADES-ANCRA on two WideResNets, plain and adaptive",
        ("ancra_iclr", "10"): "ResNet-18 beside three entries of RobustBench",
        ("ancra_supp", "1"): "Tiny-ImageNet once more, with other figures than the paper",
        ("ancra_summary", "headline"): "Two results that a summary by others states",
        ("frpat", "1"): "CIFAR-10 on WideResNet-34-10, with relationship scores and gains",
        ("frpat", "2"): "CIFAR-100 on WideResNet-34-10, with relationship scores and gains",
        ("frpat", "3"): "Seconds of training per epoch",
        ("frpat", "4"): "Losses that keep relations between images, compared on CIFAR-100",
        ("frpat", "5"): "Three batch sizes on CIFAR-100",
        ("frpat", "6"): "The weight of the relation loss on CIFAR-100",
        ("frpat_supp", "1"): "Tiny-ImageNet at 32 x 32 pixels",
        ("frpat_supp", "2"): "Two architectures of the teacher on CIFAR-100",
        ("frpat_supp", "3"): "LBGAT without the TRADES term",
        ("frpat_supp", "4"): "CIFAR-10 after the last epoch, and what it lost since the best one",
        ("frpat_supp", "5"): "CIFAR-100 after the last epoch, and what it lost since the best one",
        ("frpat_supp", "6"): "LBGAT with and without gradients into the teacher",
        ("frpat_supp", "7"): "CIFAR-10 in the settings of LAS-AT",
        ("frpat_supp", "8"): "CIFAR-100 in the settings of LAS-AT",
        ("he", "2"): "CIFAR-10 on WideResNet-34-10 under eight white-box attacks",
        ("he", "3"): "Fast and free training with hypersphere embedding, with its minutes",
        ("he", "4"): "Free training on ImageNet, four architectures",
        ("he", "5"): "Corrupted images, averaged over severities",
        ("he", "6"): "AutoAttack, and RayS on 1,000 images",
        ("he", "7"): "A model that was not attacked in training, one and two steps of PGD",
        ("he", "8"): "Attacks by queries alone",
        ("he", "9"): "Margin and scale of TRADES with hypersphere embedding",
        ("he", "10"): "Two variants of hypersphere embedding under white-box attacks",
        ("he", "11"): "CIFAR-10-C, every corruption and severity",
        ("he", "12"): "ImageNet-C, every corruption and severity",
        ("he", "text_4.1"): "Figures from the running text: the parts alone, and an adaptive PGD",
    }
)
"""Per source and table."""
