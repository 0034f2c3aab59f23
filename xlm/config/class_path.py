"""The mark of a dataclass that a recipe may replace by any subclass."""


class NamedByClassPath:
    """A base of dataclasses that a recipe names by class path, one of our own or of the user's.

    In a recipe such a field is ``{class_path: CLASS, init_args: {...}}``.
    """
