"""Cross-lingual language-model pretraining: from text to a trained model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xlm._foreign import warn_of_foreign_packages

if TYPE_CHECKING:
    from xlm.interchange.load import load as load
    from xlm.predict import load_task as load_task

__all__ = ["load", "load_task"]
__version__ = "0.1.0"

warn_of_foreign_packages()


def __getattr__(name: str) -> Any:
    """Import ``xlm.load`` or ``xlm.load_task`` on first use: xlm itself must not import torch."""
    if name == "load":
        from xlm.interchange.load import load

        return load
    if name == "load_task":
        from xlm.predict import load_task

        return load_task
    raise AttributeError(f"module 'xlm' has no attribute {name!r}")
