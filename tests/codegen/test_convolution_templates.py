"""The convolution templates against NumPy, on all targets that the machine can run, in guarded memory."""
from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from template_harness import StandInTarget, guard, guarded, host_targets, ref, run, strides  # noqa: E402

from torsh.compiler import convolution as templates  # noqa: E402
from torsh.compiler.convolution import Phase, Windows  # noqa: E402
from torsh.core import dtype as dtypes  # noqa: E402
from torsh.core.errors import InvalidArgumentError  # noqa: E402
from torsh.ops import convolution_primitives as primitives  # noqa: E402
from torsh.ops.define import wide  # noqa: E402

TARGETS = host_targets()
each_target = pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.cpu)
# With and without pairs of bfloat16, as far as the machine has them.
PAIRS = [TARGETS[0]]
if "+avx512bf16" in TARGETS[0].features:
    PAIRS = [replace(TARGETS[0], cpu=cpu, machine=TARGETS[0].cpu) for cpu in ("znver4", "sapphirerapids")]
each_pairing = pytest.mark.parametrize("target", [*PAIRS, *TARGETS[1:]], ids=lambda target: target.cpu)
LAYOUTS = ("plain", "turned", "channels last", "spread", "backwards")


def values(rng: np.random.Generator, shape: tuple[int, ...], dtype: dtypes.DType) -> np.ndarray:
    if dtype.category == 1:
        return rng.integers(-9 if dtype.is_signed else 0, 9, shape).astype(dtype.numpy)
    return rng.standard_normal(shape).astype(dtype.numpy)


def operand(rng: np.random.Generator, shape: tuple[int, ...], dtype: dtypes.DType, layout: str) -> np.ndarray:
    """An array of a shape in guarded memory, laid out in one way or another."""
    at_end = bool(rng.random() < 0.5)
    if layout == "turned":
        return guard(values(rng, (shape[1], shape[0], *shape[2:]), dtype), at_end).swapaxes(0, 1)
    if layout == "channels last":
        return np.moveaxis(guard(values(rng, (shape[0], *shape[2:], shape[1]), dtype), at_end), -1, 1)
    if layout == "spread":
        whole = guard(values(rng, (*shape[:-1], 2 * shape[-1] - 1), dtype), at_end)
        return whole[..., ::2]
    array = guard(values(rng, shape, dtype), at_end)
    return array[..., ::-1] if layout == "backwards" else array


def random_geometry(rng: np.random.Generator, rank: int, most: int) -> tuple[primitives.WindowGeometry, tuple[int, ...]]:
    """Windows, and the sizes of an input that has them; padding may be negative, and larger than a window."""
    while True:
        kernel = tuple(int(v) for v in rng.integers(1, 5, rank))
        stride = tuple(int(v) for v in rng.integers(1, 4, rank))
        dilation = tuple(int(v) for v in rng.choice([1, 1, 2, -1], rank))
        sizes = tuple(int(v) for v in rng.integers(1, most, rank))
        padding = tuple(int(v) for v in rng.integers(-1, 4, rank))
        counts = tuple(int(v) for v in rng.integers(1, most, rank))
        geometry = primitives.WindowGeometry(kernel, counts, stride, padding, dilation, int(rng.integers(1, 4)))
        if np.prod(counts) <= 3000:
            return geometry, sizes


def padded(geometry: primitives.WindowGeometry, sizes: tuple[int, ...], array: np.ndarray
           ) -> tuple[primitives.WindowGeometry, np.ndarray]:
    """The same windows of an input with so many zeros around it that all of them are inside."""
    margin = 40
    array = np.pad(array, [(0, 0), (0, 0), *[(margin, margin + c * s) for c, s in zip(
        geometry.counts, geometry.stride, strict=True)]])
    return geometry._replace(padding=tuple([p - margin for p in geometry.padding])), array


def windows_of(geometry: primitives.WindowGeometry, x: np.ndarray) -> Windows:
    channels = x.shape[1] // geometry.groups
    steps = strides(x)
    return Windows(x.shape[0], geometry.groups, channels, x.shape[2:], geometry.kernel, geometry.counts, geometry.stride,
                   geometry.padding, geometry.dilation, (steps[0], steps[1] * channels, *steps[1:]))


def close(got: np.ndarray, want: np.ndarray, dtype: dtypes.DType) -> None:
    if dtype.category == 1:
        np.testing.assert_array_equal(got, want.astype(got.dtype))
        return
    tolerance = {"float64": 1e-12, "float32": 2e-5, "float16": 4e-3, "bfloat16": 3e-2}[dtype.name]
    np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), rtol=tolerance,
                               atol=tolerance * max(1, np.abs(want.astype(np.float64)).max()))


