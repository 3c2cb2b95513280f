"""Indexing, gathering, scattering, embeddings, scans and sorting against PyTorch."""
from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from expression_harness import op, run  # noqa: E402
from torch_gradients import compare, normal  # noqa: E402

from torsh.core.errors import IndexOutOfRangeError  # noqa: E402
from torsh.ops import indexing as ix  # noqa: E402
from torsh.ops.common import apply  # noqa: E402
from torsh.ops.padding import pad_by_copies  # noqa: E402

F = torch.nn.functional


def integers(high: int, *shape: int, low: int = 0, seed: int = 0) -> Any:
    """Random int64 positions."""
    return np.random.default_rng([seed, high, *shape]).integers(low, high, shape)


INDEX_CASES: dict[tuple[int, ...], tuple[tuple[int, ...], ...]] = {
    (0,): ((2, 3),), (1,): ((4,),), (2,): ((),), (0, 1): ((4,), (2, 1)), (1, 2): ((3,), (3,)), (0, 2): ((4,), (4,)),
    (0, 1, 2): ((2,), (1,), (3, 1))}


@pytest.mark.parametrize("dims", sorted(INDEX_CASES))
def test_index_and_index_put(dims: tuple[int, ...]) -> None:
    """Adjacent dimensions in place, others in front; negative positions; repeated positions are added up."""
    x = normal(3, 4, 5)
    indices = [integers(x.shape[d], *s, low=-x.shape[d], seed=d) for d, s in zip(dims, INDEX_CASES[dims], strict=True)]

    def key(given: Any) -> tuple[Any, ...]:
        full: list[Any] = [slice(None)] * 3
        for d, i in zip(dims, given, strict=True):
            full[d] = i
        return tuple(full)
    compare(lambda e, *i: ix.index(e, i, dims), lambda t, *i: t[key(i)], x, *indices, message=str(dims))
    shape = torch.zeros(3, 4, 5)[key([torch.from_numpy(i) for i in indices])].shape

    def put(t: Any, v: Any, *i: Any) -> Any:
        by_dim = dict(zip(dims, i, strict=True))
        return torch.index_put(t, [by_dim[d] for d in range(3)], v, True)
    if len(dims) == 3:
        compare(lambda e, v, *i: ix.index_put(e, v, i, dims, True), put, x, normal(*shape), *indices)
    unique = [np.arange(n)[: max(1, n // 2)] if len(dims) == 1 else np.arange(2) for n in [x.shape[d] for d in dims]]

    def assign(t: Any, v: Any, *i: Any) -> Any:
        out = t.clone()
        out[key(i)] = v
        return out
    region = torch.zeros(3, 4, 5)[key([torch.from_numpy(i) for i in unique])].shape
    compare(lambda e, v, *i: ix.index_put(e, v, i, dims, False), assign, x, normal(*region), *unique, message=str(dims))


def test_positions_outside() -> None:
    """IndexError, with the position and the size."""
    x = normal(3, 4)
    for function in (lambda e, i: ix.index(e, (i,), (0,)), lambda e, i: apply("index_select", e, i, attr=0)):
        with pytest.raises(IndexOutOfRangeError, match="index 3 is out of bounds for dimension 0 with size 3"):
            run(function, x, np.array([0, 3]))
    for bad in (4, -1):
        with pytest.raises(IndexError):
            op("gather", x, np.array([[bad]]), attr=1)
        with pytest.raises(IndexError):
            op("scatter", x, np.array([[bad]]), np.ones((1, 1)), attr=(1, "set"))
        with pytest.raises(IndexError):
            op("embedding", x, np.array([bad]), attr=(None, False))


def test_gather() -> None:
    """With indices smaller and larger than the source."""
    x = normal(3, 4, 5)
    for dim, shape in ((0, (6, 4, 5)), (1, (2, 7, 3)), (2, (3, 4, 1)), (1, (0, 2, 2))):
        compare(lambda e, i, d=dim: ix.gather(e, i, d), lambda t, i, d=dim: torch.gather(t, d, i), x,
                integers(x.shape[dim], *shape), message=str(shape))
    compare(lambda e, i: ix.gather(e, i, 0), lambda t, i: torch.gather(t, 0, i), np.array(2.0), np.array(0))


def part(source: Any, index: Any) -> Any:
    """What scatter reads of a larger source (of which PyTorch itself has no gradient)."""
    return source[tuple([slice(n) for n in index.shape])]


@pytest.mark.parametrize("mode", ["set", "sum", "prod", "amax", "amin", "mean"])
def test_scatter(mode: str) -> None:
    """Every way of combining, with a larger source, with and without the base itself."""
    x, source = normal(3, 4, 5), normal(3, 4, 6, seed=1)
    source[0, 0, 0] = source[1, 0, 0] = 0
    for dim, shape in ((0, (3, 4, 5)), (1, (2, 3, 4)), (2, (3, 4, 6))):
        index = integers(x.shape[dim], *shape)
        if mode == "set":
            index = np.argsort(normal(*shape, seed=4), dim) % x.shape[dim] if shape[dim] <= x.shape[dim] else None
            if index is not None:
                compare(lambda e, s, i, d=dim: ix.scatter(e, i, s, d, "set"), lambda t, s, i, d=dim: t.scatter(d, i, part(s, i)), x,
                        source, index, message=f"{dim}")
            continue
        for own in (True, False):
            compare(lambda e, s, i, d=dim, o=own: ix.scatter_reduce_expr(e, d, i, s, mode, o),
                    lambda t, s, i, d=dim, o=own: t.scatter_reduce(d, i, part(s, i), mode, include_self=o), x, source, index,
                    message=f"{mode} {dim} {own}", gradient=mode != "prod" or own)


@pytest.mark.parametrize("dtype", ["int64", "uint8", "float16", "bool"])
def test_scatter_dtypes(dtype: str) -> None:
    """Integers and halves."""
    x, source, index = (normal(3, 4) * 9).astype(dtype), (normal(3, 4, seed=2) * 9).astype(dtype), integers(4, 3, 4)
    compare(lambda e, s, i: ix.scatter(e, i, s, 1, "add"), lambda t, s, i: t.scatter_add(1, i, s), x, source, index,
            gradient=False)
    if dtype != "bool":
        for mode in ("mean", "amax", "prod"):
            compare(lambda e, s, i, m=mode: ix.scatter_reduce_expr(e, 1, i, s, m, False),
                    lambda t, s, i, m=mode: t.scatter_reduce(1, i, s, m, include_self=False), x, source, index,
                    gradient=False, message=mode)


def test_one_dimension() -> None:
    """index_select, index_add by index_put, repeat_interleave and one_hot."""
    x, index = normal(3, 4, 5), np.array([2, 0, 2, 1])
    for dim in range(3):
        compare(lambda e, i, d=dim: apply("index_select", e, i, attr=d), lambda t, i, d=dim: t.index_select(d, i), x, index)
        compare(lambda e, d=dim: ix.repeat_interleave_expr(e, 3, d), lambda t, d=dim: t.repeat_interleave(3, d), x)
    compare(lambda e, v, i: ix.index_put(e, v, (i,), (1,), True), lambda t, v, i: t.index_add(1, i, v), x, normal(3, 4, 5),
            index)
    compare(lambda i: ix.one_hot_expr(i, 4), lambda i: F.one_hot(i, 4), integers(4, 2, 3))


@pytest.mark.parametrize("padding", [None, 2])
@pytest.mark.parametrize("by_frequency", [False, True])
def test_embedding(padding: int | None, by_frequency: bool) -> None:
    """Values and gradients."""
    compare(lambda w, i: ix.embedding_expr(w, i, padding, by_frequency),
            lambda w, i: F.embedding(i, w, padding, scale_grad_by_freq=by_frequency), normal(5, 3), integers(5, 4, 6))


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_padding(mode: str) -> None:
    """One to three dimensions, uneven and negative."""
    for shape, padding in (((2, 3, 7), ((2, 4),)), ((2, 3, 5, 6), ((1, 2), (3, 0))), ((1, 2, 4, 4, 4), ((1, 1), (0, 2), (2, 1)))):
        flat = [n for pair in reversed(padding) for n in pair]
        compare(lambda e, p=padding: pad_by_copies(e, p, mode), lambda t, p=flat: F.pad(t, p, mode), normal(*shape),
                message=f"{mode} {shape}")


def test_searchsorted() -> None:
    """Of one row, and row by row."""
    rows, values = np.sort(normal(3, 6)), normal(3, 4, seed=2)
    for right in (False, True):
        compare(lambda a, v, r=right: apply("searchsorted", a, v, attr=r),
                lambda a, v, r=right: torch.searchsorted(a, v, right=r), rows, values)
        compare(lambda a, v, r=right: apply("searchsorted", a, v, attr=r),
                lambda a, v, r=right: torch.bucketize(v, a, right=r), rows[0], values)


@pytest.mark.parametrize("name", ["cumsum", "cumprod", "logcumsumexp"])
def test_scans(name: str) -> None:
    """Values and gradients, products also of zeros."""
    theirs = getattr(torch, name)
    x = normal(4, 5, 3)
    if name == "cumprod":
        x[1, 2, 0] = x[3, 2, 0] = x[0, 0, 1] = x[2, 4, 2] = 0
    for dim in range(3):
        compare(lambda e, d=dim: apply(name, e, attr=d), lambda t, d=dim: theirs(t, d), x, message=f"{name} {dim}")
    compare(lambda e: apply(name, e, attr=0), lambda t: theirs(t, 0), np.array(3.0))
    compare(lambda e: apply(name, e, attr=1), lambda t: theirs(t, 1), np.zeros((2, 0, 3)))
    if name != "logcumsumexp":
        compare(lambda e: apply(name, e, attr=1), lambda t: theirs(t, 1), integers(5, 4, 6))


def test_running_extremes_and_sorting() -> None:
    """Positions: the last of equal extremes; stable sorting, NaN last."""
    x = np.array([[3.0, 1, 3, np.nan, 5], [2, 2, 1, 4, 4], [np.inf, -np.inf, 0, 0, 1]])
    for array in (x, integers(4, 3, 6)):
        for dim in (0, 1):
            for name in ("cummax", "cummin"):
                compare(lambda e, n=name, d=dim: apply(n + "_index", e, attr=d),
                        lambda t, n=name, d=dim: getattr(torch, n)(t, d).indices, array)
            for descending in (False, True):
                compare(lambda e, d=dim, w=descending: apply("argsort", e, attr=(d, w, True)),
                        lambda t, d=dim, w=descending: torch.argsort(t, dim=d, descending=w, stable=True), array)
    y = normal(3, 7)
    for largest in (False, True):
        compare(lambda e, w=largest: apply("topk_indices", e, attr=(3, 1, w, True)),
                lambda t, w=largest: torch.topk(t, 3, 1, w).indices, y)
