"""Template kernels against NumPy, on all targets that the machine can run, in guarded memory."""
from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from template_harness import StandInTarget, guard, guarded, host_targets, ref, run, strides  # noqa: E402

from torsh.compiler import templates  # noqa: E402
from torsh.core import dtype as dtypes  # noqa: E402

TARGETS = host_targets()
TOLERANCE = {"float32": 1e-5, "float64": 1e-13, "float16": 2e-3, "bfloat16": 1.6e-2}
each_target = pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.cpu)


def random_array(rng: np.random.Generator, shape: tuple[int, ...], dtype: dtypes.DType) -> np.ndarray:
    """Random values of a dtype; integers take all values, so that sums wrap around."""
    if dtype.category == 2:
        return rng.standard_normal(shape).astype(dtype.numpy)
    limits = np.iinfo(dtype.numpy)
    return rng.integers(limits.min, limits.max, shape, dtype=dtype.numpy, endpoint=True)


def operand(rng: np.random.Generator, shape: tuple[int, ...], dtype: dtypes.DType, layout: str) -> np.ndarray:
    """An operand in guarded memory: "plain", "transposed", "reversed", "stepped" or "repeated"."""
    *batch, rows, columns = shape
    if layout == "transposed":
        return guard(random_array(rng, (*batch, columns, rows), dtype)).swapaxes(-1, -2)
    if layout == "reversed":
        return guard(random_array(rng, shape, dtype), at_end=False)[..., ::-1, ::-1]
    if layout == "stepped":
        return guard(random_array(rng, (*batch, rows, 2 * columns - 1 if columns else 0), dtype))[..., ::2]
    if layout == "repeated":
        return np.broadcast_to(guard(random_array(rng, (*batch, 1, columns), dtype)), shape)
    return guard(random_array(rng, shape, dtype))


def expected(a: np.ndarray, b: np.ndarray, dtype: dtypes.DType) -> np.ndarray:
    """The product, in float64 or wrapping integers."""
    if dtype.category == 2:
        return a.astype(np.float64) @ b.astype(np.float64)
    return (a.astype(np.int64) @ b.astype(np.int64)).astype(dtype.numpy)


def close(got: np.ndarray, want: np.ndarray, dtype: dtypes.DType) -> None:
    """Compare, relative to the largest value."""
    if dtype.category != 2:
        np.testing.assert_array_equal(got, want)
        return
    scale = max(1.0, float(np.abs(want).max(initial=0)))
    np.testing.assert_allclose(got.astype(np.float64) / scale, want.astype(np.float64) / scale, rtol=0,
                               atol=TOLERANCE[dtype.name])


def check_matmul(rng: np.random.Generator, dtype: dtypes.DType, a: np.ndarray, b: np.ndarray, target: StandInTarget,
                 bias: np.ndarray | None = None, accumulate: bool = False, share: int | None = None,
                 c: np.ndarray | None = None, stored: tuple[dtypes.DType, dtypes.DType] | None = None) -> None:
    """Run one product and compare it."""
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    a, b = np.broadcast_to(a, (*batch, m, k)), np.broadcast_to(b, (*batch, k, n))
    if c is None:
        c = guard(random_array(rng, (*batch, m, n), dtype))
    want = expected(a, b, dtype)
    if bias is not None:
        want = want + (bias if dtype.category == 1 else bias.astype(np.float64))
    if accumulate:
        want = want + (c if dtype.category == 1 else c.astype(np.float64))
    call = templates.matmul(dtype, ref(0), ref(1), ref(2), batch, m, n, k, strides(a), strides(b), strides(c),
                            None if bias is None else (ref(3), strides(bias)[0]), accumulate, stored)
    run(call, [c, a, b] + ([] if bias is None else [bias]), target, share)
    close(c, want, dtype)


@each_target
def test_matmul_over_random_shapes_and_layouts(target: StandInTarget) -> None:
    rng = np.random.default_rng(1)
    layouts = ("plain", "plain", "transposed", "transposed", "reversed", "stepped", "repeated")
    for _ in range(150):
        m, n, k = (int(x) for x in rng.choice([1, 2, 3, 4, 7, 14, 15, 16, 17, 31, 33, 64, 65, 100, 130], 3))
        a = operand(rng, (m, k), dtypes.float32, str(rng.choice(layouts)))
        b = operand(rng, (k, n), dtypes.float32, str(rng.choice(layouts)))
        bias = guard(random_array(rng, (n,), dtypes.float32)) if rng.random() < 0.4 else None
        check_matmul(rng, dtypes.float32, a, b, target, bias, bool(rng.random() < 0.3))


