"""Random programs: the compiled backend against the NumPy reference."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparison import close, compiled, reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_programs import Program, RandomChoices, random_program
from tensor_programs import TensorProgram

import torsh
from torsh.backend.cpu.native import native_runtime
from torsh.core.dtype import bool_, float32, float64, int64
from torsh.ops.common import add, exp, mul, reduce, reshape, sub
from torsh.ops.expr import TABLE, emit, leaf, no_grad_recording

MORE = int(os.environ.get("TORSH_FUZZ", "1"))       # how many times as many programs


class Drawn:
    """Decisions of hypothesis."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def integer(self, low: int, high: int) -> int:
        """A number from low to high, both included."""
        return self.data.draw(st.integers(low, high))


def check(p: Program, share_from: int | None = None) -> None:
    """Run a program on both backends."""
    expected = reference(p.outputs, p.leaves, p.scalars)
    got = compiled(p.outputs, p.leaves, p.scalars, p.in_place, share_from)
    for number, (a, b, tolerance) in enumerate(zip(got, expected, p.tolerances, strict=True)):
        problem = close(a, b, tolerance)
        assert not problem, f"output {number}, {p.outputs[number]}: {problem}"


def check_seeds(first: int, count: int) -> None:
    """Programs of consecutive seeds; every other one with all calls shared among threads."""
    for seed in range(first, first + count):
        with no_grad_recording():
            p = random_program(RandomChoices(seed))
        try:
            check(p, 0 if seed % 2 else None)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


@pytest.mark.parametrize("threads", [1, 2])
def test_random_programs(threads):
    runtime = native_runtime()
    before = runtime.threads
    runtime.resize(threads)
    try:
        check_seeds(5_000 * threads, 120 * MORE)
    finally:
        runtime.resize(before)


@settings(max_examples=40 * MORE, deadline=None, derandomize=True, database=None,
          suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
def test_drawn_programs(data):
    with no_grad_recording():
        p = random_program(Drawn(data))
    check(p)


@pytest.mark.parametrize("target", ["avx2"])
def test_other_targets(target):
    from torsh.codegen.llvm.target import host_target
    if host_target().name not in ("avx512", "avx2"):
        pytest.skip("this machine cannot run the target's code")
    code = f"import test_programs; test_programs.check_seeds(40_000, {40 * MORE})"
    paths = [str(Path(torsh.__file__).parents[1]), str(Path(__file__).parent)]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False,
                          env={**os.environ, "TORSH_CPU_TARGET": target, "PYTHONPATH": os.pathsep.join(paths)})
    assert done.returncode == 0, done.stderr[-3000:]


# ---- what random programs have found -----------------------------------------------------------------------------------

def one(outputs: list[Any], leaves: list[Any], in_place: list[tuple[int, int]], tolerance: float = 1e-4) -> None:
    """Compare one program."""
    check(Program(outputs, in_place, leaves, [], [tolerance] * len(outputs)), 0)


def some(*shape: int, dtype: Any = np.float32) -> Any:
    """Numbers from -2 to 2."""
    numbers = np.random.default_rng(3).random(shape) * 4 - 2
    return (numbers > 0) if dtype is np.bool_ else numbers.astype(dtype)


def leaves_for(*arrays: Any) -> list[Any]:
    """Leaf expressions for arrays."""
    names = {"float32": float32, "float64": float64, "int64": int64, "bool": bool_}
    return [leaf(n, a.shape, names[a.dtype.name], False) for n, a in enumerate(arrays)]


@pytest.mark.parametrize("dim", [0, 1])
def test_a_leaf_is_replaced_after_the_last_stage_has_read_it(dim):
    x = some(4, 5)
    a, = leaves_for(x)
    scaled = mul(add(a, 1.0), 2.0)
    one([scaled, emit(TABLE["softmax"], (scaled,), dim)], [x], [(0, 0)])


def test_a_leaf_is_replaced_after_later_members_have_read_it():
    x, y, c = some(3, 4), some(3, 4), some(3, 4, dtype=np.bool_)
    a, b, condition = leaves_for(x, y, c)
    chosen = emit(TABLE["where"], (condition, a, mul(a, 2.0)))
    centred = sub(reduce("sum", chosen, (1,), True), mul(b, 3.0))
    one([chosen, centred], [x, y, c], [(0, 1)])


def test_two_leaves_are_exchanged():
    x, y = some(40), some(40) + 1
    a, b = leaves_for(x, y)
    one([mul(b, 2.0), mul(a, 3.0)], [x, y], [(0, 0), (1, 1)])
    total = reduce("sum", add(a, b), (0,), True)
    one([mul(b, total), add(a, total)], [x, y], [(0, 0), (1, 1)])


def test_a_write_whose_leaf_is_read_later_starts_from_a_copy():
    x, value = some(6, 5), some(2, 5)
    a, v = leaves_for(x, value)
    written = emit(TABLE["view_write"], (a, v), (("slice", ((1, 2, 1), (0, 5, 1))),))
    one([written, mul(written, a)], [x, value], [(0, 0)])


def test_sums_at_positions_may_read_what_they_replace():
    x, positions = some(7, 4), np.array([2, 0, 2])
    a, i = leaves_for(x, positions)
    rows = emit(TABLE["slice"], (a,), ((3, 3, 1), (0, 4, 1)))
    one([emit(TABLE["index_put"], (a, rows, i), ((0,), True))], [x, positions], [(0, 0)])


def test_a_reversal_in_place():
    x = some(33, 3)
    a, = leaves_for(x)
    one([emit(TABLE["flip"], (a,), (0, 1))], [x], [(0, 0)])
    one([emit(TABLE["cat"], (emit(TABLE["slice"], (a,), ((30, 3, 1), (0, 3, 1))),
                             emit(TABLE["slice"], (a,), ((0, 30, 1), (0, 3, 1)))), 0)], [x], [(0, 0)])


