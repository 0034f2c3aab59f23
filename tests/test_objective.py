"""The objectives and tasks that a recipe may name."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest

import xlm.objectives
import xlm.tasks
from xlm.objective import Objective


@pytest.mark.parametrize("package", [xlm.objectives, xlm.tasks])
def test_a_package_exports_every_class_that_a_recipe_may_name(package: ModuleType) -> None:
    names = [each.name for each in pkgutil.iter_modules(package.__path__)]
    modules = [importlib.import_module(f"{package.__name__}.{name}") for name in names]
    classes = {
        cls
        for module in modules
        for _, cls in inspect.getmembers(module, inspect.isclass)
        if issubclass(cls, Objective) and cls.__module__ == module.__name__
    }
    concrete = {cls.__name__ for cls in classes if not inspect.isabstract(cls)}
    assert sorted(concrete) == package.__all__
