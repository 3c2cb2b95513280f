"""Losses and attention against PyTorch."""
from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from expression_harness import run  # noqa: E402
from torch_gradients import compare, normal  # noqa: E402

from torsh.ops import loss as ls  # noqa: E402
from torsh.ops import loss_elementwise as le  # noqa: E402
from torsh.ops.attention import attention_expr  # noqa: E402
from torsh.ops.common import apply  # noqa: E402
from torsh.ops.connectionist import ctc_loss_expr  # noqa: E402

F = torch.nn.functional
RED = ("none", "mean", "sum")


def classes(high: int, *shape: int, ignored: int | None = None) -> Any:
    """Random targets, some of them ignored."""
    target = np.random.default_rng([high, *shape]).integers(0, high, shape)
    if ignored is not None and target.size > 1:
        target.reshape(-1)[::3] = ignored
    return target


@pytest.mark.parametrize("reduction", RED)
@pytest.mark.parametrize("shape", [(5,), (4, 5), (3, 5, 2), (2, 3, 4, 2)])
@pytest.mark.parametrize("weighted", [False, True])
def test_class_losses(reduction: str, shape: tuple[int, ...], weighted: bool) -> None:
    """nll_loss and cross_entropy with ignored targets, weights and smoothing."""
    axis = min(1, len(shape) - 1)
    for ignored in (-100, 1):
        target = classes(shape[axis], *shape[:axis], *shape[axis + 1:], ignored=ignored)
        w = np.linspace(0.5, 2, shape[axis])
        frozen = torch.from_numpy(w) if weighted else None

        def given(x: Any) -> Any:
            return x if weighted else None  # noqa: B023
        compare(lambda x, t, v: ls.nll_loss_expr(x, t, given(v), ignored, reduction),  # noqa: B023
                lambda x, t, v: F.nll_loss(x, t, frozen, ignore_index=ignored, reduction=reduction) + 0 * v.sum(),  # noqa: B023
                normal(*shape), target, w, message=f"nll {shape}")
        for smoothing in (0.0, 0.2):
            compare(lambda x, t, v: ls.cross_entropy_expr(x, t, given(v), ignored, reduction, smoothing),  # noqa: B023
                    lambda x, t, v: F.cross_entropy(x, t, frozen, ignore_index=ignored, reduction=reduction,  # noqa: B023
                                                    label_smoothing=smoothing) + 0 * v.sum(),  # noqa: B023
                    normal(*shape), target, w, message=f"cross entropy {shape} {smoothing} {ignored}")


@pytest.mark.parametrize("reduction", RED)
def test_soft_targets(reduction: str) -> None:
    """Probabilities as targets."""
    for shape in ((4, 5), (3, 5, 2), (5,)):
        for smoothing in (0.0, 0.3):
            compare(lambda x, y, w, s=smoothing: ls.cross_entropy_expr(x, y, w, -100, reduction, s),
                    lambda x, y, w, s=smoothing: F.cross_entropy(x, y, w.detach(), reduction=reduction,
                                                                 label_smoothing=s) + 0 * w.sum(),
                    normal(*shape), abs(normal(*shape, seed=3)), abs(normal(5)), gradient=False)
            compare(lambda x, y, s=smoothing: ls.cross_entropy_expr(x, y, None, -100, reduction, s),
                    lambda x, y, s=smoothing: F.cross_entropy(x, y, reduction=reduction, label_smoothing=s),
                    normal(*shape), abs(normal(*shape, seed=3)))


def test_targets_outside_and_halves() -> None:
    """IndexError for targets that are no class; halves are computed in float32."""
    for function in (ls.nll_loss_expr, ls.cross_entropy_expr):
        with pytest.raises(IndexError):
            run(lambda x, t, f=function: f(x, t, None, -100, "mean"), normal(2, 3), np.array([0, 3]))
    for dtype in (np.float16, np.float32):
        compare(lambda x, t: ls.cross_entropy_expr(x, t, None, -100, "mean"), F.cross_entropy, normal(6, 4).astype(dtype),
                classes(4, 6), least=5e-3 if dtype is np.float16 else 0)
    with pytest.raises(ValueError):
        run(lambda x, t: ls.nll_loss_expr(x, t, None, -100, "mean"), normal(2, 3), np.array([0, 1, 2]))
    with pytest.raises(ValueError):
        run(lambda x, t: ls.nll_loss_expr(x, t, None, -100, "average"), normal(2, 3), np.array([0, 1]))


