"""The reference backend as a backend: storages, in-place outputs, deep graphs."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from torsh.backend.base import Storage
from torsh.backend.reference import ReferenceBackend, evaluate, storage_of_array
from torsh.core.dtype import DType, bfloat16, bool_, float32, float64, int64
from torsh.ops.common import add, cast, expand, mul, number, permute
from torsh.ops.define import argument_dtypes
from torsh.ops.elementwise import lowered
from torsh.ops.expr import TABLE, Expr, emit, leaf, scalar


def array_of(storage: Storage, shape: tuple[int, ...], dtype: DType) -> Any:
    """The contents of a storage that owns a NumPy array."""
    return storage.owner.view(dtype.numpy).reshape(shape)


def test_run_and_in_place() -> None:
    """Outputs get new storages, or are written into given ones after all reads."""
    backend = ReferenceBackend()
    a, b = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((2, 3), np.float32)
    x, y = leaf(0, (2, 3), float32, False), leaf(1, (2, 3), float32, False)
    scale = scalar(0, 2)
    program = backend.compile((mul(add(x, y), cast(scale, float32)), permute(x, (1, 0))), ((0, 0),))
    target, other = storage_of_array(a), storage_of_array(b)
    expected, moved = (a + b) * np.float32(0.5), a.T.copy()
    first, second = program.run([target, other], [0.5], [target, None])
    assert first is target
    np.testing.assert_array_equal(a, expected)
    np.testing.assert_array_equal(array_of(second, (3, 2), float32), moved)
    assert backend.name == "reference" and backend.synchronize() is None


def test_allocate() -> None:
    """Memory is aligned."""
    for nbytes in (0, 1, 100):
        storage = ReferenceBackend().allocate(nbytes)
        assert storage.nbytes == nbytes and (nbytes == 0 or storage.pointer % 64 == 0)


def test_bfloat16_leaf_and_empty_leaf() -> None:
    """Storages of types that NumPy does not know itself, and of no elements."""
    source = np.arange(4).astype(bfloat16.numpy)
    program = ReferenceBackend().compile((add(leaf(0, (4,), bfloat16, False), 1), leaf(1, (0, 3), float64, False)), ())
    first, second = program.run([storage_of_array(source), storage_of_array(np.empty((0, 3)))], [], [None, None])
    np.testing.assert_array_equal(array_of(first, (4,), bfloat16).astype(np.float32), [1, 2, 3, 4])
    assert second.nbytes == 0


def test_deep_graph() -> None:
    """Evaluation does not recurse."""
    x: Expr = leaf(0, (2,), float64, False)
    e = x
    for _ in range(5000):
        e = add(e, x)
    np.testing.assert_array_equal(evaluate([e], [np.ones(2)])[0], [5001, 5001])


def test_constants_and_outputs_of_numbers() -> None:
    """Constants have exactly their dtype; a Python number can be an output."""
    out = evaluate([number(1.5, float32), expand(number(True, bool_), (2,)), scalar(0, 2)], [], [2.5])
    assert out[0].dtype == np.float32 and out[1].tolist() == [True, True] and out[2] == 2.5


def test_lowered() -> None:
    """Casts become explicit; functions that are trivial for integers and bools vanish."""
    x, n = leaf(0, (2,), float32, False), leaf(1, (2,), int64, False)
    flag = leaf(2, (2,), bool_, False)
    e = emit(TABLE["mul"], (x, n))
    assert argument_dtypes(e) == (float32, float32)
    assert [a.dtype for a in lowered(e).args] == [float32, float32]
    assert lowered(emit(TABLE["floor"], (n,))) is n
    assert lowered(emit(TABLE["add"], (flag, flag))).op.name == "bitwise_or"
    assert lowered(emit(TABLE["logical_not"], (flag,))).op.name == "bitwise_not"
    assert lowered(emit(TABLE["logical_not"], (x,))).op.name == "eq"
    assert lowered(emit(TABLE["isnan"], (n,))).op.name == "expand"
    assert lowered(emit(TABLE["add"], (x, x))).args == (x, x)


def test_wrong_dtype_is_reported() -> None:
    """An op names itself when it does not take a dtype."""
    flag = leaf(2, (2,), bool_, False)
    with pytest.raises(RuntimeError, match="Negation"):
        emit(TABLE["neg"], (flag,))
    with pytest.raises(RuntimeError, match="bitwise_and_cpu"):
        emit(TABLE["bitwise_and"], (leaf(0, (2,), float32, False),) * 2)
