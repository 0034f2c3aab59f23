"""All cases, or every so many of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from benchmarks.support.malformed import Case, models, recipes, text


def every_case(recipe_step: int = 1, model_step: int = 1) -> Iterator[Case]:
    """Yield the cases of text and tasks, of models and of recipes.

    Of the latter two every ``model_step``-th and every ``recipe_step``-th, and of recipes all that
    are no YAML of a recipe.
    """
    yield from text.cases()
    yield from islice(models.cases(), 0, None, model_step)
    num_texts = len(recipes.TEXTS) + 3
    yield from islice(recipes.cases(), num_texts)
    yield from islice(recipes.cases(), num_texts, None, recipe_step)
