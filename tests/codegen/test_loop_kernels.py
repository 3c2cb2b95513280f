"""Loop kernels against NumPy: grids, strides, tails, reductions, indices."""
from __future__ import annotations

import llvmlite.binding as llvm
import numpy as np
import pytest

from tests.codegen.loop_harness import TARGETS, Builder, element_strides, elementwise, machine
from tests.codegen.template_harness import ARM, StandInTarget, guard, guarded
from torsh.codegen.llvm import generate, supported
from torsh.core.dtype import bfloat16, bool_, complex64, float16, float32, float64, from_numpy_dtype, int8, int32, int64, uint8

rng = np.random.default_rng(7)
targets = pytest.mark.parametrize("target", TARGETS, ids=lambda t: "avx512" if t.has_avx512 else "narrow")


def normal(*shape: int, dtype: object = np.float32) -> np.ndarray:
    """Random numbers in memory that ends at a page nobody may touch."""
    return guard(rng.normal(size=shape).astype(dtype))


def chain(b: Builder, x: int, y: int) -> int:
    """exp(x) * y + x"""
    return b.add("add", float32, b.add("mul", float32, b.add("exp", float32, x), y), x)


@targets
@pytest.mark.parametrize("n", [*range(1, 41), 127, 128, 129, 4095, 4097, 9001])
def test_every_tail(n: int, target: StandInTarget) -> None:
    x, y, out = normal(n), normal(n), guarded((n,), np.float32)
    b = Builder((n,), 1)
    b.store(chain(b, b.load(x, (1,)), b.load(y, (1,))), out, (1,))
    b.stage()
    b.run(target, share=1 if n % 2 else None)
    np.testing.assert_allclose(out, np.exp(x) * y + x, rtol=3e-6, atol=1e-6)


@targets
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int8, np.int64, np.bool_])
@pytest.mark.parametrize("at_end", [False, True])
def test_every_second_element(at_end: bool, dtype: type, target: StandInTarget) -> None:
    """Nothing in front of the first or behind the last element is read, whatever the tail."""
    for n in (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 130, 1000):
        x = guard((normal(2 * n - 1) * 3).astype(dtype), at_end)
        out = np.zeros(n, dtype)
        b = Builder((n,), 1)
        b.store(b.load(x, (2,)), out, (1,))
        b.stage()
        b.run(target, share=1 if n % 2 else None)
        np.testing.assert_array_equal(out, x[::2])


@targets
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int8, np.int64])
@pytest.mark.parametrize("n", [1, 2, 7, 16, 31, 64, 65, 130, 4097])
def test_backwards(n: int, kind: type, target: StandInTarget) -> None:
    """Loads, stores and reads at positions that are data, all with the stride -1, touch nothing else."""
    own = np.random.default_rng(n)
    for at_end in (False, True):
        x, table = (guard(own.integers(0, 99, shape).astype(kind), at_end=at_end) for shape in (n, (5, n)))
        chosen = guard(own.integers(0, 5, n), at_end=at_end)
        same, turned = guarded((n,), kind), guarded((n,), kind)
        b = Builder((n,), 1)
        value = b.load(x, (-1,), n - 1)
        b.store(value, turned, (1,))
        b.store(value, same, (-1,), n - 1)
        b.stage()
        b.run(target, share=1)
        np.testing.assert_array_equal(turned, x[::-1])
        np.testing.assert_array_equal(same, x)
        dtype = from_numpy_dtype(np.dtype(kind))
        b = Builder((n,), 1)
        rows = b.add("index_load", dtype, b.add("load", int64, attr=b.access(chosen, (1,))),
                     attr=(b.access(table, (-1,), n - 1, indirect=((n, 5),)), 1))
        b.store(rows, turned, (1,))
        b.stage()
        assert not b.run(target).any()
        np.testing.assert_array_equal(turned, table[chosen, np.arange(n)[::-1]])


