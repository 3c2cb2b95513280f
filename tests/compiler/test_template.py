"""Templates: the same program for other sizes gives the same values as the reference, with the plan that the compiler makes."""
from __future__ import annotations

import operator

import numpy as np
import pytest

import torsh as torch
from torsh.compiler import program
from torsh.core.symbolic import Dim, Quotient, Tape

F = torch.nn.functional


def data(*shape):
    return torch.from_numpy(np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32))


WEIGHT = np.random.default_rng(1).standard_normal((5, 8)).astype(np.float32)
IMAGES = np.random.default_rng(2).standard_normal((4, 3, 3, 3)).astype(np.float32)
PROGRAMS = {
    "elementwise": lambda n, m: torch.exp(data(n, m) * 0.1) + data(m),
    "softmax": lambda n, m: torch.softmax(data(n, m), -1),
    "softmax of columns": lambda n, m: torch.softmax(data(n, m), 0),
    "mean": lambda n, m: data(n, m).mean(0) + data(n, m).mean(),
    "linear": lambda n, m: torch.relu(F.linear(data(n, 8), torch.from_numpy(WEIGHT))),
    "products": lambda n, m: data(n, m) @ data(m, n),
    "layer_norm": lambda n, m: F.layer_norm(data(n, m), (m,)),
    "slices": lambda n, m: data(n + 2, m)[1:-1].flip(1) * 2,
    "cat": lambda n, m: torch.cat([data(n, m), data(m, n).t()], 0),
    "pad": lambda n, m: F.pad(data(n, m), (1, 2)) + 1,
    "reshape": lambda n, m: (data(n, 4 * m).reshape(n, 4, m).transpose(1, 2) + 1).reshape(n, 4 * m),
    "write": lambda n, m: written(n, m),
    "conv": lambda n, m: F.conv2d(data(2, 3, n + 2, m + 2), torch.from_numpy(IMAGES), padding=1),
    "conv gradients": lambda n, m: convolved(n, m, 1, 1),
    "strided conv gradients": lambda n, m: convolved(n + 2, m + 2, 2, 2),
    "depthwise": lambda n, m: convolved(n, m, 1, 4, 1),
    "strided depthwise": lambda n, m: convolved(n + 2, m + 2, 2, 4, 1, 1),
    "pool": lambda n, m: F.max_pool2d(data(2, 3, 2 * n, 2 * m), 2),
    "gather": lambda n, m: data(n, m)[torch.arange(n - 1, -1, -1)],
    "cumsum": lambda n, m: data(n, m).cumsum(0),
    "gradients": lambda n, m: gradients(n, m),
    "variance": lambda n, m: data(n + 1, m).var(0),
}


def written(n, m):
    x = data(n, m) + 0
    x[:, 0] = 5.0
    x[-1] += data(m)
    return x


def gradients(n, m):
    w = torch.from_numpy(WEIGHT.copy()).requires_grad_()
    F.cross_entropy(F.linear(data(n, 8), w), torch.arange(n) % 5).backward()
    return w.grad


def convolved(n, m, stride, groups, inputs=3, outputs=4):
    x = data(3, inputs * groups, n, m).requires_grad_()
    w = torch.from_numpy(np.concatenate([IMAGES[:outputs, :inputs]] * groups)).requires_grad_()
    y = F.conv2d(x, w, torch.arange(outputs * groups).float(), padding=1, stride=stride, groups=groups)
    (y * y * 1e-3).sum().backward()
    return torch.cat([x.grad.flatten(), w.grad.flatten()])


SIZES = [(6, 7), (9, 5), (11, 7), (13, 4), (1, 7), (16, 16), (33, 17), (2, 1), (8, 64), (70, 3), (300, 260), (12, 7), (1, 1)]


@pytest.mark.parametrize("name", PROGRAMS)
def test_other_sizes(name):
    run = PROGRAMS[name]
    made = [run(n, m).numpy().copy() for n, m in SIZES]
    torch.use_backend("reference")
    try:
        for (n, m), got in zip(SIZES, made, strict=True):
            np.testing.assert_allclose(got, run(n, m).numpy(), rtol=2e-5, atol=2e-5, err_msg=f"{name} of {n}, {m}")
    finally:
        torch.use_backend("cpu")


@pytest.mark.parametrize(("name", "most"), [("softmax", 2), ("conv", 3), ("depthwise", 6), ("strided depthwise", 6)])
def test_templates_are_used(name, most):
    program.templates_by_skeleton.known.clear()
    for n in range(40, 60):
        PROGRAMS[name](n, n + 7).numpy()
    templates = [t for found in program.templates_by_skeleton.known.values() for t in found or ()]
    assert 1 <= len(templates) <= most


def test_a_tape_repeats_arithmetic_and_keeps_conditions():
    tape = Tape()
    n, m = tape.input(0, 12), tape.input(1, 5)
    total = n * m + 3
    half = -(-n // 4) if n > m else m
    function = tape.function([total, half, max(n, m), 7, Quotient(n)])
    assert function([12, 5]) == (63, 3, 12, 7, 12.0)
    assert function([21, 2]) == (45, 6, 21, 7, 21.0)
    assert function([4, 5]) is None


@pytest.mark.parametrize("use", [int, lambda n: range(n), lambda n: [0] * n, float, lambda n: "abc"[n - 12:], operator.index])
def test_plain_uses_fix_the_value(use):
    tape = Tape()
    n = tape.input(0, 12)
    use(n)
    function = tape.function([n + 1])
    assert function([12]) == (13,) and function([13]) is None


def test_dims_compare_as_numbers():
    tape = Tape()
    n = tape.input(0, 12)
    assert n == 12 and n != 11 and 3 < n and n >= 12 and hash(n) == hash(12) and bool(n) and isinstance(n, Dim)
    assert tape.function([n])([13]) is None


def test_large_programs_have_to_be_met_more_often():
    def choose(numbers):
        rows = [data(40).mul(1.5 + i).exp() for i in range(len(numbers))]
        for _ in range(4):
            rows = [a * 0.5 + a.sin() * b for a, b in zip(rows, rows[1:] + rows[:1], strict=True)]
        total = rows[0][0] * 0
        for row, k in zip(rows, numbers, strict=True):
            total = total + row[k]
        return total.item()

    known = program.templates_by_skeleton.known
    known.clear()
    rng = np.random.default_rng(3)
    made = []
    for _ in range(5):
        choose(rng.integers(1, 39, 40).tolist())
        made.append(sum(len(found or ()) for found in known.values()))
    assert made[1] == 0 and made[-1] >= 1 and made[-1] == made[-2]
