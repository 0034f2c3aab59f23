"""Detection of another package that also calls itself ``xlm``.

The original XLM installs a top-level ``xlm`` too. Two of them in one environment overwrite or hide
each other's modules, and the errors that follow name neither.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator

_OURS = os.path.dirname(os.path.abspath(__file__))


def foreign_packages() -> Iterator[str]:
    """Yield the paths of foreign packages and distributions named ``xlm`` along ``sys.path``.

    Only directories are listed: reading all metadata would cost more than the rest of the import.
    """
    for entry in dict.fromkeys(os.path.abspath(path) for path in sys.path):
        for candidate in (os.path.join(entry, "xlm", "__init__.py"), os.path.join(entry, "xlm.py")):
            if os.path.isfile(candidate) and not _is_ours(os.path.dirname(candidate)):
                yield candidate
        try:
            names = os.listdir(entry)
        except OSError:  # a zip file, or a missing directory
            continue
        for name in names:
            # Ours is xlm_pretrain-*.dist-info.
            if name.startswith(("xlm-", "XLM-")) and name.endswith((".dist-info", ".egg-info")):
                yield os.path.join(entry, name)


def _is_ours(directory: str) -> bool:
    """Return whether a directory holds this very package or another copy of this library."""
    return os.path.isfile(os.path.join(directory, os.path.basename(__file__))) or (
        os.path.realpath(directory) == os.path.realpath(_OURS)
    )


def warn_of_foreign_packages() -> None:
    """Warn once, in one line, if a foreign ``xlm`` can mix with this package."""
    found = ", ".join(foreign_packages())
    if found:
        warnings.warn(
            f"another package named xlm ({found}) is installed beside xlm-pretrain, which "
            f"runs from {_OURS}: their modules can hide each other; uninstall one of the two",
            RuntimeWarning,
            stacklevel=3,
        )
