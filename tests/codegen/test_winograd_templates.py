"""Winograd's templates against NumPy, on all targets that the machine can run, in guarded memory."""
from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from template_harness import StandInTarget, guard, guarded, host_targets, ref, run, strides  # noqa: E402

from torsh.compiler import winograd  # noqa: E402
from torsh.compiler.convolution import Windows  # noqa: E402
from torsh.ops import convolution_primitives as primitives  # noqa: E402

each_target = pytest.mark.parametrize("target", host_targets(), ids=lambda target: target.cpu)
LAYOUTS = ("plain", "turned", "channels last", "spread")


def laid_out(rng: np.random.Generator, shape: tuple[int, ...], layout: str) -> np.ndarray:
    """Random numbers of a shape (groups, rows, channels, 3, 3) in guarded memory, laid out in one way or another."""
    order = {"plain": (0, 1, 2, 3, 4), "turned": (0, 2, 1, 3, 4), "channels last": (0, 1, 3, 4, 2), "spread": (0, 3, 1, 4, 2)}[layout]
    array = guard(rng.standard_normal([shape[d] for d in order]).astype(np.float32), bool(rng.random() < 0.5))
    return array.transpose(np.argsort(order))


def transformed(w: np.ndarray, backwards: bool, target: StandInTarget, share: int | None = None) -> np.ndarray:
    groups, rows, channels = w.shape[:3]
    u = guarded((groups, 16, -(-rows // primitives.PANEL_ROWS), channels, primitives.PANEL_ROWS), np.float32)
    run(winograd.winograd_weights(ref(0), ref(1), strides(w), groups, rows, channels, backwards), [u, w], target, share)
    return u


@each_target
@pytest.mark.parametrize("layout", LAYOUTS)
def test_transformed_weights(target: StandInTarget, layout: str) -> None:
    rng = np.random.default_rng(1)
    for groups, rows, channels in [(1, 8, 4), (2, 13, 5), (1, 1, 1), (3, 40, 7)]:
        w = laid_out(rng, (groups, rows, channels, 3, 3), layout)
        for backwards in (False, True):
            want = primitives.WINOGRAD_WEIGHTS.reference(backwards, w.astype(np.float64))     # type: ignore[misc]
            np.testing.assert_allclose(transformed(w, backwards, target, 2), want, rtol=1e-6, atol=1e-6)


def columns_of(x: np.ndarray, counts: tuple[int, int], padding: tuple[int, int], dilation: tuple[int, int], groups: int) -> np.ndarray:
    """The windows of an input in float64, which are all inside of the zeros around it."""
    inside = primitives.WindowGeometry((3, 3), counts, (1, 1), tuple([p - 40 for p in padding]), dilation, groups)
    return primitives.window_columns(inside, np.pad(x.astype(np.float64), [(0, 0), (0, 0), *[(40, 40 + n) for n in counts]]))


def check(rng: np.random.Generator, target: StandInTarget, batch: int, groups: int, channels: int, rows: int, sizes: tuple[int, int],
          counts: tuple[int, int], padding: tuple[int, int], backwards: bool, share: int | None, turned: bool = False) -> None:
    shape = (batch, groups * channels, *sizes)
    x = guard(rng.standard_normal((shape[1], shape[0], *sizes) if turned else shape).astype(np.float32), bool(rng.random() < 0.5))
    x = x.swapaxes(0, 1) if turned else x
    w = laid_out(rng, (groups, rows, channels, 3, 3), str(rng.choice(LAYOUTS)))
    bias = guard(rng.standard_normal(groups * rows).astype(np.float32)) if rng.random() < 0.5 else None
    steps, dilation = strides(x), (-1, -1) if backwards else (1, 1)
    windows = Windows(batch, groups, channels, sizes, (3, 3), counts, (1, 1), padding, dilation,
                      (steps[0], steps[1] * channels, *steps[1:]))
    c = guarded((batch, groups * rows, *counts), np.float32, bool(rng.random() < 0.5))
    call = winograd.winograd(ref(0), ref(1), ref(2), windows, rows, None if bias is None else (ref(3), 1))
    run(call, [c, transformed(w, backwards, target), x, *([] if bias is None else [bias])], target, share)
    columns = columns_of(x, counts, padding, dilation, groups)
    want = np.matmul(w.astype(np.float64).reshape(groups, rows, -1), columns).reshape(c.shape)
    want = want if bias is None else want + bias.reshape(-1, 1, 1)
    np.testing.assert_allclose(c, want, rtol=1e-4, atol=2e-6 * np.abs(want).max())


@each_target
def test_random_planes(target: StandInTarget) -> None:
    rng = np.random.default_rng(2)
    for number in range(120):
        sizes, counts = [(int(rng.integers(1, 40)), int(rng.integers(1, 70))) for _ in range(2)]
        padding = int(rng.integers(-3, 5)), int(rng.integers(-3, 5))
        check(rng, target, int(rng.integers(1, 5)), int(rng.integers(1, 3)), int(rng.integers(1, 20)), int(rng.integers(1, 30)),
              sizes, counts, padding, number % 3 == 0, int(rng.integers(1, 6)), number % 4 == 0)


def check_gradient(rng: np.random.Generator, target: StandInTarget, batch: int, groups: int, channels: int, rows: int,
                   sizes: tuple[int, int], counts: tuple[int, int], padding: tuple[int, int], parts: int, share: int | None) -> None:
    x = guard(rng.standard_normal((batch, groups * channels, *sizes)).astype(np.float32), bool(rng.random() < 0.5))
    turned = bool(rng.random() < 0.5)
    shape = (batch, groups * rows, int(np.prod(counts)))
    g = guard(rng.standard_normal((shape[1], batch, shape[2]) if turned else shape).astype(np.float32), bool(rng.random() < 0.5))
    g = g.swapaxes(0, 1) if turned else g
    steps, g_steps = strides(x), strides(g)
    windows = Windows(batch, groups, channels, sizes, (3, 3), counts, (1, 1), padding, (1, 1), (steps[0], steps[1] * channels, *steps[1:]))
    total = guarded((parts, groups, rows, channels * 9), np.float32)
    run(winograd.winograd_gradient(ref(0), ref(1), ref(2), windows, rows, (g_steps[0], g_steps[1] * rows, g_steps[1]), parts),
        [total, g, x], target, share)
    columns = columns_of(x, counts, padding, (1, 1), groups)
    want = np.matmul(g.astype(np.float64).reshape(batch, groups, rows, -1), columns.swapaxes(-1, -2)).sum(0)
    np.testing.assert_allclose(total.sum(0), want, rtol=1e-4, atol=4e-6 * max(1, np.abs(want).max()))


@each_target
def test_gradients_of_random_planes(target: StandInTarget) -> None:
    rng = np.random.default_rng(5)
    for _ in range(100):
        sizes, counts = [(int(rng.integers(1, 40)), int(rng.integers(1, 70))) for _ in range(2)]
        padding = int(rng.integers(-3, 5)), int(rng.integers(-3, 5))
        check_gradient(rng, target, int(rng.integers(1, 5)), int(rng.integers(1, 3)), int(rng.integers(1, 20)), int(rng.integers(1, 30)),
                       sizes, counts, padding, int(rng.integers(1, 4)), int(rng.integers(1, 6)))


@each_target
def test_gradients_of_blocks(target: StandInTarget) -> None:
    rng = np.random.default_rng(6)
    for batch, channels, rows, size in [(9, 3, 300, 7), (1, 300, 20, 6), (2, 140, 150, 9), (3, 40, 64, 33)]:
        check_gradient(rng, target, batch, 1, channels, rows, (size, size), (size, size), (1, 1), 2, 1)


@each_target
def test_blocks_of_rows_tiles_and_channels(target: StandInTarget) -> None:
    rng = np.random.default_rng(3)
    for batch, channels, rows, size in [(9, 3, 300, 7), (1, 1100, 20, 6), (2, 530, 150, 9), (3, 40, 64, 33)]:
        for share in (None, 1, 2):
            check(rng, target, batch, 1, channels, rows, (size, size), (size, size), (1, 1), False, share)


def test_blocks_fit_scratch_memory() -> None:
    for channels in (1, 32, 256, 257, 512, 513, 1000, 4096):
        for rows in (1, 8, 100, 128, 129, 1000, 4096):
            for tiles in (1, 16, 49, 100, 128, 129, 1000, 100000):
                m, n, k = winograd.blocks(channels, rows, tiles, 1)
                lanes = winograd.MOST_LANES
                lines = 8 * (2 * n + 3 * lanes) * 4
                points = winograd.POINTS * (n * (m + k) + 2 * lanes) * 4
                assert (n + 2) * winograd.PIECE_WORDS * 8 + lines + points <= winograd.SCRATCH_BYTES
                assert n % lanes == 0 and m % primitives.PANEL_ROWS == 0
            m, k = winograd.gradient_blocks(rows, channels)
            n = winograd.GRADIENT_TILES
            points = winograd.POINTS * (n * (m + k) + m * k + 3 * lanes) * 4
            assert (n + 2) * winograd.PIECE_WORDS * 8 + 8 * (2 * n + 3 * lanes) * 4 + points <= winograd.SCRATCH_BYTES


def test_errors_are_no_larger_than_those_of_plain_sums() -> None:
    rng = np.random.default_rng(4)
    target = host_targets()[0]
    for channels in (32, 128, 512):
        x = rng.standard_normal((2, channels, 16, 16)).astype(np.float32)
        w = rng.standard_normal((1, 32, channels, 3, 3)).astype(np.float32)
        steps = strides(x)
        windows = Windows(2, 1, channels, (16, 16), (3, 3), (16, 16), (1, 1), (1, 1), (1, 1), (steps[0], steps[0], *steps[1:]))
        c = guarded((2, 32, 16, 16), np.float32)
        run(winograd.winograd(ref(0), ref(1), ref(2), windows, 32, None), [c, transformed(w, False, target), x], target)
        geometry = primitives.WindowGeometry((3, 3), (16, 16), (1, 1), (1, 1), (1, 1), 1)
        columns = primitives.window_columns(geometry, x)
        exact = np.matmul(w.reshape(32, -1).astype(np.float64), columns.astype(np.float64)).reshape(c.shape)
        plain = np.zeros((2, 32, 256), np.float32)                      # summed one after the other, as a plain kernel does
        for column in range(columns.shape[2]):
            plain += w.reshape(1, 32, -1, 1)[:, :, column] * columns[:, 0, column, None]
        assert np.sqrt(np.mean((c - exact) ** 2)) <= 1.1 * np.sqrt(np.mean((plain.reshape(c.shape) - exact) ** 2))
