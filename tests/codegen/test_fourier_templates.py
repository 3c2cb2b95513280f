"""The template of Fourier transforms against NumPy, on all targets that the machine can run, in guarded memory."""
from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from template_harness import ARM, StandInTarget, guard, guarded, host_targets, images_of, ref, run, strides  # noqa: E402

from torsh.compiler.fft import fourier_call, fourier_table, radices, roots, table_key  # noqa: E402
from torsh.compiler.footprint import regions  # noqa: E402
from torsh.compiler.kernel import Call, TemplateKernel  # noqa: E402
from torsh.core import dtype as dtypes  # noqa: E402
from torsh.ops.fourier_primitives import (  # noqa: E402
    COLUMNS,
    COMPLEX,
    FROM_HALF,
    FROM_REAL,
    HALVES,
    MOST_BLOCK,
    ROWS,
    TO_HALF,
    Fourier,
    chirp_length,
    neighbours,
    prime_factors,
    rows_and_columns,
    split,
    suits_fourier,
)

KINDS = (COMPLEX, FROM_REAL, TO_HALF, FROM_HALF)
NORMS = ("backward", "ortho", "forward")
TARGETS = pytest.mark.parametrize("target", host_targets(), ids=lambda t: f"{t.width} bytes")
RNG = np.random.default_rng(0)


