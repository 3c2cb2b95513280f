"""Views, writes through views, joins, padding: against NumPy."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from expression_harness import check_gradient, decomposed, op

from torsh.core.errors import IndexOutOfRangeError, ShapeMismatchError
from torsh.core.shape import broadcast_shapes, contiguous_strides, normalise_dim
from torsh.ops.expr import TABLE, emit

A = np.arange(24.0).reshape(2, 3, 4)
VIEWS: dict[str, tuple[Any, Any]] = {
    "reshape": ((4, 6), A.reshape(4, 6)),
    "permute": ((2, 0, 1), A.transpose(2, 0, 1)),
    "transpose": ((0, 2), A.swapaxes(0, 2)),
    "expand": ((5, 2, 3, 4), np.broadcast_to(A, (5, 2, 3, 4))),
    "slice": (((0, 2, 1), (2, 3, -1), (1, 2, 2)), A[:, ::-1, 1::2]),
    "select": ((1, 2), A[:, 2]),
    "diagonal": ((1, 1, 2), np.diagonal(A, 1, 1, 2)),
    "unfold": ((2, 3, 1), np.lib.stride_tricks.sliding_window_view(A, 3, 2)),
    "as_strided": (((3, 2), (1, 5), 2), np.lib.stride_tricks.as_strided(A.reshape(-1)[2:], (3, 2), (8, 40))),
    "detach": (None, A),
}


@pytest.mark.parametrize("name", sorted(VIEWS))
def test_view(name: str) -> None:
    """Values, strides and gradients of a view."""
    attr, expected = VIEWS[name]
    found = op(name, A, attr=attr)
    np.testing.assert_array_equal(found, expected)
    geometry = TABLE[name].geometry(attr, A.shape, contiguous_strides(A.shape), 0)
    assert geometry[0] == expected.shape
    if name != "expand":
        real = tuple(s // 8 for s in expected.strides)
        assert all(m == n for m, n, size in zip(geometry[1], real, expected.shape, strict=True) if size > 1)
    if name != "detach":
        check_gradient(lambda e: emit(TABLE["mul"], (emit(TABLE[name], (e,), attr),) * 2), A, order=2, tolerance=1e-4)


def test_views_of_views() -> None:
    """Geometry composes; a reshape that strides cannot express has none."""
    strides = contiguous_strides((2, 3, 4))
    moved = TABLE["permute"].geometry((2, 0, 1), (2, 3, 4), strides, 0)
    assert TABLE["reshape"].geometry((4, 6), *moved) is not None
    assert TABLE["reshape"].geometry((24,), *moved) is None
    assert TABLE["reshape"].geometry((1, 4, 1, 6, 1), *moved)[0] == (1, 4, 1, 6, 1)
    assert TABLE["as_strided"].geometry(((2,), (1,), 0), *moved) is None
    empty = TABLE["reshape"].geometry((0, 3), (3, 0), (0, 1), 0)
    assert empty is not None and empty[0] == (0, 3)


def test_reshape_geometry_agrees_with_numpy() -> None:
    """For random strided arrays, a view is found exactly where NumPy needs no copy."""
    rng = np.random.default_rng(0)
    targets = [(24,), (2, 12), (12, 2), (4, 6), (6, 4), (3, 8), (8, 3), (2, 3, 4), (4, 3, 2), (2, 2, 6), (1, 24)]
    base = np.arange(4 * 6 * 8.0).reshape(4, 6, 8)
    for _ in range(200):
        axes = rng.permutation(3)
        view = base[::rng.integers(1, 3), ::rng.integers(1, 4), ::rng.integers(1, 5)].transpose(axes)
        strides = tuple(s // 8 for s in view.strides)
        for target in targets:
            if np.prod(target) != view.size:
                continue
            found = TABLE["reshape"].geometry(target, view.shape, strides, 0)
            try:
                copy = view.view()
                copy.shape = target
            except AttributeError:
                assert found is None
                continue
            assert found is not None
            assert all(m == n // 8 for m, n, size in zip(found[1], copy.strides, target, strict=True) if size > 1)


def test_view_write() -> None:
    """Replaces the region that a chain of views describes."""
    chain = (("permute", (2, 0, 1)), ("slice", ((1, 2, 2), (0, 2, 1), (0, 3, 1))), ("select", (0, 1)))
    value = -np.ones((2, 3))
    expected = A.copy()
    expected[:, :, 3] = -1
    np.testing.assert_array_equal(op("view_write", A, value, attr=chain), expected)
    copying = (("permute", (2, 0, 1)), ("reshape", (24,)), ("slice", ((0, 3, 1),)))
    expected = A.copy()
    expected.reshape(-1)[[0, 4, 8]] = -1
    np.testing.assert_array_equal(op("view_write", A, -np.ones(3), attr=copying), expected)
    check_gradient(lambda b, v: emit(TABLE["view_write"], (b, v), chain), A, value, order=2)
    with pytest.raises(ShapeMismatchError):
        op("view_write", A, np.ones(3), attr=chain)


def test_cat() -> None:
    """Joins along a dimension; empty vectors are skipped."""
    parts = [A, A[:, :1], A[:, :2]]
    np.testing.assert_array_equal(op("cat", *parts, attr=1), np.concatenate(parts, 1))
    assert op("cat", np.empty(0), A, attr=1).shape == A.shape
    assert op("cat", np.ones(2, np.float32), np.ones(2, np.int64), attr=0).dtype == np.float32
    check_gradient(lambda *e: emit(TABLE["cat"], e, 1), *parts)
    with pytest.raises(ShapeMismatchError, match="Sizes of tensors must match except in dimension 1"):
        op("cat", A, np.ones((3, 3, 4)), attr=1)


MOVES = [("flip", (0, 2), np.flip(A, (0, 2))), ("roll", ((0, 1), (2, -1)), np.roll(A, (1, -1), (0, 2))),
         ("repeat", (2, 1, 3, 2), np.tile(A, (2, 1, 3, 2))), ("tril", 1, np.tril(A, 1)), ("triu", -1, np.triu(A, -1)),
         ("constant_pad", ((1, 0), (-1, 2), (0, 0)), np.pad(A[:, 1:], ((1, 0), (0, 2), (0, 0)), constant_values=7)),
         ("constant_pad", ((0, 0), (0, -1), (-2, -1)), A[:, :2, 2:3])]


@pytest.mark.parametrize(("name", "attr", "expected"), MOVES)
def test_moves(name: str, attr: Any, expected: Any) -> None:
    """Functions that move elements, by reference and by decomposition, with gradients."""
    extra = (7.0,) if name == "constant_pad" else ()
    np.testing.assert_array_equal(op(name, A, *extra, attr=attr), expected)
    np.testing.assert_array_equal(decomposed(name, A, *extra, attr=attr), expected)
    check_gradient(lambda e, *v: emit(TABLE[name], (e, *v), attr), A, *extra)


def test_errors() -> None:
    """PyTorch's messages."""
    with pytest.raises(ShapeMismatchError, match=r"The size of tensor a \(3\) must match the size of tensor b \(4\) at "
                                                 r"non-singleton dimension 1"):
        broadcast_shapes((2, 3), (2, 4))
    with pytest.raises(IndexOutOfRangeError, match=r"\(expected to be in range of \[-2, 1\], but got 5\)"):
        normalise_dim(5, 2)
    assert normalise_dim(-1, 3) == 2 and normalise_dim(-1, 0) == 0
    assert broadcast_shapes((3, 1), (4,), ()) == (3, 4)
