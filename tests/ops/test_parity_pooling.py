"""Pooling and interpolation against PyTorch."""
from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from torch_gradients import compare, normal  # noqa: E402

from torsh.ops import interpolation as i  # noqa: E402
from torsh.ops import pooling as p  # noqa: E402
from torsh.ops.common import apply  # noqa: E402

F = torch.nn.functional
# shape, kernel, stride, padding, dilation, ceil_mode
MAXIMA: list[tuple[Any, ...]] = [
    ((2, 3, 8, 8), (2, 2), (2, 2), (0, 0), (1, 1), False), ((2, 3, 7, 9), (2, 3), (2, 3), (0, 0), (1, 1), False),
    ((2, 3, 7, 7), (3, 3), (2, 2), (1, 1), (1, 1), False), ((2, 3, 7, 8), (2, 2), (2, 2), (0, 0), (1, 1), True),
    ((2, 3, 8, 7), (3, 2), (1, 2), (1, 0), (2, 1), True), ((2, 3, 9), (3,), (2,), (1,), (1,), True),
    ((1, 2, 5, 6, 7), (2, 3, 2), (2, 2, 1), (0, 1, 1), (1, 1, 2), False), ((3, 6, 6), (3, 3), (3, 3), (1, 1), (1, 1), True),
    ((0, 3, 4, 4), (2, 2), (2, 2), (0, 0), (1, 1), False)]


@pytest.mark.parametrize("case", range(len(MAXIMA)))
def test_max_pool(case: int) -> None:
    """Values, positions and gradients."""
    shape, kernel, stride, padding, dilation, ceil_mode = MAXIMA[case]
    theirs = getattr(F, f"max_pool{len(kernel)}d")
    rest = (kernel, stride, padding, dilation, ceil_mode)
    x = normal(*shape)
    compare(lambda e: p.max_pool_expr(e, *rest)[0], lambda t: theirs(t, *rest), x, message=str(MAXIMA[case]))
    compare(lambda e: p.max_pool_expr(e, *rest)[1], lambda t: theirs(t, *rest, return_indices=True)[1], x)
    compare(lambda e: p.max_pool_expr(e, *rest)[0], lambda t: theirs(t, *rest), x.astype(np.float16), gradient=case != 2)


def test_max_pool_of_the_lowest() -> None:
    """Windows of nothing but -inf choose positions inside."""
    x = np.full((1, 1, 4, 4), -np.inf)
    places = p.max_pool_expr
    compare(lambda e: apply("cast", places(e, (3, 3), (2, 2), (1, 1), (1, 1))[1], attr="bool"),
            lambda t: F.max_pool2d(t, 3, 2, 1, return_indices=True)[1].bool(), x)


@pytest.mark.parametrize("case", range(len(MAXIMA)))
@pytest.mark.parametrize("include", [True, False])
def test_avg_pool(case: int, include: bool) -> None:
    """Values and gradients, counting padding or not, with another divisor."""
    shape, kernel, stride, padding, _, ceil_mode = MAXIMA[case]
    theirs = getattr(F, f"avg_pool{len(kernel)}d")
    compare(lambda e: p.avg_pool_expr(e, kernel, stride, padding, ceil_mode, include),
            lambda t: theirs(t, kernel, stride, padding, ceil_mode, include), normal(*shape), message=str(MAXIMA[case]))
    if len(kernel) > 1:
        compare(lambda e: p.avg_pool_expr(e, kernel, stride, padding, ceil_mode, include, 5),
                lambda t: theirs(t, kernel, stride, padding, ceil_mode, include, 5), normal(*shape))


@pytest.mark.parametrize("sizes", [(1, 1), (2, 4), (3, 5), (7, 3), (8, 12), (1, 5)])
def test_adaptive_pools(sizes: tuple[int, ...]) -> None:
    """Even and uneven windows in one to three dimensions."""
    x = normal(2, 3, 8, 12)
    compare(lambda e: apply("adaptive_avg_pool", e, attr=sizes), lambda t: F.adaptive_avg_pool2d(t, sizes), x)
    compare(lambda e: apply("adaptive_max_pool", e, attr=sizes), lambda t: F.adaptive_max_pool2d(t, sizes), x)
    compare(lambda e: apply("adaptive_max_pool_index", e, attr=sizes),
            lambda t: F.adaptive_max_pool2d(t, sizes, True)[1], x)
    line, block = normal(3, 11), normal(1, 2, 5, 6, 4)
    compare(lambda e: apply("adaptive_avg_pool", e, attr=sizes[:1]), lambda t: F.adaptive_avg_pool1d(t, sizes[0]), line)
    compare(lambda e: apply("adaptive_max_pool", e, attr=(3, *sizes)), lambda t: F.adaptive_max_pool3d(t, (3, *sizes)), block)
    compare(lambda e: apply("adaptive_avg_pool", e, attr=(3, *sizes)), lambda t: F.adaptive_avg_pool3d(t, (3, *sizes)), block)


