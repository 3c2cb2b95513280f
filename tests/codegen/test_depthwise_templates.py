"""The templates of depthwise convolutions against NumPy, on all targets that the machine can run, in guarded memory."""
from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from template_harness import ARM, StandInTarget, guard, guarded, host_targets, ref, run, strides  # noqa: E402
from test_convolution_templates import LAYOUTS, close, columns, operand, values, windows_of  # noqa: E402

from torsh.codegen.llvm.templates import generate_template  # noqa: E402
from torsh.compiler import depthwise as templates  # noqa: E402
from torsh.compiler.kernel import TemplateKernel  # noqa: E402
from torsh.core import dtype as dtypes  # noqa: E402
from torsh.ops.convolution_primitives import WindowGeometry  # noqa: E402
from torsh.ops.define import wide  # noqa: E402
from torsh.ops.depthwise_primitives import suits_depthwise  # noqa: E402
from torsh.ops.windows import numpy_spaced  # noqa: E402

each_target = pytest.mark.parametrize("target", host_targets(), ids=lambda target: target.cpu)
FLOATS = [dtypes.float32, dtypes.float64, dtypes.float16, dtypes.bfloat16]
IN_ROWS = ("plain", "turned", "cut")    # layouts whose lines are contiguous


def in_rows(rng: np.random.Generator, shape: tuple[int, ...], dtype: dtypes.DType) -> np.ndarray:
    """An array in guarded memory whose last dimension is contiguous."""
    layout = str(rng.choice(IN_ROWS))
    if layout != "cut":
        return operand(rng, shape, dtype, layout)
    return guard(values(rng, (*shape[:-1], shape[-1] + 3), dtype), bool(rng.random() < 0.5))[..., 2:-1]


def random_geometry(rng: np.random.Generator, rank: int, most: int) -> tuple[WindowGeometry, tuple[int, ...]]:
    """Windows of all kinds: kernels with code of their own and others, walked forwards or backwards, padding larger than them."""
    while True:
        side = int(rng.choice([1, 2, 3, 3, 3, 5, 5, 7, 7]))
        kernel = tuple(side if rng.random() < 0.8 else int(rng.integers(1, 10)) for _ in range(rank))
        step = int(rng.integers(1, 3))
        stride = (*(step if rng.random() < 0.7 else int(rng.integers(1, 4)) for _ in range(rank - 1)), step)
        dilation = tuple(int(v) for v in rng.choice([1, 1, 1, 1, -1, 2, -2, 3], rank))
        sizes = tuple(int(v) for v in rng.integers(1, most, rank))
        padding = tuple(int(v) for v in rng.integers(-2, 9, rank))
        counts = tuple(int(v) for v in rng.integers(1, most, rank))
        if np.prod(counts) <= 4000 and suits_depthwise(kernel, stride, dilation, (1,) * rank):
            return WindowGeometry(kernel, counts, stride, padding, dilation, int(rng.integers(1, 6))), sizes


def check_forward(rng: np.random.Generator, dtype: dtypes.DType, geometry: WindowGeometry, sizes: tuple[int, ...], batch: int,
                  rows: int, target: StandInTarget, share: int | None = None, spacing: int = 1) -> None:
    groups, rank = geometry.groups, len(sizes)
    x = in_rows(rng, (batch, groups, *sizes), dtype)
    w = operand(rng, (groups, rows, *geometry.kernel), dtype, str(rng.choice(LAYOUTS)))
    bias = guard(values(rng, (groups * rows,), dtype)) if rng.random() < 0.5 else None
    c = guarded((batch, groups, rows, int(np.prod(geometry.counts))), dtype.numpy)
    call = templates.depthwise(dtype, ref(0), ref(1), ref(2), windows_of(geometry, x), (spacing,) * rank, rows, strides(w),
                               None if bias is None else (ref(3), 1))
    run(call, [c, w, x] + ([] if bias is None else [bias]), target, share)
    want = np.matmul(w.astype(np.float64).reshape(groups, rows, -1),
                     columns(geometry, numpy_spaced(x, (spacing,) * rank), dtype))
    close(c, want if bias is None else want + bias.astype(np.float64).reshape(groups, rows, 1), dtype)


def check_weight(rng: np.random.Generator, dtype: dtypes.DType, geometry: WindowGeometry, sizes: tuple[int, ...], batch: int,
                 rows: int, target: StandInTarget, share: int | None = None, narrow: bool | None = None,
                 x: np.ndarray | None = None) -> None:
    groups, positions = geometry.groups, int(np.prod(geometry.counts))
    if x is None:
        x = in_rows(rng, (batch, groups, *sizes), dtype)
    g = guard(values(rng, (batch, groups, rows, positions), dtype), bool(rng.random() < 0.5))
    c = guarded((groups, rows, int(np.prod(geometry.kernel))), wide(dtype).numpy)
    call = templates.depthwise_weight(dtype, ref(0), ref(1), ref(2), windows_of(geometry, x), rows, strides(g)[:3])
    assert narrow is None or call.kernel.options[-1] == narrow
    run(call, [c, g, x], target, share)
    want = np.matmul(g.astype(np.float64), columns(geometry, x, dtype).swapaxes(-1, -2)).sum(0)
    close(c, want, wide(dtype))


@each_target
def test_random_windows(target: StandInTarget) -> None:
    rng = np.random.default_rng(1)
    for number in range(150):
        geometry, sizes = random_geometry(rng, 1 + number % 2, (300, 40)[number % 2])
        batch, rows, share = [int(v) for v in rng.integers(1, 4, 3)]
        check_forward(rng, dtypes.float32, geometry, sizes, batch, rows, target, share)
        check_weight(rng, dtypes.float32, geometry, sizes, batch, rows, target, share)


