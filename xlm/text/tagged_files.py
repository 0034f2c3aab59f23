"""The former place of ``xlm.tasks.readers.tagged``, for code that still imports it from here."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

PLACE = "xlm.tasks.readers.tagged"


def __getattr__(name: str) -> Any:
    """Return the attribute ``name`` of ``PLACE``, with a DeprecationWarning."""
    found = getattr(importlib.import_module(PLACE), name)
    warnings.warn(
        f"{__name__}.{name} is now {PLACE}.{name}: import it from there; the old name goes with "
        "version 0.2",
        DeprecationWarning,
        stacklevel=2,
    )
    return found
