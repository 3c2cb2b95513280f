"""The compiler as a whole: outputs -> lowered -> fused -> ordered -> memory planned -> calls."""
from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final

from torsh.compiler import memory, templates
from torsh.compiler.assemble import Fusion, MustSeparate
from torsh.compiler.build import KernelBuilder
from torsh.compiler.calls import CallBuilder, fourier_table_key
from torsh.compiler.fft import TableKey
from torsh.compiler.graph import Graph, MustStore, Supported
from torsh.compiler.kernel import BufferRef, Call
from torsh.compiler.lower import lower
from torsh.compiler.plan import HostStep, Plan, PlannedBuffer
from torsh.compiler.steps import Buffer, Group, Step
from torsh.compiler.template import Skeleton, Templates, separate_tables, symbolic_outputs
from torsh.core.errors import CompileError
from torsh.core.symbolic import Tape
from torsh.ops.expr import LEAF_OP, SCALAR_OP, Expr, no_grad_recording
from torsh.ops.fourier_primitives import FOURIER

_ATTEMPTS = 64
VERIFY = [os.environ.get("TORSH_DEBUG") == "1"]        # [True]: check every plan (tests do)


def compile_plan(outputs: Sequence[Expr], in_place: Sequence[tuple[int, int]], supported: Supported,
                 sizes: tuple[int, int]) -> Plan:
    """The plan of the program that computes ``outputs``.

    in_place: (output number, leaf position) pairs: the output is stored in that leaf's memory, or (-1) in memory that a tensor
    has, but that is no leaf. supported: can loop kernels do an operation on arguments of a dtype? sizes: (number of leaves,
    number of Python numbers) of the window.
    """
    lowered = [lower(e) for e in outputs]
    with no_grad_recording():
        fusion, steps = _fused(lowered, in_place, supported)
        plan = _Planner(fusion, steps, lowered, sizes).plan()
    if VERIFY[0]:
        from torsh.compiler.verify import verify_lowered, verify_plan
        verify_lowered(lowered)
        verify_plan(plan)
    return plan


templates_by_skeleton: Final = Templates()


def plan_for(outputs: Sequence[Expr], in_place: Sequence[tuple[int, int]], supported: Supported, scalars: int) -> Plan:
    """The plan of a program: from a template, if the same program has been met with other sizes; else compiled."""
    skeleton = Skeleton(outputs, in_place)
    plan = templates_by_skeleton.find(skeleton)
    if plan is None and templates_by_skeleton.wants(skeleton):
        _make_template(skeleton, outputs, in_place, supported, scalars)
        plan = templates_by_skeleton.find(skeleton)
    if plan is None:
        return compile_plan(outputs, in_place, supported, (0, scalars))
    if VERIFY[0]:
        check_same(plan, compile_plan(outputs, in_place, supported, (0, scalars)))
    return plan


def _make_template(skeleton: Skeleton, outputs: Sequence[Expr], in_place: Sequence[tuple[int, int]], supported: Supported,
                   scalars: int) -> None:
    tape = Tape()
    try:
        with separate_tables():
            symbolic = symbolic_outputs(skeleton, outputs, tape)
            lowered = [lower(e) for e in symbolic]
            with no_grad_recording():
                fusion, steps = _fused(lowered, in_place, supported)
                plan = _Planner(fusion, steps, lowered, (0, scalars)).plan()
    except Exception as error:
        # An operation wants true integers where it got symbolic ones: programs with it are compiled for every shape.
        if VERIFY[0] and not isinstance(error, TypeError):
            raise
        templates_by_skeleton.refuse(skeleton)
    else:
        templates_by_skeleton.add(skeleton, plan, tape)


def check_same(plan: Plan, compiled: Plan) -> None:
    """Raise CompileError unless a template's plan is the one that the compiler makes for the same sizes."""
    for number, (a, b) in enumerate(zip(plan.steps, compiled.steps, strict=True)):
        if not isinstance(a, Call) or not isinstance(b, Call) or (a.kernel, a.params, a.units, a.prepares, a.prepared) != (
                b.kernel, b.params, b.units, b.prepares, b.prepared):
            raise CompileError(f"step {number}: the template gives {a}, the compiler {b}")
    if plan.constants != compiled.constants or plan.scratch_bytes != compiled.scratch_bytes:
        raise CompileError(f"a template gives other constants or memory than the compiler: {plan} and {compiled}")


