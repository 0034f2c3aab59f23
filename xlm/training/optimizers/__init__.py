"""Optimizers and their settings, and the step of an update."""
