"""Preparation in parts, each whole or absent: by the workers of a machine, or by many machines.

sources --pieces--> lines, normalized --settled: cleaning, vocabulary--> ids --join--> corpora
"""
