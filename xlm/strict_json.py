"""JSON by its standard: no key twice on input, finite numbers on output."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from xlm.errors import clipped


class JsonError(ValueError):
    """JSON that cannot be read; the message is one short line."""

    def __init__(self, problem: str, line: int = 0):
        super().__init__(problem)
        self.line = line
        """Line of the mistake, from 1; 0 if it is not known."""

    @property
    def suffix(self) -> str:
        """``:LINE``, to put after a file name; empty if the line is not known."""
        return f":{self.line}" if self.line else ""


def parse(text: str | bytes) -> Any:
    """Return the value of a JSON document.

    Raises JsonError if it breaks the syntax, is not UTF-8, is nested too deeply for the reader,
    holds a number of thousands of digits, or has the same key twice in one object, so that the
    intended value is unknown.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except JsonError:
        raise
    except json.JSONDecodeError as error:
        raise JsonError(f"{error.msg} in column {error.colno}", error.lineno) from None
    except UnicodeDecodeError as error:
        raise JsonError(f"not UTF-8: {error.reason} at byte {error.start}") from None
    except (RecursionError, MemoryError):
        raise JsonError("lists or objects are nested too deep") from None
    except ValueError:  # Python's limit on the digits of an integer
        raise JsonError("a number of more than 4,300 digits") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        raise JsonError(f"the key {clipped(repr(counts.most_common(1)[0][0]))} appears twice")
    return found


def dumps(value: Any, *, indent: int | None = None, sort_keys: bool = False) -> str:
    """Return ``value`` as JSON; numbers that are not finite, which JSON lacks, become null."""
    return json.dumps(
        finite(value), indent=indent, sort_keys=sort_keys, ensure_ascii=False, allow_nan=False
    )


def finite(value: Any) -> Any:
    """Return a value of JSON with None for each number that is not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def is_number(value: Any) -> bool:
    """Return whether a value of JSON is a number; true and false, numbers to Python, are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_whole(value: Any) -> bool:
    """Return whether a value of JSON is a whole number; true and false are not."""
    return isinstance(value, int) and not isinstance(value, bool)
