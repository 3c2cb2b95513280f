"""First and second derivatives of contractions, convolutions, normalisations, pooling, indexing, losses: float64 differences."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from expression_harness import check_gradient, decomposed, op

from torsh.ops.attention import attention_expr
from torsh.ops.common import apply
from torsh.ops.contraction import einsum_expr, linear_expr, matmul_expr
from torsh.ops.convolution import convolution_expr
from torsh.ops.indexing import embedding_expr, gather, index, index_put, scatter
from torsh.ops.interpolation import interpolate_expr
from torsh.ops.loss import cross_entropy_expr, nll_loss_expr
from torsh.ops.loss_elementwise import binary_cross_entropy_expr
from torsh.ops.normalization import batch_norm_expr, group_norm_expr, layer_norm_expr, rms_norm_expr
from torsh.ops.pooling import avg_pool_expr, max_pool_expr


def numbers(*shape: int, seed: int = 0) -> Any:
    """Random numbers."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


X = numbers(1, 2, 4, 4)
ROWS = np.array([[0, 2], [1, 0]])
CASES: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "matmul": (matmul_expr, (numbers(2, 2, 3), numbers(3, 2))),
    "linear": (linear_expr, (numbers(2, 3), numbers(2, 3), numbers(2))),
    "einsum": (lambda a, b: einsum_expr("bij,bjk->bk", (a, b)), (numbers(2, 2, 3), numbers(2, 3, 2))),
    "softmax": (lambda a: apply("softmax", a, attr=1), (numbers(2, 3),)),
    "safe_softmax": (lambda a: apply("safe_softmax", a, attr=1), (numbers(2, 3),)),
    "log_softmax": (lambda a: apply("log_softmax", a, attr=0), (numbers(2, 3),)),
    "layer_norm": (lambda x, w, b: layer_norm_expr(x, (3,), w, b, 1e-3), (numbers(2, 3), numbers(3), numbers(3))),
    "rms_norm": (lambda x, w: rms_norm_expr(x, (3,), w, 1e-3), (numbers(2, 3), numbers(3))),
    "group_norm": (lambda x, w, b: group_norm_expr(x, 1, w, b, 1e-3), (numbers(2, 2, 2), numbers(2), numbers(2))),
    "batch_norm": (lambda x, w, b: batch_norm_expr(x, w, b, 1e-3), (numbers(3, 2), numbers(2), numbers(2))),
    "convolution": (lambda x, w, b: convolution_expr(x, w, b, (2, 1), (1, 0), (1, 2)), (X, numbers(2, 2, 2, 2), numbers(2))),
    "depthwise": (lambda x, w: convolution_expr(x, w, None, (1, 1), (1, 1), (1, 1), 2), (X, numbers(2, 1, 2, 2))),
    "transposed": (lambda x, w: convolution_expr(x, w, None, (2, 1), (1, 0), (1, 1), 1, True, (1, 0)),
                   (numbers(1, 2, 2, 2), numbers(2, 1, 3, 2))),
    "max_pool": (lambda x: max_pool_expr(x, (3, 3), (2, 2), (1, 1), (1, 1))[0], (X,)),
    "max_pool tiles": (lambda x: max_pool_expr(x, (2, 2), (2, 2), (0, 0), (1, 1))[0], (X,)),
    "avg_pool": (lambda x: avg_pool_expr(x, (3, 2), (2, 2), (1, 0), True, False), (X,)),
    "index": (lambda a, i: index(a, (i,), (1,)), (numbers(2, 3), ROWS)),
    "index_put": (lambda a, v, i: index_put(a, v, (i,), (1,), False), (numbers(2, 3), numbers(2, 2), np.array([0, 2]))),
    "gather": (lambda a, i: gather(a, i, 1), (numbers(2, 3), ROWS)),
    "scatter mul": (lambda a, s, i: scatter(a, i, s, 1, "mul"), (numbers(2, 3), numbers(2, 2), ROWS * 0 + 1)),
    "scatter amax": (lambda a, s, i: scatter(a, i, s, 1, "amax"), (numbers(2, 3), numbers(2, 2), ROWS)),
    "embedding": (lambda w, i: embedding_expr(w, i), (numbers(3, 2), ROWS)),
    "cumsum": (lambda a: apply("cumsum", a, attr=1), (numbers(2, 3),)),
    "cumprod": (lambda a: apply("cumprod", a, attr=1), (numbers(2, 3) + 2,)),
    "logcumsumexp": (lambda a: apply("logcumsumexp", a, attr=1), (numbers(2, 3),)),
    "nll_loss": (lambda x, t: nll_loss_expr(x, t, None, -100, "mean"), (numbers(2, 3), np.array([2, 0]))),
    "cross_entropy": (lambda x, t: cross_entropy_expr(x, t, None, -100, "mean", 0.1), (numbers(2, 3), np.array([2, 0]))),
    "bce": (lambda x, y: binary_cross_entropy_expr(x, y, None, "mean"), (np.array([0.3, 0.8]), np.array([0.4, 0.9]))),
    "attention": (lambda q, k, v: attention_expr(q, k, v, causal=True), (numbers(2, 2), numbers(2, 2), numbers(2, 2, seed=1))),
    "attention in blocks": (lambda q, k, v: attention_expr(q, k, v), (numbers(8, 2), numbers(9, 2), numbers(9, 3, seed=1))),
    "grouped attention": (lambda q, k, v: attention_expr(q, k, v, causal=True, enable_gqa=True), (
        numbers(2, 8, 2), numbers(1, 8, 2), numbers(1, 8, 1, seed=1))),
    "interpolate": (lambda x: interpolate_expr(x, "bicubic", (3, 5)), (numbers(1, 1, 2, 3),))}
FIRST_ONLY = {"bce"}   # the gradient's divisor is bounded, and a target's second derivatives are not


@pytest.mark.parametrize("name", sorted(CASES))
def test_gradient(name: str) -> None:
    """Gradients, and gradients of gradients."""
    function, arrays = CASES[name]
    check_gradient(function, *arrays, order=1 if name in FIRST_ONLY else 2, tolerance=2e-4)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_halves_through_decompositions(dtype: str) -> None:
    """What a composite op gives by its decomposition is what its reference gives, in its dtype."""
    x = (numbers(3, 4, 6) * 3).astype(dtype)
    for name, attr in (("softmax", 1), ("log_softmax", 2), ("safe_softmax", 2)):
        a, b = op(name, x, attr=attr), decomposed(name, x, attr=attr)
        assert a.dtype == b.dtype == x.dtype
        np.testing.assert_allclose(a.astype(float), b.astype(float), rtol=2e-3 if dtype == "float16" else 1e-6, atol=1e-4)


def test_known_values() -> None:
    """A few results that can be checked by hand."""
    np.testing.assert_array_equal(op("matmul", np.array([[1, 2]]), np.array([[3], [4]])), [[11]])
    np.testing.assert_array_equal(op("gather", np.array([[1, 2], [3, 4]]), np.array([[1, 1]]), attr=0), [[3, 4]])
    np.testing.assert_array_equal(op("scatter", np.zeros(3), np.array([0, 0, 2]), np.array([1.0, 2, 3]), attr=(0, "add")),
                                  [3, 0, 3])
    np.testing.assert_array_equal(op("index", np.arange(6).reshape(2, 3), np.array([-1]), attr=(1,)), [[2], [5]])
    np.testing.assert_array_equal(op("argsort", np.array([2.0, np.nan, 1]), attr=(0, True, True)), [1, 0, 2])
    np.testing.assert_allclose(op("softmax", np.array([0.0, np.log(3)]), attr=0), [0.25, 0.75])