@pytest.mark.filterwarnings("ignore:reduction. 'mean'")
@pytest.mark.parametrize("reduction", RED)
def test_elementwise_losses(reduction: str) -> None:
    """Everything that compares elements."""
    x, y = normal(4, 5), normal(4, 5, seed=2)
    p, q = 1 / (1 + np.exp(-x)), 1 / (1 + np.exp(-y))
    w = abs(normal(4, 5, seed=6))
    signs = np.sign(y)

    def check(mine: Any, theirs: Any, *arrays: Any, **options: Any) -> None:
        compare(lambda *e: mine(*e, reduction=reduction), lambda *t: theirs(*t, reduction=reduction), *arrays, **options)
    check(lambda a, b, reduction: le.mse_loss_expr(a, b, None, reduction), F.mse_loss, x, y)
    check(lambda a, b, reduction: le.l1_loss_expr(a, b, None, reduction), F.l1_loss, x, y)
    for beta in (0.0, 0.7):
        check(lambda a, b, reduction: le.smooth_l1_loss_expr(a, b, reduction, beta),  # noqa: B023
              lambda a, b, reduction: F.smooth_l1_loss(a, b, reduction=reduction, beta=beta), x, y)  # noqa: B023
    check(lambda a, b, reduction: le.huber_loss_expr(a, b, None, reduction, 0.6),
          lambda a, b, reduction: F.huber_loss(a, b, reduction=reduction, delta=0.6), x, y)
    check(lambda a, b, reduction: le.binary_cross_entropy_expr(a, b, None, reduction), F.binary_cross_entropy, p, q)
    check(lambda a, b, v, reduction: le.binary_cross_entropy_expr(a, b, v, reduction),
          lambda a, b, v, reduction: F.binary_cross_entropy(a, b, v, reduction=reduction), p, q, w, frozen=[2])
    edges = np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0, 0.0])
    check(lambda a, b, reduction: le.binary_cross_entropy_expr(a, b, None, reduction), F.binary_cross_entropy, *edges,
          least=1e-8)    # PyTorch's smallest divisor is 1e-12 in single precision
    logits = np.array([-200.0, 0.0, 3.0, 200.0]), np.array([0.0, 0.3, 1.0, 0.5]), np.array([1.0, 2.0, 0.5, 3.0])
    check(lambda a, b, v, reduction: le.binary_cross_entropy_with_logits_expr(a, b, None, v, reduction),
          lambda a, b, v, reduction: F.binary_cross_entropy_with_logits(a, b, pos_weight=v, reduction=reduction),
          *logits, frozen=[2])
    check(lambda a, b, reduction: le.binary_cross_entropy_with_logits_expr(a, b, None, None, reduction),
          F.binary_cross_entropy_with_logits, *logits[:2])
    for log_target in (False, True):
        check(lambda a, b, reduction: le.kl_div_expr(a, b, reduction, log_target),  # noqa: B023
              lambda a, b, reduction: F.kl_div(a, b, reduction=reduction, log_target=log_target), np.log(p),  # noqa: B023
              np.log(q) if log_target else q)
    for log_input in (False, True):
        check(lambda a, b, reduction: le.poisson_nll_loss_expr(a, b, log_input, True, 1e-8, reduction),  # noqa: B023
              lambda a, b, reduction: F.poisson_nll_loss(a, b, log_input, True, reduction=reduction), p + 1, 3 * q)  # noqa: B023
    check(lambda a, b, v, reduction: le.gaussian_nll_loss_expr(a, b, v, True, 0.3, reduction),
          lambda a, b, v, reduction: F.gaussian_nll_loss(a, b, v, full=True, eps=0.3, reduction=reduction), x, y, w)
    check(le.soft_margin_loss_expr, F.soft_margin_loss, x, signs, frozen=[1])
    check(lambda a, b, reduction: le.multilabel_soft_margin_loss_expr(a, b, None, reduction), F.multilabel_soft_margin_loss, x,
          (q > 0.5) * 1.0, frozen=[1])
    check(lambda a, b, reduction: le.hinge_embedding_loss_expr(a, b, 0.8, reduction),
          lambda a, b, reduction: F.hinge_embedding_loss(a, b, 0.8, reduction=reduction), x, signs, frozen=[1])


