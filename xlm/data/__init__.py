"""Corpora on disk, streams of micro-batches, and the plan of each step."""
