"""Robust Harness: train or load defenses, attack what each decides with, store every outcome."""

__version__ = "0.1.0"
