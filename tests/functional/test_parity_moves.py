"""Padding, repetition, joins, bags and selections as they are compiled, against PyTorch: values, gradients, second gradients."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402

import torsh  # noqa: E402


@pytest.fixture(params=[1, 2], autouse=True)
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """Alone and shared."""
    before = torsh.get_num_threads()
    torsh.set_num_threads(request.param)
    yield
    torsh.set_num_threads(before)


def same(fn: Callable[..., Any], *arrays: Any, order: int = 2) -> None:
    """Equal values, gradients of a sum of cubes, and gradients of those."""
    found = []
    for m in (torsh, torch):
        tensors = [m.tensor(a) for a in arrays]
        sources = [t.requires_grad_() for t in tensors if t.is_floating_point()][:1 if order else 0]
        out = fn(m, *tensors)
        results = [out]
        if sources:
            first, = m.autograd.grad((out * out * out).sum(), sources, create_graph=order > 1)
            results.append(first)
            if order > 1:
                results += m.autograd.grad((first * first).sum(), sources)
        found.append([r.detach().numpy() for r in results])
    for ours, theirs in zip(*found, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_padding(mode: str) -> None:
    """One to three dimensions, paddings that meet, that cut off, and that are larger than the tensor."""
    rng = np.random.default_rng(4)
    for trial in range(30):
        rank = int(rng.integers(1, 4))
        sizes = rng.integers(2, 20 if rank < 3 else 7, rank)
        low = -(sizes // 2) * (trial % 3 == 0)
        high = sizes * 2 if mode == "replicate" else sizes if mode == "circular" else sizes - 1
        pairs = [rng.integers(a, b + 1, 2) for a, b in zip(low, high, strict=True)]
        if mode == "circular":              # what is cut off cannot be taken from the other end
            pairs = [np.minimum(p, n + np.minimum(p, 0).sum()) for n, p in zip(sizes, pairs, strict=True)]
        if any(n + sum(p) < 1 for n, p in zip(sizes, pairs, strict=True)):
            continue
        pad = [int(v) for p in pairs[::-1] for v in p]
        x = rng.normal(size=(2, 3, *sizes))
        same(lambda m, x: m.nn.functional.pad(x, pad, mode=mode), x)  # noqa: B023
        same(lambda m, x: m.nn.functional.pad(x.relu() + 1, pad, mode=mode), x[0])  # noqa: B023


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
def test_interpolation_to_the_nearest(mode: str) -> None:
    """Whole factors, by size and by scale, and others."""
    rng = np.random.default_rng(5)
    for sizes in ((7,), (5, 9), (3, 4, 5)):
        x = rng.normal(size=(2, 3, *sizes))
        for factor in (2, 3, 5, 1.5):
            same(lambda m, x: m.nn.functional.interpolate(x, scale_factor=factor, mode=mode), x)  # noqa: B023
            same(lambda m, x: m.nn.functional.interpolate(x.relu(), scale_factor=factor, mode=mode), x)  # noqa: B023
        target = [n * (k + 1) for k, n in enumerate(sizes)]
        same(lambda m, x: m.nn.functional.interpolate(x, target, mode=mode), x)  # noqa: B023
    for dtype in (np.float32, np.uint8):
        image = rng.integers(0, 255, (1, 3, 33, 70)).astype(dtype)
        same(lambda m, x: m.nn.functional.interpolate(x, scale_factor=4, mode=mode), image, order=0)


def test_factors_that_may_not_be_whole() -> None:
    """All positions are those that PyTorch's rounding gives."""
    for times in range(1, 24):
        x = np.arange(97.0)[None, None]
        same(lambda m, x: m.nn.functional.interpolate(x, 97 * times), x, order=0)  # noqa: B023


def test_joins_of_joins() -> None:
    """Nested along different dimensions, of views and of what is computed, used once and several times."""
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(3, 5, 7)), rng.normal(size=(3, 5, 7))
    same(lambda m, x, y: m.cat([m.cat([x, y.flip(-1)], 1), m.cat([y.exp(), x.flip(0)], 1)], 2), x, y)
    same(lambda m, x, y: m.cat([m.cat([m.cat([x, y], 0), m.cat([y, x], 0)], 2), m.cat([x, y], 0)[:, :, :4]], 2), x, y)

    def shared(m: Any, x: Any, y: Any) -> Any:
        inner = m.cat([x, y], 1)
        return m.cat([inner, inner * 2, inner], 0)
    same(shared, x, y)

    def twice(m: Any, x: Any, y: Any) -> Any:
        inner = m.cat([x, y], 1)
        return m.cat([inner, m.cat([inner, inner], 2)[:, :, 2:9]], 0)
    same(twice, x, y)
    for m in (torsh, torch):                # written into the memory of what it is made of
        a = m.tensor(x.copy())
        a[:] = m.cat([m.cat([a[:1], a[1:2] * 2], 0), a[:1].flip(2)], 0)
        np.testing.assert_allclose(a.numpy(), np.concatenate([x[:1], x[1:2] * 2, x[:1, :, ::-1]]))


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags(mode: str) -> None:
    """Matrices of positions and vectors with offsets, weighted, with padding."""
    rng = np.random.default_rng(7)
    for rows, bags, length, width in ((9, 3, 4, 5), (50, 8, 17, 33), (20, 1, 1, 64), (30, 40, 3, 1)):
        table, positions = rng.normal(size=(rows, width)), rng.integers(0, rows, (bags, length))
        offsets = np.arange(0, bags * length, length)
        same(lambda m, w, i: m.nn.functional.embedding_bag(i, w, mode=mode), table, positions, order=1)
        same(lambda m, w, i: m.nn.functional.embedding_bag(i, w, mode=mode, padding_idx=1), table, positions, order=1)
        same(lambda m, w, i, o: m.nn.functional.embedding_bag(i.reshape(-1), w, o, mode=mode), table, positions, offsets, order=1)
        uneven = np.sort(rng.integers(0, bags * length + 1, bags))     # with empty bags, also at the end
        uneven[0] = 0
        for padding in (None, 2 % rows):
            same(lambda m, w, i, o: m.nn.functional.embedding_bag(i.reshape(-1), w, o, mode=mode, padding_idx=padding),  # noqa: B023
                 table, positions, uneven, order=1)
            same(lambda m, w, i, o: m.nn.functional.embedding_bag(  # noqa: B023
                i.reshape(-1), w, m.cat([o, m.tensor([i.numel()])]), mode=mode, padding_idx=padding, include_last_offset=True),  # noqa: B023
                 table, positions, uneven, order=1)
        if mode == "sum":
            each = rng.normal(size=positions.shape)
            same(lambda m, w, i, e, o: m.nn.functional.embedding_bag(
                i.reshape(-1), w, o, mode="sum", per_sample_weights=e.reshape(-1), padding_idx=1), table, positions, each, uneven, order=1)
            same(lambda m, w, i, e: m.nn.functional.embedding_bag(i, w, mode="sum", per_sample_weights=e), table, positions, each,
                 order=1)


