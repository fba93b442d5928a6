"""Representation measures: what a network has learnt, in numbers that nothing passes or fails."""
