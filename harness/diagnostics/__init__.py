"""Checks that expose masked gradients and attacks that failed: one registered function each."""
