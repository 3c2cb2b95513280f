"""scaled_dot_product_attention beside PyTorch's: values, gradients, second gradients, in the compiled and the written-out form."""
from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import torsh

torch = pytest.importorskip("torch")
TOLERANCE = {"float64": 1e-11, "float32": 2e-5, "float16": 1e-2, "bfloat16": 6e-2}


def both(shape: tuple[int, ...], dtype: str = "float32", grad: bool = True, view: str = "plain") -> tuple[Any, Any]:
    """The same random tensor, as leaves of PyTorch and of ToRSh, seen through the same view."""
    dims = {"plain": (-1, -1), "heads": (-3, -2), "columns": (-2, -1)}[view]
    stored = list(shape)
    stored[dims[0]], stored[dims[1]] = stored[dims[1]], stored[dims[0]]
    x = torch.randn(*stored, dtype=torch.float64).to(getattr(torch, dtype))
    y = torsh.tensor(x.double().numpy()).to(getattr(torsh, dtype))
    x.requires_grad_(grad), y.requires_grad_(grad)
    return (x, y) if view == "plain" else (x.transpose(*dims), y.transpose(*dims))


def numbers(t: Any) -> np.ndarray:
    """The values of a tensor of either library."""
    return np.asarray(t.detach().double().numpy())


def attend(lib: Any, *args: Any, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lib.nn.functional.scaled_dot_product_attention(*args, **options)


def compare(q: Any, k: Any, v: Any, mask: Any = None, leaves: Any = (), **options: Any) -> None:
    """Values and gradients of one call."""
    pairs = [pair for pair in (q, k, v, mask) if pair is not None]
    theirs, ours = attend(torch, *[p[0] for p in pairs], **options), attend(torsh, *[p[1] for p in pairs], **options)
    limit = TOLERANCE[str(theirs.dtype).split(".")[1]]
    assert tuple(theirs.shape) == tuple(ours.shape) and str(theirs.dtype).split(".")[1] == str(ours.dtype).split(".")[1]
    wanted = [p for p in pairs if p[0].requires_grad]
    if wanted:
        seed = torch.randn(theirs.shape, dtype=torch.float64).to(theirs.dtype)
        mine = torsh.tensor(seed.double().numpy()).to(ours.dtype)
        expected = torch.autograd.grad(theirs, [p[0] for p in wanted], seed, retain_graph=True)
        found = torsh.autograd.grad(ours, [p[1] for p in wanted], mine, retain_graph=True)
        for e, f in zip(expected, found, strict=True):
            assert tuple(e.shape) == tuple(f.shape)
            bound = limit * max(1.0, np.abs(numbers(e)).max())
            np.testing.assert_allclose(numbers(f), numbers(e), 0, bound)
    np.testing.assert_allclose(numbers(ours), numbers(theirs), limit, limit)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_dtypes(dtype: str, causal: bool) -> None:
    torch.manual_seed(0)
    compare(*[both((2, 3, n, d), dtype) for n, d in ((20, 16), (33, 16), (33, 24))], is_causal=causal)


@pytest.mark.parametrize("view", ["plain", "heads", "columns"])
def test_views_and_lengths(view: str) -> None:
    torch.manual_seed(1)
    for queries, keys, size, width in ((8, 8, 1, 1), (70, 9, 5, 3), (64, 200, 40, 64), (130, 130, 64, 64), (3, 50, 8, 8), (40, 100, 8, 8)):
        for causal in (False, True):
            compare(both((2, 2, queries, size), view=view), both((2, 2, keys, size), view=view), both((2, 2, keys, width), view=view),
                    is_causal=causal, scale=0.3)


@pytest.mark.parametrize("shapes", [((5, 20, 8),) * 3, ((20, 8),) * 3, ((2, 1, 20, 8), (3, 20, 8), (1, 1, 20, 4)),
                                    ((1, 20, 8), (2, 3, 20, 8), (3, 20, 8)), ((2, 2, 2, 2, 20, 8),) * 3])
def test_batches(shapes: Any) -> None:
    torch.manual_seed(2)
    compare(*[both(shape) for shape in shapes])


@pytest.mark.parametrize("shape", [(20, 30), (1, 30), (20, 1), (2, 1, 20, 30), (2, 3, 20, 30), (1, 3, 1, 30)])
@pytest.mark.parametrize("kind", ["bool", "float", "learned"])
def test_masks(shape: tuple[int, ...], kind: str) -> None:
    torch.manual_seed(3)
    if kind == "bool":
        x = torch.rand(shape) < 0.6
        x[..., :1, :] = False if shape[-2] > 1 else x[..., :1, :]       # a query that sees nothing
        mask: Any = (x, torsh.tensor(x.numpy()))
    else:
        mask = both(shape, grad=kind == "learned")
    compare(both((2, 3, 20, 8)), both((2, 3, 30, 8)), both((2, 3, 30, 8)), mask)


def test_additive_mask_that_hides_everything() -> None:
    torch.manual_seed(3)
    x = torch.zeros(20, 30)
    x[3] = -float("inf")
    x[5, :29] = -float("inf")
    compare(both((2, 20, 8)), both((2, 30, 8)), both((2, 30, 8)), (x, torsh.tensor(x.numpy())))


@pytest.mark.parametrize("heads", [(8, 2), (6, 1), (4, 4)])
@pytest.mark.parametrize("causal", [False, True])
def test_grouped_queries(heads: tuple[int, int], causal: bool) -> None:
    torch.manual_seed(4)
    compare(both((2, heads[0], 20, 8), view="heads"), both((2, heads[1], 20, 8)), both((2, heads[1], 20, 8), view="heads"),
            is_causal=causal, enable_gqa=True)
    x = torch.rand(2, heads[0], 20, 20) < 0.8
    compare(both((2, heads[0], 20, 8)), both((2, heads[1], 20, 8)), both((2, heads[1], 20, 8)), (x, torsh.tensor(x.numpy())),
            enable_gqa=True)


def test_grouped_queries_are_not_repeated() -> None:
    q, k = torsh.randn(1, 8, 512, 16), torsh.randn(1, 2, 512, 16)
    found = torsh.explain(lambda: torsh.nn.functional.scaled_dot_product_attention(q, k, k, enable_gqa=True)).programs[0]
    assert len(found.kernels) == 1 and found.scratch_bytes == 0


def test_some_gradients_only() -> None:
    torch.manual_seed(5)
    for wanted in range(1, 8):
        compare(*[both((1, 2, 20, 8), grad=bool(wanted >> n & 1)) for n in range(3)], is_causal=True)


@pytest.mark.parametrize("masked", [False, True])
def test_second_gradients(masked: bool) -> None:
    torch.manual_seed(6)
    pairs = [both((1, 2, 12, 4), "float64") for _ in range(3)]
    if masked:
        pairs.append(both((12, 12), "float64", grad=False))

    def second(lib: Any, args: list[Any]) -> list[Any]:
        out = attend(lib, *args, is_causal=not masked)
        first = lib.autograd.grad((out ** 3).sum(), args[:3], create_graph=True)
        total = sum((g ** 2 * n).sum() for n, g in enumerate(first, 1))
        return list(lib.autograd.grad(total, args[:3]))
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):      # the only one with second gradients
        expected = second(torch, [p[0] for p in pairs])
    for e, f in zip(expected, second(torsh, [p[1] for p in pairs]), strict=True):
        np.testing.assert_allclose(numbers(f), numbers(e), 1e-8, 1e-8 * max(1.0, np.abs(numbers(e)).max()))


