"""Settings live in ``pyproject.toml``."""

from setuptools import setup

setup()
