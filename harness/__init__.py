"""Robust Harness: train or load defenses, attack what they really decide with, store every outcome."""

__version__ = "0.1.0"
