"""Checks of what the passes of the compiler hand to each other. They run in tests, and under ``TORSH_DEBUG=1``.

:func:`verify_lowered` looks at lowered expressions, :func:`verify_kernel` at a kernel's IR, and :func:`verify_plan` at whole
plans. The last one follows the memory: it knows every byte that a step reads and writes from the parameters of its call
(:mod:`~torsh.compiler.footprint`), and replays the program on bits that say whether a byte holds a value. All raise
CompileError with a message that names the step.
"""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any, Final

import numpy as np

from torsh.compiler.footprint import LoopParameters, Region, loop_parameters_of, regions
from torsh.compiler.graph import topological
from torsh.compiler.kernel import STRIDED, Call, LoopKernel, Stage, Value, grid_units, motion_of
from torsh.compiler.plan import HostStep, Plan, PlannedBuffer, table_memory
from torsh.compiler.preparations import position_problem, preparation_problem
from torsh.core.dtype import DType, bool_, float64, int64
from torsh.core.errors import CompileError
from torsh.ops.expr import COMPOSITE, ELEMENTWISE, TABLE, VARIABLE_OP, Expr

EXACT_BYTES: Final = 1 << 24        # memory up to which single bytes are followed, else whole buffers
_EXACT_WALK: Final = 1 << 22        # elements up to which a write is checked to meet none of them twice
_COMPARISONS: Final = frozenset(("eq", "ne", "lt", "le", "gt", "ge", "isnan", "isinf", "isfinite", "logical_not"))
_REDUCES: Final = frozenset(("sum", "prod", "max", "min", "argmax", "argmin"))
_SOURCES: Final = frozenset(("load", "scalar", "constant", "iota"))


# ---- expressions -------------------------------------------------------------------------------------------------------

def verify_lowered(outputs: Iterable[Expr]) -> None:
    """Only primitives are left, and the arguments of elementwise ones have one dtype."""
    for e in topological(outputs):
        if e.op.kind == COMPOSITE or e.op is VARIABLE_OP or e.op.name == "detach":
            raise CompileError(f"lowering left {e}: it is no primitive")
        if e.op.kind == ELEMENTWISE:
            args = e.args[1:] if e.op.name == "where" else e.args
            if len({a.dtype for a in args}) > 1 or (e.op.name == "where" and e.args[0].dtype is not bool_):
                raise CompileError(f"lowering left the arguments of {e} in different dtypes: {[a.dtype.name for a in e.args]}")
        elif e.op.name in ("sum", "prod") and e.args[0].dtype is not e.dtype:
            raise CompileError(f"lowering left {e} with an argument of {e.args[0].dtype.name}")


# ---- kernels -----------------------------------------------------------------------------------------------------------

def verify_kernel(kernel: LoopKernel, where: str = "kernel") -> None:
    """The IR of a loop kernel; ``where`` begins messages."""
    if kernel.grid < 1 or kernel.inner < 0 or kernel.vector not in ("grid", "inner"):
        raise CompileError(f"{where}: {kernel.grid} grid axes, {kernel.inner} inner axes and vectors along {kernel.vector!r}")
    if kernel.vector == "inner" and not kernel.inner:
        raise CompileError(f"{where}: vectors run along inner axes, but there are none")
    for number, a in enumerate(kernel.accesses):
        if not -1 <= a.buffer < len(kernel.buffers) or a.axes >> kernel.grid + kernel.inner:
            raise CompileError(f"{where}: access {number} names buffer {a.buffer} or axes {a.axes:b} that do not exist")
    for position, v in enumerate(kernel.values):
        problem = _value_problem(kernel, position, v)
        if problem:
            raise CompileError(f"{where}: value %{position} ({v.op}): {problem}")
    _verify_stages(kernel, where)
    written = 0
    for v in kernel.values:
        if v.op == "store":
            written |= 1 << kernel.accesses[v.attr].buffer  # type: ignore[call-overload]
    if written != kernel.written:
        raise CompileError(f"{where}: the set of written buffers is {kernel.written:b}, but {written:b} are stored to")


def _value_problem(kernel: LoopKernel, position: int, v: Value) -> str:
    if any(not 0 <= a < position for a in v.args):
        return f"arguments {v.args} are not all earlier values"
    args = [kernel.values[a] for a in v.args]
    if any(a.op == "store" for a in args):
        return "a store has no value"
    dtypes = [a.dtype for a in args]
    if v.op in ("load", "store", "index_load", "iota"):
        return _access_problem(kernel, v, dtypes)
    if v.op in _SOURCES:
        if dtypes:
            return "takes no arguments"
        if v.op == "scalar" and not (0 <= int(v.attr) < kernel.scalars and v.dtype in (bool_, int64, float64)):  # type: ignore
            return f"no scalar parameter {v.attr} of {v.dtype.name}"
        return ""
    if v.op == "reduce":
        expected = int64 if str(v.attr).startswith("arg") else dtypes[0] if dtypes else None
        return "" if v.attr in _REDUCES and len(dtypes) == 1 and v.dtype is expected else f"{v.attr} of {dtypes} to {v.dtype.name}"
    return _elementwise_problem(v, dtypes)


