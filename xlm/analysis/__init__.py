"""Measures of how the languages of a model relate to each other, each beside its nulls."""
