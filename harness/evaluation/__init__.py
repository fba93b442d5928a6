"""Evaluation: one checkpoint, one attack, one slice of the test set -> one outcome."""