def _elementwise_problem(v: Value, dtypes: list[DType]) -> str:
    op = TABLE.get(v.op)
    if op is None or op.kind != ELEMENTWISE:
        return "is no elementwise primitive"
    if v.op == "cast":
        return "" if len(dtypes) == 1 else "takes one argument"
    operands = dtypes[1:] if v.op == "where" else dtypes
    if v.op == "where" and dtypes[0] is not bool_:
        return f"the condition is {dtypes[0].name}"
    if not operands or any(d is not operands[0] for d in operands):
        return f"arguments of different dtypes: {[d.name for d in dtypes]}"
    expected = bool_ if v.op in _COMPARISONS else operands[0]
    return "" if v.dtype is expected else f"is {v.dtype.name} where {expected.name} was expected"


def _access_problem(kernel: LoopKernel, v: Value, dtypes: list[DType]) -> str:
    attr: Any = v.attr
    number, indirect = attr if v.op == "index_load" else (attr, 0)
    if not 0 <= number < len(kernel.accesses):
        return f"no access {number}"
    access = kernel.accesses[number]
    if access.indirect != indirect or len(dtypes) != (indirect if v.op == "index_load" else v.op == "store"):
        return f"access {number} has {access.indirect} indirect dimensions, and there are {len(dtypes)} arguments"
    if v.op == "iota":
        return "" if access.buffer < 0 and v.dtype is int64 else "an int64 without a buffer is expected"
    if access.buffer < 0 or kernel.buffers[access.buffer] is not v.dtype:
        return f"access {number} is not to a buffer of {v.dtype.name}"
    if v.op == "index_load" and any(d is not int64 for d in dtypes):
        return f"indices are {[d.name for d in dtypes]}"
    return f"stores a {dtypes[0].name} as {v.dtype.name}" if v.op == "store" and dtypes[0] is not v.dtype else ""


def _verify_stages(kernel: LoopKernel, where: str) -> None:
    """Every stage holds what it needs, or earlier ones reduced it; stores and reductions happen once."""
    reduced: set[int] = set()
    done: list[int] = []
    for number, stage in enumerate(kernel.stages):
        if stage.loop and not kernel.inner:
            raise CompileError(f"{where}: stage {number} loops, but there are no inner axes")
        found = _stage_problem(kernel, stage, reduced)
        if found:
            raise CompileError(f"{where}: stage {number}: {found}")
        reduced.update(p for p in stage.body if kernel.values[p].op == "reduce")
        done += [p for p in stage.body if kernel.values[p].op in ("store", "reduce")]
    expected = [p for p, v in enumerate(kernel.values) if v.op in ("store", "reduce")]
    if sorted(done) != expected:
        raise CompileError(f"{where}: stages hold the stores and reductions {sorted(done)}, but {expected} are to be done")


def _stage_problem(kernel: LoopKernel, stage: Stage, reduced: set[int]) -> str:
    here: set[int] = set()
    for p in stage.body:
        v = kernel.values[p]
        if here and p <= max(here):
            return f"%{p} is out of order"
        missing = [a for a in v.args if a not in reduced and (a not in here or kernel.values[a].op == "reduce")]
        if missing:
            return f"%{p} ({v.op}) needs {missing}, which neither this stage nor an earlier reduction has"
        if v.op == "reduce" and not stage.loop:
            return f"%{p} reduces outside of a loop"
        here.add(p)
    return ""


# ---- calls of loop kernels ---------------------------------------------------------------------------------------------

def _verify_call(call: Call, plan: Plan) -> None:
    """Parameters of a loop kernel's call: their number, motions, table words, units; stores meet no element twice."""
    kernel = call.kernel
    assert isinstance(kernel, LoopKernel)
    verify_kernel(kernel)
    p = loop_parameters_of(call)
    words = 1 + plan.leaves + len(plan.output_bytes)
    if any(not 0 <= slot < words or offset < 0 for slot, offset in p.buffers):
        raise CompileError(f"buffers {p.buffers} are not all in a table of {words} buffers")
    numbers = plan.scalars + len(plan.tables) + len(plan.constants)
    if any(not words <= w < words + numbers for w in p.scalars):
        raise CompileError(f"scalar words {p.scalars} are not in [{words}, {words + numbers})")
    if any(n < 1 for n in p.extents):
        raise CompileError(f"extents {p.extents}")
    if call.units != grid_units(p.extents, kernel.grid, kernel.vector):
        raise CompileError(f"{call.units} work units for extents {p.extents}")
    axis = len(p.extents) - 1 if kernel.vector == "inner" else kernel.grid - 1
    for number, a in enumerate(kernel.accesses):
        stride = p.strides[number][axis]
        if a.vector != motion_of(stride) and not (a.vector == STRIDED and a.axes >> axis & 1):
            raise CompileError(f"access {number} says motion {a.vector}, but its stride along the vector axis is {stride}")
    _verify_stores(kernel, p)


