"""Recipes: dataclasses as YAML and flags, checked key by key with file and line."""
