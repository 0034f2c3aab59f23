"""Measures of how the languages of a model lie to each other, each beside its nulls."""