@pytest.mark.parametrize("largest", [True, False])
def test_selection(largest: bool) -> None:
    """Values, positions and gradients along any dimension; few of many and many of few."""
    rng = np.random.default_rng(8)
    for shape in ((300,), (7, 200), (150, 6), (2, 65, 9), (3, 1)):
        for dim in range(len(shape)):
            for count in {1, min(shape[dim], 5), min(shape[dim], 70), shape[dim]}:
                x = rng.permutation(int(np.prod(shape))).reshape(shape).astype(np.float64)
                same(lambda m, x: m.topk(x, count, dim, largest)[0], x)  # noqa: B023
                same(lambda m, x: m.topk(x.transpose(0, -1).flip(0), count, len(shape) - 1 - dim if dim in (0, len(shape) - 1) else dim,  # noqa: B023
                                         largest)[1], x, order=0)


def test_windows_that_do_not_overlap() -> None:
    """Long and short lines of windows, with padding, groups and gaps between windows."""
    rng = np.random.default_rng(9)
    for kernel, stride, padding, groups in (((8,), 8, 0, 1), ((9,), 11, 3, 2), ((2, 8), (2, 8), (0, 3), 1), ((8, 2), (9, 2), 1, 3),
                                            ((2, 2, 10), (2, 3, 10), (0, 1, 2), 2)):
        rank = len(kernel)
        x, w = rng.normal(size=(2, 2 * groups, *(19, 23, 31)[-rank:])), rng.normal(size=(3 * groups, 2, *kernel))
        same(lambda m, x, w: getattr(m.nn.functional, f"conv{rank}d")(x, w, stride=stride, padding=padding, groups=groups) / 5,  # noqa: B023
             x, w)


def test_positions_of_elements() -> None:
    """Masks over some dimensions, alone and with other indices, read and written; positions and distinct elements."""
    rng = np.random.default_rng(10)
    x = rng.normal(size=(3, 4, 5, 6))
    indices: list[Callable[[Any, Any], Any]] = [
        lambda m, t: t > 0.3, lambda m, t: (t > 0)[:, :, 0, 0], lambda m, t: (slice(None), (t > 0)[0, :, :, 0]),
        lambda m, t: ((t > 0)[:, :, 0, 0], slice(None), m.tensor([1])), lambda m, t: (..., (t > 0)[0, 0]), lambda m, t: (t > 0)[0, 0, 0, 0],
        lambda m, t: (None, (t > 0)[:, :, 1, 1]), lambda m, t: (t > 9)]
    for index in indices:
        same(lambda m, x: x[index(m, x)], x)  # noqa: B023
        same(lambda m, x: x.transpose(1, 2)[:, 1:, :4][:, :, :4].contiguous()[(x > 0).transpose(1, 2)[:, 1:]], x)

        def written(m: Any, x: Any) -> Any:
            y = x * 1
            y[index(m, x)] *= 2  # noqa: B023
            y.transpose(0, 2)[(x > 0).transpose(0, 2)] += 1
            return y
        same(written, x, order=0)
    for dtype in (np.float32, np.int64, np.bool_):
        for shape in ((), (0,), (7,), (4, 0, 3), (3, 50), (2, 3, 4, 5)):
            values = rng.integers(0, 3, shape).astype(dtype)
            same(lambda m, x: x.nonzero(), values, order=0)
            if shape:
                for k in range(len(shape)):
                    same(lambda m, x: x.nonzero(as_tuple=True)[k], values, order=0)  # noqa: B023
            for k in range(3):
                same(lambda m, x: m.unique(x, return_inverse=True, return_counts=True)[k], values, order=0)  # noqa: B023
            same(lambda m, x: m.unique(x), values, order=0)
            same(lambda m, x: m.unique(x, return_counts=True)[1], values, order=0)
    values = np.array([1, np.nan, 0, np.nan, 1])
    same(lambda m, x: m.unique(x), values, order=0)
    same(lambda m, x: m.unique(x, return_inverse=True)[1], values, order=0)
