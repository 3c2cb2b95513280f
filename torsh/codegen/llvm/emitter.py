"""Loop kernels as LLVM text: the grid, the loops over the inner axes, vectors with a masked tail.

The units of work [begin, end) are walked row by row of the last grid axis, with counters that carry. Where every value is
computed follows from its operands (:mod:`writer`); what does not move along the vector axis is a scalar.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from torsh.codegen.llvm.access import LaneGroup, Memory
from torsh.codegen.llvm.elementwise import apply
from torsh.codegen.llvm.reduce import Reduction
from torsh.codegen.llvm.schedule import Schedule, schedule
from torsh.codegen.llvm.values import cast, constant
from torsh.codegen.llvm.writer import Operand, Writer
from torsh.compiler.kernel import GRID_BLOCK, LoopKernel, Stage
from torsh.core.dtype import bool_, float64, int64

if TYPE_CHECKING:
    from torsh.codegen.llvm.target import Target

Accumulators = list[list[list[Operand]]]     # by group of lanes, by reduction, its operands
VectorBody = Callable[[list[LaneGroup], list[Operand]], Sequence[Operand]]
Nest = Callable[[int, list[Operand]], list[Operand]]


def generate_loop(kernel: LoopKernel, target: Target, symbol: str) -> str:
    """The text of a module with one function ``symbol`` that runs the kernel."""
    return LoopEmitter(kernel, target).generate(symbol)


def capabilities(target: Target) -> tuple[bool, bool, bool]:
    """(fused multiply-add, AVX-512, float16 conversions) of a target."""
    features = {f for f in target.features.split(",")}
    x86 = target.triple.startswith(("x86", "i686", "amd64"))
    wide = bool(target.has_avx512)
    return (not x86 or wide or "+fma" in features), wide, (not x86 or wide or "+f16c" in features)


class LoopEmitter:
    """Emits one kernel."""

    def __init__(self, kernel: LoopKernel, target: Target) -> None:
        self.kernel = kernel
        self.target = target
        self.m = Writer(*capabilities(target))
        self.plan: Schedule = schedule(kernel, 8 * target.lanes(8))
        self.axes: list[Operand | None] = [None] * (kernel.grid + kernel.inner)
        self.vector_axis = len(self.axes) - 1 if kernel.vector == "inner" else kernel.grid - 1
        self.memory = Memory(self.m, kernel, self.plan.lanes, self.vector_axis, self.axes)
        self.begin, self.end = (Operand(self.m, name, "i64") for name in ("%begin", "%end"))

    def generate(self, symbol: str) -> str:
        """The text of the module."""
        self._rows()
        # The stack aligned for whole registers: spilled vectors must not cross cache lines
        attributes = f"alignstack={max(16, 8 * self.target.lanes(8))}"
        if self.m.wide:
            attributes += ' "prefer-vector-width"="512" "min-legal-vector-width"="512"'
        head = f'target triple = "{self.target.triple}"\n'
        layout = getattr(self.target, "data_layout", "")
        if layout:
            head = f'target datalayout = "{layout}"\n' + head
        return head + self.m.render(symbol, attributes)

    # ---- the grid ----------------------------------------------------------------------------------------------------

    def _rows(self) -> None:
        """Walks the units: pieces of rows of the last grid axis."""
        m, kernel = self.m, self.kernel
        block = GRID_BLOCK if kernel.vector == "grid" else 1
        last = self.memory.extent(kernel.grid - 1)
        if kernel.grid == 1:
            self._row(self.begin * block, self._smaller(self.end * block, last) if block > 1 else self.end)
            return
        blocks = m.binary("udiv", last + (block - 1), m.constant(block, "i64")) if block > 1 else last
        row, first = m.binary("udiv", self.begin, blocks), m.binary("urem", self.begin, blocks)
        counters: list[Operand] = []
        for axis in reversed(range(kernel.grid - 1)):
            extent = self.memory.extent(axis)
            counters.insert(0, m.binary("urem", row, extent) if axis else row)
            row = m.binary("udiv", row, extent) if axis else row

        def piece(carried: list[Operand]) -> tuple[Operand, Sequence[Operand]]:
            position, start, *indices = carried
            self.axes[:kernel.grid - 1] = indices
            count = self._smaller(blocks - start, self.end - position)
            stop = (start + count) * block
            self._row(start * block, self._smaller(stop, last) if block > 1 else stop)
            position = position + count
            return m.compare("slt", position, self.end), [position, m.constant(0, "i64"), *self._advanced(indices)]

        m.repeat([self.begin, first, *counters], piece)

    def _smaller(self, a: Operand, b: Operand) -> Operand:
        return self.m.select(self.m.compare("slt", a, b), a, b)

    def _advanced(self, indices: list[Operand]) -> list[Operand]:
        """The indices of the next row: an odometer."""
        m, result = self.m, list(indices)
        carry: Operand | None = None
        for axis in reversed(range(len(indices))):
            up = indices[axis] + (1 if carry is None else m.convert("zext", carry, "i64"))
            carry = m.compare("eq", up, self.memory.extent(axis))
            result[axis] = m.select(carry, 0, up) if axis else up
        return result

    def _row(self, low: Operand, high: Operand) -> None:
        """The grid points [low, high) of the last axis."""
        m = self.m
        if self.kernel.vector == "inner":
            def point(index: Operand, _: list[Operand]) -> list[Operand]:
                self.axes[self.kernel.grid - 1] = index
                self._points([LaneGroup()])
                return []

            m.loop(low, high, 1, point)
            return
        self._vectors(low, high, self.plan.grid_unroll, [], self._vector_points)

    def _vectors(self, low: Operand, high: Operand, unroll: int, carried: list[Operand],
                 body: VectorBody) -> list[Operand]:
        """Vectors over [low, high): ``unroll`` at once, then single ones, then one that is masked.

        body(groups, carried): carried belongs to ``unroll`` groups; it gets the share of the groups it is called with.
        """
        m, lanes = self.m, self.plan.lanes
        share = len(carried) // unroll
        middle = low
        for times in dict.fromkeys((unroll, 1)):
            stop = low + ((high - low) & -(lanes * times))

            def whole(index: Operand, values: list[Operand], times: int = times) -> Sequence[Operand]:
                return body([LaneGroup(lanes, index, lanes * u) for u in range(times)], values)

            carried = m.loop(middle, stop, lanes * times, whole, carried[:share * times]) + carried[share * times:]
            middle = stop

        def masked() -> Sequence[Operand]:
            left = m.convert("trunc", high - middle, f"i{self.plan.mask_bits}")
            mask = m.compare("ult", m.lane_numbers(left.element, lanes), left)
            return body([LaneGroup(lanes, middle, 0, mask)], carried[:share])

        return m.when(m.compare("slt", middle, high), masked, carried[:share]) + carried[share:]

    def _vector_points(self, groups: list[LaneGroup], carried: list[Operand]) -> list[Operand]:
        self._points(groups)
        return carried

    # ---- the stages of grid points -----------------------------------------------------------------------------------

    def _points(self, groups: list[LaneGroup]) -> None:
        """All stages, for groups of neighbouring grid points (a scalar "group" if the vectors run along an inner axis)."""
        for stage, unroll in zip(self.kernel.stages, self.plan.inner_unroll, strict=True):
            if not stage.loop:
                for group in groups:
                    self._body(stage, group, group.values)
            elif self.kernel.vector == "inner":
                self._inner_vectors(stage, groups[0], unroll)
            else:
                self._inner_loops(stage, groups)

    def _reductions(self, stage: Stage) -> dict[int, Reduction]:
        """The reductions of a stage by the positions of their values."""
        result: dict[int, Reduction] = {}
        for position in stage.body:
            value = self.kernel.values[position]
            if value.op == "reduce":
                kind = str(value.attr)
                dtype = self.kernel.values[value.args[0]].dtype if kind.startswith("arg") else value.dtype
                result[position] = Reduction(self.m, kind, dtype)
        return result

    def _inner_loops(self, stage: Stage, groups: list[LaneGroup]) -> None:
        """The inner axes as loops around groups of lanes, each with accumulators of its own."""
        reductions = self._reductions(stage)
        start = [[r.initial(group.lanes) for r in reductions.values()] for group in groups]

        def body(state: Accumulators) -> Accumulators:
            position = self._position(None)
            return [self._step(stage, group, reductions, accumulators, position)
                    for group, accumulators in zip(groups, state, strict=True)]

        def nest(axis: int, flat: list[Operand]) -> list[Operand]:
            if axis == len(self.axes):
                return _flat(body(_shaped(flat, start)))
            return self._axis_loop(axis, flat, nest)

        final = _shaped(nest(self.kernel.grid, _flat(start)), start)
        for group, accumulators in zip(groups, final, strict=True):
            for (position, reduction), accumulator in zip(reductions.items(), accumulators, strict=True):
                group.values[position] = reduction.result(accumulator)

    def _inner_vectors(self, stage: Stage, point: LaneGroup, unroll: int) -> None:
        """The inner axes as loops, the last one in vectors; several accumulators hide the latency of a reduction."""
        m, reductions = self.m, self._reductions(stage)
        start = [[r.initial(self.plan.lanes) for r in reductions.values()] for _ in range(unroll)]

        def vectors(groups: list[LaneGroup], flat: list[Operand]) -> list[Operand]:
            state = _shaped(flat, start[:len(groups)])
            result: Accumulators = []
            for group, accumulators in zip(groups, state, strict=True):
                group.values = dict(point.values)
                position = self._position(group) if any(r.located for r in reductions.values()) else None
                result.append(self._step(stage, group, reductions, accumulators, position))
            return _flat(result)

        def nest(axis: int, flat: list[Operand]) -> list[Operand]:
            if axis == self.vector_axis:
                return self._vectors(m.constant(0, "i64"), self.memory.extent(axis), unroll, flat, vectors)
            return self._axis_loop(axis, flat, nest)

        final = _shaped(nest(self.kernel.grid, _flat(start)), start)
        for number, (position, reduction) in enumerate(reductions.items()):
            folded = reduction.folded([accumulators[number] for accumulators in final])
            point.values[position] = reduction.result(reduction.across_lanes(folded))

    def _axis_loop(self, axis: int, flat: list[Operand], nest: Nest) -> list[Operand]:
        """A loop over an inner axis around what ``nest`` emits for the next one."""
        def body(index: Operand, values: list[Operand]) -> list[Operand]:
            self.axes[axis] = index
            return nest(axis + 1, values)

        result = self.m.loop(self.m.constant(0, "i64"), self.memory.extent(axis), 1, body, flat)
        self.axes[axis] = None
        return result

    def _position(self, group: LaneGroup | None) -> Operand:
        """Row-major position within the inner axes (a vector if their last one is the vector axis)."""
        m = self.m
        result = m.constant(0, "i64")
        for axis in range(self.kernel.grid, len(self.axes)):
            extent = self.memory.extent(axis)
            scaled = result if result.constant == 0 else result * extent
            index = self.axes[axis]
            if group is not None and axis == self.vector_axis:
                assert group.base is not None
                index = group.base + group.shift
            assert index is not None
            result = index if scaled.constant == 0 else scaled + index
        return result if group is None else result + m.lane_numbers("i64", group.lanes)

    def _step(self, stage: Stage, group: LaneGroup, reductions: dict[int, Reduction], accumulators: list[list[Operand]],
              position: Operand | None) -> list[list[Operand]]:
        """The body of a loop stage once: the accumulators after it."""
        local = dict(group.values)
        self._body(stage, group, local)
        mask = group.mask if self.kernel.vector == "inner" else None
        result: list[list[Operand]] = []
        for (number, reduction), accumulator in zip(reductions.items(), accumulators, strict=True):
            argument = self.kernel.values[number].args[0]
            value = cast(self.m, self.value(argument, group, local), self.kernel.values[argument].dtype, reduction.dtype)
            result.append(reduction.update(accumulator, value, position, mask))
        return result

    # ---- values ------------------------------------------------------------------------------------------------------

    def _body(self, stage: Stage, group: LaneGroup, values: dict[int, Operand]) -> None:
        for position in stage.body:
            value = self.kernel.values[position]
            if value.op == "store":
                operand = value.args[0]
                assert isinstance(value.attr, int)
                self.memory.store(value.attr, self.value(operand, group, values), self.kernel.values[operand].dtype, group)
            elif value.op != "reduce":
                self.value(position, group, values)

    def value(self, position: int, group: LaneGroup, values: dict[int, Operand]) -> Operand:
        """The operand of a value, emitted when it is first needed."""
        found = values.get(position)
        if found is None:
            found = values[position] = self._emit(position, group, values)
        return found

    def _emit(self, position: int, group: LaneGroup, values: dict[int, Operand]) -> Operand:
        value, all_values = self.kernel.values[position], self.kernel.values
        if value.op == "constant":
            return constant(self.m, value.attr, value.dtype)
        if value.op == "scalar":
            return self._scalar(position)
        args = [self.value(a, group, values) for a in value.args]
        if value.op in ("load", "iota"):
            assert isinstance(value.attr, int)
            return self.memory.load(value.attr, group) if value.op == "load" else self.memory.iota(value.attr, group)
        if value.op == "index_load":
            return self.memory.index_load(value.attr, args, group)
        source = all_values[value.args[-1]].dtype
        if value.op == "cast":
            return cast(self.m, args[0], source, value.dtype)
        return apply(self.m, value.op, value.dtype, source, args, value.attr)

    def _scalar(self, position: int) -> Operand:
        """A Python number from the table."""
        value = self.kernel.values[position]
        assert isinstance(value.attr, int)
        if value.dtype.is_floating_point:
            return cast(self.m, self.memory.number(value.attr, "double"), float64, value.dtype)
        return cast(self.m, self.memory.number(value.attr, "i64"), int64, bool_ if value.dtype is bool_ else value.dtype)


def _flat(state: Accumulators) -> list[Operand]:
    return [operand for group in state for accumulator in group for operand in accumulator]


def _shaped(flat: Sequence[Operand], model: Accumulators) -> Accumulators:
    """The operands in the nesting of ``model``."""
    source = iter(flat)
    return [[[next(source) for _ in accumulator] for accumulator in group] for group in model]
