"""Scans, scatters, fills and copies against NumPy, in guarded memory; and all templates compiled for another machine."""
from __future__ import annotations

import re
import sys
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from template_harness import ARM, StandInTarget, guard, guarded, host_targets, images_of, ref, run, strides  # noqa: E402

from torsh.codegen.llvm.templates import generate_template, template_libraries  # noqa: E402
from torsh.compiler import templates  # noqa: E402
from torsh.compiler.kernel import TemplateKernel  # noqa: E402
from torsh.core import dtype as dtypes  # noqa: E402
from torsh.core.errors import CompileError  # noqa: E402
from torsh.ops.scan_sort import sorting_positions  # noqa: E402

each_target = pytest.mark.parametrize("target", host_targets(), ids=lambda target: target.cpu)
SCANS = {"sum": np.cumsum, "prod": np.cumprod, "max": np.maximum.accumulate, "min": np.minimum.accumulate}
COMBINE = {"set": None, "add": np.add, "mul": np.multiply, "amax": np.maximum, "amin": np.minimum}


def scanned(x: np.ndarray, kind: str) -> np.ndarray:
    """NumPy's scan over axis 1, with float64 sums and NaN propagating."""
    wide = x.astype(np.float64) if x.dtype.kind not in "iub" else x
    if kind in ("sum", "prod"):
        return SCANS[kind](wide, axis=1, dtype=wide.dtype).astype(x.dtype)
    return SCANS[kind](wide, axis=1).astype(x.dtype)


@each_target
@pytest.mark.parametrize("kind", list(SCANS))
def test_scans(target: StandInTarget, kind: str) -> None:
    rng = np.random.default_rng(1)
    for outer, length, inner in [(1, 1, 1), (3, 37, 1), (2, 1000, 1), (2, 9, 5), (3, 17, 150), (2, 5, 600), (40, 3, 1),
                                 (2, 0, 3)]:
        for dtype in (dtypes.float32, dtypes.float64, dtypes.int64):
            x = rng.uniform(0.5, 1.5, (outer, length, inner)) * rng.choice([-1, 1], (outer, length, inner))
            x = (x * 10).astype(dtype.numpy) if dtype is dtypes.int64 else x.astype(dtype.numpy)
            src, out = guard(x), guarded(x.shape, x.dtype)
            run(templates.scan(dtype, kind, ref(0), ref(1), outer, length, inner), [out, src], target, share=1)
            np.testing.assert_allclose(out, scanned(x, kind), rtol=1e-6 if dtype is dtypes.float32 else 1e-12, atol=1e-9)


@pytest.mark.parametrize("dtype", [dtypes.float16, dtypes.bfloat16, dtypes.int8, dtypes.uint8, dtypes.int16, dtypes.int32],
                         ids=lambda dtype: dtype.name)
def test_scans_of_other_dtypes(dtype: dtypes.DType) -> None:
    rng = np.random.default_rng(2)
    for kind in ("sum", "max"):
        for shape in [(2, 70, 1), (2, 7, 70)]:
            x = rng.integers(0, 9, shape).astype(dtype.numpy)
            src, out = guard(x), guarded(shape, dtype.numpy)
            run(templates.scan(dtype, kind, ref(0), ref(1), *shape), [out, src])
            want = scanned(x, kind).astype(np.float64)
            np.testing.assert_allclose(out.astype(np.float64), want, rtol=1e-2 if dtype.category == 2 else 0)


def test_scans_propagate_nan_and_take_any_strides() -> None:
    x = guard(np.array([[1, 5, np.nan, 7, 2] * 5, [np.inf, -np.inf, 3, 4, 5] * 5], np.float32), at_end=False)
    for kind in SCANS:
        for view in (x, x[:, ::-1], x[:, ::3], x.T):
            out = guarded(view.shape, np.float32)
            outer, length = view.shape
            with np.errstate(invalid="ignore"):
                want = scanned(view[:, :, None], kind)[..., 0]
            call = templates.scan(dtypes.float32, kind, ref(0), ref(1), outer, length, 1, (*strides(view), 1))
            run(call, [out, view])
            np.testing.assert_array_equal(out, want)
        out = guarded((1, 25, 2), np.float32)
        run(templates.scan(dtypes.float32, kind, ref(0), ref(1), 1, 25, 2, (0, 1, 25)), [out, x])
        with np.errstate(invalid="ignore"):
            np.testing.assert_array_equal(out, scanned(np.ascontiguousarray(x.T)[None], kind))


