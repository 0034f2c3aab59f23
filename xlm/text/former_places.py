"""Modules that stand for a former place of others, until version 0.2."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any


def forwarding(former: str, place: str) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of module ``former``: attributes of ``place``, with a warning."""

    def attribute(name: str) -> Any:
        found = getattr(importlib.import_module(place), name)
        warnings.warn(
            f"{former}.{name} is now {place}.{name}: import it from there; the old name goes with "
            "version 0.2",
            DeprecationWarning,
            stacklevel=2,
        )
        return found

    return attribute
