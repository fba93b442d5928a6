"""Training: one loop for every defense."""
