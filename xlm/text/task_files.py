"""The former place of ``xlm.tasks.readers.labeled``, for code that still imports it from here."""

from __future__ import annotations

from xlm.text.former_places import forwarding

__getattr__ = forwarding(__name__, "xlm.tasks.readers.labeled")
