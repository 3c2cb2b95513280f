"""What compiled programs do, for people: kernels in order, the ops they stand for, their IR, memory and arithmetic."""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from torsh.compiler.footprint import LoopParameters, bytes_moved, flops, loop_parameters_of, regions
from torsh.compiler.kernel import Call, LoopKernel, Value
from torsh.compiler.plan import HostStep, Plan
from torsh.compiler.preparations import keepable
from torsh.compiler.templates import MATMUL_PARAMETERS

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True, slots=True)
class KernelSummary:
    """One step of a program.

    Attributes: ``name`` (the operations it stands for), ``kind`` (``"loop"``, ``"template"`` or ``"host"``), ``bytes_read``,
    ``bytes_written``, ``flops`` (roughly), ``ir`` (readable text), ``kept`` (True: it only brings a leaf's memory into another
    order, and is left out from the third run on, until that memory is written).
    """

    name: str
    kind: str
    bytes_read: int
    bytes_written: int
    flops: int
    ir: str
    kept: bool = False


@dataclass(frozen=True, slots=True)
class ProgramSummary:
    """One program.

    Attributes: ``kernels``, ``scratch_bytes`` (memory for intermediate results), ``input_bytes`` and ``output_bytes``.
    """

    kernels: tuple[KernelSummary, ...]
    scratch_bytes: int
    input_bytes: int
    output_bytes: int

    @property
    def flops(self) -> int:
        """Rough number of arithmetic operations."""
        return sum(k.flops for k in self.kernels)

    @property
    def bytes_moved(self) -> int:
        """Bytes that kernels read and write; what several kernels read counts for each of them."""
        return sum(k.bytes_read + k.bytes_written for k in self.kernels)


@dataclass(frozen=True, slots=True)
class Explanation:
    """What :func:`torsh.explain` found; ``str()`` and ``print()`` show it.

    Attributes: ``programs`` in the order in which they ran.
    """

    programs: tuple[ProgramSummary, ...]

    @property
    def kernels(self) -> tuple[KernelSummary, ...]:
        """The kernels of all programs, in order."""
        return tuple([k for p in self.programs for k in p.kernels])

    def __str__(self) -> str:
        return "\n\n".join(_program_text(number, p, len(self.programs)) for number, p in enumerate(self.programs)) or (
            "nothing to compute")

    __repr__ = __str__


def explain(plans: Iterable[Plan]) -> Explanation:
    """Summaries of compiled programs."""
    return Explanation(tuple([summary(p) for p in plans]))


def summary(plan: Plan) -> ProgramSummary:
    """What one program does."""
    leaves = {b.slot: b.nbytes for b in plan.buffers if 0 < b.slot <= plan.leaves}
    numbers = {p.number for p in keepable(plan)}
    kept = {id(call) for k, call in enumerate([s for s in plan.steps if isinstance(s, Call)]) if k in numbers}
    return ProgramSummary(tuple([_kernel(plan, s, id(s) in kept) for s in plan.steps]), plan.scratch_bytes, sum(leaves.values()),
                          sum(plan.output_bytes))


def _kernel(plan: Plan, step: Call | HostStep, kept: bool) -> KernelSummary:
    read, written = bytes_moved(step)
    if isinstance(step, HostStep):
        return KernelSummary(step.op.name, "host", read, written, flops(step), _host_text(plan, step))
    kind = "loop" if isinstance(step.kernel, LoopKernel) else "template"
    ir = "\n".join(_loop_text(plan, step, step.kernel)) if isinstance(step.kernel, LoopKernel) else _template_text(plan, step)
    return KernelSummary(step.label, kind, read, written, flops(step), ir, kept)


# ---- text --------------------------------------------------------------------------------------------------------------

def _program_text(number: int, p: ProgramSummary, count: int) -> str:
    title = f"program {number + 1} of {count}: " if count > 1 else ""
    lines = [f"{title}{len(p.kernels)} kernel{'s' * (len(p.kernels) != 1)}, {_amount(p.flops)}flop, {_size(p.bytes_moved)} "
             f"moved, {_size(p.input_bytes)} in, {_size(p.output_bytes)} out, {_size(p.scratch_bytes)} scratch"]
    for k, kernel in enumerate(p.kernels):
        moved = kernel.bytes_read + kernel.bytes_written
        lines.append(f"{k}. {kernel.name} ({kernel.kind}): reads {_size(kernel.bytes_read)}, writes "
                     f"{_size(kernel.bytes_written)}, {_amount(kernel.flops)}flop ({kernel.flops / max(moved, 1):.2g} per byte)"
                     f"{', kept while its operand is not written' * kernel.kept}")
        lines += ["     " + line for line in kernel.ir.split("\n")]
    return "\n".join(lines)


