"""torsh.fft against NumPy; gradients against finite differences."""
from __future__ import annotations

import doctest
from typing import Any

import numpy as np
import pytest

import torsh
import torsh.fft
from torsh.autograd import gradcheck, gradgradcheck
from torsh.core import threads
from torsh.fft import frequencies, transforms

RNG = np.random.default_rng(0)
ONE = ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")
SEVERAL = ("fftn", "ifftn", "rfftn", "irfftn", "fft2", "ifft2", "rfft2", "irfft2")
REAL_INPUT = ("rfft", "ihfft", "rfftn", "rfft2", "ihfftn", "ihfft2")


def values(name: str, shape: tuple[int, ...], dtype: Any = np.float64) -> Any:
    """Real numbers, or complex ones where a transform takes them."""
    a = RNG.standard_normal(shape).astype(dtype)
    return a if name in REAL_INPUT else (a + 1j * RNG.standard_normal(shape)).astype(np.result_type(dtype, np.complex64))


def check(got: Any, want: Any, dtype: Any) -> None:
    """The same shape and values, within rounding."""
    assert got.shape == want.shape
    tolerance = (1e-5 if dtype == np.float32 else 1e-13) * max(np.abs(want).max(initial=0), 1)
    np.testing.assert_allclose(got.numpy(), want, rtol=0, atol=tolerance)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("name", ONE)
def test_one_dimension(name: str, count: int) -> None:
    saved = threads.get_num_threads()
    torsh.set_num_threads(count)
    try:
        for shape in ((7,), (4, 6), (3, 5, 8), (30, 700)):      # the last is large enough for SciPy
            for dtype in (np.float32, np.float64):
                a = values(name, shape, dtype)
                for dim in range(-len(shape), len(shape)):
                    for n in (None, 5, 9):
                        for norm in (None, "backward", "ortho", "forward"):
                            got = getattr(torsh.fft, name)(torsh.from_numpy(a), n, dim, norm)
                            check(got, getattr(np.fft, name)(a, n, dim, norm), dtype)
    finally:
        torsh.set_num_threads(saved)


@pytest.mark.parametrize("name", SEVERAL)
def test_several_dimensions(name: str) -> None:
    for shape, s, dim in (((4, 6), None, (0, 1)), ((3, 5, 8), (7, 4), (2, 0)), ((3, 5, 8), None, (-2, -1)), ((4, 6), (2, 9), (1, 0)),
                          ((5, 60, 80), None, (1, 2)), ((2, 3, 4), (3, 3, 3), (0, 1, 2))):
        for dtype in (np.float32, np.float64):
            a = values(name, shape, dtype)
            for norm in (None, "ortho", "forward"):
                check(getattr(torsh.fft, name)(torsh.from_numpy(a), s, dim, norm), getattr(np.fft, name)(a, s, dim, norm), dtype)


def test_hermitian_transforms_over_several_dimensions() -> None:
    a, h = values("rfft", (4, 6)), values("fft", (4, 4))
    check(torsh.fft.ihfftn(torsh.from_numpy(a)), np.fft.ifft(np.fft.ihfft(a, axis=1), axis=0), np.float64)
    check(torsh.fft.hfftn(torsh.from_numpy(h)), np.fft.hfft(np.fft.fft(h, axis=0), axis=1), np.float64)
    check(torsh.fft.hfft2(torsh.fft.ihfft2(torsh.from_numpy(a))), a, np.float64)


def test_views_and_integers() -> None:
    a = RNG.standard_normal((6, 8, 3))
    t = torsh.from_numpy(a)
    check(torsh.fft.fft(t.transpose(0, 2)[:, ::2]), np.fft.fft(a.transpose(2, 1, 0)[:, ::2]), np.float64)
    check(torsh.fft.rfft(t[:, 1:7].expand(2, 6, 6, 3), dim=-2), np.fft.rfft(np.broadcast_to(a[:, 1:7], (2, 6, 6, 3)), axis=-2), np.float64)
    assert torsh.fft.fft(torsh.arange(4)).dtype is torsh.complex64
    assert torsh.fft.rfft(torsh.arange(4) > 1).dtype is torsh.complex64
    assert torsh.fft.irfft(torsh.arange(4)).dtype is torsh.float32


def test_empty() -> None:
    assert torsh.fft.fft(torsh.empty(0, 4)).shape == (0, 4)
    assert torsh.fft.rfft(torsh.empty(0, 4)).shape == (0, 3)
    assert torsh.fft.fft(torsh.empty(4, 0), n=3).tolist() == [[0j] * 3] * 4
    assert torsh.fft.fftn(torsh.tensor(2.0)).item() == 2 + 0j