def scatter_reference(out: np.ndarray, index: np.ndarray, src: np.ndarray, dim: int, mode: str) -> np.ndarray:
    """Position by position."""
    result = out.copy()
    for p in np.ndindex(*index.shape):
        where = (*p[:dim], int(index[p]), *p[dim + 1:])
        function = COMBINE[mode]
        result[where] = src[p] if function is None else function(result[where], src[p])
    return result


@pytest.mark.parametrize("mode", list(COMBINE))
def test_scatter(mode: str) -> None:
    rng = np.random.default_rng(3)
    for dtype in (dtypes.float32, dtypes.int64, dtypes.bfloat16) if mode != "mul" else (dtypes.float64,):
        for shape, dim in [((9,), 0), ((5, 7), 0), ((5, 7), 1), ((3, 4, 5), 1), ((2, 3, 2, 3, 2, 2), 2)]:
            index_shape = tuple(max(1, extent - 1) if axis != dim else extent + 2 for axis, extent in enumerate(shape))
            base = guard(rng.integers(-4, 5, shape).astype(dtype.numpy))
            index = guard(rng.integers(0, shape[dim], index_shape))
            src = guard(rng.integers(-4, 5, index_shape[::-1]).astype(dtype.numpy)).T
            want = scatter_reference(base, index, src, dim, mode)
            call = templates.scatter(dtype, mode, ref(0), ref(1), ref(2), dim, index_shape, shape, strides(index),
                                     strides(src))
            status = run(call, [base, index, src], share=1)
            np.testing.assert_array_equal(base.astype(np.float64), want.astype(np.float64))
            assert status[0] == 0


def test_scatter_reports_indices_out_of_range() -> None:
    for bad in (-1, 3, 1 << 40):
        out, index, src = guard(np.zeros(3, np.float32)), guard(np.array([0, bad, 2])), guard(np.ones(3, np.float32))
        status = run(templates.scatter(dtypes.float32, "add", ref(0), ref(1), ref(2), 0, (3,), (3,), (1,), (1,)),
                     [out, index, src])
        assert status.tolist()[:3] == [1, bad, 3]
        np.testing.assert_array_equal(out, [1, 0, 1])


def test_scatter_of_nan_bool_and_complex() -> None:
    out, index = guard(np.array([np.nan, 1.0, 2.0], np.float32)), guard(np.array([0, 1, 2]))
    src = guard(np.array([5.0, np.nan, 7.0], np.float32))
    run(templates.scatter(dtypes.float32, "amax", ref(0), ref(1), ref(2), 0, (3,), (3,), (1,), (1,)), [out, index, src])
    np.testing.assert_array_equal(out, [np.nan, np.nan, 7])
    flags, truth = guard(np.array([True, False, True])), guard(np.array([True, True, False]))
    run(templates.scatter(dtypes.bool_, "add", ref(0), ref(1), ref(2), 0, (3,), (3,), (1,), (1,)), [flags, index, truth])
    np.testing.assert_array_equal(flags.view(np.uint8), [1, 1, 1])
    whole, parts = guard(np.zeros(3, np.complex128)), guard(np.array([1j, 2, 3 + 1j], np.complex128))
    call = templates.scatter(dtypes.complex128, "set", ref(0), ref(1), ref(2), 0, (3,), (3,), (1,), (1,))
    run(call, [whole, index, parts])
    np.testing.assert_array_equal(whole, parts)
    with pytest.raises(ValueError, match="complex"):
        templates.scatter(dtypes.complex64, "add", ref(0), ref(1), ref(2), 0, (3,), (3,), (1,), (1,))


@each_target
@pytest.mark.parametrize("accumulate", [False, True])
def test_index_put(target: StandInTarget, accumulate: bool) -> None:
    rng = np.random.default_rng(4)
    cases = [((9,), (0,), [(5,)]), ((9, 70), (0,), [(20,)]), ((9, 4, 5), (1,), [(6,)]), ((9, 4, 5), (0, 1), [(6,), (6,)]),
             ((9, 4, 5), (0, 2), [(6,), (6,)]), ((4, 5, 6, 7), (1, 2), [(3, 1), (1, 4)]), ((6, 300), (0,), [(2, 3)]),
             ((4, 5, 3), (0, 1, 2), [(8,), (8,), (8,)]), ((3, 2000), (0,), [(4,)]), ((4, 5), (0,), [()])]
    for shape, dims, index_shapes in cases:
        indices = [guard(rng.integers(-shape[dim], shape[dim], own)) for dim, own in zip(dims, index_shapes, strict=True)]
        common = np.broadcast_shapes(*index_shapes)
        base = guard(rng.standard_normal(shape).astype(np.float32))
        key = tuple(indices[dims.index(axis)] if axis in dims else slice(None) for axis in range(len(shape)))
        src = guard(rng.standard_normal(base[key].shape).astype(np.float32))
        want = base.copy()
        if accumulate:
            np.add.at(want, key, src)
        else:
            want[key] = src
        wide = [strides(np.broadcast_to(index, common)) for index in indices]
        call = templates.index_put(dtypes.float32, accumulate, ref(0), shape,
                                   [(ref(2 + x), own) for x, own in enumerate(wide)], dims, common, ref(1), strides(src))
        status = run(call, [base, src, *indices], target, share=1)
        assert status[0] == 0
        np.testing.assert_allclose(base, want, rtol=1e-6, atol=1e-6)