def _size(nbytes: float) -> str:
    for unit in _UNITS[:-1]:
        if nbytes < 1024:
            return f"{nbytes:.4g} {unit}"
        nbytes /= 1024
    return f"{nbytes:.4g} {_UNITS[-1]}"


def _amount(number: float) -> str:
    for unit in ("", "k", "M", "G"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} T"


def memory_name(plan: Plan, slot: int, offset: int) -> str:
    """What the memory of a table word is called."""
    if slot == 0:
        return f"scratch{offset:+d}" if offset else "scratch"
    name = f"in{slot - 1}" if slot <= plan.leaves else f"out{slot - 1 - plan.leaves}"
    return f"{name}{offset:+d}" if offset else name


def _host_text(plan: Plan, step: HostStep) -> str:
    args = [memory_name(plan, a.buffer.slot, a.buffer.offset) + str(list(a.shape)) if not isinstance(a, tuple) else str(a[1])
            for a in step.args]
    out = memory_name(plan, step.out.buffer.slot, step.out.buffer.offset)
    return f"{out}{list(step.out.shape)} = {step.op.name}({', '.join(args)}) by NumPy"


def _template_text(plan: Plan, call: Call) -> str:
    touched = regions(call)
    operands = [f"{memory_name(plan, r.slot, r.offset)}{[n for n in r.extents if n != 1]}" for r in touched if not r.write]
    target = next(r for r in touched if r.write)
    text = f"{memory_name(plan, target.slot, target.offset)} = {call.label}({', '.join(operands)})"
    if call.label == "matmul":
        at = len([n for n in MATMUL_PARAMETERS[:MATMUL_PARAMETERS.index("m")] if "[" not in n]) + 4
        m, n, k = call.params[at:at + 3]
        text += f" with m={m}, n={n}, k={k}"
    return f"{text} in {call.units} part{'s' * (call.units != 1)}"


def _loop_text(plan: Plan, call: Call, kernel: LoopKernel) -> Iterator[str]:
    p = loop_parameters_of(call)
    names = [f"i{k}" if k < kernel.grid else f"j{k - kernel.grid}" for k in range(len(p.extents))]
    axis = len(p.extents) - 1 if kernel.vector == "inner" else kernel.grid - 1

    def heads(axes: Sequence[int]) -> str:
        return ", ".join(f"{names[k]} < {p.extents[k]}{' (vector)' * (k == axis)}" for k in axes)
    yield f"for {heads(range(kernel.grid))}:"
    shown: set[int] = set()
    for stage in kernel.stages:
        indent = "    "
        if stage.loop:
            yield f"    for {heads(range(kernel.grid, len(p.extents)))}:"
            indent = "        "
        for position in stage.body:
            v = kernel.values[position]
            if v.op in ("constant", "scalar") or (position in shown and v.op != "store"):
                continue
            shown.add(position)
            yield indent + _value_text(plan, kernel, p, names, position, v)
        shown = {q for q in shown if kernel.values[q].op == "reduce"}


def _value_text(plan: Plan, kernel: LoopKernel, p: LoopParameters, names: Sequence[str], position: int, v: Value) -> str:
    args = [_operand_text(kernel, a) for a in v.args]
    attr: Any = v.attr
    if v.op == "store":
        return f"{_access_text(plan, kernel, p, names, attr, [])} = {args[0]}"
    if v.op == "load":
        text = _access_text(plan, kernel, p, names, attr, [])
    elif v.op == "index_load":
        text = _access_text(plan, kernel, p, names, attr[0], args)
    elif v.op == "iota":
        text = _address_text(p.offsets[attr], p.strides[attr], names, [])
    elif v.op == "reduce":
        text = f"{attr} over {', '.join(names[kernel.grid:])} of {args[0]}"
    else:
        text = f"{v.op}{'' if v.attr is None else f'[{v.attr}]'}({', '.join(args)})"
    return f"%{position} = {text}: {v.dtype.name}"


def _operand_text(kernel: LoopKernel, position: int) -> str:
    v = kernel.values[position]
    return str(v.attr) if v.op == "constant" else f"number{v.attr}" if v.op == "scalar" else f"%{position}"


def _access_text(plan: Plan, kernel: LoopKernel, p: LoopParameters, names: Sequence[str], number: int,
                 indices: Sequence[str]) -> str:
    slot, offset = p.buffers[kernel.accesses[number].buffer]
    indirect = [f"{s}*{i}" if s != 1 else i for i, (s, _) in zip(indices, p.indirect[number], strict=False)]
    return f"{memory_name(plan, slot, offset)}[{_address_text(p.offsets[number], p.strides[number], names, indirect)}]"


def _address_text(offset: int, strides: Sequence[int], names: Sequence[str], indirect: Sequence[str]) -> str:
    terms = [f"{s}*{name}" if s != 1 else name for s, name in zip(strides, names, strict=True) if s]
    return " + ".join([*terms, *indirect, *([str(offset)] if offset or not (terms or indirect) else [])])
