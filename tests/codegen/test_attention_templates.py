"""The attention templates beside their NumPy references: any sizes, strides and masks, in memory with guarded ends."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from template_harness import ARM, StandInTarget, compiled, guard, guarded, host_targets, images_of, ref, run, strides

from torsh.compiler.attention import attention_call
from torsh.compiler.kernel import BufferRef, Call, TemplateKernel
from torsh.compiler.steps import Step
from torsh.core.dtype import dtype_by_name, from_numpy_dtype
from torsh.ops.attention_blockwise import BLOCKWISE_ATTENTION, BLOCKWISE_ATTENTION_BACKWARD, Blockwise
from torsh.ops.expr import Expr, emit, leaf

TARGETS = pytest.mark.parametrize("target", host_targets(), ids=lambda t: str(t.width))
TOLERANCE = {"float64": 1e-12, "float32": 2e-5, "float16": 4e-3, "bfloat16": 3e-2}


class Placed:
    """Operands and results of a call as arrays of the harness."""

    def __init__(self, operands: dict[Expr, np.ndarray], results: dict[Expr, np.ndarray]) -> None:
        self.arrays = [*results.values(), *operands.values()]
        self.places = {e: n for n, e in enumerate([*results, *operands])}
        self.operands = operands

    def operand(self, e: Expr) -> tuple[BufferRef, tuple[int, ...]]:
        return ref(self.places[e]), strides(self.operands[e])

    def result(self, e: Expr) -> BufferRef:
        return ref(self.places[e])


def call_of(exprs: list[Expr], arrays: list[np.ndarray], results: list[np.ndarray]) -> tuple[Call, list[np.ndarray]]:
    """The call that computes expressions of one computation."""
    step = Step(0, exprs[0])
    step.siblings = exprs[1:]
    placed = Placed(dict(zip(exprs[0].args, arrays, strict=True)), dict(zip(exprs, results, strict=True)))
    return attention_call(step, placed), placed.arrays


def some(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any, layout: str) -> np.ndarray:
    """Random numbers behind which memory may not be touched; "heads": dimensions -3 and -2 exchanged in memory."""
    if dtype is bool:
        return guard(rng.random(shape) < 0.7)
    values = rng.standard_normal(shape).astype(dtype)
    if layout == "heads" and len(shape) > 2:
        return guard(values.swapaxes(-3, -2)).swapaxes(-3, -2)
    if layout == "columns":
        return guard(values.swapaxes(-1, -2)).swapaxes(-1, -2)
    if layout == "steps":
        return guard(np.repeat(values, 2, -1))[..., ::2]
    if layout == "front":
        return guard(values, at_end=False)
    if layout == "once":
        return np.broadcast_to(guard(values[..., :1, :]), shape)
    return guard(values)


def check(rng: np.random.Generator, target: StandInTarget, dtype_name: str, lead: tuple[int, ...], queries: int, keys: int,
          size: int, width: int, mask: Any = None, causal: bool = False, chunks: int = 1,
          share: int | None = None, dropout: bool = False) -> None:
    """Forward and backward of one random case."""
    dtype = dtype_by_name(dtype_name)
    layouts = ["plain", "heads", "columns", "steps", "front", "once"]

    def layout() -> str:
        return str(rng.choice(layouts))
    wide = np.float64 if dtype_name == "float64" else np.float32
    arrays = [some(rng, (*lead, n, d), dtype.numpy, layout()) for n, d in ((queries, size), (keys, size), (keys, width))]
    if mask is not None:
        shape = (*[1 if rng.random() < 0.3 else n for n in lead], queries, keys)
        masks = some(rng, shape, bool if mask == "bool" else dtype.numpy, layout())
        if rng.random() < 0.3 and mask == "bool":
            masks[..., 0, :] = False
        arrays.append(np.broadcast_to(masks[..., :1, :], shape) if rng.random() < 0.3 else masks)
    if dropout:
        arrays += [guard(np.array(x)) for x in (0.3, int(rng.integers(1 << 60)), int(rng.integers(1 << 40)))]
    attr = Blockwise("out", causal, size ** -0.5, mask is not None, dropout, chunks)
    args = tuple(leaf(n, a.shape, from_numpy_dtype(a.dtype), False) for n, a in enumerate(arrays))
    exprs = [emit(BLOCKWISE_ATTENTION, args, attr._replace(result=name, chunks=1)) for name in ("out", "logsumexp")]
    call, placed = call_of(exprs, arrays, [guarded(e.shape, e.dtype.numpy) for e in exprs])
    run(call, placed, target, share)
    expected = [BLOCKWISE_ATTENTION.reference(e.attr, *arrays) for e in exprs]  # type: ignore[misc]
    for got, want in zip(placed, expected, strict=False):
        np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), TOLERANCE[dtype_name], TOLERANCE[dtype_name])
    g = some(rng, expected[0].shape, dtype.numpy, layout())
    delta = (g.astype(wide) * expected[0].astype(wide)).sum(-1)
    arrays += [guard(expected[1]), guard(delta), g]
    args += tuple(leaf(n, a.shape, from_numpy_dtype(a.dtype), False) for n, a in enumerate(arrays) if n >= len(args))
    names = [name for name in ("value", "query", "key") if rng.random() < 0.8] or ["key"]
    exprs = [emit(BLOCKWISE_ATTENTION_BACKWARD, args, attr._replace(result=name)) for name in names]
    call, placed = call_of(exprs, arrays, [guarded(e.shape, e.dtype.numpy) for e in exprs])
    run(call, placed, target, share)
    for e, got in zip(exprs, placed, strict=False):
        want = BLOCKWISE_ATTENTION_BACKWARD.reference(e.attr, *arrays)  # type: ignore[misc]
        if e.attr.result == "query":  # type: ignore[attr-defined]
            got, want = got.sum(0), want.sum(0)
        bound = TOLERANCE[dtype_name] * max(1, np.abs(want).max())
        np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), 0, bound)


@TARGETS
def test_random_sizes_and_layouts(target: StandInTarget) -> None:
    rng = np.random.default_rng(1)
    for _ in range(25):
        queries, keys = (int(n) for n in rng.integers(1, 80, 2))
        size, width = (int(n) for n in rng.integers(1, 70, 2))
        mask = rng.choice([None, None, "bool", "float"])
        causal = bool(mask is None and rng.random() < 0.6)
        check(rng, target, "float32", (int(rng.integers(1, 3)), 2), queries, keys, size, width, mask, causal,
              share=int(rng.integers(1, 4)), dropout=bool(rng.random() < 0.4))


@TARGETS
@pytest.mark.parametrize("causal", [False, True])
def test_several_blocks_and_chunks(target: StandInTarget, causal: bool) -> None:
    rng = np.random.default_rng(2)
    for queries, keys, size, width, chunks in ((300, 300, 64, 64, 2), (530, 290, 32, 20, 1), (70, 700, 24, 64, 3), (129, 40, 16, 8, 4)):
        check(rng, target, "float32", (1,), queries, keys, size, width, None, causal, chunks, share=1)


@TARGETS
@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_other_dtypes(target: StandInTarget, dtype: str) -> None:
    rng = np.random.default_rng(3)
    for mask, causal in ((None, True), ("bool", False), ("float", False)):
        check(rng, target, dtype, (2,), 45, 50, 20, 33, mask, causal, dropout=mask is None)


@pytest.mark.parametrize(("dtype", "size"), [("float32", 512), ("float32", 300), ("float64", 256), ("bfloat16", 512)])
def test_long_vectors(dtype: str, size: int) -> None:
    check(np.random.default_rng(4), host_targets()[0], dtype, (1,), 70, 90, size, size - 1, None, True)


def test_units_do_not_depend_on_how_they_are_shared() -> None:
    rng = np.random.default_rng(5)
    arrays = [guard(rng.standard_normal((3, 300, 16)).astype(np.float32)) for _ in range(3)]
    args = tuple(leaf(n, a.shape, from_numpy_dtype(a.dtype), False) for n, a in enumerate(arrays))
    e = emit(BLOCKWISE_ATTENTION, args, Blockwise("out", True, 0.25, False))
    found = []
    for share in (1, 2, None):
        call, placed = call_of([e], arrays, [guarded(e.shape, np.float32)])
        assert call.units > 3
        run(call, placed, share=share)
        found.append(placed[0].copy())
    assert all((x == found[0]).all() for x in found)


@pytest.mark.parametrize("name", ["attention", "attention_backward"])
@pytest.mark.parametrize("mask", ["none", "bool", "float"])
def test_compiles_for_arm(name: str, mask: str) -> None:
    assert all(images_of(TemplateKernel(name, ("float32", mask, mask == "bool")), ARM))


def test_without_wide_vectors() -> None:
    widest = host_targets()[0]
    if not widest.triple.startswith("x86"):
        pytest.skip("needs an x86 machine")
    narrow = StandInTarget("x86-64", "+sse2", widest.triple, 16, False)
    compiled(TemplateKernel("attention", ("float32", "none", False)), narrow)
    check(np.random.default_rng(6), narrow, "float32", (2,), 37, 41, 10, 9, None, True)