@each_target
@pytest.mark.parametrize(("m", "n", "k"), [(70, 300, 600), (130, 270, 300), (40, 70, 1100), (1, 4200, 19), (3, 5, 2100),
                                           (57, 1, 1100), (5, 9, 0), (0, 4, 3), (64, 1024, 30), (29, 1024, 30)])
def test_matmul_beyond_one_block(target: StandInTarget, m: int, n: int, k: int) -> None:
    rng = np.random.default_rng(2)
    for a_layout in ("plain", "transposed"):
        for b_layout in ("plain", "transposed"):
            a, b = operand(rng, (m, k), dtypes.float32, a_layout), operand(rng, (k, n), dtypes.float32, b_layout)
            check_matmul(rng, dtypes.float32, a, b, target, guard(random_array(rng, (n,), dtypes.float32)), share=3)
            check_matmul(rng, dtypes.float32, a, b, target, accumulate=True, share=1)


@each_target
@pytest.mark.parametrize("dtype", [dtypes.float32, dtypes.float64, dtypes.bfloat16, dtypes.int32], ids=lambda dtype: dtype.name)
def test_matmul_with_few_columns(target: StandInTarget, dtype: dtypes.DType) -> None:
    rng = np.random.default_rng(12)
    layouts = ("plain", "plain", "transposed", "transposed", "reversed", "stepped")
    sizes = [(1100, 49, 400), (530, 225, 70), (260, 97, 200), (300, 33, 0), (64, 17, 193)]
    sizes += [(int(rng.integers(18, 200)), int(rng.integers(1, 60)), int(rng.integers(20, 230))) for _ in range(40)]
    for m, n, k in sizes:
        a = operand(rng, (m, k), dtype, str(rng.choice(layouts)))
        b = operand(rng, (k, n), dtype, str(rng.choice(layouts)))
        bias = guard(random_array(rng, (n,), dtype)) if rng.random() < 0.4 else None
        turned = guarded((n, m), dtype.numpy).T if rng.random() < 0.2 else None
        if turned is not None:
            turned[...] = random_array(rng, (m, n), dtype)
        check_matmul(rng, dtype, a, b, target, bias, bool(rng.random() < 0.4), share=2 if m > 500 else None, c=turned)


@pytest.mark.parametrize("dtype", [dtypes.float64, dtypes.float16, dtypes.bfloat16, dtypes.int8, dtypes.uint8, dtypes.int16,
                                   dtypes.int32, dtypes.int64], ids=lambda dtype: dtype.name)
def test_matmul_of_other_dtypes(dtype: dtypes.DType) -> None:
    rng = np.random.default_rng(3)
    for target in TARGETS:
        for m, n, k in [(1, 5, 3), (4, 4, 4), (13, 37, 70), (33, 70, 19), (1, 70, 33), (70, 1, 33), (120, 300, 270)]:
            for a_layout, b_layout in (("plain", "plain"), ("plain", "transposed"), ("transposed", "stepped"),
                                       ("reversed", "repeated")):
                a, b = operand(rng, (m, k), dtype, a_layout), operand(rng, (k, n), dtype, b_layout)
                bias = guard(random_array(rng, (n,), dtype)) if m % 2 else None
                check_matmul(rng, dtype, a, b, target, bias, accumulate=n == 37)


STORED = [(dtypes.int32, dtypes.int8, dtypes.int8), (dtypes.int32, dtypes.uint8, dtypes.int8),
          (dtypes.int32, dtypes.int8, dtypes.int32), (dtypes.float32, dtypes.float32, dtypes.int8),
          (dtypes.float32, dtypes.bfloat16, dtypes.float32), (dtypes.float32, dtypes.float16, dtypes.uint8),
          (dtypes.float32, dtypes.bfloat16, dtypes.bfloat16)]


def stored_targets() -> list[StandInTarget]:
    """The targets, without the newest instructions for bytes too, and one without wide vectors."""
    found = list(TARGETS)
    if "+avx512vnni" in TARGETS[0].features:
        found.append(replace(TARGETS[0], cpu="skylake-avx512", features="-prefer-256-bit"))
    if "+avxvnni" in TARGETS[0].features:
        found.append(StandInTarget("alderlake", "+avx2,+fma,+f16c,+avxvnni", TARGETS[0].triple, 32, False))
    if "x86_64" in TARGETS[0].triple:
        found.append(StandInTarget("x86-64", "", TARGETS[0].triple, 16, False))
    return found


