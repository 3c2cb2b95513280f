"""Autocast against PyTorch: dtypes of results, values, gradients, warnings and errors."""
from __future__ import annotations

import numpy as np
import pytest

import torsh

torch = pytest.importorskip("torch")


def tensors(t):
    rng = np.random.default_rng(0)
    make = lambda *shape: t.from_numpy(rng.standard_normal(shape).astype("float32"))  # noqa: E731
    return make(4, 6), make(5, 6), make(5), make(2, 3, 8, 8), make(4, 3, 3, 3), t.tensor([0, 1, 2, 3])


CASES = {
    "linear": lambda t, x, w, b, im, k, y: t.nn.functional.linear(x, w, b),
    "matmul": lambda t, x, w, b, im, k, y: x @ w.t(),
    "mm": lambda t, x, w, b, im, k, y: t.mm(x, w.t()),
    "mixed": lambda t, x, w, b, im, k, y: t.matmul(x.bfloat16(), w.t()),
    "addmm": lambda t, x, w, b, im, k, y: t.addmm(b, x, w.t()),
    "bmm": lambda t, x, w, b, im, k, y: t.bmm(x[None], w.t()[None]),
    "baddbmm": lambda t, x, w, b, im, k, y: t.baddbmm(b, x[None], w.t()[None]),
    "addbmm": lambda t, x, w, b, im, k, y: t.addbmm(b, x[None], w.t()[None]),
    "einsum": lambda t, x, w, b, im, k, y: t.einsum("ij,kj->ik", x, w),
    "conv2d": lambda t, x, w, b, im, k, y: t.nn.functional.conv2d(im, k),
    "attention": lambda t, x, w, b, im, k, y: t.nn.functional.scaled_dot_product_attention(x[None], x[None], x[None]),
    "add": lambda t, x, w, b, im, k, y: x + 1,
    "exp": lambda t, x, w, b, im, k, y: t.exp(x @ w.t()),
    "softmax": lambda t, x, w, b, im, k, y: t.softmax(x @ w.t(), -1),
    "cat": lambda t, x, w, b, im, k, y: t.cat([x @ w.t(), x[:, :5]]),
    "stack": lambda t, x, w, b, im, k, y: t.stack([x @ w.t(), x @ w.t()]),
    "cross_entropy": lambda t, x, w, b, im, k, y: t.nn.functional.cross_entropy(x @ w.t(), y),
    "mse_loss": lambda t, x, w, b, im, k, y: t.nn.functional.mse_loss(x @ w.t(), x[:, :5]),
    "smooth_l1_loss": lambda t, x, w, b, im, k, y: t.nn.functional.smooth_l1_loss(x @ w.t(), (x @ w.t()) * 2),
    "prod": lambda t, x, w, b, im, k, y: (x @ w.t()).prod(),
    "double": lambda t, x, w, b, im, k, y: x.double() @ w.t().double(),
    "layer_norm": lambda t, x, w, b, im, k, y: t.nn.functional.layer_norm(x @ w.t(), (5,)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_results(name, dtype):
    found = []
    for t in (torsh, torch):
        with t.autocast("cpu", dtype=getattr(t, dtype)):
            found.append(CASES[name](t, *tensors(t)))
    ours, theirs = found
    assert str(ours.dtype).split(".")[1] == str(theirs.dtype).split(".")[1]
    np.testing.assert_allclose(ours.double().numpy(), theirs.double().numpy(), rtol=2e-2, atol=2e-2)


def test_gradients_have_the_dtypes_of_leaves():
    grads = []
    for t in (torsh, torch):
        x, w, b, _, _, y = tensors(t)
        w.requires_grad_(), b.requires_grad_()
        with t.autocast("cpu"):
            hidden = t.nn.functional.linear(x, w, b)
            with t.no_grad():
                assert t.nn.functional.linear(x, w, b).dtype is t.bfloat16
            loss = t.nn.functional.cross_entropy(hidden, y)
            assert hidden.dtype is t.bfloat16 and loss.dtype is t.float32
        loss.backward()
        assert w.grad.dtype is t.float32
        grads.append((w.grad.numpy(), b.grad.numpy()))
    for ours, theirs in zip(*grads, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=3e-2, atol=3e-3)
