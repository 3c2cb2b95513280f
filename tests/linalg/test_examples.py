"""The examples in the docstrings of torsh.linalg run."""
from __future__ import annotations

import doctest

import pytest

import torsh

EXAMPLES = {name: fn.__doc__ for name, fn in vars(torsh.linalg).items()
            if callable(fn) and ">>>" in (fn.__doc__ or "")} | {"torsh.linalg": torsh.linalg.__doc__}


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_example(name: str) -> None:
    parsed = doctest.DocTestParser().get_doctest(EXAMPLES[name], {"torsh": torsh}, name, None, 0)
    assert doctest.DocTestRunner().run(parsed).failed == 0