def test_index_put_of_a_broadcast_value_and_bad_indices() -> None:
    out, index = guard(np.zeros((4, 33), np.float64)), guard(np.array([1, 4, -5, -1]))
    value = guard(np.array([2.0]))
    call = templates.index_put(dtypes.float64, True, ref(0), (4, 33), [(ref(2), (1,))], (0,), (4,), ref(1), (0, 0))
    status = run(call, [out, value, index])
    assert status.tolist()[:3] in ([1, 4, 4], [1, -5, 4])
    np.testing.assert_array_equal(out[:, 7], [0, 2, 0, 2])


@each_target
def test_fill_and_copy(target: StandInTarget) -> None:
    rng = np.random.default_rng(5)
    for count in (0, 1, 15, 64, 65, 70001):
        for kind, bits in ((np.uint8, 200), (np.int16, 0x7FFF), (np.float32, 0x3F800000), (np.int64, (1 << 64) - 3)):
            out = guarded((count,), kind)
            call = templates.fill(out.itemsize, ref(0), bits, count)
            run(call, [out], target, share=1)
            np.testing.assert_array_equal(out, np.full(count, bits, np.uint64).astype(f"u{out.itemsize}").view(kind))
            src = guard(rng.integers(0, 100, count).astype(kind))
            run(templates.copy(out.itemsize, ref(0), ref(1), count), [out, src], target, share=1)
            np.testing.assert_array_equal(out, src)


@each_target
@pytest.mark.parametrize("kind", [np.int8, np.int16, np.float32, np.float64, np.complex128])
def test_transpose_copy(target: StandInTarget, kind: type) -> None:
    rng = np.random.default_rng(6)
    for shape, axes in [((5, 7), (1, 0)), ((100, 300), (1, 0)), ((3, 20, 40), (0, 2, 1)), ((2, 3, 4, 5), (0, 2, 1, 3)),
                        ((2, 3, 17, 33), (3, 2, 1, 0)), ((2, 3, 4, 5, 2, 3), (4, 2, 0, 1, 5, 3)), ((1,), (0,)),
                        ((0, 3), (1, 0))]:
        src = guard(rng.integers(0, 100, shape).astype(kind))
        for view in (src.transpose(axes), src[..., ::-1].transpose(axes)):
            out = guarded(view.shape, kind)
            call = templates.transpose_copy(src.itemsize, ref(0), ref(1), view.shape, strides(view), strides(out))
            run(call, [out, view], target, share=2)
            np.testing.assert_array_equal(out, view)


@each_target
@pytest.mark.parametrize("kind", [np.int8, np.int16, np.float32, np.float64, np.complex128])
def test_rows_of_any_length(target: StandInTarget, kind: type) -> None:
    """Copies of rows, forwards, backwards and with items stored several times, at either end of their memory."""
    rng = np.random.default_rng(7)
    for columns in (*range(1, 9), 15, 16, 17, 31, 33, 63, 64, 65, 127, 129, 300):
        for at_end in (False, True):
            src = guard(rng.integers(0, 100, (3, columns)).astype(kind), at_end=at_end)
            times = int(rng.choice([2, 3, 4, 5, 8]))
            repeated = np.broadcast_to(src[:, :, None], (3, columns, times))
            for view in (src, src[:, ::-1], src[::-1, ::-1], src[::-1].T, src.T[::-1], repeated):
                out = guarded(view.shape, kind)
                call = templates.transpose_copy(src.itemsize, ref(0), ref(1), view.shape, strides(view), strides(out))
                run(call, [out, view], target, share=1)
                np.testing.assert_array_equal(out, view)


