"""Groups -> loop kernels: inlined expressions become values, maps become strides, axes that move together become one."""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, Final

from torsh.compiler.affine import Form, Map, flat, identity
from torsh.compiler.assemble import Fusion
from torsh.compiler.inline import arguments, gather_maps, index_maps
from torsh.compiler.kernel import (
    Access,
    BufferRef,
    Call,
    LoopKernel,
    Stage,
    Value,
    grid_units,
    loop_parameters,
    motion_of,
)
from torsh.compiler.steps import Buffer, Group
from torsh.core.dtype import DType, bool_, float64, int64
from torsh.core.shape import contiguous_strides
from torsh.core.symbolic import Dim, Quotient
from torsh.ops.expr import CONSTANT_OP, SCALAR_OP, VIEW, Expr

_FOLDS: Final = {"sum": "sum", "prod": "prod", "amax": "max", "amin": "min", "argmax": "argmax", "argmin": "argmin"}
# Added to a negative index where negative ones are errors, so that it stays out of range when it is counted from the end.
REFUSED: Final = -(1 << 62)


def _is_common(value: float) -> bool:
    """A simple fraction up to 2 in size, an infinity or NaN."""
    return not abs(value) < math.inf or (abs(value) <= 2 and (value * 64).is_integer())


class _Access:
    """A memory access before the axes are simplified."""

    __slots__ = ("buffer", "form", "indirect", "dtype")

    def __init__(self, buffer: Buffer | None, dtype: DType, form: Form, indirect: tuple[tuple[int, int], ...]) -> None:
        self.buffer = buffer
        self.dtype = dtype
        self.form = form
        self.indirect = indirect