@pytest.mark.parametrize("target", stored_targets(), ids=lambda target: target.cpu)
@pytest.mark.parametrize(("dtype", "left", "right"), STORED, ids=lambda dtype: dtype.name)
def test_matmul_converts_what_it_reads(target: StandInTarget, dtype: dtypes.DType, left: dtypes.DType,
                                       right: dtypes.DType) -> None:
    rng = np.random.default_rng(11)
    for m, n, k in [(1, 70, 33), (70, 1, 33), (1, 300, 700), (4, 100, 90), (13, 37, 70), (33, 70, 131), (120, 300, 270),
                    (20, 33, 1), (15, 40, 900), (300, 33, 64)]:
        for a_layout, b_layout in (("plain", "plain"), ("plain", "transposed"), ("transposed", "plain"),
                                   ("transposed", "stepped"), ("reversed", "repeated")):
            a, b = operand(rng, (m, k), left, a_layout), operand(rng, (k, n), right, b_layout)
            bias = guard(random_array(rng, (n,), dtype)) if m % 2 else None
            check_matmul(rng, dtype, a, b, target, bias, accumulate=n == 37, share=2, stored=(left, right))


@each_target
def test_extreme_bytes_are_summed_exactly(target: StandInTarget) -> None:
    for left, right in ((-128, -128), (127, -128), (-128, 127), (127, 127)):
        a, b = guard(np.full((40, 3000), left, np.int8)), guard(np.full((3000, 50), right, np.int8))
        c = guarded((40, 50), np.int32)
        run(templates.matmul(dtypes.int32, ref(0), ref(1), ref(2), (), 40, 50, 3000, strides(a), strides(b), strides(c),
                             stored=(dtypes.int8, dtypes.int8)), [c, a, b], target)
        assert (c == left * right * 3000).all()


def test_all_of_float16_without_instructions_for_it() -> None:
    if "x86_64" not in TARGETS[0].triple:
        pytest.skip("needs an x86 machine")
    values = guard(np.arange(1 << 16, dtype=np.uint16).view(np.float16).reshape(1 << 10, 64))
    one, c = guard(np.ones((1, 1), np.float32)), guarded((1 << 16, 1), np.float32)
    call = templates.matmul(dtypes.float32, ref(0), ref(1), ref(2), (), 1 << 16, 1, 1, (1, 1), (1, 1), (1, 1),
                            stored=(dtypes.float16, dtypes.float32))
    run(call, [c, values, one], StandInTarget("x86-64", "", TARGETS[0].triple, 16, False))
    np.testing.assert_array_equal(c.reshape(-1), values.astype(np.float32).reshape(-1))


def test_matmul_rejects_other_conversions() -> None:
    with pytest.raises(ValueError, match="does not convert"):
        templates.matmul(dtypes.float32, ref(0), ref(1), ref(2), (), 1, 1, 1, (1, 1), (1, 1), (1, 1),
                         stored=(dtypes.float64, dtypes.float32))


@pytest.mark.skipif("+avx512bf16" not in TARGETS[0].features, reason="needs instructions for bfloat16")
def test_matmul_of_bfloat16_pairs() -> None:
    rng = np.random.default_rng(8)
    target = replace(TARGETS[0], cpu="znver4", machine=TARGETS[0].cpu)
    for m, n, k in [(1, 70, 33), (13, 37, 71), (120, 300, 800), (33, 70, 20), (20, 33, 1), (20, 33, 0)]:
        for a_layout, b_layout in (("plain", "plain"), ("plain", "transposed"), ("transposed", "plain"),
                                   ("transposed", "stepped"), ("reversed", "repeated")):
            a, b = operand(rng, (m, k), dtypes.bfloat16, a_layout), operand(rng, (k, n), dtypes.bfloat16, b_layout)
            check_matmul(rng, dtypes.bfloat16, a, b, target, accumulate=m == 20)


def test_matmul_on_a_machine_without_wide_vectors() -> None:
    rng = np.random.default_rng(9)
    target = StandInTarget("x86-64", "", TARGETS[0].triple, 16, False)
    if "x86_64" not in target.triple:
        pytest.skip("needs an x86 machine")
    for m, n, k in [(1, 70, 33), (70, 1, 33), (13, 37, 71), (4, 4, 4), (33, 70, 200)]:
        for layout in ("plain", "transposed"):
            a, b = operand(rng, (m, k), dtypes.float32, "plain"), operand(rng, (k, n), dtypes.float32, layout)
            check_matmul(rng, dtypes.float32, a, b, target)