@each_target
@pytest.mark.parametrize("dtype", [dtypes.float32, dtypes.float64, dtypes.float16, dtypes.bfloat16, dtypes.int8, dtypes.uint8,
                                   dtypes.int16, dtypes.int32, dtypes.int64], ids=lambda dtype: dtype.name)
def test_selection(target: StandInTarget, dtype: dtypes.DType) -> None:
    """The best positions of rows, best first, of equal elements the first; NaN is the largest."""
    rng = np.random.default_rng(8)
    for _ in range(60):
        rows, length = int(rng.integers(1, 5)), int(rng.choice([1, 2, 5, 17, 64, 100, 333]))
        count, largest = int(rng.integers(1, min(length, templates.MOST_SELECTED) + 1)), bool(rng.integers(2))
        x = rng.integers(0, int(rng.choice([3, 100])), (rows, length)).astype(np.float32)
        if dtype.category == 2:
            x[rng.random(x.shape) < 0.1 * rng.integers(2)] = np.nan
            x[rng.random(x.shape) < 0.1] = -np.inf
            x[rng.random(x.shape) < 0.1] = -0.0
        x = x.astype(dtype.numpy)
        src, out = guard(x, at_end=bool(rng.integers(2))), guarded((rows, count), np.int64)
        run(templates.selection(dtype, largest, ref(0), ref(1), rows, length, count), [out, src], target, share=1)
        np.testing.assert_array_equal(out, sorting_positions(x, 1, largest, count))


KERNELS = [TemplateKernel("matmul", ("float32",) * 3), TemplateKernel("matmul", ("int32", "int8", "int8")),
           TemplateKernel("matmul", ("float32", "float32", "int8")), TemplateKernel("matmul", ("bfloat16",) * 3),
           TemplateKernel("convolution", ("float32",)), TemplateKernel("convolution", ("float16",)),
           TemplateKernel("convolution_weight", ("float64",)),
           TemplateKernel("winograd", ("float32",)), TemplateKernel("winograd_weights", ("float32",)),
           TemplateKernel("winograd_gradient", ("float32",)),
           TemplateKernel("sum_of_bags", ("float16",)),
           TemplateKernel("copy"), TemplateKernel("scan", ("float32", "sum")), TemplateKernel("scatter", ("float32", "amax")),
           TemplateKernel("index_put", ("float16", True, 2)), TemplateKernel("fill", (4,)),
           TemplateKernel("transpose_copy", (4, "tiles")), TemplateKernel("transpose_copy", (2, "rows")),
           TemplateKernel("transpose_copy", (4, 3)), TemplateKernel("selection", ("bfloat16", True))]


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_templates_compile_for_arm(kernel: TemplateKernel) -> None:
    assert all(image[:4] == b"\x7fELF" for image in images_of(kernel, ARM))


@pytest.mark.parametrize(("options", "instruction"), [
    (("float32",) * 3, r"fmla\s+v\d+\.4s"), (("float64",) * 3, r"fmla\s+v\d+\.2d"), (("bfloat16",) * 3, r"fmla\s+v\d+\.4s"),
    (("float32", "float32", "int8"), r"fmla\s+v\d+\.4s"), (("int32", "int8", "int8"), r"mla\s+v\d+\.4s")])
def test_products_multiply_and_add_vectors_on_arm(options: tuple[str, str, str], instruction: str) -> None:
    tiles = template_libraries(TemplateKernel("matmul", options), ARM)["tiles"]
    assert len(re.findall(instruction, arm_function(tiles, "tile4"))) >= 8


@pytest.mark.parametrize(("name", "function"), [("winograd", "product3"), ("winograd_gradient", "dot3")])
def test_winograd_multiplies_and_adds_vectors_on_arm(name: str, function: str) -> None:
    assert len(re.findall(r"fmla\s+v\d+\.4s", arm_function(TemplateKernel(name, ("float32",)), function))) >= 24


def arm_function(kernel: TemplateKernel, name: str) -> str:
    """The assembly of a function of a template."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    module = llvm.parse_assembly(generate_template(kernel, ARM, "kernel"))
    machine = llvm.Target.from_triple(ARM.triple).create_target_machine(cpu=ARM.cpu, features=ARM.features, opt=1)
    found = re.search(rf"^{name}:.*?\.Lfunc_end", machine.emit_assembly(module), re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[0]


def test_unknown_template() -> None:
    with pytest.raises(CompileError, match="no template called 'nothing'"):
        generate_template(TemplateKernel("nothing"), ARM, "kernel")
