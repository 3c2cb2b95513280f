"""Affine maps of view chains, against the index arithmetic that NumPy does."""
from __future__ import annotations

from itertools import product
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_programs import Generator, RandomChoices, random_view

from torsh.backend.reference import evaluate
from torsh.compiler.affine import (
    Inexpressible,
    Map,
    NeedSplit,
    broadcast,
    flat,
    identity,
    shifted,
    split_axis,
    through,
    unflatten,
)
from torsh.core.dtype import int64
from torsh.core.shape import contiguous_strides
from torsh.ops.expr import TABLE, Expr, emit, leaf


def addresses(forms: Map, shape: tuple[int, ...], extents: tuple[int, ...]) -> np.ndarray:
    """The flat position that every point of the axes needs."""
    form = flat(forms, contiguous_strides(shape), len(extents))
    points = [form[0] + sum(c * i for c, i in zip(form[1:], point, strict=True)) for point in product(*map(range, extents))]
    return np.array(points, np.int64)


def map_to_root(e: Expr) -> tuple[Map, tuple[int, ...], Expr]:
    """(map of the root, extents of the axes, root) of a chain of views, with axes split where that is needed."""
    factors = [(n,) for n in e.shape]
    while True:
        extents = tuple([n for parts in factors for n in parts])
        forms, at = identity(factors), e
        try:
            while at.op.kind == "view":
                forms = through(at, forms, extents)
                at = at.args[0]
            return forms, extents, at
        except NeedSplit as split:
            factors = split_axis(factors, split.axis, split.inner)


@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(st.integers(0, 1 << 30))
def test_chains_of_views(seed):
    g = Generator(RandomChoices(seed))
    shape = tuple([n for n in g.shape(1, 4) if n]) or (6,)
    e: Expr = leaf(0, shape, int64, False)
    for _ in range(g.choices.integer(1, 4)):
        found = random_view(g, e.shape)
        if found is not None and prod(e.shape) < 2000:
            e = emit(TABLE[found[0]], (e,), found[1])
    if not prod(e.shape) or prod(e.shape) > 20_000:
        return
    try:
        forms, extents, root = map_to_root(e)
    except Inexpressible:
        return
    expected, = evaluate([e], [np.arange(prod(root.shape)).reshape(root.shape)])
    assert prod(extents) == prod(e.shape)
    np.testing.assert_array_equal(addresses(forms, root.shape, extents), expected.reshape(-1))
    for form, n in zip(forms, root.shape, strict=True):
        reach = [c * (m - 1) for c, m in zip(form[1:], extents, strict=True)]
        assert form[0] + sum(r for r in reach if r < 0) >= 0, "a coordinate below 0"
        assert form[0] + sum(r for r in reach if r > 0) < n, "a coordinate beyond the dimension"


def test_identity_counts_split_dimensions():
    assert identity([(4,), (2, 3)]) == ((0, 1, 0, 0), (0, 0, 3, 1))
    assert identity([(1,), ()]) == ((0, 0), (0, 0))


def test_a_reshape_that_splits_needs_the_axis_split():
    e = emit(TABLE["reshape"], (leaf(0, (4, 6), int64, False),), (24,))
    with pytest.raises(NeedSplit) as caught:
        through(e, identity([(24,)]), (24,))
    assert (caught.value.axis, caught.value.inner) == (0, 6)
    assert through(e, identity([(4, 6)]), (4, 6)) == ((0, 1, 0), (0, 0, 1))


def test_blocks_of_a_reshape_are_independent():
    e = emit(TABLE["reshape"], (leaf(0, (4, 6, 5), int64, False),), (4, 30))
    with pytest.raises(NeedSplit) as caught:
        through(e, identity([(4,), (30,)]), (4, 30))
    assert (caught.value.axis, caught.value.inner) == (1, 5)


def test_what_no_split_helps():
    with pytest.raises(Inexpressible):
        unflatten((1, 1), (2, 3), (4,))               # 1, 2, 3, 4 in rows of 3
    assert unflatten((3, 1), (2, 3), (3,)) == [(1, 0), (0, 1)]


def test_broadcast_and_shifted():
    forms = ((0, 1, 0), (0, 0, 1))
    assert broadcast((3,), (4, 3), forms, 2) == ((0, 0, 1),)
    assert broadcast((4, 1), (4, 3), forms, 2) == ((0, 1, 0), (0, 0, 0))
    assert shifted((1, 2, 0), 5) == (6, 2, 0)
    assert shifted((1, 2, 0), 5, -1) == (4, -2, 0)


def test_split_axis():
    assert split_axis([(4,), (6,), (5,)], 1, 3) == [(4,), (2, 3), (5,)]
    assert split_axis([(2, 12), (5,)], 1, 4) == [(2, 3, 4), (5,)]
