"""Deliberately masked models, each with the diagnostic that must catch it, and two honest ones."""
