"""Random programs of views and writes of all dtypes, against PyTorch: equal values, dtypes and gradients, whatever is read between."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torsh  # noqa: E402

DTYPES = ["float64", "float64", "complex128", "int64", "int32", "uint8", "bool"]


class Program:
    """The same statements for every library with the same seed; ``reads`` says whether values are read between."""

    def __init__(self, lib: Any, seed: int, reads: bool) -> None:
        self.lib, self.random, self.reads = lib, np.random.default_rng(seed), reads
        self.noise = np.random.default_rng(seed)
        dtype = DTYPES[int(self.random.integers(len(DTYPES)))]
        self.differentiable = dtype in ("float64", "complex128")
        self.leaf = lib.tensor(self.values((4, 2, 6)).tolist(), dtype=getattr(lib, dtype))
        if self.differentiable:
            self.leaf.requires_grad_()
        self.tensors = [self.leaf * 2 if self.differentiable else self.leaf.clone()]

    def values(self, shape: tuple[int, ...]) -> Any:
        """Small whole numbers, not below 0."""
        return self.random.integers(0, 4, shape)

    def pick(self, *choices: Any) -> Any:
        """One of several."""
        return choices[int(self.random.integers(len(choices)))]

    def view(self) -> None:
        """A view of a tensor."""
        t = self.pick(*self.tensors)
        kinds: list[Any] = [lambda: t[..., None], lambda: t.detach()]
        if t.dim():
            d = int(self.random.integers(t.dim()))
            start = int(self.random.integers(t.shape[d] + 1))
            kinds += [lambda: t.transpose(d, -1), lambda: t.narrow(d, start, t.shape[d] - start),
                      lambda: t.select(d, 0) if t.shape[d] else t[..., None],
                      lambda: t[(slice(None),) * d + (slice(None, None, 2),)], lambda: t.unfold(d, min(2, t.shape[d]), 2)]
        if t.dtype.is_complex:
            kinds += [lambda: self.lib.view_as_real(t), lambda: t.real, lambda: t.imag]
        elif not self.differentiable and t.dim() and t.stride(-1) == 1 and t.shape[-1]:
            kinds += [lambda: t.view(self.lib.int8), lambda: t.view(self.lib.uint8)]
        made = self.pick(*kinds)
        if self.pick(True, False, False):
            with self.lib.no_grad():
                made()                      # must not change anything
        self.tensors.append(made())

    def write(self) -> None:
        """A write through a tensor or a view."""
        t, lib = self.pick(*self.tensors), self.lib
        number = self.pick(0, 1, 2)
        other = lib.tensor(self.values(tuple(t.shape)[-1:]).tolist(), dtype=t.dtype)
        mask = lib.tensor((self.values(tuple(t.shape)) > 1).tolist(), dtype=lib.bool).reshape(t.shape)
        writes: list[Any] = [lambda: t.fill_(number), lambda: t.copy_(other), lambda: t.masked_fill_(mask, number),
                             lambda: t.__setitem__(Ellipsis, number), lambda: t.__setitem__(mask, number)]
        if t.dtype is not lib.bool:
            writes += [lambda: t.add_(other), lambda: t.mul_(number), lambda: t.__setitem__(Ellipsis, t * 2)]
        if t.dim() and t.shape[0]:
            index = lib.tensor(self.random.integers(0, t.shape[0], 3).tolist())
            writes += [lambda: t.index_fill_(0, index, number),
                       lambda: t.index_put_((index,), lib.ones((), dtype=t.dtype), accumulate=t.dtype is not lib.bool)]
        self.pick(*writes)()

    def read(self) -> None:
        """A read of a value, which must not change anything."""
        if self.reads and self.noise.integers(3) == 0:
            t = self.tensors[int(self.noise.integers(len(self.tensors)))]
            t.detach().clone().tolist()
            repr(t)

    def run(self) -> list[Any]:
        """Values and gradient in the end."""
        for _ in range(14):
            self.pick(self.view, self.write)()
            self.read()
        found: list[Any] = [(str(t.dtype).split(".")[1], t.requires_grad, t.detach().tolist()) for t in self.tensors]
        if self.differentiable:
            total = sum((self.lib.view_as_real(t) if t.dtype.is_complex else t).sum() * k for k, t in enumerate(self.tensors, 1))
            found.append(self.lib.autograd.grad(total, self.leaf)[0].tolist())
        return found


@pytest.mark.parametrize("seed", range(60))
def test_programs(seed: int) -> None:
    """Equal results, with and without reads."""
    want = Program(torch, seed, False).run()
    assert Program(torsh, seed, False).run() == want
    assert Program(torsh, seed, True).run() == want


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("text", ["x * 1e5", "1e5 * x", "x / 0.3001", "x // 0.3001", "x * t.tensor(1e5)",
                                  "t.addcmul(x, x, x, value=0.3001)",
                                  "t.div(x, 0.3001, rounding_mode='trunc')", "t.addcdiv(x, x, x, value=0.3001)", "x.clone().mul_(3.7)",
                                  "t.round(x * 3, decimals=1)"])
def test_numbers_beside_half_precision(dtype: str, text: str) -> None:
    """Numbers are not rounded before they scale 16-bit tensors."""
    values = np.random.default_rng(0).standard_normal(500).tolist()
    theirs, ours = (eval(text, {"t": lib, "x": lib.tensor(values, dtype=getattr(lib, dtype))}) for lib in (torch, torsh))
    assert str(ours.dtype).split(".")[1] == str(theirs.dtype).split(".")[1]
    np.testing.assert_array_equal(ours.float().numpy(), theirs.float().numpy())


INDICES = ["t.tensor(1), slice(None), t.tensor([0, 1])", "[0], slice(None), t.tensor(1)", "None, t.tensor(0), Ellipsis, [1, 0]",
           "[[0, 1], [1, 0]]", "[slice(0, 1)]", "t.tensor(True)", "slice(None), t.tensor([True, False, True]), t.tensor(-1)"]


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")
@pytest.mark.parametrize("text", INDICES)
def test_indices(text: str) -> None:
    """Equal elements and results of writes."""
    found = []
    for lib in (torch, torsh):
        index = eval(text, {"t": lib})
        x = lib.arange(24.0).reshape(2, 3, 4)
        part = x[index].tolist()
        x[index] = -1.0
        found.append((part, x.tolist()))
    assert found[0] == found[1]