@each_target
def test_matmul_of_batches(target: StandInTarget) -> None:
    rng = np.random.default_rng(4)
    for batch_a, batch_b in [((64,), (64,)), ((3, 1, 2), (1, 4, 1)), ((5,), ()), ((), (5,)), ((2, 3), (2, 3)),
                             ((2, 1), (2, 3)), ((0,), (0,)), ((2, 1, 2, 1), (1, 3, 1, 2))]:
        for m, n, k in [(4, 4, 4), (20, 33, 17), (1, 6, 5), (6, 1, 5), (1, 1, 9)]:
            for b_layout in ("plain", "transposed"):
                a = operand(rng, (*batch_a, m, k), dtypes.float32, "plain")
                b = operand(rng, (*batch_b, k, n), dtypes.float32, b_layout)
                check_matmul(rng, dtypes.float32, a, b, target, guard(random_array(rng, (n,), dtypes.float32)), share=1)
                check_matmul(rng, dtypes.float32, a, b, target)


@each_target
def test_matmul_into_strided_results(target: StandInTarget) -> None:
    rng = np.random.default_rng(5)
    for m, n, k in [(30, 50, 20), (6, 7, 300), (1, 40, 8), (40, 1, 8)]:
        a, b = operand(rng, (m, k), dtypes.float32, "plain"), operand(rng, (k, n), dtypes.float32, "plain")
        bias = guard(random_array(rng, (n,), dtypes.float32))
        for c in (guarded((n, m), np.float32).T, guarded((m, 2 * n - 1), np.float32)[:, ::2],
                  guarded((m, n), np.float32)[::-1]):
            c[...] = 1.5
            check_matmul(rng, dtypes.float32, a, b, target, bias, accumulate=True, c=c)
            check_matmul(rng, dtypes.float32, a, b, target, c=c)


def test_units_of_a_matmul_run_at_the_same_time() -> None:
    rng = np.random.default_rng(10)
    a, b = rng.standard_normal((500, 300)).astype(np.float32), rng.standard_normal((300, 700)).astype(np.float32)
    c = guarded((500, 700), np.float32)
    call = templates.matmul(dtypes.float32, ref(0), ref(1), ref(2), (), 500, 700, 300, strides(a), strides(b), strides(c))
    assert call.units >= 8
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda unit: run(call, [c, a, b], share=1, units=range(unit, unit + 1)), range(call.units)))
    close(c, expected(a, b, dtypes.float32), dtypes.float32)


def test_matmul_keeps_infinities_and_nan() -> None:
    a = guard(np.array([[np.inf, 1.0], [np.nan, 0.0], [0.0, -np.inf]], np.float32))
    b = guard(np.array([[1.0, 2.0, 3.0], [0.0, 1.0, 2.0]], np.float32))
    for dtype in (dtypes.float32, dtypes.bfloat16, dtypes.float16):
        x, y = guard(a.astype(dtype.numpy)), guard(b.astype(dtype.numpy))
        c = guarded((3, 3), dtype.numpy)
        run(templates.matmul(dtype, ref(0), ref(1), ref(2), (), 3, 3, 2, (2, 1), (3, 1), (3, 1)), [c, x, y])
        want = [[np.inf, np.inf, np.inf], [np.nan, np.nan, np.nan], [np.nan, -np.inf, -np.inf]]
        np.testing.assert_array_equal(c.astype(np.float32), want)


def test_matmul_rejects_complex() -> None:
    with pytest.raises(ValueError, match="integer and floating-point"):
        templates.matmul(dtypes.complex64, ref(0), ref(1), ref(2), (), 1, 1, 1, (1, 1), (1, 1), (1, 1))


def test_bfloat16_products_round_to_nearest_even() -> None:
    a = guard(np.array([[1.0, 1.0]], ml_dtypes.bfloat16))
    b = guard(np.array([[1.0, 1.0], [1 / 256, 3 / 256]], ml_dtypes.bfloat16))
    c = guarded((1, 2), ml_dtypes.bfloat16)
    run(templates.matmul(dtypes.bfloat16, ref(0), ref(1), ref(2), (), 1, 2, 2, (2, 1), (2, 1), (2, 1)), [c, a, b])
    np.testing.assert_array_equal(c.astype(np.float32), [[1.0, 1 + 4 / 256]])