def _verify_stores(kernel: LoopKernel, p: LoopParameters) -> None:
    loops = {q: stage.loop for stage in kernel.stages for q in stage.body if kernel.values[q].op == "store"}
    for q, loop in loops.items():
        number: Any = kernel.values[q].attr
        axes = len(p.extents) if loop else kernel.grid
        extents, strides = p.extents[:axes], p.strides[number][:axes]
        if any(p.strides[number][axes:]) or not _distinct(extents, strides):
            raise CompileError(f"the store %{q} meets elements twice: extents {extents}, strides {strides}")


def _distinct(extents: Sequence[int], strides: Sequence[int]) -> bool:
    """Does a strided walk meet every element once?"""
    pairs = sorted((abs(s), n) for n, s in zip(extents, strides, strict=True) if n > 1)
    reach = 0
    for stride, n in pairs:
        if stride <= reach:
            break
        reach += stride * (n - 1)
    else:
        return True
    if any(s == 0 for s, _ in pairs):
        return False
    if prod([n for _, n in pairs]) > _EXACT_WALK:
        return True
    places = np.zeros(1, np.int64)
    for stride, n in pairs:
        places = (places[:, None] + stride * np.arange(n)).reshape(-1)
    return len(np.unique(places)) == len(places)


# ---- plans -------------------------------------------------------------------------------------------------------------

def verify_plan(plan: Plan) -> None:
    """All steps of a plan, and the memory that they share."""
    for number, step in enumerate(plan.steps):
        if isinstance(step, Call) and isinstance(step.kernel, LoopKernel):
            _named(number, step, lambda step=step: _verify_call(step, plan))
    for number, step in enumerate(plan.steps):
        _named(number, step, lambda step=step: _refuse(position_problem(plan, step)))
    for number, step in enumerate(plan.steps):
        _named(number, step, lambda number=number: _refuse(preparation_problem(plan, number)))
    Replay(plan).run()


def _refuse(problem: str) -> None:
    if problem:
        raise CompileError(problem)


def _named(number: int, step: Call | HostStep, check: Any) -> None:
    """Run a check; its error names the step."""
    try:
        check()
    except CompileError as error:
        raise CompileError(f"step {number} ({step_name(step)}): {error}") from None


def step_name(step: Call | HostStep) -> str:
    """What a step is called in messages."""
    return f"host {step.op.name}" if isinstance(step, HostStep) else step.label


