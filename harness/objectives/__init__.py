"""Objectives: what training minimises, per image and per output."""
