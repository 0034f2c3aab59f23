"""Readers of the formats that tasks are published in."""