def test_out() -> None:
    a = torsh.randn(4, 6)
    for out in (torsh.empty(4, 4, dtype=torsh.complex64), torsh.empty(0, dtype=torsh.complex128)):
        assert torsh.fft.rfft(a, out=out) is out
        assert torsh.allclose(out.to(torsh.complex64), torsh.fft.rfft(a))
    with pytest.raises(RuntimeError, match="rfft expects a complex output tensor, but got Float"):
        torsh.fft.rfft(a, out=torsh.empty(0))
    with pytest.raises(RuntimeError, match="irfft expects a floating point output tensor, but got ComplexFloat"):
        torsh.fft.irfft(a, out=torsh.empty(0, dtype=torsh.complex64))


def check_gradients(fn: Any, a: Any) -> None:
    """First and second gradients, over real and imaginary parts."""
    def over_parts(t: Any) -> Any:
        out = fn(torsh.view_as_complex(t) if a.dtype.kind == "c" else t)
        return torsh.view_as_real(out) if out.is_complex() else out
    t = torsh.from_numpy(np.stack([a.real, a.imag], -1) if a.dtype.kind == "c" else a).requires_grad_()
    assert gradcheck(over_parts, (t,))
    assert gradgradcheck(over_parts, (t,))
    # A weighted sum of squares has gradients that depend on the input.
    assert gradgradcheck(lambda t: over_parts(t) ** 2, (t,))


@pytest.mark.parametrize("name", ONE)
def test_gradients(name: str) -> None:
    for n in (None, 3, 6, 9):
        for norm in (None, "ortho"):
            check_gradients(lambda t, n=n, norm=norm: getattr(torsh.fft, name)(t, n, -1, norm), values(name, (2, 5)))


@pytest.mark.parametrize("name", [*SEVERAL, "hfftn", "ihfftn"])
def test_gradients_over_several_dimensions(name: str) -> None:
    for s, dim in ((None, (0, 2)), ((4, 3), (2, 1))):
        check_gradients(lambda t, s=s, dim=dim: getattr(torsh.fft, name)(t, s, dim), values(name, (2, 3, 4)))


def test_gradients_of_real_inputs() -> None:
    for name in ("fft", "ifft", "irfft", "hfft", "fft2", "irfft2"):
        check_gradients(getattr(torsh.fft, name), RNG.standard_normal((3, 4)))


def test_complex_numbers_of_python() -> None:
    x = torsh.randn(4, 5, dtype=torsh.float64, requires_grad=True)
    y = torsh.fft.irfft(torsh.fft.rfft(x) * (1 + 2j), n=5)
    first = y.sum().item()       # the number is kept for backward
    y.sum().backward()
    assert first == pytest.approx(float(x.detach().sum()))
    np.testing.assert_allclose(x.grad.numpy(), np.ones((4, 5)), atol=1e-12)


def test_many_sizes() -> None:
    for n in range(2, 24):      # one program, many sizes
        a = RNG.standard_normal((3, n))
        check(torsh.fft.irfft(torsh.fft.rfft(torsh.from_numpy(a)) * 2, n=n), 2 * a, np.float64)


SIZES = (*range(1, 70), 16381, 32749, 77, 96, 100, 101, 120, 127, 128, 143, 150, 192, 199, 200, 257, 512, 600, 1009, 2048, 5000)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("name", ONE)
def test_sizes_layouts_and_norms(name: str, count: int) -> None:
    saved = threads.get_num_threads()
    torsh.set_num_threads(count)
    rng = np.random.default_rng(len(name) + count)
    try:
        for n in SIZES:
            dtype = (np.float32, np.float64)[int(rng.integers(2))]
            norm = ("backward", "ortho", "forward")[int(rng.integers(3))]
            extra = int(rng.integers(1, 20)) if n < 300 else 1
            a = values(name, (int(rng.integers(1, 6)), extra, n), dtype)
            order = rng.permutation(3)
            t, b = torsh.from_numpy(a).permute(*order.tolist()), a.transpose(order)
            dim = int(np.flatnonzero(order == 2)[0])
            for size in (None if n > 2 else 2, max(1, n - int(rng.integers(1, 9))), n + int(rng.integers(1, 40))):
                check(getattr(torsh.fft, name)(t, size, dim, norm), getattr(np.fft, name)(b, size, dim, norm), dtype)
                check(getattr(torsh.fft, name)(t[::2], size, dim, norm), getattr(np.fft, name)(b[::2], size, dim, norm), dtype)
    finally:
        torsh.set_num_threads(saved)


