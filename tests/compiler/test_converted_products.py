"""Products of matrices read small types as they are in memory, and convert them themselves."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import torsh as torch
import torsh.nn.functional as F
from torsh.backend.cpu.backend import CpuBackend
from torsh.compiler.kernel import Call, TemplateKernel

RNG = np.random.default_rng(5)


def integers(*shape: int, dtype: Any = np.int8) -> Any:
    """Small integers of all values."""
    limits = np.iinfo(dtype)
    return torch.from_numpy(RNG.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True))


def normal(*shape: int) -> Any:
    """Random numbers."""
    return torch.from_numpy(RNG.standard_normal(shape).astype(np.float32))


def steps_of(tensor: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The steps of the program that computes the tensor."""
    plans: list[Any] = []
    original = CpuBackend.compile

    def compile(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = original(self, *args, **kwargs)
        plans.append(found.plan)
        return found
    monkeypatch.setattr(CpuBackend, "compile", compile)
    torch.synchronize()
    assert tensor.shape
    return list(plans[-1].steps)


def options(steps: list[Any]) -> list[Any]:
    """What the products among the steps are specialised for."""
    return [s.kernel.options for s in steps
            if isinstance(s, Call) and isinstance(s.kernel, TemplateKernel) and s.kernel.name == "matmul"]


CASES: dict[str, tuple[Callable[[], Any], tuple[str, str, str], int]] = {
    "weights of bytes": (lambda: F.linear(normal(5, 40), integers(30, 40).to(torch.float32)), ("float32", "float32", "int8"), 1),
    "with scales": (lambda: F.linear(normal(5, 40), integers(30, 40).float()) * normal(30), ("float32", "float32", "int8"), 2),
    "bfloat16 weights": (lambda: normal(4, 5, 20) @ normal(20, 7).bfloat16().float(), ("float32", "float32", "bfloat16"), 2),
    "rows": (lambda: integers(6, 20)[1:5].float() @ normal(20, 7), ("float32", "int8", "float32"), 1),
    "unsigned": (lambda: integers(9, 20, dtype=np.uint8).float() @ normal(20, 7), ("float32", "uint8", "float32"), 1),
    "masks": (lambda: (normal(9, 20) > 0).float() @ normal(20, 7), ("float32", "bool", "float32"), 2),
    "integers": (lambda: integers(9, 20).int() @ integers(20, 7).int(), ("int32", "int8", "int8"), 1),
    "_int_mm": (lambda: torch._int_mm(integers(9, 20), integers(7, 20).t()), ("int32", "int8", "int8"), 1),
}


@pytest.mark.parametrize("name", CASES)
def test_no_converted_copies(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    build, expected, count = CASES[name]
    torch.synchronize()
    steps = steps_of(build(), monkeypatch)
    assert options(steps) == [expected] and len(steps) == count


@pytest.mark.parametrize("name", CASES)
def test_values(name: str) -> None:
    global RNG
    results = []
    for backend in ("cpu", "reference"):
        RNG = np.random.default_rng(6)
        torch.synchronize()
        torch.use_backend(backend)
        try:
            results.append(CASES[name][0]().numpy().astype(np.float64))
        finally:
            torch.use_backend("cpu")
    np.testing.assert_allclose(*results, rtol=1e-4, atol=1e-3)


def test_a_conversion_that_is_needed_elsewhere() -> None:
    w, x = integers(30, 40), normal(5, 40)
    wide = w.float()
    y, z = F.linear(x, wide), wide * 2
    exact = w.numpy().astype(np.float32)
    np.testing.assert_array_equal(wide.numpy(), exact)
    np.testing.assert_array_equal(z.numpy(), exact * 2)
    np.testing.assert_allclose(y.numpy(), x.numpy() @ exact.T, rtol=1e-4, atol=1e-2)


def test_gradients_through_conversions() -> None:
    w, x = integers(30, 40), normal(5, 40).requires_grad_()
    (F.linear(x, w.float()) * 2).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), np.broadcast_to(2 * w.numpy().astype(np.float32).sum(0), (5, 40)), rtol=1e-4)


def test_other_sizes_share_the_kernel() -> None:
    """Programs that differ in sizes only: the third one comes from a template."""
    for n, m, k in [(5, 30, 40), (6, 31, 41), (9, 50, 70), (1, 16, 64), (70, 33, 19)]:
        x, w = normal(n, k), integers(m, k)
        np.testing.assert_allclose(F.linear(x, w.float()).numpy(), x.numpy() @ w.numpy().astype(np.float32).T, rtol=1e-3, atol=1e-2)


def test_products_of_bytes_wrap_around() -> None:
    a, b = integers(9, 20), integers(20, 7)
    exact = a.numpy().astype(np.int64) @ b.numpy().astype(np.int64)
    np.testing.assert_array_equal((a @ b).numpy(), exact.astype(np.int8))
    np.testing.assert_array_equal(torch._int_mm(a, b).numpy(), exact)