def test_axes_are_split_after_a_member_that_reads_a_leaf_joined():
    x, y, z = some(3, 4), some(3, 4), some(1)
    a, b, c = leaves_for(x, y, z)
    first = add(a, mul(b, 2.0))
    value = emit(TABLE["expand"], (c,), (3, 2, 1, 2))
    written = emit(TABLE["view_write"], (first, value), (("reshape", (3, 2, 1, 2)),))
    one([first, emit(TABLE["minimum"], (a, written))], [x, y, z], [(0, 0)])


def test_strides_over_a_reshaped_slice():
    x = some(489)
    a, = leaves_for(x)
    part = reshape(emit(TABLE["slice"], (a,), ((178, 243, 1),)), (3, 81))
    strided = emit(TABLE["as_strided"], (part,), ((5, 5), (1, 3), 69))
    one([emit(TABLE["unfold"], (strided,), (0, 2, 2))], [x], [])


def test_outputs_that_are_inputs_or_one_another():
    x = some(4, 3)
    a, = leaves_for(x)
    e = exp(a)
    one([a, e, e, reshape(e, (3, 4)), reshape(a, (12,))], [x], [(1, 0)])
    one([a], [x], [(0, 0)])


# ---- programs of tensors -----------------------------------------------------------------------------------------------

def values_on(backend: str, seed: int, statements: int) -> list[Any]:
    """What a program of tensors computes."""
    torsh.use_backend(backend)
    try:
        return TensorProgram(torsh, seed).run(statements)
    finally:
        torsh.use_backend("cpu")


def test_views_and_writes():
    for seed in range(150 * MORE):
        got, expected = (values_on(b, seed, 5 + seed % 40) for b in ("cpu", "reference"))
        assert all(a.shape == b.shape and np.array_equal(a, b) for a, b in zip(got, expected, strict=True)), seed


def train(backend: str, optimizer: str) -> list[Any]:
    """Some steps of an optimizer on two layers, with a normalisation."""
    torsh.use_backend(backend)
    try:
        random = np.random.default_rng(0)
        x, y = (torsh.tensor(random.standard_normal(shape).astype(np.float32)) for shape in ((12, 7), (12, 3)))
        weights = [torsh.tensor(random.standard_normal(s).astype(np.float32), requires_grad=True) for s in ((7, 9), (9, 3), (3,))]
        update = getattr(torsh.optim, optimizer)(weights, lr=0.05)
        losses = []
        for _ in range(4):
            update.zero_grad()
            hidden = torsh.nn.functional.layer_norm(x @ weights[0], (9,)).relu()
            loss = ((hidden @ weights[1] + weights[2] - y) ** 2).mean()
            loss.backward()
            update.step()
            losses.append(loss.item())
        return [*losses, *[w.detach().numpy() for w in weights]]
    finally:
        torsh.use_backend("cpu")


@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad"])
def test_optimizer_steps(optimizer):
    for a, b in zip(train("cpu", optimizer), train("reference", optimizer), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("bad", [5, -6, 1 << 40])
def test_reading_outside_changes_nothing(bad):
    x, positions = torsh.arange(5.0), torsh.tensor([0, bad, 1])
    torsh.synchronize()
    before, read = x * 2, x[positions]
    x.add_(1)
    with pytest.raises(IndexError, match=f"index {bad} is out of bounds for dimension 0 with size 5"):
        read.numpy()
    assert before.tolist() == [0, 2, 4, 6, 8]
    assert x.tolist() == [1, 2, 3, 4, 5]
    assert x[torsh.tensor([4, -5])].tolist() == [5, 1]


@pytest.mark.parametrize("write", [
    lambda x, i: x.index_add_(0, i, torsh.ones(3)), lambda x, i: x.scatter_(0, i, torsh.ones(3)),
    lambda x, i: x.index_put_((i,), torsh.ones(3)), lambda x, i: x.index_fill_(0, i, 3.0)])
def test_writing_outside_leaves_what_was_recorded_before(write):
    x, positions = torsh.arange(5.0), torsh.tensor([0, 9, 1])
    view = x.view(5, 1)
    torsh.synchronize()
    before = x + 1
    with pytest.raises(IndexError):
        write(x, positions)
        x.sum().item()
    assert before.tolist() == [1, 2, 3, 4, 5]
    assert x.tolist() == view.flatten().tolist()
    assert (x + 1).shape == (5,)


def test_shared_memory_is_replaced_after_its_last_reader():
    count = 60_000
    x = torsh.from_numpy(np.arange(count, dtype=np.float32))
    w, other = torsh.ones(count, requires_grad=True), torsh.ones(6)
    view = other[2:]
    torsh.synchronize()
    loss = (w * x).sum()
    view.add_(1)                            # from here on, x is known by another leaf of the window
    x.fill_(9.0)
    loss.backward()
    assert w.grad[:4].tolist() == [0, 1, 2, 3]
    assert x[:2].tolist() == [9, 9]


def test_products_with_what_is_no_bias():
    import torsh
    a, b = torsh.arange(6.0).reshape(2, 3), torsh.arange(6.0).reshape(3, 2)
    number, vector = torsh.tensor(2.0), torsh.tensor([1.0, 3.0])
    torsh.synchronize()
    assert (a @ b + number).tolist() == [[12.0, 15.0], [30.0, 42.0]]
    assert (a @ b + vector).tolist() == [[11.0, 16.0], [29.0, 43.0]]
    assert (vector + a @ b).tolist() == [[11.0, 16.0], [29.0, 43.0]]
    assert (a @ b + vector.reshape(2, 1)).tolist() == [[11.0, 14.0], [31.0, 43.0]]
