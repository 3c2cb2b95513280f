"""Convolutions and normalisations against PyTorch."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch_gradients import compare, normal  # noqa: E402

from torsh.core.errors import ShapeMismatchError  # noqa: E402
from torsh.ops import normalization as n  # noqa: E402
from torsh.ops.convolution import convolution_expr  # noqa: E402
from torsh.ops.expr import Expr  # noqa: E402
from torsh.ops.windows import fold_expr, unfold_expr  # noqa: E402

F = torch.nn.functional
# input, weight, stride, padding, dilation, groups
PLAIN: list[tuple[Any, ...]] = [
    ((2, 3, 8, 9), (4, 3, 3, 3), (1, 1), (0, 0), (1, 1), 1), ((2, 3, 8, 9), (4, 3, 3, 2), (2, 1), (1, 2), (1, 2), 1),
    ((2, 4, 7, 7), (6, 2, 3, 3), (2, 2), (1, 1), (1, 1), 2), ((2, 4, 7, 7), (4, 1, 3, 3), (1, 1), (1, 1), (1, 1), 4),
    ((2, 4, 7, 7), (8, 1, 3, 3), (2, 2), (1, 1), (2, 2), 4), ((2, 3, 6, 6), (5, 3, 1, 1), (1, 1), (0, 0), (1, 1), 1),
    ((2, 3, 6, 6), (5, 3, 1, 1), (2, 2), (0, 0), (1, 1), 1), ((3, 8, 9), (4, 3, 3, 3), (1, 1), "same", (1, 1), 1),
    ((1, 3, 8, 9), (4, 3, 4, 3), (1, 1), "same", (1, 1), 1), ((2, 3, 10), (4, 3, 3), (2,), (1,), (1,), 1),
    ((2, 2, 5, 6, 7), (3, 2, 3, 2, 3), (1, 2, 1), (1, 0, 1), (1, 1, 2), 1), ((3, 20, 12, 12), (2, 20, 5, 5), (1, 1), "valid",
                                                                           (1, 1), 1),
    ((0, 3, 8, 8), (4, 3, 3, 3), (1, 1), (0, 0), (1, 1), 1), ((2, 3, 8, 8), (4, 3, 2, 2), (3, 3), (0, 0), (1, 1), 1),
    ((2, 2, 16, 15), (3, 2, 13, 12), (1, 1), (6, 5), (1, 1), 1), ((1, 2, 500), (3, 2, 300), (1,), (7,), (1,), 1),
    ((1, 6, 5, 6), (72, 3, 1, 1), (2, 3), (1, 0), (1, 1), 2)]
# The same, of single channels.
DEPTHWISE: list[tuple[Any, ...]] = [
    ((2, 5, 19, 21), (5, 1, 3, 3), (1, 1), (1, 1), (1, 1), 5), ((2, 5, 18, 21), (5, 1, 3, 3), (2, 2), (1, 1), (1, 1), 5),
    ((2, 5, 18, 21), (10, 1, 5, 5), (2, 2), (2, 2), (1, 1), 5), ((1, 3, 30, 40), (3, 1, 7, 7), (1, 1), (3, 3), (1, 1), 3),
    ((1, 3, 30, 40), (3, 1, 7, 7), (2, 2), (9, 8), (1, 1), 3), ((2, 3, 17, 16), (6, 1, 4, 3), (1, 2), (0, 2), (1, 1), 3),
    ((2, 3, 17, 16), (3, 1, 3, 4), (2, 1), "valid", (1, 2), 3), ((2, 3, 17, 16), (3, 1, 3, 3), (1, 1), "same", (3, 3), 3),
    ((2, 3, 17, 16), (3, 1, 3, 3), (3, 3), (1, 1), (2, 2), 3), ((2, 3, 17, 16), (3, 1, 3, 3), (3, 1), (1, 1), (1, 1), 3),
    ((2, 4, 90), (8, 1, 5), (1,), (2,), (1,), 4), ((2, 4, 91), (4, 1, 9), (2,), (4,), (2,), 4),
    ((1, 3, 8, 9), (3, 1, 1, 1), (1, 1), (0, 0), (1, 1), 3), ((2, 3, 8, 8), (3, 1, 2, 2), (2, 2), (0, 0), (1, 1), 3),
    ((1, 2, 30, 31), (2, 1, 13, 12), (1, 1), (6, 5), (1, 1), 2), ((1, 2, 70, 200), (2, 1, 7, 7), (1, 1), (30, 60), (10, 20), 2),
    ((1, 2, 5, 6, 7), (2, 1, 3, 3, 3), (1, 1, 1), (1, 1, 1), (1, 1, 1), 2), ((5, 12, 12), (5, 1, 3, 3), (1, 1), (0, 0), (1, 1), 5)]
# input, weight, stride, padding, output padding, groups, dilation
TRANSPOSED: list[tuple[Any, ...]] = [
    ((2, 3, 5, 5), (3, 4, 3, 3), (1, 1), (0, 0), (0, 0), 1, (1, 1)), ((2, 3, 5, 5), (3, 4, 3, 3), (2, 2), (1, 1), (1, 1), 1, (1, 1)),
    ((2, 4, 5, 4), (4, 3, 3, 2), (2, 3), (0, 1), (0, 2), 2, (2, 1)), ((2, 3, 5, 5), (3, 4, 2, 2), (2, 2), (0, 0), (0, 0), 1, (1, 1)),
    ((2, 4, 5, 5), (4, 3, 2, 2), (2, 2), (1, 0), (1, 0), 2, (1, 1)), ((2, 3, 7), (3, 2, 4), (3,), (2,), (1,), 1, (1,)),
    ((2, 4, 6, 6), (4, 1, 3, 3), (1, 1), (3, 3), (0, 0), 4, (1, 1)), ((2, 3, 4, 4), (3, 2, 3, 3), (1, 1), (0, 0), (1, 1), 1, (2, 2)),
    ((2, 4, 9, 8), (4, 2, 3, 3), (2, 2), (1, 1), (1, 1), 4, (1, 1)), ((2, 4, 9, 18), (4, 1, 4, 4), (2, 2), (1, 1), (0, 1), 4, (1, 1)),
    ((2, 4, 9, 8), (4, 1, 5, 3), (1, 2), (2, 0), (0, 0), 4, (2, 1)), ((2, 4, 9, 8), (4, 2, 5, 3), (2, 1), (2, 0), (0, 0), 4, (1, 1)),
    ((2, 4, 9, 8), (4, 1, 3, 3), (3, 3), (1, 1), (1, 2), 4, (1, 1)), ((2, 4, 9, 8), (4, 1, 2, 2), (2, 2), (0, 0), (0, 0), 4, (1, 1)),
    ((2, 4, 40), (4, 2, 6), (2,), (3,), (1,), 4, (3,)), ((2, 4, 9, 8), (4, 3, 7, 7), (1, 1), (5, 4), (0, 0), 4, (1, 1))]


@pytest.mark.filterwarnings("ignore:Using padding")
@pytest.mark.parametrize("case", PLAIN + DEPTHWISE, ids=str)
def test_convolution(case: tuple[Any, ...]) -> None:
    """Values and gradients of all kinds of strides, paddings, dilations and groups."""
    shape, weight, stride, padding, dilation, groups = case
    rank = len(weight) - 2
    theirs = getattr(F, f"conv{rank}d")
    compare(lambda x, w, b: convolution_expr(x, w, b, stride, padding, dilation, groups),
            lambda x, w, b: theirs(x, w, b, stride, padding, dilation, groups), normal(*shape), normal(*weight),
            normal(weight[0]), message=str(case))


@pytest.mark.parametrize("case", range(len(TRANSPOSED)))
def test_transposed_convolution(case: int) -> None:
    """Values and gradients."""
    shape, weight, stride, padding, extra, groups, dilation = TRANSPOSED[case]
    rank = len(weight) - 2
    theirs = getattr(F, f"conv_transpose{rank}d")
    compare(lambda x, w, b: convolution_expr(x, w, b, stride, padding, dilation, groups, True, extra),
            lambda x, w, b: theirs(x, w, b, stride, padding, extra, groups, dilation), normal(*shape), normal(*weight),
            normal(weight[1] * groups), message=str(TRANSPOSED[case]))


def laid_out(x: Any, layout: str) -> Any:
    """The same tensor of images, laid out in another way in memory."""
    if layout == "channels last":
        return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    if layout == "flipped":
        return x.flip(2).flip(2).flip(3).flip(3)
    if layout == "transposed":
        return x.transpose(2, 3).contiguous().transpose(2, 3)
    return x[:, :, ::2, 1:-1] if layout == "cut" else x.expand(3, *x.shape[1:]) if layout == "repeated" else x


@pytest.mark.parametrize("layout", ["channels last", "flipped", "transposed", "cut", "repeated"])
@pytest.mark.parametrize("geometry", [(3, 1, 1, 1), (3, 2, 1, 2), (5, 2, 2, 1), (2, 3, 0, 1), (3, 1, 1, 6), (5, 2, 2, 6)])
def test_convolution_of_views(layout: str, geometry: tuple[int, int, int, int]) -> None:
    """Inputs and weights that are views, and gradients through them."""
    import torsh
    kernel, stride, padding, groups = geometry
    inputs = 1 if groups == 6 else 4
    arrays = normal(1 if layout == "repeated" else 3, inputs * groups, 18, 15), normal(6, inputs, kernel, kernel)
    results = []
    for m in (torch, torsh):
        x, w = [m.from_numpy(a.copy()).requires_grad_() for a in arrays]  # type: ignore[attr-defined]
        weight = laid_out(w, layout) if layout in ("channels last", "flipped", "transposed") else w
        y = m.nn.functional.conv2d(laid_out(x, layout), weight, stride=stride, padding=padding, groups=groups)
        (y * y.detach()).sum().backward()
        results.append([v.detach().numpy() for v in (y, x.grad, w.grad)])
    for theirs, mine in zip(*results, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4 * abs(theirs).max())


@pytest.mark.parametrize("groups", [1, 9])
@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "int32", "int64", "int8"])
def test_convolution_of_other_dtypes(dtype: str, groups: int) -> None:
    """Values as PyTorch's, rounded once."""
    import torsh
    x, w = normal(2, 9, 13, 11) * 4, normal(9, 9 // groups, 3, 3) * 4
    results = [np.asarray(m.nn.functional.conv2d(
        *[m.from_numpy(a).to(getattr(m, dtype)) for a in (x, w)], padding=1, stride=(1, 2), groups=groups).to(
            m.float64).numpy()) for m in (torch, torsh)]
    tolerance = {"float64": 1e-12, "float16": 2e-3, "bfloat16": 1e-2}.get(dtype, 0)
    np.testing.assert_allclose(results[1], results[0], rtol=tolerance, atol=tolerance * abs(results[0]).max())


@pytest.mark.parametrize("threads", [1, 2])
def test_convolution_shared_among_threads(threads: int) -> None:
    """Values and gradients of convolutions that are large enough to be shared, small images and large ones."""
    import torsh
    before = torsh.get_num_threads()
    torsh.set_num_threads(threads)
    try:
        for shape, weight, stride in [((5, 64, 7, 7), (130, 64, 3, 3), 1), ((2, 3, 60, 60), (20, 3, 7, 7), 2),
                                      ((1, 40, 40, 40), (70, 40, 3, 3), 1), ((9, 40, 14, 14), (60, 40, 3, 3), 2),
                                      ((9, 70, 14, 14), (70, 1, 3, 3), 1), ((2, 30, 61, 60), (60, 1, 5, 5), 2)]:
            groups = shape[1] // weight[1]
            compare(lambda x, w: convolution_expr(x, w, None, (stride,) * 2, (1, 1), (1, 1), groups),  # noqa: B023
                    lambda x, w: F.conv2d(x, w, stride=stride, padding=1, groups=groups),  # noqa: B023
                    normal(*shape), normal(*weight), message=f"{shape} {weight} {stride}")
    finally:
        torsh.set_num_threads(before)


def test_convolution_errors() -> None:
    """PyTorch's words for shapes that do not fit."""
    cases = [((1, 2, 5, 5), (4, 3, 3, 3), (4,)), ((1, 3, 2, 2), (4, 3, 3, 3), (4,)), ((2, 3), (4, 3, 3, 3), (4,)),
             ((1, 3, 5, 5), (4, 3, 3, 3), (3,))]
    for shapes in cases:
        arrays = [normal(*s) for s in shapes]
        with pytest.raises(RuntimeError) as theirs:
            F.conv2d(*[torch.from_numpy(a) for a in arrays])
        with pytest.raises(ShapeMismatchError) as mine:
            compare(lambda x, w, b: convolution_expr(x, w, b, (1, 1), (0, 0), (1, 1)), F.conv2d, *arrays)
        assert str(mine.value) == str(theirs.value)


def test_unfold_and_fold() -> None:
    """Windows as columns and back."""
    for kernel, dilation, padding, stride in (((2, 3), (1, 1), (0, 0), (1, 1)), ((3, 2), (2, 1), (1, 2), (2, 1))):
        compare(lambda x: unfold_expr(x, kernel, dilation, padding, stride),  # noqa: B023
                lambda x: F.unfold(x, kernel, dilation, padding, stride), normal(2, 3, 7, 8))  # noqa: B023
        columns = F.unfold(torch.zeros(2, 3, 7, 8), kernel, dilation, padding, stride).shape
        compare(lambda x: fold_expr(x, (7, 8), kernel, dilation, padding, stride),  # noqa: B023
                lambda x: F.fold(x, (7, 8), kernel, dilation, padding, stride), normal(*columns))  # noqa: B023


def optional(function: Any, count: int) -> Any:
    """A function called with None for missing parameters."""
    return lambda x, *p: function(x, *p, *[None] * (count - len(p)))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("given", [0, 1, 2])
def test_normalisations(dtype: str, given: int) -> None:
    """Values and gradients, with and without weight and bias."""
    def check(mine: Any, theirs: Any, shape: tuple[int, ...], sizes: tuple[int, ...], least: float = 0) -> None:
        parameters = [(normal(*sizes, seed=i) + 1).astype(dtype) for i in range(given)]
        compare(optional(mine, 2), optional(theirs, 2), (normal(*shape) * 2 + 1).astype(dtype), *parameters,
                least=max(least, 1e-2 if dtype == "float16" else 1e-4 if dtype == "float32" else 1e-8))
    check(lambda x, w, b: n.layer_norm_expr(x, (5,), w, b, 1e-5), lambda x, w, b: F.layer_norm(x, (5,), w, b), (3, 4, 5), (5,))
    check(lambda x, w, b: n.layer_norm_expr(x, (4, 5), w, b, 1e-3), lambda x, w, b: F.layer_norm(x, (4, 5), w, b, 1e-3),
          (3, 4, 5), (4, 5))
    check(lambda x, w, b: n.group_norm_expr(x, 2, w, b, 1e-5), lambda x, w, b: F.group_norm(x, 2, w, b), (3, 4, 5, 2), (4,))
    check(lambda x, w, b: n.batch_norm_expr(x, w, b, 1e-5),
          lambda x, w, b: F.batch_norm(x, None, None, w, b, True), (6, 4, 5), (4,))
    check(lambda x, w, b: n.instance_norm_expr(x, w, b, 1e-5),
          lambda x, w, b: F.instance_norm(x, None, None, w, b), (3, 4, 7), (4,))
    if given < 2:
        check(lambda x, w, b: n.rms_norm_expr(x, (5,), w, None), lambda x, w, b: F.rms_norm(x, (5,), w), (3, 4, 5), (5,))


def test_batch_norm_inference() -> None:
    """With running statistics; the gradient reaches weight, bias and input."""
    mean, variance = normal(4), abs(normal(4, seed=3)) + 0.5

    def mine(x: Expr, w: Expr, b: Expr, m: Expr, v: Expr) -> Expr:
        return n.batch_norm_inference_expr(x, m, v, w, b, 1e-5)
    compare(mine, lambda x, w, b, m, v: F.batch_norm(x, m.detach(), v.detach(), w, b) + 0 * m.sum() + 0 * v.sum(),
            normal(3, 4, 2, 2), normal(4), normal(4), mean, variance, gradient=False)


def test_local_response_norm() -> None:
    """Over odd and even numbers of channels."""
    for size in (3, 4):
        compare(lambda x, s=size: n.local_response_norm_expr(x, s, 1e-1, 0.75, 1.0),
                lambda x, s=size: F.local_response_norm(x, s, 1e-1), normal(2, 6, 3, 3))