@pytest.mark.parametrize("reduction", RED)
def test_row_losses(reduction: str) -> None:
    """Everything that compares rows."""
    a, b, c = normal(4, 5), normal(4, 5, seed=2), normal(4, 5, seed=3)
    signs = np.array([1.0, -1, -1, 1])
    compare(lambda x, y, t: le.margin_ranking_loss_expr(x, y, t, 0.1, reduction),
            lambda x, y, t: F.margin_ranking_loss(x, y, t.detach(), 0.1, reduction=reduction) + 0 * t.sum(), a[0], b[0],
            np.array([1.0, -1, 1, -1, 1]), gradient=False)
    compare(lambda x, y, t: le.cosine_embedding_loss_expr(x, y, t, 0.05, reduction),
            lambda x, y, t: F.cosine_embedding_loss(x, y, t, 0.05, reduction=reduction), a, b, signs.astype(np.int64))
    for swap in (False, True):
        compare(lambda x, y, z, s=swap: le.triplet_margin_loss_expr(x, y, z, 1.0, 2.0, 1e-6, s, reduction),
                lambda x, y, z, s=swap: F.triplet_margin_loss(x, y, z, swap=s, reduction=reduction), a, b, c)
    weight = abs(normal(5))
    for p in (1, 2):
        compare(lambda x, t, w, p=p: le.multi_margin_loss_expr(x, t, w, p, 0.9, reduction),
                lambda x, t, w, p=p: F.multi_margin_loss(x, t, p, 0.9, w.detach(), reduction=reduction) + 0 * w.sum(), a,
                classes(5, 4), weight, gradient=False)
        compare(lambda x, t, p=p: le.multi_margin_loss_expr(x, t, None, p, 0.9, reduction),
                lambda x, t, p=p: F.multi_margin_loss(x, t, p, 0.9, reduction=reduction), a, classes(5, 4))
    targets = np.array([[3, 0, -1, 1, 2], [-1, 4, 4, 4, 4], [0, 1, 2, 3, 4], [2, -1, 0, 0, -1]])
    compare(lambda x, t: le.multilabel_margin_loss_expr(x, t, reduction),
            lambda x, t: F.multilabel_margin_loss(x, t, reduction=reduction), a, targets)


def test_attention() -> None:
    """Masks of both kinds, causal masking, shared heads; rows that see nothing give zeros."""
    q, k, v = normal(2, 4, 3, 8), normal(2, 4, 5, 8, seed=1), normal(2, 4, 5, 6, seed=2)
    sdpa = F.scaled_dot_product_attention
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        compare(attention_expr, sdpa, q, k, v)
        compare(lambda a, b, c: attention_expr(a, b, c, causal=True, scale=0.3),
                lambda a, b, c: sdpa(a, b, c, is_causal=True, scale=0.3), q, k, v)
        mask = normal(3, 5, seed=4) > 0
        mask[1] = False
        compare(lambda a, b, c, m: attention_expr(a, b, c, m), lambda a, b, c, m: sdpa(a, b, c, m), q, k, v, mask)
        compare(lambda a, b, c, m: attention_expr(a, b, c, m), lambda a, b, c, m: sdpa(a, b, c, m), q, k, v,
                normal(2, 1, 3, 5, seed=5))
        compare(lambda a, b, c: attention_expr(a, b, c, enable_gqa=True),
                lambda a, b, c: sdpa(a, b, c, enable_gqa=True), q, k[:, :2], v[:, :2])
    assert math.isfinite(float(q.sum()))


def test_ctc() -> None:
    """Repeated labels, short inputs, impossible alignments."""
    x = normal(7, 4, 5)
    targets = np.array([[1, 2, 2], [3, 3, 3], [4, 0, 0], [1, 2, 3]])
    lengths, sizes = np.array([7, 5, 6, 2]), np.array([3, 3, 1, 3])
    for zero in (False, True):
        compare(lambda e, t, n, m, z=zero: ctc_loss_expr(apply("log_softmax", e, attr=2), t, n, m, 0, z),
                lambda e, t, n, m, z=zero: F.ctc_loss(e.log_softmax(2), t, n, m, reduction="none", zero_infinity=z), x, targets,
                lengths, sizes, gradient=zero, least=1e-8)