def test_other_pools() -> None:
    """Norms of windows, unpooling, and windows at random places."""
    x = np.abs(normal(2, 3, 7, 7)) + 0.1
    compare(lambda e: p.lp_pool_expr(e, 2.0, (2, 3), (2, 2)), lambda t: F.lp_pool2d(t, 2.0, (2, 3), 2), x)
    values, places = F.max_pool2d(torch.from_numpy(x), 2, 2, return_indices=True)
    compare(lambda e, i: p.max_unpool_expr(e, i, (7, 7)), lambda t, i: F.max_unpool2d(t, i, 2, 2, output_size=(7, 7)),
            values.numpy(), places.numpy())
    samples = np.random.default_rng(1).random((2, 3, 2))
    for part in (0, 1):
        compare(lambda e, s, k=part: p.fractional_max_pool_expr(e, s, (2, 3), (4, 3))[k],
                lambda t, s, k=part: F.fractional_max_pool2d(t, (2, 3), (4, 3), return_indices=True,
                                                             _random_samples=s.detach())[k] + 0 * int(s.sum().detach() > 1e9),
                x, samples, gradient=False)


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "linear", "bilinear", "trilinear", "bicubic", "area"])
def test_interpolate(mode: str) -> None:
    """Larger and smaller, with and without aligned corners, by sizes and by scales."""
    dims = {"linear": (1,), "bilinear": (2,), "trilinear": (3,), "bicubic": (2,)}.get(mode, (1, 2, 3))
    for n in dims:
        shape = (2, 3, 5, 6, 4)[:2 + n]
        for sizes in ((7, 4, 5)[:n], (3, 9, 4)[:n], (1, 1, 1)[:n], (10, 12, 8)[:n]):
            for align in (False, True) if "linear" in mode or "cubic" in mode else (None,):
                compare(lambda e, s=sizes, a=align: i.interpolate_expr(e, mode, s, bool(a)),
                        lambda t, s=sizes, a=align: F.interpolate(t, s, mode=mode, align_corners=a), normal(*shape),
                        message=f"{mode} {sizes} {align}", least=1e-6)
        scales = (1.7, 0.6, 2.0)[:n]
        if mode != "area":
            out = tuple(int(s * m) for s, m in zip(scales, shape[2:], strict=True))
            compare(lambda e, o=out, s=scales: i.interpolate_expr(e, mode, o, False, s),
                    lambda t, s=scales: F.interpolate(t, scale_factor=s, mode=mode), normal(*shape), least=1e-6)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_antialias(mode: str) -> None:
    """Smaller and larger."""
    for sizes in ((3, 4), (5, 13), (9, 2)):
        compare(lambda e, s=sizes: i.interpolate_expr(e, mode, s, antialias=True),
                lambda t, s=sizes: F.interpolate(t, s, mode=mode, antialias=True), normal(2, 3, 8, 9), least=1e-5)


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
def test_grid_sample(mode: str, padding_mode: str) -> None:
    """Places inside and outside; gradients of the input and of the grid."""
    for align in (False, True):
        compare(lambda e, g, a=align: i.grid_sample_expr(e, g, mode, padding_mode, a),
                lambda t, g, a=align: F.grid_sample(t, g, mode, padding_mode, a), normal(2, 3, 4, 5), normal(2, 6, 3, 2))
        if mode != "bicubic":
            compare(lambda e, g, a=align: i.grid_sample_expr(e, g, mode, padding_mode, a),
                    lambda t, g, a=align: F.grid_sample(t, g, mode, padding_mode, a), normal(1, 2, 3, 4, 5),
                    normal(1, 2, 2, 3, 3))
        compare(lambda t, a=align: i.affine_grid_expr(t, (3, 4), a), lambda t, a=align: F.affine_grid(t, (2, 1, 3, 4), a),
                normal(2, 2, 3))