class KernelBuilder:
    """Builds the kernel and the call of one group."""

    def __init__(self, fusion: Fusion, group: Group, place: Callable[[Buffer], BufferRef],
                 scalar_word: Callable[[int], int], constant_word: Callable[[float], int]) -> None:
        self.fusion = fusion
        self.graph = fusion.graph
        self.group = group
        self.place = place
        self.scalar_word = scalar_word
        self.constant_word = constant_word
        self.extents = group.extents
        self.axes = len(self.extents)
        self.inner = [d in group.reduced for d, parts in enumerate(group.factors) for _ in parts]
        self.values: list[Value] = []
        self.levels: list[int] = []              # reductions that a value depends on, one after the other
        self.memo: dict[Any, int] = {}
        self.accesses: list[_Access] = []
        self.access_numbers: dict[Any, int] = {}
        self.follows: dict[int, set[int]] = {}      # accesses at positions that are data: the accesses that tell where
        self.scalars: list[int] = []
        self.reductions: list[int] = []
        self.full_stores: list[int] = []
        self.grid_stores: list[int] = []

    # ---- values --------------------------------------------------------------------------------------------------------

    def add(self, op: str, dtype: DType, args: tuple[int, ...] = (), attr: Any = None) -> int:
        """A value; equal ones are shared."""
        key = (op, dtype, args, repr(attr) if op == "constant" else attr)
        found = self.memo.get(key)
        if found is None:
            found = self.memo[key] = len(self.values)
            self.values.append(Value(op, dtype, args, attr))
            self.levels.append(max([self.levels[a] for a in args], default=0))
        return found

    def access(self, buffer: Buffer | None, dtype: DType, form: Form, indirect: tuple[tuple[int, int], ...] = ()) -> int:
        """The number of an access."""
        key = (buffer, form, indirect)
        found = self.access_numbers.get(key)
        if found is None:
            found = self.access_numbers[key] = len(self.accesses)
            self.accesses.append(_Access(buffer, dtype, form, indirect))
        return found

    def value(self, e: Expr, forms: Map) -> int:
        """The value of an expression at the points of a map."""
        base, address, where = self.graph.look(e, forms, self.extents)
        key = (base, address if where is None else where)
        found = self.memo.get(key)
        if found is None:
            found = self.memo[key] = self._value(base, address, where)
        return found

    def _value(self, e: Expr, address: Form, forms: Map | None) -> int:
        member = self.group.canonical.get(e)
        if member is not None and forms == member:
            return self.member(e)
        if self.graph.in_memory(e):
            if forms is not None:
                address = flat(forms, contiguous_strides(e.shape), self.axes)
            return self.add("load", e.dtype, attr=self.access(self.fusion.buffer_of(e), e.dtype, address))
        assert forms is not None
        return self.computed(e, forms)

    def member(self, e: Expr) -> int:
        """The value of a member of this group."""
        key = ("member", e)
        found = self.memo.get(key)
        if found is None:
            forms = self.group.canonical[e]
            if e.op.kind == "reduction":
                found = self._reduction(e)
            elif e.op.kind == VIEW:
                base, address, where = self.graph.look(e, forms, self.extents, True)
                found = self._value(base, address, where)
            else:
                found = self.computed(e, forms)
            self.memo[key] = found
        return found

    def _reduction(self, e: Expr) -> int:
        a = e.args[0]
        argument = self.value(a, identity(self.group.factors))
        position = self.add("reduce", e.dtype, (argument,), _FOLDS[e.op.name])
        if position not in self.reductions:
            self.levels[position] = self.levels[argument] + 1
            self.reductions.append(position)
        return position

    def computed(self, e: Expr, forms: Map) -> int:
        """The value of an inlined expression."""
        name = e.op.name
        if e.op is CONSTANT_OP:
            return self._constant(e.attr[0], e.dtype)  # type: ignore[index]
        if e.op is SCALAR_OP:
            return self._scalar(self.scalar_word(e.attr), e.dtype)  # type: ignore[arg-type]
        if name == "iota":
            return self.add("iota", int64, attr=self.access(None, int64, forms[e.attr[1]]))  # type: ignore[index]
        if name in ("index", "gather"):
            return self._indexed(e, forms)
        args = tuple([self.value(a, where) for a, where in arguments(e, forms, self.axes) if where is not None])
        return self.add(name, e.dtype, args, e.attr if name == "philox" else None)

    def _scalar(self, word: int, dtype: DType) -> int:
        """A number in a word of the table."""
        if word not in self.scalars:
            self.scalars.append(word)
        return self.add("scalar", dtype, attr=self.scalars.index(word))

    def _constant(self, value: Any, dtype: DType) -> int:
        """A number that is part of the program. Those that may come from sizes are no part of the kernel."""
        if dtype.category != 2 or (type(value) is not Quotient and _is_common(value)):
            return self.add("constant", dtype, attr=int(value) if type(value) is Dim else value)
        number = self._scalar(self.constant_word(value), float64)
        return number if dtype is float64 else self.add("cast", dtype, (number,))

    def _indexed(self, e: Expr, forms: Map) -> int:
        """A read at positions that are data."""
        base, offset, strides = self.graph.geometry(e.args[0])
        indices = [self.value(a, where) for a, where in arguments(e, forms, self.axes) if where is not None]
        if e.op.name == "gather":
            dims: tuple[int, ...] = (e.attr,)  # type: ignore[assignment]
            plain = gather_maps(e, forms)
            zero, refused = self.add("constant", int64, attr=0), self.add("constant", int64, attr=REFUSED)
            negative = self.add("lt", bool_, (indices[0], zero))
            indices = [self.add("where", int64, (negative, self.add("add", int64, (indices[0], refused)), indices[0]))]
        else:
            dims = e.attr  # type: ignore[assignment]
            plain, _ = index_maps(e, forms)
        if not e.args[0].shape:              # gather from a number
            strides, dims = (0,), (0,)
        form = flat(tuple(plain.values()), [strides[d] for d in plain], self.axes) if plain else (0,) * (self.axes + 1)
        bounds = e.args[0].shape or (1,)
        indirect = tuple([(strides[d], bounds[d]) for d in dims])
        number = self.access(self.fusion.buffer_of(base), base.dtype, (form[0] + offset, *form[1:]), indirect)
        self.follows.setdefault(number, set()).update(self._accesses_of(indices))
        return self.add("index_load", e.dtype, tuple(indices), (number, len(dims)))

    def _accesses_of(self, positions: Sequence[int]) -> set[int]:
        """The accesses, and what counts, that values depend on."""
        found = set()
        for p in self._body(positions, set()):
            value: Any = self.values[p]
            if value.op in ("load", "iota"):
                found.add(value.attr)
            elif value.op == "index_load":
                found |= {value.attr[0], *self.follows.get(value.attr[0], ())}
        return found

    # ---- stores and stages -----------------------------------------------------------------------------------------------

    def build(self) -> Call:
        """The call."""
        group = self.group
        # Stores come after all values, so that what is stored in place of a leaf is not read instead of it.
        positions = {m: self.member(m) for m in group.members}
        stored = [m for m in group.members if m in group.stores]
        late = self._last_read(stored, positions)
        for m in stored:
            target = self.fusion.target_of(m)
            form = flat(group.canonical[m], target.strides, self.axes)
            number = self.access(target.buffer, m.dtype, (form[0] + target.offset, *form[1:]))
            level = self.levels[positions[m]]
            self.values.append(Value("store", m.dtype, (positions[m],), number))
            self.levels.append(max(level, late) if self._replaced(m) is not None else level)
            (self.grid_stores if m in group.grid_level else self.full_stores).append(len(self.values) - 1)
        return self._call(self._stages())

    def _replaced(self, m: Expr) -> int | None:
        """The leaf that a member of the full space is stored in place of."""
        return None if m in self.group.grid_level else self.fusion.in_place.get(self.fusion.target_of(m).buffer.output)

    def _last_read(self, stored: Sequence[Expr], positions: Mapping[Expr, int]) -> int:
        """The last level whose loop reads a leaf that this kernel replaces: not before that may it be replaced."""
        leaves = {self._replaced(m) for m in stored} - {None}
        if not leaves or not self.group.reduced:
            return 0
        loads = {p for p, v in enumerate(self.values) if v.op == "load" and self._leaf_of(v) in leaves}
        loops = [(p, self.levels[p] - 1) for p in self.reductions]
        loops += [(positions[m], self.levels[positions[m]]) for m in stored if m not in self.group.grid_level]
        reductions = set(self.reductions)
        return max([level for p, level in loops if not loads.isdisjoint(self._body((p,), reductions - {p}))], default=0)

    def _leaf_of(self, load: Value) -> int:
        """The leaf position that a load reads from, or -1."""
        buffer = self.accesses[load.attr].buffer  # type: ignore[call-overload]
        return -1 if buffer is None else buffer.leaf

    def _stages(self) -> tuple[Stage, ...]:
        if not self.group.reduced:
            return (Stage(False, self._body(self.full_stores, set())),)
        stages = []
        done: set[int] = set()
        for level in range(max(self.levels, default=0) + 1):
            roots = [p for p in self.reductions if self.levels[p] == level + 1]
            roots += [p for p in self.full_stores if self.levels[p] == level]
            if roots:
                stages.append(Stage(True, self._body(sorted(roots), done)))
                done.update(r for r in roots if self.values[r].op == "reduce")
        if self.grid_stores:
            stages.append(Stage(False, self._body(self.grid_stores, done)))
        return tuple(stages)

    def _body(self, roots: Sequence[int], done: set[int]) -> tuple[int, ...]:
        """The roots and the values that they need, in order."""
        needed: set[int] = set()
        stack = list(roots)
        while stack:
            p = stack.pop()
            if p not in needed and p not in done:
                needed.add(p)
                stack.extend(self.values[p].args)
        return tuple(sorted(needed))

    # ---- axes ----------------------------------------------------------------------------------------------------------

    def _call(self, stages: tuple[Stage, ...]) -> Call:
        positional = any(v.op == "reduce" and str(v.attr).startswith("arg") for v in self.values)
        grid, inner = self._simplified(False), self._simplified(True)
        if self.group.reduced and not inner:        # nothing but dimensions of size 1 are reduced
            inner = [(1, [0] * len(self.accesses))]
        vector = "inner" if inner and self._inner_vector(grid, inner) else "grid"
        if not positional:
            inner = self._best_last(inner, vector == "inner")
        grid = self._best_last(grid, vector == "grid")
        if not grid:
            grid = [(1, [0] * len(self.accesses))]
        axes = grid + inner
        vector_axis = len(axes) - 1 if vector == "inner" else len(grid) - 1
        buffers = list({a.buffer: None for a in self.accesses if a.buffer is not None})
        dtypes = {a.buffer: a.dtype for a in self.accesses}
        number_of = {b: n for n, b in enumerate(buffers)}
        accesses, words = [], []
        for k, a in enumerate(self.accesses):
            strides = [moves[k] for _, moves in axes]
            bits = sum(1 << x for x, s in enumerate(strides) if s)
            accesses.append(Access(-1 if a.buffer is None else number_of[a.buffer], motion_of(strides[vector_axis]), bits, len(a.indirect)))
            words.append((a.form[0], tuple([s for s in strides if s]), a.indirect))
        written = 0
        for p in (*self.full_stores, *self.grid_stores):
            written |= 1 << accesses[self.values[p].attr].buffer  # type: ignore[call-overload]
        extents = tuple([n for n, _ in axes])
        kernel = LoopKernel(len(grid), len(inner), vector, tuple([dtypes[b] for b in buffers]), written, tuple(accesses),
                            len(self.scalars), tuple(self.values), stages)
        params = loop_parameters(extents, [self.place(b) for b in buffers], words, self.scalars)
        cost = prod(extents) * max(1, len(self.values) // 4)
        return Call(kernel, params, grid_units(extents, len(grid), vector), cost, self._label())

    def _label(self) -> str:
        names = list(dict.fromkeys(v.op for v in self.values if v.op not in ("load", "store", "constant", "scalar", "cast")))
        return "+".join(names[:8]) + ("+..." if len(names) > 8 else "") or "copy"

    def _simplified(self, inner: bool) -> list[tuple[int, list[int]]]:
        """(extent, motion of every access) of the grid or inner axes; neighbours that all accesses walk as one are merged."""
        result: list[tuple[int, list[int]]] = []
        for axis in range(self.axes):
            n = self.extents[axis]
            if self.inner[axis] != inner or n == 1:
                continue
            moves = [a.form[1 + axis] for a in self.accesses]
            if result and all(o == m * n for o, m in zip(result[-1][1], moves, strict=True)):
                result[-1] = (result[-1][0] * n, moves)
            else:
                result.append((n, moves))
        return result

    def _unit_steps(self, axis: tuple[int, list[int]], axes: Sequence[tuple[int, list[int]]]) -> int:
        """How often memory is accessed element by element along the axis; stores count twice.

        An access is done once for each point of the axes up to the last one that it, or an index that it reads at, moves along;
        further in it is hoisted. Reads at positions that change along the axis count against it: each element is one of its own.
        """
        stored = {self.values[p].attr for p in (*self.full_stores, *self.grid_stores)}
        total = 0
        for k, a in enumerate(self.accesses):
            indices = self.follows.get(k, ())
            scattered = any(axis[1][f] for f in indices)
            if (scattered or abs(axis[1][k]) == 1) and a.buffer is not None:
                followed = (k, *indices)
                last = max(x for x, (_, moves) in enumerate(axes) if any(moves[f] for f in followed))
                total += prod([n for n, _ in axes[:last + 1]]) * (-1 if scattered else 2 if k in stored else 1)
        return total

    def _inner_vector(self, grid: list[tuple[int, list[int]]], inner: list[tuple[int, list[int]]]) -> bool:
        """Should vectors run along an inner axis? Not if memory runs along the grid, or if that axis is too short."""
        axes = grid + inner
        along = max(self._unit_steps(axis, axes) * (axis[0] >= 8) for axis in inner)
        across = max((self._unit_steps(axis, axes) * (axis[0] >= 8) for axis in grid), default=0)
        if not along and not across:
            longest = max(n for n, _ in inner)
            return longest >= 16 or longest >= max((n for n, _ in grid), default=1)
        return along >= across

    def _best_last(self, axes: list[tuple[int, list[int]]], vector: bool) -> list[tuple[int, list[int]]]:
        """The axes with the one that memory runs along at the end, if vectors run along it."""
        if not vector or len(axes) < 2:
            return axes
        scores = [self._unit_steps(axis, axes) * (2 if axis[0] >= 8 else 1) for axis in axes]
        best = max(range(len(axes)), key=lambda k: (scores[k], k))
        return axes if best == len(axes) - 1 else [*axes[:best], *axes[best + 1:], axes[best]]
