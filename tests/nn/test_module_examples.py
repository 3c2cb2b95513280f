"""The examples in the documentation of torsh.nn."""
from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

from torsh import nn

MODULES = [m.name for m in pkgutil.walk_packages(nn.__path__, "torsh.nn.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    failures, _ = doctest.testmod(importlib.import_module(name))
    assert not failures


@pytest.mark.parametrize("name", [n for n in nn.modules.__all__ if isinstance(getattr(nn, n), type)])
def test_every_module_is_documented(name):
    assert getattr(nn, name).__doc__
