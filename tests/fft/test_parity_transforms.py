"""torsh.fft against PyTorch: values, shapes, dtypes, gradients and errors."""
from __future__ import annotations

import itertools
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402

import torsh  # noqa: E402
import torsh.fft  # noqa: E402

RNG = np.random.default_rng(0)
REAL = RNG.standard_normal((4, 6)).astype(np.float32)
COMPLEX = (REAL + 1j * RNG.standard_normal((4, 6))).astype(np.complex64)
INPUTS = {"real": REAL, "complex": COMPLEX, "vector": REAL[0], "number": REAL[0, 0], "integers": np.arange(24).reshape(4, 6),
          "conditions": REAL > 0, "column": COMPLEX[:, :1].copy(), "none": COMPLEX[:, :0].copy(), "double": REAL.astype(np.float64)}
ONE = ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")
SEVERAL = tuple([name + kind for kind in "2n" for name in ONE])
OPTIONS_ONE = [{}, {"n": 4}, {"n": 9, "dim": 0}, {"n": 0}, {"n": -1}, {"dim": 5}, {"norm": "ortho"}, {"norm": "forward"}, {"norm": "x"},
               {"norm": 3}, {"n": 1.5}, {"n": True}, {"dim": 1.5}]
OPTIONS_SEVERAL = [{}, {"s": (2,)}, {"s": (3, 5)}, {"s": (-1, 5)}, {"s": (5, -1)}, {"s": (0, 3)}, {"s": (3, 0)}, {"s": (-2, 3)},
                   {"s": (1, 2, 3)}, {"s": (2, 3), "dim": (0,)}, {"s": (9, 2), "dim": (1, 0)}, {"dim": (0, 0)}, {"dim": (0, -2)},
                   {"dim": ()}, {"dim": 0}, {"s": 3, "dim": 1}, {"dim": (0, 1, 2)}, {"norm": "ortho"}, {"norm": "forward"},
                   {"norm": "x"}, {"s": (2, 3.5)}]


def outcome(call: Any) -> tuple[Any, ...]:
    """(dtype, array), or (exception,)."""
    try:
        out = call()
    except Exception as error:
        return (error,)
    return str(out.dtype).rpartition(".")[2], out.detach().resolve_conj().numpy()


def same(got: tuple[Any, ...], want: tuple[Any, ...], what: Any) -> None:
    """Equal within rounding, or the same error."""
    assert len(got) == len(want), (what, got, want)
    if len(want) == 1:
        assert isinstance(got[0], type(want[0])), (what, got, want)
        assert str(got[0]).replace(" (position 2)", "").strip() == str(want[0]).partition("\n")[0].strip(), what
        return
    assert got[0] == want[0], what
    assert got[1].shape == want[1].shape, (what, got[1].shape, want[1].shape)
    np.testing.assert_allclose(got[1], want[1], rtol=0, atol=2e-6 * max(np.abs(want[1]).max(initial=0), 1), err_msg=str(what))


@pytest.mark.parametrize("name", ONE + SEVERAL)
def test_transforms(name: str) -> None:
    for (kind, a), options in itertools.product(INPUTS.items(), OPTIONS_ONE if name in ONE else OPTIONS_SEVERAL):
        got = outcome(lambda a=a, options=options: getattr(torsh.fft, name)(torsh.from_numpy(np.asarray(a)), **options))
        want = outcome(lambda a=a, options=options: getattr(torch.fft, name)(torch.from_numpy(np.asarray(a)), **options))
        if not (len(want) == 1 and "DFTI" in str(want[0])):     # what PyTorch's library does not do
            same(got, want, (name, kind, options))


@pytest.mark.parametrize("wide", [np.complex128, np.clongdouble])
def test_errors_are_as_small(wide: Any) -> None:
    narrow = np.complex64 if wide is np.complex128 else np.complex128
    if np.finfo(wide).eps >= np.finfo(narrow).eps:
        pytest.skip("there is no wider type to compare with")
    fft = pytest.importorskip("scipy.fft")
    for n in (64, 256, 360, 1000, 1009, 1024, 4096, 65536):
        a = (RNG.standard_normal((max(1, 4096 // n), n)) + 1j * RNG.standard_normal((max(1, 4096 // n), n))).astype(narrow)
        for name, x in (("fft", a), ("ifft", a), ("rfft", a.real.copy())):
            want = getattr(fft, name)(x.astype(wide if x is a else wide(0).real.dtype))
            mine, other = [np.linalg.norm(getattr(t.fft, name)(t.from_numpy(x)).numpy() - want) for t in (torsh, torch)]
            assert mine <= 1.25 * other, (name, n, mine, other)


@pytest.mark.parametrize("name", ONE + SEVERAL)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_refused(name: str, dtype: str) -> None:
    got, want = [outcome(lambda t=t: getattr(t.fft, name)(t.zeros(4, 6, dtype=getattr(t, dtype)))) for t in (torsh, torch)]
    same(got, want, name)
    assert len(got) == 1


@pytest.mark.parametrize("name", ONE + SEVERAL)
def test_gradients(name: str) -> None:
    for a, options in itertools.product((REAL, COMPLEX), ({}, {"norm": "ortho"}, {"n": 9}, {"n": 3}, {"s": (5, 3)})):
        if (name in ONE and "s" in options) or (name in SEVERAL and "n" in options) or (
                name.removeprefix("i")[0] == "r" and "i" not in name and a is COMPLEX) or (name.startswith("ih") and a is COMPLEX):
            continue
        found = []
        for t in (torsh, torch):
            x = t.from_numpy(a.copy()).requires_grad_()
            out = getattr(t.fft, name)(x, **options)
            (out.abs() ** 2 * t.arange(out.shape[-1])).sum().backward()
            found.append((str(x.grad.dtype).rpartition(".")[2], x.grad.resolve_conj().numpy()))
        same(found[0], found[1], (name, options))


@pytest.mark.parametrize("text", [
    "fftfreq(5)", "fftfreq(4)", "fftfreq(0)", "fftfreq(1)", "fftfreq(-1)", "fftfreq(5, 0.)", "fftfreq(5, d=2.5)",
    "fftfreq(5, dtype=t.int64)", "fftfreq(5, dtype=t.float16)", "fftfreq(5, dtype=t.float64)", "fftfreq(5, dtype=t.complex64)",
    "fftfreq(5.5)", "fftfreq(3, out=t.empty(0, dtype=t.float64))", "fftfreq(3, out=t.empty(0, dtype=t.int32))",
    "fftfreq(3, dtype=t.float32, out=t.empty(0, dtype=t.float64))", "rfftfreq(5, 2.)", "rfftfreq(0)", "rfftfreq(8)",
    "rfftfreq(-1)", "rfftfreq(-3)", "rfftfreq(5, dtype=t.int64)", "fftshift(x)", "fftshift(x, 0)", "fftshift(x, (0, 1))",
    "ifftshift(x)", "ifftshift(x, -1)", "fftshift(x, dim=5)", "fftshift(x, dim=(0, 0))", "fftshift(t.tensor(1.))",
    "fftshift(t.tensor(1.), 0)", "fftshift(t.empty(0, 3))", "fftshift(x, ())", "fftshift([1])", "fft([1.])"])
def test_frequencies_and_shifts(text: str) -> None:
    found = []
    for t in (torsh, torch):
        found.append(outcome(lambda t=t: eval("t.fft." + text, {"t": t, "x": t.from_numpy(COMPLEX)})))
    same(found[0], found[1], text)
