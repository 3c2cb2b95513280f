"""Where elements are: positions of those that are not zero, distinct ones and how often they occur, in NumPy arrays."""
from __future__ import annotations

from typing import Any

import numpy as np


def coordinates(array: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """The positions of elements that are not zero: one int64 array per dimension."""
    rest = np.flatnonzero(array if array.dtype == bool else array != 0).astype(np.int64, copy=False)
    found = []
    for n in array.shape[:0:-1]:
        quotient = rest // n if n else rest
        found.append(rest - quotient * n)
        rest = quotient
    return [rest, *reversed(found)][:array.ndim]


def rows_of(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The positions of elements that are not zero, as rows."""
    if not array.ndim:
        return np.empty((int(array != 0), 0), np.int64)
    columns = coordinates(array)
    rows = np.empty((len(columns[0]), array.ndim), np.int64)
    for k, column in enumerate(columns):
        rows[:, k] = column
    return rows


def distinct(array: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The distinct elements, sorted, and how often each occurs; every NaN is one of its own."""
    ordered = np.sort(array, axis=None)
    first = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1]))) if ordered.size else np.zeros(0, np.int64)
    return ordered[first], np.diff(first, append=ordered.size)