@targets
@pytest.mark.parametrize("seed", range(12))
def test_strides_and_broadcasting(seed: int, target: StandInTarget) -> None:
    own = np.random.default_rng(seed)
    rank = int(own.integers(1, 5))
    shape = tuple(int(own.integers(1, 9 if rank > 2 else 50)) for _ in range(rank))
    order = own.permutation(rank)
    x = own.normal(size=[shape[k] for k in order]).astype(np.float32).transpose(np.argsort(order))
    y = own.normal(size=[2 * n for n in shape]).astype(np.float32)[tuple(slice(None, None, 2) for _ in shape)]
    z = own.normal(size=[n if own.random() < 0.5 else 1 for n in shape]).astype(np.float32)
    out = np.zeros([shape[k] for k in order], np.float32).transpose(np.argsort(order))
    b = Builder(shape, rank)
    total = b.add("add", float32, b.load(x, element_strides(x)), b.load(y, element_strides(y)))
    b.store(b.add("mul", float32, total, b.load(z, element_strides(z))), out, element_strides(out))
    b.stage()
    b.run(target, share=int(own.integers(1, 9)))
    np.testing.assert_allclose(out, (x + y) * z, rtol=1e-6)


@targets
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 10), (5, 64), (7, 65), (2, 1000), (33, 17)])
def test_softmax(rows: int, columns: int, target: StandInTarget) -> None:
    x, out = normal(rows, columns), guarded((rows, columns), np.float32)
    b = Builder((rows, columns), 1, "inner")
    largest = b.add("reduce", float32, b.load(x, (columns, 1)), attr="max")
    b.stage(loop=True)
    value = b.add("exp", float32, b.add("sub", float32, b.load(x, (columns, 1)), largest))
    total = b.add("reduce", float32, value, attr="sum")
    b.stage(loop=True)
    inverse = b.add("reciprocal", float32, total)
    b.stage()
    again = b.add("exp", float32, b.add("sub", float32, b.load(x, (columns, 1)), largest))
    b.store(b.add("mul", float32, again, inverse), out, (columns, 1))
    b.stage(loop=True)
    b.run(target, share=2)
    e = np.exp(x.astype(np.float64) - x.max(1, keepdims=True))
    np.testing.assert_allclose(out, e / e.sum(1, keepdims=True), rtol=2e-6)


