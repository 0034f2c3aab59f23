"""Add a language to a model that stays as it is: the parts of ``xlm.add_language``."""
