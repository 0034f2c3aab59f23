"""Scores as sums that add, without torch."""
