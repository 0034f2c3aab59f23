"""Errors that a user can cause.

A message gives what was found, what was expected and what to do, with values, file and line. The
command line prints it as one line and exits with 2; any other exception is our bug.
"""


class XlmError(Exception):
    """Base of every error that a user can cause and fix."""


class ConfigError(XlmError, ValueError):
    """A recipe, a flag or an argument that cannot work as given."""


class SaidByMain(ConfigError):
    """An error that the main process of several raises too, and that it alone prints."""


class NotInstalled(ConfigError):
    """A package of an extra that is asked for and missing; the message names the extra."""


class DataError(XlmError, ValueError):
    """Text, a corpus or a tokenizer that is missing, damaged or does not fit the others."""


class CheckpointError(XlmError):
    """A checkpoint or model directory that cannot be read, verified or matched."""


class TrainingError(XlmError):
    """A run that cannot continue: losses that became NaN or infinite, a rank that disagrees."""


MOST_FOREIGN = 200
"""Largest number of characters of foreign text in a message."""


def clipped(text: str, most: int = MOST_FOREIGN) -> str:
    """Return ``text``, cut after ``most`` characters and then ended by dots."""
    return text if len(text) <= most else text[:most] + "..."


def one_line(error: BaseException, most: int | None = None) -> str:
    """Return an error's message in one line, cut after ``most`` characters.

    An error without a message is named by its class.
    """
    return " ".join(str(error).split())[:most] or type(error).__name__


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message; an error without one is named by its class."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
