"""Functions of tensors that move, collect and reduce elements, against PyTorch: values, gradients and errors."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402

import torsh  # noqa: E402

Call = Callable[..., Any]
pytestmark = pytest.mark.filterwarnings("ignore:index_reduce")


@pytest.fixture(autouse=True)
def on_reference_backend() -> Iterator[None]:
    """What is recorded is compared, not how it is compiled."""
    from torsh.graph.window import backend
    before = backend().name
    torsh.use_backend("reference")
    yield
    torsh.use_backend(before)


def normal(*shape: int, seed: int = 0) -> Any:
    """Random numbers."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


INDEX = np.array([[0, 2, 1], [1, 1, 0]])
CASES: dict[str, tuple[Call, list[Any]]] = {
    **{f"scatter_reduce {r} {s}": (lambda t, x, y, i, r=r, s=s: x.scatter_reduce(0, i, y, r, include_self=s),
                                   [normal(3, 3), normal(2, 3, seed=1), INDEX])
       for r in ("sum", "prod", "mean", "amax", "amin") for s in (True, False)},
    **{f"index_reduce {r}": (lambda t, x, y, i, r=r: x.index_reduce(1, i, y, r), [normal(2, 4), normal(2, 3, seed=1), np.array([3, 0, 3])])
       for r in ("prod", "mean", "amax", "amin")},
    "index_fill": (lambda t, x, v, i: x.index_fill(1, i, v), [normal(2, 4), normal(), np.array([0, 2, 0])]),
    "take_along_dim": (lambda t, x, i: t.take_along_dim(x, i, 1), [normal(2, 4), np.array([[-1], [2]])]),
    "gather empty": (lambda t, x, i: t.gather(x, 0, i), [normal(3), np.zeros((0,), np.int64)]),
    "roll": (lambda t, x: x.roll((1, -2), (0, 1)), [normal(3, 4)]),
    "roll flat": (lambda t, x: x.roll(2), [normal(3, 4)]),
    "flip": (lambda t, x: t.flip(x, dims=(0, -1)), [normal(3, 4)]),
    "rot90": (lambda t, x: x.rot90(1, (0, 1)), [normal(3, 4)]),
    "repeat": (lambda t, x: x.repeat(2, 1, 3), [normal(3, 2)]),
    "unfold_copy": (lambda t, x: t.unfold_copy(x, 0, 2, 1), [normal(4)]),
    "split_copy": (lambda t, x: t.split_copy(x, 2)[1], [normal(5)]),
    "meshgrid": (lambda t, x, y: t.meshgrid(x, y, indexing="xy")[0], [normal(3), normal(2)]),
    "combinations": (lambda t, x: t.combinations(x, 3), [normal(5)]),
    "vander": (lambda t, x: t.vander(x.detach(), 4), [normal(3)]),
    "constant_pad_nd": (lambda t, x: t.constant_pad_nd(x, (1, -1, 0, 2), 3.5), [normal(3, 4)]),
    "sum_to_size": (lambda t, x: x.sum_to_size(1, 4), [normal(2, 3, 4)]),
    "cdist": (lambda t, x, y: t.cdist(x, y), [normal(3, 4), normal(2, 4)]),
    "cdist 1": (lambda t, x, y: t.cdist(x, y, 1.0), [normal(2, 3, 4), normal(2, 2, 4)]),
    "cov": (lambda t, x, w: t.cov(x, aweights=w.detach().abs()), [normal(3, 5), normal(5)]),
    "corrcoef": (lambda t, x: t.corrcoef(x), [normal(3, 5)]),
    "histogram": (lambda t, x: t.histogram(x.detach(), 4, range=(-1.0, 1.0)).hist, [normal(20)]),
    "histogramdd": (lambda t, x: t.histogramdd(x.detach(), [2, 3])[0], [normal(20, 2)]),
    "gradient": (lambda t, x: t.gradient(x, spacing=0.5, edge_order=2)[1], [normal(4, 5)]),
    "gradient coordinates": (lambda t, x, c: t.gradient(x, spacing=(c.detach().cumsum(0),), dim=1)[0], [normal(4, 5), np.arange(1.0, 6)]),
    "diff": (lambda t, x, y: t.diff(x, 2, 1, y), [normal(2, 4), normal(2, 1)]),
    "frexp": (lambda t, x: t.frexp(x).mantissa, [normal(6) * 1e10]),
    "clamp_min": (lambda t, x: x.clamp_min(0.2), [normal(6)]),
    "fill": (lambda t, x, v: t.fill(x, v), [normal(3), normal()]),
    "logsumexp": (lambda t, x: t.logsumexp(t.complex(x, x), 0).real, [normal(3, 2)]),
    "renorm": (lambda t, x: x.renorm(2, 0, 1.0), [normal(3, 4)]),
    "addbmm": (lambda t, x, a, b: t.addbmm(x, a, b, beta=0.5, alpha=2), [normal(3, 2), normal(4, 3, 5), normal(4, 5, 2)]),
    "quantile": (lambda t, x: t.quantile(x, 0.3), [normal(7)]),
    "unique_consecutive": (lambda t, x: t.unique_consecutive(x, dim=0), [np.array([[1, 1], [1, 1], [2, 1]])]),
    "unravel_index": (lambda t, i: t.unravel_index(i, (3, 4))[1], [np.array([5, 11])]),
}