def columns(geometry: primitives.WindowGeometry, x: np.ndarray, dtype: dtypes.DType) -> np.ndarray:
    kind = x.dtype if dtype.category == 1 else np.float64
    return primitives.window_columns(*padded(geometry, x.shape[2:], x.astype(kind)))


def check_forward(rng: np.random.Generator, dtype: dtypes.DType, geometry: primitives.WindowGeometry, sizes: tuple[int, ...],
                  batch: int, channels: int, rows: int, target: StandInTarget, share: int | None = None, usual: bool = False) -> None:
    """usual: the input is contiguous, and there is a bias; otherwise both by chance."""
    groups = geometry.groups
    x = operand(rng, (batch, groups * channels, *sizes), dtype, "plain" if usual else str(rng.choice(LAYOUTS)))
    w = operand(rng, (groups * rows, channels, *geometry.kernel), dtype, str(rng.choice(LAYOUTS)))
    bias = guard(values(rng, (groups * rows,), dtype)) if usual or rng.random() < 0.5 else None
    steps = strides(w)
    phase = Phase(windows_of(geometry, x), 0, (1,) * len(sizes), 0, (steps[0] * rows, *steps))
    c = guarded((batch, groups, rows, int(np.prod(geometry.counts))), dtype.numpy)
    call = templates.convolution(dtype, ref(0), ref(1), ref(2), geometry.counts, rows, [phase],
                                 None if bias is None else (ref(3), 1))
    run(call, [c, w, x] + ([] if bias is None else [bias]), target, share)
    kind: Any = w.dtype if dtype.category == 1 else np.float64
    want = np.matmul(w.astype(kind).reshape(groups, rows, -1), columns(geometry, x, dtype))
    close(c, want if bias is None else want + bias.astype(kind).reshape(groups, rows, 1), dtype)


@each_target
def test_convolutions_of_random_windows(target: StandInTarget) -> None:
    rng = np.random.default_rng(1)
    for number in range(250):
        geometry, sizes = random_geometry(rng, 1 + number % 3, (200, 30, 9)[number % 3])
        check_forward(rng, dtypes.float32, geometry, sizes, int(rng.integers(1, 5)), int(rng.integers(1, 9)),
                      int(rng.integers(1, 40)), target, int(rng.integers(1, 4)))