@targets
def test_layer_norm(target: StandInTarget) -> None:
    x, weight, out, means = normal(2, 9, 77), normal(77), guarded((2, 9, 77), np.float32), guarded((2, 9), np.float32)
    b = Builder((2, 9, 77), 2, "inner")
    at = element_strides(x)
    total = b.add("reduce", float32, b.load(x, at), attr="sum")
    b.stage(loop=True)
    scale = b.add("cast", float32, b.scalar(1.0 / 77))
    mean = b.add("mul", float32, total, scale)
    b.store(mean, means, (9, 1))
    b.stage()
    centred = b.add("sub", float32, b.load(x, at), mean)
    squares = b.add("reduce", float32, b.add("mul", float32, centred, centred), attr="sum")
    b.stage(loop=True)
    variance = b.add("add", float32, b.add("mul", float32, squares, scale), b.add("constant", float32, attr=1e-5))
    factor = b.add("rsqrt", float32, variance)
    b.stage()
    centred = b.add("sub", float32, b.load(x, at), mean)
    b.store(b.add("mul", float32, b.add("mul", float32, centred, factor), b.load(weight, (0, 0, 1))), out, at)
    b.stage(loop=True)
    b.run(target, share=5)
    wide = x.astype(np.float64)
    centre = wide - wide.mean(-1, keepdims=True)
    np.testing.assert_allclose(means, wide.mean(-1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(out, centre / np.sqrt((centre ** 2).mean(-1, keepdims=True) + 1e-5) * weight, rtol=1e-4,
                               atol=1e-5)


@targets
@pytest.mark.parametrize("columns", [1, 10, 16, 63, 64, 65, 200])
@pytest.mark.parametrize("kind", ["sum", "max", "argmin"])
def test_column_reduction(columns: int, kind: str, target: StandInTarget) -> None:
    x = normal(3, 21, columns)
    result = int64 if kind.startswith("arg") else float32
    out = guarded((3, columns), result.numpy)
    b = Builder((3, columns, 21), 2, "grid")
    value = b.add("reduce", result, b.load(x, (21 * columns, 1, columns)), attr=kind)
    b.stage(loop=True)
    b.store(value, out, (columns, 1))
    b.stage()
    b.run(target)
    expected = {"sum": x.sum(1), "max": x.max(1), "argmin": x.argmin(1)}[kind]
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)


@targets
@pytest.mark.parametrize("kind", ["sum", "prod", "max", "min", "argmax", "argmin"])
@pytest.mark.parametrize("dtype", [float32, float64, int32, int8, uint8, int64], ids=lambda d: d.name)
def test_row_reductions(kind: str, dtype: object, target: StandInTarget) -> None:
    x = guard(rng.integers(0, 5, size=(6, 3, 131)).astype(dtype.numpy))  # type: ignore[attr-defined]
    result = int64 if kind.startswith("arg") else dtype
    out = np.zeros(6, result.numpy)  # type: ignore[attr-defined]
    b = Builder((6, 3, 131), 1, "inner")
    value = b.add("reduce", result, b.load(x, element_strides(x)), attr=kind)  # type: ignore[arg-type]
    b.stage(loop=True)
    b.store(value, out, (1,))
    b.stage()
    b.run(target, share=4)
    flat = x.reshape(6, -1)
    with np.errstate(all="ignore"):
        expected = {"sum": lambda: flat.sum(1, dtype=x.dtype), "prod": lambda: flat.prod(1, dtype=x.dtype)}.get(
            kind, lambda: getattr(flat, kind)(1))()
    np.testing.assert_allclose(out, expected, rtol=1e-6)


@targets
@pytest.mark.parametrize("vector", ["inner", "grid"])
@pytest.mark.parametrize("place", [0, 5, 70])
def test_reductions_see_nan(vector: str, place: int, target: StandInTarget) -> None:
    x = normal(4, 71)
    x[1, place] = np.nan
    x[3, :] = -np.inf
    for kind in ("max", "min", "argmax", "argmin"):
        result = int64 if kind.startswith("arg") else float32
        out = np.zeros(4, result.numpy)
        b = Builder((4, 71), 1, vector)
        value = b.add("reduce", result, b.load(x, (71, 1)), attr=kind)
        b.stage(loop=True)
        b.store(value, out, (1,))
        b.stage()
        b.run(target)
        np.testing.assert_array_equal(out, getattr(x, kind)(1))


@targets
def test_index_out_of_range_is_reported(target: StandInTarget) -> None:
    table = normal(10, 40)
    index = np.array([3, -1, 9, 10, 2, -11], np.int64)
    out = np.zeros((6, 40), np.float32)
    b = Builder((6, 40), 2, "grid")
    rows = b.load(index, (1, 0))
    row = b.add("index_load", float32, rows, attr=(b.access(table, (0, 1), indirect=((40, 10),)), 0))
    b.store(row, out, (40, 1))
    b.stage()
    status = b.run(target)
    good = [0, 1, 2, 4]
    np.testing.assert_array_equal(out[good], table[index[good]])
    assert status[0] == 1 and status[1] in (10, -11) and status[2] == 10


@targets
@pytest.mark.parametrize("n", [1, 15, 16, 50])
def test_gather_of_single_elements(n: int, target: StandInTarget) -> None:
    table = normal(7, 5)
    first, second = rng.integers(-7, 7, n), rng.integers(0, 5, n)
    for broken in (False, True):
        if broken:
            second[n // 2] = 5
        out = np.zeros(n, np.float32)
        b = Builder((n,), 1)
        access = b.access(table, (0,), indirect=((5, 7), (1, 5)))
        b.store(b.add("index_load", float32, b.load(first, (1,)), b.load(second, (1,)), attr=(access, 0)), out, (1,))
        b.stage()
        status = b.run(target)
        assert list(status[:3]) == ([1, 5, 5] if broken else [0, 0, 0])
        keep = second < 5
        np.testing.assert_array_equal(out[keep], table[first[keep], second[keep]])


@targets
def test_index_into_nothing_reads_nothing(target: StandInTarget) -> None:
    table, index, out = np.zeros((0, 4), np.float32), np.zeros(9, np.int64), np.zeros((9, 4), np.float32)
    b = Builder((9, 4), 2)
    access = b.access(table, (0, 1), indirect=((4, 0),))
    b.store(b.add("index_load", float32, b.load(index, (1, 0)), attr=(access, 0)), out, (4, 1))
    b.stage()
    assert list(b.run(target)[:3]) == [1, 0, 0]


@targets
def test_iota_scalar_and_where(target: StandInTarget) -> None:
    out = guarded((5, 37), np.int64)
    b = Builder((5, 37), 2)
    counter = b.add("iota", int64, attr=b.access(None, (37, 1), offset=100))
    column = b.add("iota", int64, attr=b.access(None, (0, 3)))
    below = b.add("lt", bool_, column, b.scalar(30))
    b.store(b.add("where", int64, below, counter, b.scalar(-1)), out, (37, 1))
    b.stage()
    b.run(target, share=2)
    expected = np.arange(5 * 37).reshape(5, 37) + 100
    np.testing.assert_array_equal(out, np.where(3 * np.arange(37) < 30, expected, -1))


@targets
@pytest.mark.parametrize("dtype", [bfloat16, float16], ids=lambda d: d.name)
def test_narrow_floats_round_after_every_operation(dtype: object, target: StandInTarget) -> None:
    x, y = (guard(rng.normal(size=100).astype(dtype.numpy)) for _ in range(2))  # type: ignore[attr-defined]
    out = np.zeros(100, dtype.numpy)  # type: ignore[attr-defined]
    b = Builder((100,), 1)
    a, c = b.load(x, (1,)), b.load(y, (1,))
    b.store(b.add("add", dtype, b.add("mul", dtype, a, c), a), out, (1,))  # type: ignore[arg-type]
    b.stage()
    b.run(target)
    product = (x.astype(np.float32) * y.astype(np.float32)).astype(x.dtype)
    expected = (product.astype(np.float32) + x.astype(np.float32)).astype(x.dtype)
    np.testing.assert_array_equal(out.astype(np.float32), expected.astype(np.float32))


def _philox_reference(seed: int, offset: int, counter: int) -> list[int]:
    key, state = [seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF], [counter, counter >> 32, offset, offset >> 32]
    state = [word & 0xFFFFFFFF for word in state]
    for _ in range(10):
        first, second = 0xD2511F53 * state[0], 0xCD9E8D57 * state[2]
        state = [second >> 32 ^ state[1] ^ key[0], second & 0xFFFFFFFF, first >> 32 ^ state[3] ^ key[1], first & 0xFFFFFFFF]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return state


@targets
def test_philox(target: StandInTarget) -> None:
    assert _philox_reference(0, 0, 0) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]      # published test vector
    counters = guard(np.array([0, 1, 5, 2 ** 33 + 3, 17], np.int64))
    for word in range(4):
        out = np.zeros(5, np.int64)
        b = Builder((5,), 1)
        seed, offset = b.scalar(2 ** 62 + 12345), b.scalar(77)
        b.store(b.add("philox", int64, seed, offset, b.load(counters, (1,)), attr=word), out, (1,))
        b.stage()
        b.run(target)
        assert out.tolist() == [_philox_reference(2 ** 62 + 12345, 77, int(c))[word] for c in counters]


@targets
@pytest.mark.parametrize("dtype", [int8, uint8, int32, int64], ids=lambda d: d.name)
def test_integer_division_never_traps(dtype: object, target: StandInTarget) -> None:
    info = np.iinfo(dtype.numpy)  # type: ignore[attr-defined]
    edges = np.array([info.min, info.max, 0, 1, 3, 100, info.min + 1, 255 % (info.max + 1)], dtype.numpy)  # type: ignore[attr-defined]
    a, d = np.repeat(edges, len(edges)), np.tile(edges, len(edges))
    if info.min:
        a, d = np.concatenate([a, edges]), np.concatenate([d, -np.ones_like(edges)])
    with np.errstate(all="ignore"):
        expected = {"floor_divide": a // d, "remainder": a % d, "fmod": np.fmod(a, d)}
    for op, want in expected.items():
        got = elementwise(op, dtype, a, d, target=target)  # type: ignore[arg-type]
        np.testing.assert_array_equal(got, np.where(d == 0, 0, want), err_msg=op)


@targets
def test_float_remainder_is_exact_for_huge_quotients(target: StandInTarget) -> None:
    for dtype, span in ((float32, 120), (float64, 1000)):
        a = (rng.normal(size=300) * 2.0 ** rng.uniform(-span, span, 300)).astype(dtype.numpy)
        d = (rng.normal(size=300) * 2.0 ** rng.uniform(-span, span, 300)).astype(dtype.numpy)
        d[:5] = [np.inf, 0.0, np.finfo(dtype.numpy).smallest_subnormal, np.nan, -np.inf]
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(elementwise("fmod", dtype, a, d, target=target), np.fmod(a, d))
            np.testing.assert_array_equal(elementwise("remainder", dtype, a, d, target=target)[5:], np.remainder(a, d)[5:])


def test_in_place_update() -> None:
    for n in (5, 100, 5000):
        x = normal(n)
        before = x.copy()
        b = Builder((n,), 1)
        value = b.load(x, (1,))
        b.store(b.add("mul", float32, value, value), x, (1,))
        b.stage()
        b.run()
        np.testing.assert_array_equal(x, before * before)


def test_object_code_for_other_machines() -> None:
    x, out = np.zeros((4, 9), np.float32), np.zeros(4, np.float32)
    b = Builder((4, 9), 1, "inner")
    loaded = b.load(x, (9, 1))
    value = loaded
    for op in ("exp", "tanh", "erf", "sin", "log1p", "pow", "floor_divide", "round"):
        value = b.add(op, float32, value, *([loaded] if op in ("pow", "floor_divide") else []))
    b.add("reduce", float32, value, attr="sum")
    total = len(b.values) - 1
    b.stage(loop=True)
    b.store(total, out, (1,))
    b.stage()
    module = llvm.parse_assembly(generate(b.kernel(), ARM, "kernel"))  # type: ignore[arg-type]
    module.verify()
    assert machine(ARM).emit_object(module)[:4] == b"\x7fELF"


def test_supported() -> None:
    assert supported("exp", float32) and supported("cast", bool_) and supported("sum", int64) and supported("philox", int64)
    assert not supported("exp", int64) and not supported("add", complex64) and not supported("bitwise_and", float32)
    assert not supported("lgamma", float32)


def test_a_reduction_may_widen() -> None:
    x, out = rng.integers(0, 2, (5, 300)).astype(bool), np.zeros(5, np.int64)
    b = Builder((5, 300), 1, "inner")
    total = b.add("reduce", int64, b.load(x, (300, 1)), attr="sum")
    b.stage(loop=True)
    b.store(total, out, (1,))
    b.stage()
    b.run()
    np.testing.assert_array_equal(out, x.sum(1))


@pytest.mark.parametrize("vector", ["inner", "grid"])
def test_nothing_to_reduce(vector: str) -> None:
    x, out = np.zeros((5, 0), np.float32), np.full(5, 9, np.float32)
    b = Builder((5, 0), 1, vector)
    total = b.add("reduce", float32, b.load(x, (7, 1)), attr="sum")
    b.stage(loop=True)
    b.store(total, out, (1,))
    b.stage()
    b.run()
    np.testing.assert_array_equal(out, np.zeros(5))
