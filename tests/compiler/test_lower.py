"""Lowering: only primitives, explicit casts, nothing superfluous."""
from __future__ import annotations

import numpy as np
import pytest

from torsh.backend.reference import evaluate
from torsh.compiler.graph import topological
from torsh.compiler.lower import lower, number_of, uniform
from torsh.compiler.verify import verify_lowered
from torsh.core.dtype import DType, bfloat16, bool_, float16, float32, float64, int8, int32, int64, uint8
from torsh.ops.common import add, cast, constant, div, expand, full, mul, permute, reduce, reshape, sub, where
from torsh.ops.expr import TABLE, Expr, emit, leaf, scalar


def tensor(*shape: int, dtype: DType = float32, position: int = 0) -> Expr:
    """A leaf."""
    return leaf(position, shape, dtype, False)


def names(e: Expr) -> list[str]:
    """The operations of a lowered expression, inputs left out."""
    return [x.op.name for x in topological([lower(e)]) if x.args]


@pytest.mark.parametrize("build", [
    lambda a: emit(TABLE["softmax"], (a,), 1), lambda a: emit(TABLE["log_softmax"], (a,), 0),
    lambda a: reduce("mean", a, (0, 1)), lambda a: emit(TABLE["roll"], (a,), ((0, 1), (1, -2))),
    lambda a: emit(TABLE["tril"], (a,), 0), lambda a: emit(TABLE["repeat"], (a,), (2, 1, 3)),
    lambda a: emit(TABLE["linear"], (a, tensor(5, 6, position=1))),
    lambda a: emit(TABLE["constant_pad"], (a, constant(1.0, float32)), ((1, 0), (-1, 2)))])
def test_composites_become_primitives_with_the_same_value(build):
    e = build(tensor(4, 6))
    low = lower(e)
    verify_lowered([low])
    assert (low.shape, low.dtype) == (e.shape, e.dtype)
    random = np.random.default_rng(0)
    leaves = [random.standard_normal((4, 6)).astype(np.float32), random.standard_normal((5, 6)).astype(np.float32)]
    a, b = evaluate([e, low], leaves)
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert lower(e) is low


def test_casts_are_explicit():
    e = lower(add(tensor(3, dtype=int32), tensor(3, dtype=float64, position=1)))
    assert [a.dtype for a in e.args] == [float64, float64]
    e = lower(emit(TABLE["exp"], (tensor(3, dtype=int64),)))
    assert e.args[0].op.name == "cast" and e.args[0].dtype is float32
    assert lower(add(tensor(2, dtype=bool_), tensor(2, dtype=bool_, position=1))).op.name == "bitwise_or"


@pytest.mark.parametrize("way", [(uint8, int32, float32), (bool_, float16, int8), (float16, float32, float64),
                                 (bfloat16, float64, float32), (int8, int64, int32)])
def test_a_wider_cast_in_between_vanishes(way):
    first, second, third = way
    assert names(cast(cast(tensor(3, dtype=first), second), third)) == ["cast"]


@pytest.mark.parametrize("way", [(float32, int32, float32), (float32, float16, float32), (int64, float32, int64),
                                 (uint8, int8, int32), (bfloat16, float16, float32)])
def test_a_narrower_cast_in_between_stays(way):
    first, second, third = way
    assert names(cast(cast(tensor(3, dtype=first), second), third)) == ["cast", "cast"]


def test_views_are_merged():
    a = tensor(4, 6)
    assert lower(reshape(reshape(a, (24,)), (4, 6))) is a
    assert lower(permute(permute(a, (1, 0)), (1, 0))) is a
    assert names(reshape(reshape(a, (2, 12)), (8, 3))) == ["reshape"]
    first = emit(TABLE["slice"], (a,), ((3, 4, -1), (0, 3, 2)))
    second = emit(TABLE["slice"], (first,), ((1, 2, 2), (2, 2, -1)))
    low = lower(second)
    assert low.args == (a,) and low.attr == ((2, 2, -2), (4, 2, -2))
    assert lower(emit(TABLE["slice"], (a,), ((0, 4, 1), (0, 6, 1)))) is a
    assert lower(emit(TABLE["flip"], (emit(TABLE["flip"], (a,), (0,)),), (0,))) is a


def test_numbers_are_not_computed():
    a = tensor(4, 6)
    assert lower(mul(a, 1.0)) is a
    assert lower(div(a, 1.0)) is a
    assert lower(sub(a, 0.0)) is a
    assert lower(add(a, 0.0)).op.name == "add"             # -0.0 + 0.0 is 0.0
    assert lower(sub(a, -0.0)).op.name == "sub"
    assert lower(mul(a, 0.0)).op.name == "mul"             # NaN and infinities
    assert lower(where(full((4, 6), True, bool_), a, 0.0)) is a
    assert lower(where(full((4, 6), False, bool_), a, 0.0)).op.name == "expand"
    assert number_of(full((2, 3), 5, int64)) == 5
    assert number_of(a) is None


def test_broadcast_numbers_stay_small():
    low = lower(add(tensor(4, 6), expand(scalar(0, 2), (4, 6))))
    assert low.args[1].shape == ()
    single = uniform(lower(permute(full((2, 3), 1.5, float32), (1, 0))))
    assert single is not None and single.shape == ()


def test_reductions_of_nothing_and_of_ones():
    assert names(reduce("sum", tensor(0, 3), (0,))) == ["expand"]
    assert number_of(lower(reduce("prod", tensor(0, 3), (0,)))) == 1
    assert lower(reduce("amax", tensor(4, 1), (1,), True)) is tensor(4, 1)
    assert names(reduce("argmax", tensor(4, 1), (1,), True)) == ["expand"]
    assert names(reduce("sum", full((8, 3), 2.0, float32), (0,))) == ["mul", "expand"]
    assert lower(reduce("sum", tensor(3, dtype=uint8), (0,))).args[0].dtype is int64


def test_long_reductions_are_done_in_two_steps():
    assert names(reduce("sum", tensor(1 << 17), (0,))) == ["reshape", "sum", "sum"]
    assert names(reduce("amax", tensor(1 << 9, 4, 1 << 8), (0, 2))) == ["reshape", "amax", "amax"]
    assert names(reduce("sum", tensor(1 << 12), (0,))) == ["sum"]
    assert names(reduce("argmax", tensor(1 << 17), (0,))) == ["argmax"]


def test_writes_that_replace_everything_or_nothing():
    a, b = tensor(4, 6), tensor(4, 6, position=1)
    assert lower(emit(TABLE["view_write"], (a, b), (("slice", ((0, 4, 1), (0, 6, 1))),))) is b
    nothing = emit(TABLE["view_write"], (a, tensor(0, 6, position=1)), (("slice", ((0, 0, 1), (0, 6, 1))),))
    assert lower(nothing) is a
    assert lower(emit(TABLE["cat"], (a, tensor(0, 6, position=1)), 0)) is a
    none = tensor(0, dtype=int64, position=1)
    assert lower(emit(TABLE["index_put"], (a, tensor(0, 6, position=2), none), ((0,), False))) is a


def test_empty_and_outer_products():
    assert number_of(lower(emit(TABLE["matmul"], (tensor(3, 0), tensor(0, 4, position=1))))) == 0
    outer = lower(emit(TABLE["matmul"], (tensor(3, 1), tensor(1, 4, position=1))))
    assert outer.op.name == "mul" and outer.shape == (3, 4)