def wanted(attr: Fourier, x: Any) -> Any:
    """What NumPy makes of float64 numbers."""
    wide = x.astype(np.complex128 if x.dtype.kind == "c" else np.float64)
    name = {COMPLEX: "fft", FROM_REAL: "fft", TO_HALF: "rfft", FROM_HALF: "hfft"}[attr.kind]
    if not attr.forward:
        name = {"fft": "ifft", "rfft": "ihfft", "hfft": "irfft"}[name]
    inner = [slice(None)] * x.ndim
    inner[attr.axis] = slice(1, (attr.n + 1) // 2)
    if attr.adjoint and attr.kind == FROM_HALF:
        wide[tuple(inner)] *= 0.5
    out = getattr(np.fft, name)(wide, attr.n, attr.axis, NORMS[attr.scale if attr.forward else 2 - attr.scale])
    if attr.adjoint and attr.kind == TO_HALF:
        out[tuple(inner)] *= 2
    return out


def numbers(kind: str, shape: tuple[int, ...], real: dtypes.DType) -> Any:
    """Input of a transform."""
    x = RNG.standard_normal(shape)
    return (x + 1j * RNG.standard_normal(shape)).astype(real.to_complex().numpy) if kind in (COMPLEX, FROM_HALF) else x.astype(real.numpy)


def computed(attr: Fourier, x: Any, real: dtypes.DType, target: StandInTarget) -> Any:
    """What the template makes of it, with all that it touches at the edge of its memory; in parts as far as the lowering does so."""
    parts = [attr]
    if attr.part != "whole":
        parts = [attr._replace(part=p) for p in (COLUMNS, ROWS, *([HALVES] if attr.makes_half else []))]
    for one in parts:
        shape, dtype = list(x.shape), real
        if one.part == COLUMNS or (one.part == ROWS and one.makes_half):
            shape[one.axis] = 2 * one.length + (one.part == ROWS) * neighbours(real)
        else:
            shape[one.axis] = one.n // 2 + 1 if one.kind == TO_HALF else one.n
            dtype = real if one.kind == FROM_HALF else real.to_complex()
        out = guarded(tuple(shape), dtype.numpy)
        out[...] = np.nan
        table = guard(fourier_table(table_key(one, real, x.ndim)))
        call = fourier_call(one, real, ref(0), ref(1), ref(2), x.shape, strides(x), shape, (x.dtype.kind == "c", dtype.is_complex))
        assert run(call, [out, x, table], target, share=1)[0] == 0
        check_regions(call, out, x)
        x = out
    return x


def check_regions(call: Call, out: Any, x: Any) -> None:
    """The compiler knows what is read and written."""
    source, result, _ = regions(call)
    if x.flags.c_contiguous:
        assert source.bounds[0] >= 0 and source.bounds[1] <= x.nbytes
    assert result.write and result.bounds[1] <= out.nbytes


def check(attr: Fourier, x: Any, real: dtypes.DType, target: StandInTarget) -> None:
    got, want = computed(attr, x, real, target), wanted(attr, x)
    assert got.shape == want.shape and got.dtype.itemsize == real.itemsize * (1 + (got.dtype.kind == "c"))
    tolerance = (4e-7 if real is dtypes.float32 else 8e-16) * np.log2(attr.n + 2)
    error = np.linalg.norm((got - want).ravel()) / max(float(np.linalg.norm(want.ravel())), 1e-30)
    assert error <= tolerance, (attr, x.shape, error)


def attributes(kind: str, axis: int, n: int, number: int) -> Fourier:
    """One of the options of each kind, by number."""
    return Fourier(kind, axis, n, bool(number & 1), number % 3, kind in (TO_HALF, FROM_HALF) and bool(number & 2),
                   n // 2 + 1 if kind == FROM_HALF else n)


@TARGETS
@pytest.mark.parametrize("real", [dtypes.float32, dtypes.float64], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_all_small_sizes(kind: str, real: dtypes.DType, target: StandInTarget) -> None:
    for n in [*range(1, 140), 144, 180, 196, 200, 243, 256, 263, 320, 343, 509, 625, 720, 1000, 1001, 1018, 1183, 2366, 1024, 2310, 4096]:
        attr = attributes(kind, 1, n, n)
        for items in (1, 3) if n % 7 else (neighbours(real) + 3,):
            check(attr, guard(numbers(kind, (items, attr.given), real), at_end=bool(n % 3)), real, target)


@TARGETS
@pytest.mark.parametrize("kind", KINDS)
def test_other_dimensions(kind: str, target: StandInTarget) -> None:
    for real in (dtypes.float32, dtypes.float64):
        for number, n in enumerate([1, 2, 5, 6, 16, 31, 60, 128, 210, 601 - 1]):
            attr = attributes(kind, 1, n, number)
            for inner in (neighbours(real), neighbours(real) + 5, 50):
                check(attr, guard(numbers(kind, (2, attr.given, inner), real)), real, target)
                check(attr, guard(numbers(kind, (2, attr.given, 3, inner), real)), real, target)


@TARGETS
@pytest.mark.parametrize("kind", [COMPLEX, FROM_REAL, TO_HALF])
def test_missing_numbers_are_zero(kind: str, target: StandInTarget) -> None:
    for real in (dtypes.float32, dtypes.float64):
        for n, given in ((64, 40), (61, 35), (256, 255 - 1), (1000, 66), (1024, 500), (675, 431), (400, 398)):
            attr = attributes(kind, 1, n, n + given)._replace(given=given)
            check(attr, guard(numbers(kind, (3, given), real)), real, target)
            check(attr, guard(numbers(kind, (2, given, 20), real)), real, target)


@TARGETS
@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_long_transforms(kind: str, target: StandInTarget) -> None:
    for real in (dtypes.float32, dtypes.float64):
        for number, n in enumerate([512, 1000, 1015, 1 << 14, 9216 * 2]):
            attr = attributes(kind, 1, n, number)._replace(part=COLUMNS)
            check(attr, guard(numbers(kind, (2, attr.given), real)), real, target)


@TARGETS
def test_strides(target: StandInTarget) -> None:
    x = guard(numbers(COMPLEX, (6, 5, 4, 1000), dtypes.float32))
    for n, view in ((1000, x[::2, 1:, ::-1]), (64, x[:, ::3, :, 7:71]), (13, x[::-1, :, 2:3, 900:913]),
                    (998, x.transpose(2, 0, 1, 3)[..., 2:])):
        check(attributes(COMPLEX, 3, n, n), view, dtypes.float32, target)
    for n, view in ((4, x[:, ::2, :, :20]), (4, x[::-1, :, :, 100:])):
        check(attributes(COMPLEX, 2, n, n), view, dtypes.float32, target)
    line = guard(numbers(TO_HALF, (300,), dtypes.float64))
    frames = np.lib.stride_tricks.sliding_window_view(line, 64)[::10]      # they overlap
    check(attributes(TO_HALF, 1, 64, 1), frames, dtypes.float64, target)


def test_numbers_that_are_not_finite_stay_in_their_transform() -> None:
    for n in (12, 300):
        x = guard(numbers(COMPLEX, (20, n), dtypes.float32))
        x[3, 5], x[7, 1] = np.nan, np.inf
        got = computed(attributes(COMPLEX, 1, n, 1), x, dtypes.float32, host_targets()[0])
        bad = ~np.isfinite(got).all(1)
        assert np.flatnonzero(bad).tolist() == [3, 7]


def test_sizes() -> None:
    for n in range(1, 3000):
        assert np.prod(prime_factors(n), initial=1) == n
        if prime_factors(n)[-1:] <= (61,):
            assert np.prod(radices(n)) == n
        parts = rows_and_columns(n, 8)
        assert parts is None or (parts[0] * parts[1] == n and min(parts) >= 8)
        assert (parts is None) == all(n % d or d < 8 or n // d < 8 for d in range(1, n + 1))
        for real in (dtypes.float32, dtypes.float64):
            total = chirp_length(n, neighbours(real))
            assert not total or (total >= 2 * n - 1 and prime_factors(total)[-1] <= 5 and split(n, real) is not None)
            assert suits_fourier(n, real)
            assert split(n, real) is not None or n <= MOST_BLOCK // 2
    assert not suits_fourier(1 << 23, dtypes.float32)
    assert not suits_fourier(1000003, dtypes.float32)


@pytest.mark.parametrize("options", [
    ("float32", COMPLEX, False, "rows", "whole", "full"), ("float64", TO_HALF, True, "rows", "whole", "chirped"),
    ("float32", FROM_HALF, True, "lanes", "whole", "full"), ("float32", FROM_REAL, True, "columns", "whole", "cut")])
def test_they_compile_for_arm(options: tuple[Any, ...]) -> None:
    assert all(image[:4] == b"\x7fELF" for image in images_of(TemplateKernel("fourier", options), ARM))




def test_roots_of_one() -> None:
    for n in (1, 2, 3, 4, 7, 8, 12, 360, 1000):
        places = np.arange(-n, 2 * n)
        want = np.exp(2j * np.arctan(np.longdouble(1)) * 4 * (places % n).astype(np.longdouble) / n)
        cosines, sines = roots(places, n)
        assert np.abs(cosines - want.real).max() < 2e-16 and np.abs(sines - want.imag).max() < 2e-16