@each_target
def test_convolutions_beyond_one_block(target: StandInTarget) -> None:
    rng = np.random.default_rng(2)
    for sizes, kernel, stride, batch, channels, rows in [((40, 40), (3, 3), 1, 1, 70, 30), ((7, 7), (3, 3), 1, 9, 40, 300),
                                                         ((60, 61), (7, 7), 2, 2, 3, 64), ((3000,), (350,), 1, 1, 3, 5),
                                                         ((5, 5), (2, 2), 1, 3, 2, 1200)]:
        counts = tuple([(n - 1) // stride + 1 for n in sizes])
        ones = (1,) * len(sizes)
        geometry = primitives.WindowGeometry(kernel, counts, (stride,) * len(sizes), tuple([k // 2 for k in kernel]), ones, 1)
        check_forward(rng, dtypes.float32, geometry, sizes, batch, channels, rows, target, 3)


@each_target
@pytest.mark.parametrize("dtype", [dtypes.float64, dtypes.float16, dtypes.bfloat16, dtypes.int8, dtypes.uint8, dtypes.int16,
                                   dtypes.int32, dtypes.int64], ids=lambda dtype: dtype.name)
def test_convolutions_of_other_dtypes(target: StandInTarget, dtype: dtypes.DType) -> None:
    rng = np.random.default_rng(3)
    for number in range(12):
        geometry, sizes = random_geometry(rng, 1 + number % 2, (80, 14)[number % 2])
        check_forward(rng, dtype, geometry, sizes, 2, 3, 1 + 12 * number, target)
        check_weight(rng, dtype, geometry, sizes, 2, 3, 1 + 7 * number, target)


@each_target
@pytest.mark.parametrize("dtype", [dtypes.float32, dtypes.float64, dtypes.float16, dtypes.bfloat16, dtypes.int8, dtypes.int32],
                         ids=lambda dtype: dtype.name)
def test_convolutions_of_planes_with_a_bias(target: StandInTarget, dtype: dtypes.DType) -> None:
    rng = np.random.default_rng(8)
    for sizes, stride, dilation, rows in [((9, 20), 1, 1, 32), ((17, 14), 2, 1, 64), ((7, 7), 1, 2, 61), ((30, 13), 1, 1, 130)]:
        counts = tuple([(n + 1 - 2 * dilation) // stride + 1 for n in sizes])
        geometry = primitives.WindowGeometry((3, 3), counts, (stride,) * 2, (1, 1), (dilation,) * 2, 1)
        check_forward(rng, dtype, geometry, sizes, 3, 9, rows, target, 2, usual=True)
        check_weight(rng, dtype, geometry, sizes, 3, 9, rows, target, 2)


def check_weight(rng: np.random.Generator, dtype: dtypes.DType, geometry: primitives.WindowGeometry, sizes: tuple[int, ...],
                 batch: int, channels: int, rows: int, target: StandInTarget, share: int | None = None) -> None:
    groups, positions = geometry.groups, int(np.prod(geometry.counts))
    x = operand(rng, (batch, groups * channels, *sizes), dtype, str(rng.choice(LAYOUTS)))
    g = operand(rng, (batch, groups * rows, positions), dtype, str(rng.choice(LAYOUTS[:2])))
    parts = int(rng.integers(1, 4)) if batch * positions >= 16 else 1
    total = guarded((parts, groups, rows, channels * int(np.prod(geometry.kernel))), wide(dtype).numpy)
    steps = strides(g)
    call = templates.convolution_weight(dtype, ref(0), ref(1), ref(2), windows_of(geometry, x), rows,
                                        (steps[0], steps[1] * rows, steps[1]), parts)
    run(call, [total, g, x], target, share)
    kind: Any = g.dtype if dtype.category == 1 else np.float64
    want = np.matmul(g.astype(kind).reshape(batch, groups, rows, positions),
                     columns(geometry, x, dtype).swapaxes(-1, -2)).sum(0, dtype=kind)
    close(total.sum(0, dtype=total.dtype), want, dtypes.float32 if dtype.itemsize == 2 and dtype.category == 2 else dtype)


@each_target
def test_weight_gradients_of_random_windows(target: StandInTarget) -> None:
    rng = np.random.default_rng(4)
    for number in range(150):
        geometry, sizes = random_geometry(rng, 1 + number % 3, (200, 30, 9)[number % 3])
        check_weight(rng, dtypes.float32, geometry, sizes, int(rng.integers(1, 5)), int(rng.integers(1, 9)),
                     int(rng.integers(1, 40)), target, int(rng.integers(1, 4)))


@each_target
def test_weight_gradients_beyond_one_block(target: StandInTarget) -> None:
    rng = np.random.default_rng(5)
    for sizes, batch, channels, rows in [((20, 20), 2, 100, 30), ((7, 7), 9, 70, 130)]:
        geometry = primitives.WindowGeometry((3, 3), sizes, (1, 1), (1, 1), (1, 1), 1)
        check_weight(rng, dtypes.float32, geometry, sizes, batch, channels, rows, target, 2)


@each_target
@pytest.mark.parametrize("dtype", [dtypes.float32, dtypes.float64, dtypes.bfloat16, dtypes.int32], ids=lambda d: d.name)
def test_phases_write_every_second_or_third_element(target: StandInTarget, dtype: dtypes.DType) -> None:
    rng = np.random.default_rng(6)
    for step, size, rows, high in [(2, 21, 20, 9), (3, 40, 7, 9), (2, 64, 130, 9), (2, 9, 5, 1)]:
        x = guard(values(rng, (2, 4, high, 30), dtype))
        w = guard(values(rng, (rows, 4, 3, 2 * step), dtype))
        c = guarded((2, rows, high, size), dtype.numpy)
        phases, want = [], np.zeros((2, rows, high, size), x.dtype if dtype.category == 1 else np.float64)
        for start in range(step):
            count = len(range(start, size, step))
            geometry = primitives.WindowGeometry((3, 2), (high, count), (1, 1), (1, start), (1, -1), 1)
            steps = strides(w)
            phases.append(Phase(windows_of(geometry, x), start, (1, step), start, (0, *steps[:3], steps[3] * step)))
            part = w[..., start::step].astype(want.dtype).reshape(rows, -1)
            want[..., start::step] = np.matmul(part, columns(geometry, x, dtype)[:, 0]).reshape(2, rows, high, count)
        call = templates.convolution(dtype, ref(0), ref(1), ref(2), (high, size), rows, phases)
        run(call, [c, w, x], target, share=2)
        close(c, want, dtype)


def test_weight_gradients_of_large_kernels_are_refused() -> None:
    windows = Windows(1, 1, 1, (200,), (129,), (72,), (1,), (0,), (1,), (200, 200, 200, 1))
    with pytest.raises(InvalidArgumentError, match="129"):
        templates.convolution_weight(dtypes.float32, ref(0), ref(1), ref(2), windows, 1, (72, 72, 72), 1)


def test_what_is_padding_is_never_multiplied_with_what_is_there() -> None:
    rng = np.random.default_rng(7)
    x = guard(values(rng, (1, 2, 5, 5), dtypes.float32))
    x[0, 0, 0, 0] = np.inf
    geometry = primitives.WindowGeometry((3, 3), (5, 5), (1, 1), (1, 1), (1, 1), 1)
    w = guard(np.ones((1, 2, 3, 3), np.float32))
    c = guarded((1, 1, 1, 25), np.float32)
    phase = Phase(windows_of(geometry, x), 0, (1, 1), 0, (0, *strides(w)))
    run(templates.convolution(dtypes.float32, ref(0), ref(1), ref(2), (5, 5), 1, [phase]), [c, w, x])
    infinite = np.zeros((5, 5), bool)
    infinite[:2, :2] = True
    np.testing.assert_array_equal(np.isinf(c.reshape(5, 5)), infinite)
    assert not np.isnan(c).any()


@each_pairing
def test_bfloat16_convolutions_of_random_windows(target: StandInTarget) -> None:
    rng = np.random.default_rng(9)
    for number in range(120):
        geometry, sizes = random_geometry(rng, 1 + number % 3, (200, 30, 9)[number % 3])
        batch, channels, share = (int(v) for v in rng.integers(1, (5, 12, 4)))
        rows = int(rng.choice([5, 14, 16, 31, 64, 70]))
        check_forward(rng, dtypes.bfloat16, geometry, sizes, batch, channels, rows, target, share, usual=number % 2 == 0)
        check_weight(rng, dtypes.bfloat16, geometry, sizes, batch, channels, rows, target, share)


@each_pairing
def test_bfloat16_convolutions_of_planes(target: StandInTarget) -> None:
    rng = np.random.default_rng(10)
    for sizes, kernel, stride, dilation, batch, channels, rows in [
            ((40, 41), (3, 3), 1, 1, 2, 75, 64), ((61, 60), (7, 7), 2, 1, 2, 3, 64), ((16, 17), (5, 5), 1, 1, 3, 33, 30),
            ((13, 300), (1, 4), 1, 2, 1, 7, 32), ((30, 530), (3, 3), 1, 1, 1, 5, 16), ((25, 13), (6, 3), 3, 2, 4, 1, 48),
            ((14, 14), (3, 3), 1, -1, 3, 130, 65), ((1, 400), (1, 9), 1, 1, 3, 5, 16), ((70, 12), (15, 15), 1, 1, 1, 3, 16)]:
        reaches = [(k - 1) * dilation for k in kernel]
        counts = tuple([max(1, (n + 2 - abs(reach)) // stride) for n, reach in zip(sizes, reaches, strict=True)])
        padding = tuple([1 - min(reach, 0) for reach in reaches])
        geometry = primitives.WindowGeometry(kernel, counts, (stride,) * 2, padding, (dilation,) * 2, 1)
        check_forward(rng, dtypes.bfloat16, geometry, sizes, batch, channels, rows, target, 2, usual=True)
        if np.prod(kernel) <= primitives.MOST_TAPS:
            for share in (1, None):
                check_weight(rng, dtypes.bfloat16, geometry, sizes, batch, channels, rows, target, share)


@each_pairing
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_infinite_elements_meet_only_their_windows(target: StandInTarget, channels: int) -> None:
    for kernel, size, rows in [((3, 3), (15, 15), 16), ((3, 4), (15, 16), 32), ((1, 5), (5, 40), 4), ((3, 3), (7, 7), 16),
                               ((5, 5), (19, 13), 16)]:
        x = guard(np.ones((1, channels, *size), dtypes.bfloat16.numpy))
        x[0, channels - 1, size[0] // 2, size[1] // 2] = np.inf
        geometry = primitives.WindowGeometry(kernel, size, (1, 1), tuple([(k - 1) // 2 for k in kernel]), (1, 1), 1)
        w = guard(np.ones((rows, channels, *kernel), x.dtype))
        c = guarded((1, 1, rows, int(np.prod(size))), x.dtype)
        phase = Phase(windows_of(geometry, x), 0, (1, 1), 0, (0, *strides(w)))
        run(templates.convolution(dtypes.bfloat16, ref(0), ref(1), ref(2), size, rows, [phase]), [c, w, x], target)
        infinite = np.isinf(columns(geometry, x, dtypes.bfloat16)).any(-2).reshape(-1)
        np.testing.assert_array_equal(np.isinf(c.astype(np.float32)), np.broadcast_to(infinite, c.shape))
        assert not np.isnan(c.astype(np.float32)).any()

        g = guard(np.ones((1, rows, int(np.prod(size))), x.dtype))
        total = guarded((1, 1, rows, channels * int(np.prod(kernel))), np.float32)
        call = templates.convolution_weight(dtypes.bfloat16, ref(0), ref(1), ref(2), windows_of(geometry, x), rows,
                                            (g[0].size, g[0].size, g[0, 0].size), 1)
        run(call, [total, g, x], target)
        assert np.isinf(total[..., -int(np.prod(kernel)):]).all() and np.isfinite(total[..., :-int(np.prod(kernel))]).all()
