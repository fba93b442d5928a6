"""Hooks: what changes the last stage of a trunk."""
