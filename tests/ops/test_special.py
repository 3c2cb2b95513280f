"""Accuracy of special functions that are compositions of vector operations."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import torsh

mpmath = pytest.importorskip("mpmath")
EDGES = [0.0, -0.0, 1.0, 2.0, -1.0, -2.0, -3.0, math.inf, -math.inf, math.nan, 1e30, -1e30, 1e-40, -1e-40, -2.5, -100.5]


def units(name: str, x: np.ndarray, reference: Callable[[float], Any]) -> np.ndarray:
    """Errors in units in the last place."""
    got = getattr(torsh, name)(torsh.tensor(x)).numpy()
    assert got.dtype == x.dtype
    with mpmath.workdps(40):
        exact = [reference(float(v)) for v in x]
        return np.array([float(abs(mpmath.mpf(float(g)) - e)) / float(np.spacing(np.abs(x.dtype.type(e))))
                         for g, e in zip(got, exact, strict=True)])


def arguments() -> np.ndarray:
    rng = np.random.default_rng(5)
    near = rng.standard_normal(400) * 2.0 ** rng.uniform(-22, -3, 400)
    parts = [rng.uniform(-1, 1, 300), rng.uniform(-30, 30, 300), near + rng.choice([1, 2], 400), 2 ** rng.uniform(-100, 100, 300),
             1.4616321 + 1e-4 * rng.standard_normal(100)]
    x = np.concatenate(parts).astype(np.float32)
    return x[x != np.round(x)]


def test_lgamma() -> None:
    x = arguments()
    assert units("lgamma", x, lambda v: mpmath.re(mpmath.loggamma(v))).max() <= 1.0
    expected = np.array([math.inf, math.inf, 0, 0, math.inf, math.inf, math.inf, math.inf, math.inf, math.nan, 6.8077553e31,
                         math.inf, 92.103409, 92.103409, -0.056243718, -364.90097], np.float32)
    np.testing.assert_allclose(torsh.lgamma(torsh.tensor(EDGES)).numpy(), expected, rtol=2e-7)


def test_digamma() -> None:
    x = arguments()
    assert units("digamma", x, mpmath.digamma).max() <= 0.6
    expected = np.array([-math.inf, math.inf, -0.57721566, 0.42278434, *[math.nan] * 3, math.inf, math.nan, math.nan, 69.07755,
                         math.nan, -math.inf, math.inf, 1.1031567, 4.6151247], np.float32)
    np.testing.assert_allclose(torsh.digamma(torsh.tensor(EDGES)).numpy(), expected, rtol=2e-7)
    double = x[np.abs(x) < 30].astype(np.float64)
    got = torsh.digamma(torsh.tensor(double)).numpy()
    np.testing.assert_allclose(got, [float(mpmath.digamma(v)) for v in double], rtol=1e-14, atol=4e-15)


def test_erfinv() -> None:
    rng = np.random.default_rng(6)
    x = np.concatenate([rng.uniform(-1, 1, 500), 1 - 2.0 ** rng.uniform(-24, 0, 300), 2 ** rng.uniform(-120, 0, 200)])
    single = x.astype(np.float32)
    assert units("erfinv", single[np.abs(single) < 1], mpmath.erfinv).max() <= 0.6
    double = np.concatenate([x, 1 - 2.0 ** rng.uniform(-53, -20, 300), 2.0 ** -53 - np.ones(1)])
    assert units("erfinv", double[np.abs(double) < 1], mpmath.erfinv).max() <= 4.0
    edges = torsh.erfinv(torsh.tensor([1.0, -1.0, 0.0, -0.0, 2.0, -2.0, math.nan, math.inf])).numpy()
    np.testing.assert_array_equal(edges, np.array([math.inf, -math.inf, 0, 0, *[math.nan] * 4], np.float32))
    assert np.signbit(edges[3])
