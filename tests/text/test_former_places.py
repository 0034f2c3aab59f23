"""Readers of task files can still be imported from where they were, with a warning."""

from __future__ import annotations

import importlib

import pytest

from xlm.tasks.readers import labeled, tagged


@pytest.mark.parametrize(
    ("former", "name", "found"),
    [
        ("task_files", "read_rows", labeled.read_rows),
        ("tagged_files", "read_tagged", tagged.read_tagged),
    ],
)
def test_a_reader_at_its_former_place(former: str, name: str, found: object) -> None:
    module = importlib.import_module(f"xlm.text.{former}")
    with pytest.warns(DeprecationWarning, match=f"xlm.text.{former}.{name} is now xlm.tasks"):
        assert getattr(module, name) is found
    with pytest.raises(AttributeError, match="no_such"):
        module.no_such  # noqa: B018