@pytest.mark.parametrize("count", [1, 2])
def test_long_transforms(count: int) -> None:
    saved = threads.get_num_threads()
    torsh.set_num_threads(count)
    try:
        for n in (1 << 16, 75000, 1 << 17, 99999 // 3 * 2 - 2):
            for dtype in (np.float32, np.float64):
                for name in ("fft", "ifft", "rfft", "ihfft"):
                    a = values(name, (2, n), dtype)
                    check(getattr(torsh.fft, name)(torsh.from_numpy(a)), getattr(np.fft, name)(a), dtype)
                a = values("irfft", (2, n // 2 + 1), dtype)
                check(torsh.fft.irfft(torsh.from_numpy(a), n), np.fft.irfft(a, n), dtype)
                check(torsh.fft.hfft(torsh.from_numpy(a), n - 1), np.fft.hfft(a, n - 1), dtype)
    finally:
        torsh.set_num_threads(saved)


def steps(fn: Any, *args: Any) -> list[str]:
    """The steps of a program, as explained."""
    return [f"{k.name} {k.kind}" for k in torsh.explain(fn, *args).kernels]


def test_programs_copy_nothing() -> None:
    x, c = torsh.randn(8, 300), torsh.randn(8, 300, dtype=torsh.complex64)
    half = "fourier_to_half template"
    for n in (None, 200, 400):
        assert steps(lambda x, n=n: torsh.fft.rfft(x, n=n), x) == [half]
    assert steps(lambda x: torsh.fft.ihfft(x[::2, 10:]), x) == [half]
    assert steps(lambda c: torsh.fft.irfft(c, n=500), c) == ["fourier_from_half template"]
    assert steps(lambda c: torsh.fft.fft2(c), c) == ["fourier_complex template"] * 2
    assert steps(lambda x: torsh.fft.fft2(x), torsh.randn(32, 40)) == ["fourier_real template", "fourier_complex template"]
    assert steps(lambda x: torsh.fft.rfft(x.unfold(-1, 64, 16)), x) == [half]        # overlapping frames are read where they are
    assert steps(torsh.fft.fft, torsh.randn(1, 100003)) == ["fft host"]              # neither short nor of small factors


def test_other_sizes_compile_nothing() -> None:
    from torsh.backend.cpu import jit

    def both(n: int) -> None:
        x = torsh.randn(3, n)
        torsh.fft.irfft(torsh.fft.rfft(x), n=n).numpy()
    both(4096)
    both(1000)
    before = dict(jit.statistics)
    for n in (1024, 768, 5000, 2048, 1200):
        both(n)
    assert jit.statistics == before


def test_frequencies() -> None:
    for n in range(9):
        if n:
            np.testing.assert_allclose(torsh.fft.fftfreq(n, 0.5, dtype=torsh.float64).numpy(), np.fft.fftfreq(n, 0.5))
            np.testing.assert_allclose(torsh.fft.rfftfreq(n, 0.5).numpy(), np.fft.rfftfreq(n, 0.5), rtol=1e-6)
        a = np.arange(n * 3).reshape(3, n)
        for dim in (None, 0, -1, (0, 1), (1, 1)):
            np.testing.assert_array_equal(torsh.fft.fftshift(torsh.from_numpy(a), dim).numpy(), np.fft.fftshift(a, dim))
            np.testing.assert_array_equal(torsh.fft.ifftshift(torsh.from_numpy(a), dim).numpy(), np.fft.ifftshift(a, dim))
    out = torsh.empty(0, dtype=torsh.float64)
    assert torsh.fft.fftfreq(3, out=out) is out
    assert out.shape == (3,)
    assert torsh.fft.fftfreq(3, requires_grad=True).requires_grad


@pytest.mark.parametrize("module", [frequencies, transforms])
def test_examples(module: Any) -> None:
    finder = doctest.DocTestFinder(recurse=False)
    found = [t for name in module.__dict__ if name.startswith("fft_") and callable(module.__dict__[name])
             for t in finder.find(module.__dict__[name], name, module=False, globs={"torsh": torsh})]
    assert sum(bool(t.examples) for t in found) > 3
    runner = doctest.DocTestRunner()
    for test in found:
        assert runner.run(test).failed == 0