class Replay:
    """Runs a plan on bits instead of values: which bytes hold something."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.timed = [b for b in plan.buffers if b.first >= 0]
        self.limited = {0, *[b.slot for b in self.timed]}      # table words of memory that holds several buffers
        self.sizes: dict[int, int] = {b.slot: b.nbytes for b in plan.buffers if b.slot > 0}
        for number, nbytes in enumerate(plan.output_bytes):
            self.sizes[plan.output_word(number)] = nbytes
        tables = {plan.scalar_word(plan.scalars) + number: table_memory(key).nbytes for number, key in enumerate(plan.tables)}
        self.sizes.update(tables)
        self.sizes[0] = plan.scratch_bytes
        # Word of an output that replaces a leaf -> the leaf's word (leaves that nothing reads have none).
        self.replaced = {plan.output_word(n): plan.leaf_word(p) for n, p in plan.in_place if p < plan.leaves}
        self.filled: dict[int, Any] = {}           # table word -> a bit for every byte; empty for large programs
        if sum(self.sizes.values()) <= EXACT_BYTES:
            defined = {b.slot for b in plan.buffers if b.undefined} | set(self.replaced) | set(tables)
            self.filled = {slot: np.full(n, 0 < slot <= plan.leaves or slot in defined) for slot, n in self.sizes.items()}
        self.overwritten: dict[int, int] = {}      # word of a leaf -> the step that began to replace it

    def run(self) -> None:
        """All steps; then the outputs have to be there."""
        self._overlaps()
        for number, step in enumerate(self.plan.steps):
            _named(number, step, lambda number=number, step=step: self._step(number, step))
        for number, nbytes in enumerate(self.plan.output_bytes):
            if self.filled and nbytes and not self.filled[self.plan.output_word(number)].all():
                raise CompileError(f"output {number} is not written completely")

    def _overlaps(self) -> None:
        """Buffers that are in use at the same time lie apart, inside the arena or an output that nobody had before."""
        alive: list[PlannedBuffer] = []
        for b in sorted(self.timed, key=lambda b: b.first):
            alive = [a for a in alive if a.last >= b.first]
            for a in alive:
                if a.slot == b.slot and a.offset < b.offset + b.nbytes and b.offset < a.offset + a.nbytes:
                    raise CompileError(f"buffers {a} and {b} overlap while both are in use")
            if 0 < b.slot <= self.plan.leaves or b.slot in self.replaced:
                raise CompileError(f"buffer {b} borrows memory that holds a value")
            if b.offset < 0 or b.offset + b.nbytes > self.sizes[b.slot]:
                raise CompileError(f"buffer {b} is outside of the {'output' if b.slot else 'arena'} of {self.sizes[b.slot]} bytes")
            alive.append(b)

    def _step(self, number: int, step: Call | HostStep) -> None:
        if self.filled:
            for b in self.timed:
                if b.first == number:
                    self.filled[b.slot][b.offset:b.offset + b.nbytes] = b.undefined
        touched = regions(step)
        for r in touched:
            self._inside(number, r)
        for r in touched:
            if not r.write:
                self._read(number, r)
        for r in touched:
            if r.write:
                self._write(number, step, r, touched)

    def _inside(self, number: int, r: Region) -> None:
        """The region lies inside of one buffer, which is in use."""
        low, high = r.bounds
        if low == high:
            return
        if r.slot not in self.limited:
            if low < 0 or high > self.sizes.get(r.slot, 0):
                raise CompileError(f"bytes [{low}, {high}) of a buffer of {self.sizes.get(r.slot, 0)} bytes "
                                   f"{'written' if r.write else 'read'} (table word {r.slot})")
            return
        own = [b for b in self.timed if b.slot == r.slot]
        now = min(number, max((b.last for b in own), default=0))       # the last steps copy what is kept to the end
        if not any(b.offset <= low and high <= b.offset + b.nbytes and b.first <= now <= b.last for b in own):
            where = f"the memory of table word {r.slot}" if r.slot else "the scratch arena"
            raise CompileError(f"bytes [{low}, {high}) of {where} are in no buffer that is in use")

    def _bits(self, r: Region) -> Any:
        """The bits of a region's bytes, as a view (or None)."""
        if not self.filled or 0 in r.extents:
            return None
        bits = self.filled[r.slot]
        return np.lib.stride_tricks.as_strided(bits[r.offset:], (*r.extents, r.itemsize), (*r.strides, 1))

    def _read(self, number: int, r: Region) -> None:
        bits = self._bits(r)
        if bits is not None and not bits.all():
            raise CompileError(f"reads memory that nothing was written to (table word {r.slot}, bytes {r.bounds})")
        if r.slot in self.overwritten and 0 not in r.extents:
            raise CompileError(f"reads leaf {r.slot - 1}, which step {self.overwritten[r.slot]} has begun to replace")

    def _write(self, number: int, step: Call | HostStep, r: Region, touched: Sequence[Region]) -> None:
        if 0 < r.slot <= self.plan.leaves:
            raise CompileError(f"writes to leaf {r.slot - 1}")
        bits = self._bits(r)
        if bits is not None and r.all_of_it:
            bits[...] = True
        leaf = self.replaced.get(r.slot)
        if leaf is None or 0 in r.extents:
            return
        self.overwritten.setdefault(leaf, number)
        for other in touched:
            if other.slot == leaf and not other.write and not _safe_order(step, other, r):
                raise CompileError(f"replaces leaf {leaf - 1} while it reads other elements of it, or before it reads them")


def _safe_order(step: Call | HostStep, read: Region, write: Region) -> bool:
    """Does a kernel read an element of the leaf only at the point that replaces it, and before it does?"""
    if not isinstance(step, Call) or not isinstance(step.kernel, LoopKernel):
        return False
    if (read.offset, read.strides) != (write.offset, write.strides) or not read.all_of_it:
        return False
    kernel = step.kernel
    loads = {q for q, v in enumerate(kernel.values) if v.op == "load" and v.attr == read.access}
    stores = {q for q, v in enumerate(kernel.values) if v.op == "store" and v.attr == write.access}
    last_load = max((s, q) for s, stage in enumerate(kernel.stages) for q in stage.body if q in loads)
    first_store = min((s, q) for s, stage in enumerate(kernel.stages) for q in stage.body if q in stores)
    return last_load < first_store