@pytest.mark.parametrize("name", CASES)
def test_parity(name: str) -> None:
    """Equal results and gradients."""
    call, arrays = CASES[name]
    results = []
    for t in (torsh, torch):
        tensors = [t.tensor(a, requires_grad=True) if a.dtype.kind == "f" else t.tensor(a) for a in map(np.asarray, arrays)]
        out = call(t, *tensors)
        grads = []
        if out.requires_grad:
            (out * t.tensor(normal(*out.shape, seed=9))).sum().backward()
            grads = [np.zeros(x.shape) if x.grad is None else x.grad.numpy() for x in tensors if x.requires_grad]
        results.append([out.detach().numpy(), *grads])
    for mine, theirs in zip(*results, strict=True):
        assert mine.dtype == theirs.dtype and mine.shape == theirs.shape
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-10)


ERRORS: list[Call] = [
    lambda t: t.atan2(t.ones(2), 1), lambda t: t.maximum(1, t.ones(2)), lambda t: t.eq(1, t.ones(2)), lambda t: t.pow(2, 3),
    lambda t: t.bitwise_and(1, 2), lambda t: t.logical_or(t.ones(2), True), lambda t: t.cat([]), lambda t: t.stack([]),
    lambda t: t.roll(t.tensor(1.0), 1, 0), lambda t: t.rot90(t.ones(3)), lambda t: t.linspace(0, 1, 2.5),
    lambda t: t.isclose(t.ones(2), t.ones(2), rtol=-1.0), lambda t: t.ones(3).scatter_reduce(0, t.tensor([0]), t.ones(1), "other"),
    lambda t: t.ones(3).index_reduce(0, t.tensor([0]), t.ones(1), "sum"), lambda t: t.combinations(t.ones(2, 2)),
    lambda t: t.constant_pad_nd(t.ones(3), (1,)), lambda t: t.constant_pad_nd(t.ones(3), (-2, -2)),
    lambda t: t.ones(2, 3).sum_to_size(2, 2), lambda t: t.cdist(t.ones(2, 3), t.ones(2, 4)),
    lambda t: t.cov(t.ones(2, 3), fweights=t.ones(3)), lambda t: t.histogram(t.ones(3), 0),
    lambda t: t.gradient(t.ones(3), edge_order=3), lambda t: t.empty_permuted((2, 3), (0, 0)),
    lambda t: t.gather(t.ones(2), 0, t.tensor([0]), out=t.ones(1, dtype=t.float64)),
    lambda t: t.add(t.ones(3), 1, out=t.ones(1).expand(3)), lambda t: (lambda x: t.cat([x, x], out=x))(t.ones(2)),
    lambda t: t.ones(2, dtype=t.int64).mean(), lambda t: t.logcumsumexp(t.ones(2, dtype=t.int64), 0),
    lambda t: t.nonzero_static(t.ones(2), size=-1), lambda t: t.vander(t.ones(2, 2)), lambda t: t.polar(1, t.ones(2)),
]


@pytest.mark.parametrize("number", range(len(ERRORS)))
def test_errors(number: int) -> None:
    """Bad arguments raise what they raise in PyTorch, with a text."""
    with pytest.raises(Exception) as theirs:  # noqa: B017
        ERRORS[number](torch)
    with pytest.raises(Exception) as mine:  # noqa: B017
        ERRORS[number](torsh)
    wanted = next(t for t in theirs.type.__mro__ if t.__module__ == "builtins")
    assert isinstance(mine.value, wanted), f"{mine.value!r} instead of {theirs.value!r}"
    assert str(mine.value)


def test_resize() -> None:
    """resize_ keeps the elements in memory order, of views too, and grows."""
    for t in (torsh, torch):
        x = t.arange(6.0)
        x.resize_(2, 2)
        assert x.tolist() == [[0, 1], [2, 3]]
        y = t.arange(4.0)
        y.resize_(2, 3)
        assert y.shape == (2, 3) and y.reshape(-1)[:4].tolist() == [0, 1, 2, 3]


def test_fill_of_overlapping_memory() -> None:
    """fill_ may write to expanded tensors, other in-place functions may not."""
    base = torsh.zeros(1, 3)
    base.expand(2, 3).fill_(4.0)
    assert base.tolist() == [[4.0, 4.0, 4.0]]
    with pytest.raises(RuntimeError, match="single memory location"):
        base.expand(2, 3).add_(1.0)


def test_argument_used_twice() -> None:
    """A composite operation gives an argument that it takes twice its gradient once."""
    array = normal(1, 3, 4)
    grads = []
    for t in (torsh, torch):
        q = t.tensor(array, requires_grad=True)
        t.nn.functional.scaled_dot_product_attention(q, q, q).square().sum().backward()
        grads.append(q.grad.numpy())
    np.testing.assert_allclose(*grads, rtol=1e-9, atol=1e-10)
