"""Fusion: how many kernels programs become, and that steps wait for what they need."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from random_programs import RandomChoices, random_program

import torsh
import torsh.nn.functional as F
from torsh.backend.cpu.backend import CpuBackend
from torsh.codegen.llvm import supported
from torsh.compiler.assemble import Fusion
from torsh.compiler.graph import Graph, MustStore
from torsh.compiler.kernel import Call, LoopKernel
from torsh.compiler.lower import lower
from torsh.compiler.steps import Copy, Group, in_order
from torsh.core.dtype import float32
from torsh.ops.common import add, exp, mul, permute, reduce, reshape, sub
from torsh.ops.expr import TABLE, Expr, emit, leaf, no_grad_recording


def inputs() -> dict[str, Any]:
    """Tensors that are there already."""
    made = {"x": torsh.randn(256, 512), "images": torsh.randn(16, 8, 10, 10), "targets": torsh.randint(0, 512, (256,)),
            "row": torsh.randn(512), "channels": torsh.randn(8), "mean": torsh.zeros(8), "variance": torsh.ones(8)}
    for name, shape in (("x", (256, 512)), ("images", (16, 8, 10, 10)), ("row", (512,)), ("channels", (8,))):
        made[name + "_leaf"] = torsh.randn(*shape, requires_grad=True)
    torsh.synchronize()
    return made


def layer_norm_backward(v: dict[str, Any]) -> Any:
    """Forward and backward of layer_norm with weight and bias."""
    y = F.layer_norm(v["x_leaf"], (512,), v["row_leaf"], v["row"])
    (y * v["x"]).sum().backward()
    return y, v["x_leaf"].grad, v["row_leaf"].grad


def batch_norm_backward(v: dict[str, Any]) -> Any:
    """Forward and backward of batch_norm with weight."""
    y = F.batch_norm(v["images_leaf"], None, None, v["channels_leaf"], v["channels"], True)
    (y * v["images"]).sum().backward()
    return y, v["images_leaf"].grad, v["channels_leaf"].grad


def softmax_backward(v: dict[str, Any]) -> Any:
    """Forward and backward of softmax."""
    y = F.softmax(v["x_leaf"], 1)
    (y * v["x"]).sum().backward()
    return y, v["x_leaf"].grad


def cross_entropy_backward(v: dict[str, Any]) -> Any:
    """Forward and backward of a loss."""
    loss = F.cross_entropy(v["x_leaf"], v["targets"])
    loss.backward()
    return loss, v["x_leaf"].grad


PROGRAMS: dict[str, tuple[Callable[[dict[str, Any]], Any], int]] = {
    "elementwise": (lambda v: F.gelu(v["x"] * 2 + 1).clamp(max=3.0).flip(0), 1),
    "views": (lambda v: v["x"].t()[::2].reshape(-1).view(256, 256).t() + 1, 1),
    "statistics": (lambda v: (v["x"].var(1), v["x"].mean(1), v["x"].amax(1)), 1),
    "softmax": (lambda v: F.softmax(v["x"], 1), 1),
    "log_softmax": (lambda v: F.log_softmax(v["x"], 1), 1),
    "softmax backward": (softmax_backward, 2),
    "layer_norm": (lambda v: F.layer_norm(v["x"], (512,), v["row"], v["row"]), 1),
    "layer_norm backward": (layer_norm_backward, 4),
    "batch_norm": (lambda v: F.batch_norm(v["images"], v["mean"], v["variance"], v["channels"], v["channels"], True), 1),
    "batch_norm backward": (batch_norm_backward, 1),
    "batch_norm inference": (lambda v: F.batch_norm(v["images"], v["mean"], v["variance"], v["channels"], v["channels"]), 2),
    "cross_entropy": (lambda v: F.cross_entropy(v["x"], v["targets"]), 2),
    "cross_entropy backward": (cross_entropy_backward, 3),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_number_of_kernels(name):
    function, most = PROGRAMS[name]
    found = torsh.explain(function, inputs())
    assert 1 <= len(found.kernels) <= most, [k.name for k in found.kernels]
    assert len(found.programs) == 1
    assert all(k.kind == "loop" for k in found.kernels)


def steps_of(outputs: list[Expr], in_place: list[tuple[int, int]]) -> tuple[Fusion, list[Any]]:
    """The steps of a program."""
    lowered = [lower(e) for e in outputs]
    forced: set[Expr] = set()
    while True:
        try:
            fusion = Fusion(Graph(lowered, forced, supported), lowered, in_place)
            return fusion, fusion.build()
        except MustStore as problem:
            forced.add(problem.expr)


@pytest.mark.parametrize("seed", range(60))
def test_no_step_waits_for_itself(seed):
    with no_grad_recording():
        p = random_program(RandomChoices(seed))
        fusion, steps = steps_of(p.outputs, [])
    done = 0
    for step in steps:
        assert not step.before >> step.number & 1, "a cycle"
        assert step.before & ~done == 0, "runs before something that it needs"
        assert fusion.closure(step.before) == step.before
        done |= 1 << step.number
    assert len(steps) == len(fusion.steps) == len(set(map(id, steps)))
    assert in_order(steps) == steps or {id(s) for s in in_order(steps)} == {id(s) for s in steps}


def test_a_group_does_not_take_what_depends_on_itself_from_outside():
    # The product needs the first sum; the last sum could join the first one's group only through a cycle.
    a, b = leaf(0, (64, 64), float32, False), leaf(1, (64, 64), float32, False)
    with no_grad_recording():
        first = exp(add(a, b))
        product = emit(TABLE["matmul"], (first, b))
        last = add(mul(first, 2.0), product)
        _, steps = steps_of([first, last], [])
    assert [type(s).__name__ for s in steps] == ["Group", "Step", "Group"]


def test_what_reads_at_other_points_is_another_kernel():
    a = leaf(0, (40, 40), float32, False)
    with no_grad_recording():
        first = exp(a)
        _, steps = steps_of([first, add(first, permute(first, (1, 0)))], [])
    assert len(steps) == 2


def test_pure_copies_are_no_loops():
    a = leaf(0, (40, 30), float32, False)
    with no_grad_recording():
        _, steps = steps_of([reshape(permute(a, (1, 0)), (1200,))], [])
    assert [type(s) for s in steps] == [Copy]


def test_parts_of_a_joined_tensor_are_computed_in_place():
    a, b = leaf(0, (4, 5), float32, False), leaf(1, (3, 5), float32, False)
    with no_grad_recording():
        e = emit(TABLE["cat"], (exp(a), sub(b, 1.0), a), 0)
        _, steps = steps_of([e], [])
    assert sorted(type(s).__name__ for s in steps) == ["Copy", "Group", "Group"]
    assert len({id(b) for s in steps for b in s.writes}) == 1


def test_a_write_into_a_value_that_nobody_else_needs_makes_no_copy():
    a, b = leaf(0, (6, 5), float32, False), leaf(1, (2, 5), float32, False)
    with no_grad_recording():
        written = emit(TABLE["view_write"], (exp(a), b), (("slice", ((1, 2, 1), (0, 5, 1))),))
        _, steps = steps_of([written], [])
    assert [type(s).__name__ for s in steps] == ["Group", "Copy"]


def test_members_share_a_kernel_up_to_a_limit():
    a = leaf(0, (8, 8), float32, False)
    with no_grad_recording():
        outputs = [exp(mul(a, float(k))) for k in range(2, 60)]
        _, steps = steps_of(outputs, [])
    assert all(isinstance(s, Group) and len(s.members) <= 24 for s in steps)
    assert len(steps) == 3


def test_one_kernel_serves_all_sizes():
    def kernel(rows: int, columns: int) -> LoopKernel:
        with no_grad_recording():
            a = leaf(0, (rows, columns), float32, False)
            e = reduce("sum", mul(exp(a), float(rows)), (1,))
        step, = CpuBackend().compile((e,), ()).plan.steps
        assert isinstance(step, Call) and isinstance(step.kernel, LoopKernel)
        return step.kernel
    assert kernel(30, 40) == kernel(50, 300) == kernel(17, 33)


def test_steps_that_free_memory_run_early() -> None:
    """The gradient of a weight runs when its operands are there, not when the backward of all layers is done."""
    width, layers = 64, 12
    model = torsh.nn.Sequential(*[torsh.nn.Linear(width, width) for _ in range(layers)])
    x = torsh.randn(4096, width)
    torsh.synchronize()
    loss = model(x).square().mean()
    loss.backward()
    grads = [p.grad for p in model.parameters()]
    from torsh.backend.cpu import backend as cpu
    plans = []
    real = cpu.plan_for

    def spy(*args: object, **kwargs: object) -> object:
        plans.append(real(*args, **kwargs))
        return plans[-1]
    cpu.plan_for = spy
    try:
        torsh.synchronize()
    finally:
        cpu.plan_for = real
    one = x.numel() * 4
    assert len(grads) == 2 * layers
    # Results of all layers but the last (nothing reads them afterwards), and two gradients on their way.
    assert plans[-1].scratch_bytes < (layers + 3) * one