def test_backward_in_a_later_window() -> None:
    torch.manual_seed(7)
    pairs = [both((2, 64, 16)) for _ in range(3)]
    theirs, ours = attend(torch, *[p[0] for p in pairs], is_causal=True), attend(torsh, *[p[1] for p in pairs], is_causal=True)
    ours.tolist()                           # runs the window
    theirs.square().sum().backward(), ours.square().sum().backward()
    for x, y in pairs:
        np.testing.assert_allclose(numbers(y.grad), numbers(x.grad), 1e-4, 1e-4)


def test_a_later_backward_does_not_run_forward_again() -> None:
    q, k, v = (torsh.randn(2, 64, 16, requires_grad=True) for _ in range(3))

    def step() -> Any:
        out = torsh.nn.functional.scaled_dot_product_attention(q, k, v)
        out.tolist()
        out.backward(torsh.ones(2, 64, 16))
        return q.grad
    names = [kernel.name for program in torsh.explain(step).programs for kernel in program.kernels]
    assert names.count("attention") == 1 and names.count("attention_backward") == 1


def test_no_matrix_of_scores_in_memory() -> None:
    q, k, v = (torsh.randn(1, 1, 4096, 8, requires_grad=True) for _ in range(3))

    def step() -> Any:
        torsh.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True).sum().backward()
        return q.grad, k.grad, v.grad
    total = sum(p.scratch_bytes + p.output_bytes for p in torsh.explain(step).programs)
    assert total < 4096 * 4096 // 4


def test_one_program_for_all_lengths() -> None:
    torch.manual_seed(8)
    for length in (72, 100, 131, 260, 200):
        compare(*[both((1, 2, length, 8)) for _ in range(3)], is_causal=True)


@pytest.mark.parametrize("special", [float("nan"), float("inf"), -float("inf")])
def test_special_values(special: float) -> None:
    torch.manual_seed(9)
    x = torch.randn(1, 16, 8)
    x[0, 3, 2] = special
    v = torch.randn(1, 16, 8)
    for k in (x, x.abs()):
        theirs = attend(torch, k.double(), k.double(), v.double())
        ours = attend(torsh, torsh.tensor(k.numpy()), torsh.tensor(k.numpy()), torsh.tensor(v.numpy()))
        np.testing.assert_allclose(numbers(ours), numbers(theirs), 1e-4, 1e-4)


def test_negative_and_zero_scales() -> None:
    torch.manual_seed(10)
    for scale in (-0.5, 0.0, 1e-6, 30.0):
        compare(*[both((1, 2, 20, 8), "float64") for _ in range(3)], scale=scale)
