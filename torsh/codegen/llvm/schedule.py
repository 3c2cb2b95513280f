"""How many lanes a kernel's vectors have, and how many vectors its loops work on at once."""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from torsh.codegen.llvm.values import REGISTER, WIDTH
from torsh.compiler.cost import operation_cost
from torsh.compiler.kernel import LoopKernel, Value

_MAXIMUM_LANES: Final = 64


@dataclass(frozen=True, slots=True)
class Schedule:
    """How many lanes a vector has and how many vectors are worked on at once: along a grid axis (``grid_unroll``), along
    an inner axis by stage (``inner_unroll``). ``mask_bits``: width of the integers that masks are computed with."""

    lanes: int
    mask_bits: int
    grid_unroll: int
    inner_unroll: tuple[int, ...]


def schedule(kernel: LoopKernel, register_bytes: int) -> Schedule:
    """Choose by the element size of most of the work, and by the amount of work."""
    size = _main_width(_work(kernel, range(len(kernel.values))))
    if size < 4 and any(v.op == "reduce" and str(v.attr).startswith("arg") for v in kernel.values):
        size = 4                # positions are int64
    lanes = min(max(register_bytes // size, 1), _MAXIMUM_LANES)
    by_stage = [sum(cost * max(1, width // size) for width, cost in _work(kernel, stage.body).items())
                for stage in kernel.stages]
    inner = tuple(_unroll(kernel, stage.body, work) for stage, work in zip(kernel.stages, by_stage, strict=True))
    total = sum(by_stage)
    along_grid = 2 if total <= 24 else 1
    if any(stage.loop for stage in kernel.stages):
        along_grid = 4 if total <= 40 else 2 if total <= 120 else 1
    return Schedule(lanes, max(8, min(64, 8 * register_bytes // lanes)), along_grid, inner)


def _unroll(kernel: LoopKernel, body: tuple[int, ...], work: int) -> int:
    """Vectors at once in a stage: enough accumulators to hide the latency of a reduction where little else does."""
    if any(kernel.values[p].op == "reduce" for p in body):
        return 4 if work <= 12 else 2 if work <= 60 else 1
    return 2 if work <= 24 else 1


def _work(kernel: LoopKernel, positions: Iterable[int]) -> dict[int, int]:
    """Vector instructions by the width of what they work on."""
    work = {1: 0, 2: 0, 4: 0, 8: 0}
    for position in positions:
        value = kernel.values[position]
        work[_width(kernel, value)] += _cost(value)
    return work


def _width(kernel: LoopKernel, value: Value) -> int:
    """Bytes of a lane of the registers that a value is computed in; of Philox's long chains, several are best in work at once."""
    if value.op == "philox":
        return 4
    operand = kernel.values[value.args[-1]] if value.op in ("store", "reduce") and value.args else value
    return WIDTH[REGISTER[operand.dtype.name]]


def _cost(value: Value) -> int:
    return operation_cost(value.op)


def _main_width(work: dict[int, int]) -> int:
    """The widest size that at least a third of the work, together with wider ones, is done in."""
    total = sum(work.values())
    seen = 0
    for width in (8, 4, 2):
        seen += work[width]
        if seen * 3 >= total and seen:
            return width
    return 1
