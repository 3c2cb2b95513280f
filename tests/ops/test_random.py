"""Philox and the distributions that are made from it."""
from __future__ import annotations

import numpy as np
import pytest
from expression_harness import gradient_of, op

from torsh.ops.expr import TABLE, emit
from torsh.ops.random import philox


def test_philox_known_answers() -> None:
    """The published test vectors of Philox4x32-10."""
    zero = [int(w) for w in philox(0, 0, 0)]
    assert zero == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    ones = [int(w) for w in philox(-1, -1, -1)]
    assert ones == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    pi = [int(w) for w in philox(0x299F31D0A4093822, 0x0370734413198A2E, np.int64(np.uint64(0x85A308D3243F6A88)))]
    assert pi == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_uniform(dtype: str) -> None:
    """In [0, 1), evenly spread, a function of seed and offset."""
    u = op("uniform", 5, 0, attr=((20000,), dtype)).astype(np.float64)
    assert u.min() >= 0 and u.max() < 1
    assert abs(u.mean() - 0.5) < 0.01 and abs(u.var() - 1 / 12) < 0.003
    assert (u == op("uniform", 5, 0, attr=((20000,), dtype)).astype(np.float64)).all()
    assert (u != op("uniform", 5, 1, attr=((20000,), dtype)).astype(np.float64)).mean() > 0.9
    assert (u != op("uniform", 6, 0, attr=((20000,), dtype)).astype(np.float64)).mean() > 0.9


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_normal(dtype: str) -> None:
    """Moments of the normal distribution."""
    n = op("normal", 5, 0, attr=((200, 100), dtype)).astype(np.float64)
    assert n.shape == (200, 100) and np.isfinite(n).all()
    assert abs(n.mean()) < 0.03 and abs(n.std() - 1) < 0.02 and abs((n ** 4).mean() - 3) < 0.25


def test_others() -> None:
    """Integers, permutations, exponential and Bernoulli numbers."""
    r = op("randint", 3, 4, -2, 5, attr=(5000,))
    assert r.dtype == np.int64 and set(np.unique(r)) == set(range(-2, 5))
    wide = op("randint", 3, 4, 0, 2**62, attr=(100,))
    assert wide.min() >= 0 and wide.max() > 2**60
    assert sorted(op("randperm", 3, 4, attr=50)) == list(range(50))
    e = op("exponential", 3, 4, 2.0, attr=((20000,), "float32"))
    assert e.min() >= 0 and abs(e.mean() - 0.5) < 0.02
    b = op("bernoulli", 3, 4, 0.3, attr=((20000,), "float32"))
    assert set(np.unique(b)) == {0.0, 1.0} and abs(b.mean() - 0.3) < 0.02


def test_dropout() -> None:
    """Zeros a share of p, scales the rest; the gradient uses the same mask."""
    x = np.linspace(1, 2, 10000)
    out = op("dropout", x, 0.25, 11, 3)
    kept = out != 0
    assert abs(kept.mean() - 0.75) < 0.02
    np.testing.assert_allclose(out[kept], x[kept] / 0.75)
    grad, = gradient_of(lambda e, *rest: emit(TABLE["dropout"], (e, *rest)), x, 0.25, 11, 3)
    np.testing.assert_allclose(grad, kept / 0.75)
    assert (op("dropout", x, 1.0, 11, 3) == 0).all()
    np.testing.assert_array_equal(op("dropout", x, 0.0, 11, 3), x)
