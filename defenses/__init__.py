"""Defenses: one file each, a composition of parts; nothing here computes."""
