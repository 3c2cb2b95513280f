"""Sorting positions: stable, NaN largest, zeros equal, for every dtype and both directions."""
from __future__ import annotations

import numpy as np
import pytest

from torsh.ops.scan_sort import sorting_positions


def expected(row, descending):
    def key(i):
        value = row[i]
        return (value != value, 0 if value != value else value)
    order = sorted(range(len(row)), key=key)
    if descending:
        order = sorted(range(len(row)), key=lambda i: (not row[i] != row[i], 0 if row[i] != row[i] else -float(row[i])))
    return order


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int8, np.uint8, np.int16, np.int32, np.int64, np.bool_])
def test_positions(dtype, descending):
    rng = np.random.default_rng(3)
    rows = rng.integers(-3, 4, (20, 40)).astype(np.int64)
    array = (rows % 3 if np.dtype(dtype).kind in "ub" else rows).astype(dtype)
    if np.dtype(dtype).kind == "f":
        array[rng.random(array.shape) < 0.2] = np.nan
        array[rng.random(array.shape) < 0.2] = -0.0
        array[0, :4] = [np.inf, -np.inf, np.nan, -np.nan]
    elif np.dtype(dtype).kind == "i":
        array[0, :2] = [np.iinfo(dtype).max, np.iinfo(dtype).min]
    got = sorting_positions(array, 1, descending)
    for row, order in zip(array, got, strict=True):
        assert order.tolist() == expected(row.tolist(), descending)
    np.testing.assert_array_equal(sorting_positions(array, 1, descending, 7), got[:, :7])
    np.testing.assert_array_equal(sorting_positions(array.T, 0, descending), got.T)


def test_edges():
    assert sorting_positions(np.zeros((3, 0), np.float32), 1, False).shape == (3, 0)
    assert sorting_positions(np.zeros((3, 5), np.float32), 1, True, 0).shape == (3, 0)
    assert sorting_positions(np.zeros((0, 5), np.float32), 1, False).shape == (0, 5)
