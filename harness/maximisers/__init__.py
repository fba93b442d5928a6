"""Maximisers: how training makes its adversarial images and its negatives."""
