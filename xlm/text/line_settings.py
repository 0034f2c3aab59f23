"""The settings that verbs with one answer for each line of text share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from xlm.errors import ConfigError
from xlm.text.pipes import check_output

WINDOW = 1000
"""Lines that are sorted by length together."""
Invalid = Literal["error", "empty"]


@dataclass(frozen=True, kw_only=True)
class LineSettings:
    """Settings of output, reading and device."""

    output: str | None = None
    """Write here (null: standard output); the file appears when it is complete, and replaces an
    existing one. After a kill, the same command resumes from OUTPUT.partial."""
    window: int = WINDOW
    """Number of lines that are read, sorted by length and answered together; 1 at a terminal."""
    invalid: Invalid = "error"
    """Handling of a line that is not UTF-8 or longer than 1 MiB. error: stop, and name the line.
    empty: write an empty line in its place, and count it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA if there is a GPU."""

    def check(self, file: str) -> None:
        """Raise ConfigError for an impossible window, or an output that is ``file`` or unusable."""
        check_positive(self, "window")
        if self.output is not None:
            check_output(self.output, file)


def check_applies(config: object, needed: str, *names: str) -> None:
    """Raise ConfigError for a setting of ``names`` that has no effect, as ``needed`` is not set."""
    for name in names:
        if not getattr(config, needed) and getattr(config, name) is not None:
            raise ConfigError(
                f"{name} {getattr(config, name)} only applies with {needed}: set {needed}, or "
                f"leave {name} out"
            )


def check_positive(config: object, *names: str) -> None:
    """Raise ConfigError for a setting that is below 1."""
    for name in names:
        if getattr(config, name) < 1:
            raise ConfigError(f"{name} is {getattr(config, name)}: expected 1 or more")
