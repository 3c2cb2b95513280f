"""Convolutions that are computed with transformed tiles, against the plain sums of float64."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import torsh
import torsh.nn.functional as F
from torsh import Tensor

Case = tuple[Callable[..., Tensor], tuple[int, ...], tuple[int, ...], dict[str, int]]
CASES: list[Case] = [
    (F.conv2d, (4, 40, 16, 16), (48, 40, 3, 3), {"padding": 1}),
    (F.conv2d, (3, 32, 19, 14), (33, 32, 3, 3), {"padding": 0}),
    (F.conv2d, (2, 96, 17, 30), (64, 48, 3, 3), {"padding": 2, "groups": 2}),
    (F.conv2d, (40, 35, 5, 3), (70, 35, 3, 3), {"padding": 1}),
    (F.conv_transpose2d, (4, 40, 16, 15), (40, 36, 3, 3), {"padding": 1}),
    (F.conv_transpose2d, (4, 80, 12, 15), (80, 32, 3, 3), {"padding": 0, "groups": 2})]


def close(got: Tensor, want: Tensor) -> None:
    exact = want.numpy()
    np.testing.assert_allclose(got.numpy(), exact, rtol=1e-4, atol=2e-6 * np.abs(exact).max())


def results(case: Case, dtype: torsh.dtype, wanted: bool) -> list[Tensor]:
    """The convolution of the same random numbers in a dtype, and its gradients if they are wanted."""
    function, x_shape, w_shape, options = case
    generator = torsh.Generator().manual_seed(3)
    x, w = [torsh.randn(shape, generator=generator).to(dtype).requires_grad_(wanted) for shape in (x_shape, w_shape)]
    outputs = w_shape[1] * options.get("groups", 1) if function is F.conv_transpose2d else w_shape[0]
    bias = torsh.randn(outputs, generator=generator).to(dtype).requires_grad_(wanted)
    y = function(x, w, bias, **options)
    if not wanted:
        return [y]
    (y * torsh.randn(y.shape, generator=generator).to(dtype)).sum().backward()
    return [y.detach(), *[t.grad for t in (x, w, bias) if t.grad is not None]]


@pytest.mark.parametrize("wanted", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0].__name__}-{case[1]}-{case[2]}")
def test_results_and_gradients(case: Case, wanted: bool) -> None:
    exact = results(case, torsh.float64, wanted)
    for got, want in zip(results(case, torsh.float32, wanted), exact, strict=True):
        close(got, want)


def test_which_convolutions_are_transformed() -> None:
    w = torsh.randn(64, 64, 3, 3)

    def names(size: int, **options: int) -> list[str]:
        x = torsh.randn(1, 64, size, size)
        return [kernel.name for kernel in torsh.explain(lambda: F.conv2d(x, w, **options)).kernels]

    assert names(28, padding=1) == ["convolution (weights)", "convolution"]
    assert names(28, padding=1, stride=2) == ["convolution"]
    assert names(28, padding=2, dilation=2) == ["convolution"]
    assert names(6) == ["convolution"]                   # four tiles


def test_the_same_numbers_give_the_same_results() -> None:
    """At every run, with kept weights or without, recorded for gradients or not."""
    for size in (7, 8, 14, 28):
        x, w, b = torsh.randn(1, 40, size, size), torsh.randn(50, 40, 3, 3), torsh.randn(50)
        shared = torsh.from_numpy(w.numpy().copy())       # code outside may write to it at any time: never kept
        wanted = torsh.tensor(w.tolist()).requires_grad_(True)
        first = F.conv2d(x, shared, b, padding=1).numpy()
        for weight in (torsh.tensor(w.tolist()), shared, wanted):
            for _ in range(4):
                y = F.conv2d(x, weight, b, padding=1)
                if weight is wanted:
                    y.sum().backward()
                np.testing.assert_array_equal(y.detach().numpy(), first)


def test_other_sizes_run_the_same_kernels() -> None:
    w, b = torsh.randn(36, 40, 3, 3), torsh.randn(36)
    for size in (17, 18, 31, 40, 23, 64, 9):
        x = torsh.randn(2, 40, size, size + 3)
        got, want = F.conv2d(x, w, b, padding=1), F.conv2d(x.double(), w.double(), b.double(), padding=1)
        close(got, want)


def test_views_and_padding_of_all_kinds() -> None:
    x, w = torsh.randn(4, 48, 20, 22), torsh.randn(32, 40, 3, 3)
    for view in (x[:, 4:44], x[:, :40, 3:, :-2], x[::2, 8:], x[:, :40].flip(0), x.transpose(2, 3)[:, :40], x[:, :40].contiguous(
            memory_format=torsh.channels_last), F.pad(x[:, :40], (1, 1, 1, 1), mode="circular"), F.pad(x[:, :40], (2, 0, 1, 3))):
        got, want = F.conv2d(view, w, padding=1), F.conv2d(view.double(), w.double(), padding=1)
        close(got, want)
