"""Regularisers: penalties added to the objective, each declaring what it needs."""