@each_target
def test_spaced_inputs(target: StandInTarget) -> None:
    rng = np.random.default_rng(2)
    for number in range(80):
        geometry, sizes = random_geometry(rng, 1 + number % 2, (150, 30)[number % 2])
        geometry = geometry._replace(stride=(1,) * len(sizes))
        check_forward(rng, FLOATS[number % 8 // 2], geometry, sizes, 2, 1 + number % 2, target, 2, spacing=2)


@each_target
@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: dtype.name)
def test_dtypes(target: StandInTarget, dtype: dtypes.DType) -> None:
    rng = np.random.default_rng(3)
    for number in range(24):
        geometry, sizes = random_geometry(rng, 1 + number % 2, (80, 24)[number % 2])
        check_forward(rng, dtype, geometry, sizes, 2, 1 + number % 2, target)
        check_weight(rng, dtype, geometry, sizes, 2, 1 + number % 2, target)


@each_target
def test_blocks_of_lines_and_of_positions(target: StandInTarget) -> None:
    """Planes that are cut in blocks, and many small ones that are copied together."""
    rng = np.random.default_rng(4)
    for sizes, kernel, stride, batch, groups in [((130, 700), 3, 1, 1, 2), ((300, 90), 7, 2, 1, 2), ((7, 7), 3, 1, 5, 19),
                                                 ((2000,), 9, 2, 2, 3), ((14, 14), 5, 1, 20, 3), ((3, 1030), 5, 2, 1, 2)]:
        counts = tuple([(n - 1) // stride + 1 for n in sizes])
        rank = len(sizes)
        geometry = WindowGeometry((kernel,) * rank, counts, (stride,) * rank, (kernel // 2,) * rank, (1,) * rank, groups)
        check_forward(rng, dtypes.float32, geometry, sizes, batch, 1, target, 11)
        check_weight(rng, dtypes.float32, geometry, sizes, batch, 1, target)
    wide_apart = WindowGeometry((7, 7), (90, 300), (1, 1), (24, 24), (8, 8), 2)
    assert suits_depthwise((7, 7), (1, 1), (8, 8), (1, 1))
    check_forward(rng, dtypes.float64, wide_apart, (90, 300), 1, 1, target)
    check_weight(rng, dtypes.float64, wide_apart, (90, 300), 1, 1, target)


@each_target
def test_gradients_of_weights_for_narrow_planes(target: StandInTarget) -> None:
    """All positions of a plane are one line: vectors reach over the ends of lines, windows stand outside of the input."""
    rng = np.random.default_rng(5)
    for number in range(150):
        height, width = int(rng.integers(1, 40)), int(rng.integers(1, 9))
        kernel = [(3, 3), (3, 3), (2, 4), (1, 9), (9, 1), (1, 1), (2, 2)][int(rng.integers(7))]
        counts = (int(rng.integers(1, 40)), width)
        padding = tuple(int(v) for v in rng.integers(-3, 9, 2))
        dilation = tuple(int(v) for v in rng.choice([1, 1, 1, -1, 2, -2, 5], 2))
        geometry = WindowGeometry(kernel, counts, (1, 1), padding, dilation, int(rng.integers(1, 6)))
        dtype = (dtypes.float32, dtypes.float64)[number % 2]
        batch, rows, share = [int(v) for v in rng.integers(1, 4, 3)]
        lines = guard(values(rng, (batch, geometry.groups, height, width), dtype), bool(rng.random() < 0.5))
        short = lines[..., :int(rng.integers(1, width + 1))]      # lines as far apart as those of the result, and shorter
        check_weight(rng, dtype, geometry, short.shape[2:], batch, rows, target, share, True, short)


@each_target
def test_what_no_window_reaches_is_not_multiplied(target: StandInTarget) -> None:
    """Elements behind the last window, and those that only other positions meet, may be infinite."""
    for infinite, places in [((9, 9), (5, 5)), ((0, 9), (5, 5)), ((9, 0), (5, 5))]:
        x = guard(np.ones((1, 1, 10, 10), np.float32))
        x[0, 0][infinite] = np.inf
        geometry = WindowGeometry((3, 3), places, (1, 1), (0, 0), (1, 1), 1)
        c, g, w = guarded((1, 1, 9), np.float32), guard(np.ones((1, 1, 1, 25), np.float32)), guard(np.ones((1, 1, 3, 3), np.float32))
        run(templates.depthwise_weight(dtypes.float32, ref(0), ref(1), ref(2), windows_of(geometry, x), 1, (25, 25, 25)),
            [c, g, x], target)
        np.testing.assert_array_equal(c, np.full((1, 1, 9), 25, np.float32))
        out = guarded((1, 1, 25), np.float32)
        run(templates.depthwise(dtypes.float32, ref(0), ref(1), ref(2), windows_of(geometry, x), (1, 1), 1, strides(w)),
            [out, w, x], target)
        np.testing.assert_array_equal(out, np.full((1, 1, 25), 9, np.float32))


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: dtype.name)
def test_text_for_arm(dtype: dtypes.DType) -> None:
    import llvmlite.binding as llvm
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(ARM.triple).create_target_machine(cpu=ARM.cpu, features=ARM.features)
    for name, options in [("depthwise", (3, 1, 1)), ("depthwise", (0, 1, 2)), ("depthwise", (5, 2, 1)),
                          ("depthwise_weight", (3, 1, False)), ("depthwise_weight", (0, 2, False)),
                          ("depthwise_weight", (3, 1, True))]:
        module = llvm.parse_assembly(generate_template(TemplateKernel(name, (dtype.name, *options)), ARM, "kernel"))
        module.verify()
        assert machine.emit_object(module)
