"""Trunks by architecture name, and the way public checkpoints get into them."""