def _fused(lowered: Sequence[Expr], in_place: Sequence[tuple[int, int]], supported: Supported) -> tuple[Fusion, list[Step]]:
    """Fusion, again with one more stored expression whenever an access turns out to be impossible."""
    forced: set[Expr] = set()
    separate: set[int] = set()
    for _ in range(_ATTEMPTS + len(in_place)):
        try:
            fusion = Fusion(Graph(lowered, forced, supported), lowered, in_place, separate)
            return fusion, fusion.build()
        except MustSeparate as problem:
            separate.add(problem.output)
        except MustStore as problem:
            if problem.expr in forced:
                raise CompileError(f"a view of {problem.expr} can neither be accessed nor stored") from None
            forced.add(problem.expr)
    raise CompileError(f"the program has more than {_ATTEMPTS} views that have to be copied")


class _Planner:
    """Places buffers and builds calls."""

    def __init__(self, fusion: Fusion, steps: list[Step], outputs: Sequence[Expr], sizes: tuple[int, int]) -> None:
        self.fusion = fusion
        self.steps = steps
        self.outputs = outputs
        self.leaves, self.scalars = sizes
        self.constants: dict[Any, int] = {}
        nodes = [step.node for step in steps if not isinstance(step, Group) and step.node.op is FOURIER]
        self.tables: Final = list(dict.fromkeys([fourier_table_key(e) for e in nodes]))
        for e in fusion.graph.order:
            if e.op is LEAF_OP:
                self.leaves = max(self.leaves, e.attr + 1)  # type: ignore[operator]
            elif e.op is SCALAR_OP:
                self.scalars = max(self.scalars, e.attr + 1)  # type: ignore[operator]

    def plan(self) -> Plan:
        """The plan."""
        late = self._late_buffers()
        scratch = memory.plan(self.steps, self.fusion.owned)
        calls: list[Call | HostStep] = []
        templates_of = CallBuilder(self.fusion, self.place, self._table)
        for step in self.steps:
            if isinstance(step, Group):
                call: Call | HostStep = KernelBuilder(self.fusion, step, self.place, self._scalar_word,
                                                       self._constant_word).build()
            else:
                call = templates_of.build(step)
            calls.append(call)
        for number, buffer in late:
            calls.append(templates.copy(1, BufferRef(1 + self.leaves + number), self.place(buffer), buffer.nbytes))
        sizes = tuple([_nbytes(e) for e in self.outputs])
        return Plan(calls, scratch, self.leaves, sizes, self.scalars, tuple(self.constants), tuple(self.tables),
                    tuple(self.fusion.in_place.items()), self._buffers())

    def _buffers(self) -> list[PlannedBuffer]:
        """All buffers, for the verifier."""
        undefined = {b for e, b in self.fusion.buffers.items() if e.op.name == "empty"}
        found = []
        for b in dict.fromkeys([b for step in self.steps for b in (*step.reads, *step.writes)] + list(undefined)):
            ref = self.place(b)
            found.append(PlannedBuffer(ref.slot, ref.offset, b.nbytes, b.first, b.last, b in undefined))
        return found

    def _late_buffers(self) -> list[tuple[int, Buffer]]:
        """Buffers of in-place outputs that other steps would overwrite too early: in the arena until the end."""
        found: dict[int, Buffer] = {}
        for step in self.steps:
            for b in step.writes:
                if b.output in self.fusion.late:
                    found[b.output] = b
        for b in found.values():
            b.output = -1
        result = sorted(found.items())
        if result:
            self.steps[-1].reads = [*self.steps[-1].reads, *[b for _, b in result]]      # they live until the end
        return result

    def place(self, buffer: Buffer) -> BufferRef:
        """Table word and byte offset of a buffer."""
        if buffer.leaf >= 0:
            return BufferRef(1 + buffer.leaf)
        if buffer.inside is not None:
            return BufferRef(1 + self.leaves + buffer.inside.output, buffer.offset)
        if buffer.output >= 0:
            return BufferRef(1 + self.leaves + buffer.output)
        return BufferRef(0, buffer.offset)

    def _constant_word(self, value: Any) -> int:
        number = self.constants.setdefault(value, len(self.constants))
        return 1 + self.leaves + len(self.outputs) + self.scalars + len(self.tables) + number

    def _table(self, key: TableKey) -> BufferRef:
        return BufferRef(1 + self.leaves + len(self.outputs) + self.scalars + self.tables.index(key))

    def _scalar_word(self, position: int) -> int:
        return 1 + self.leaves + len(self.outputs) + position


def _nbytes(e: Expr) -> int:
    count = e.dtype.itemsize
    for n in e.shape:
        count *= n
    return count
