"""Addresses of a loop kernel: parameters, loads and stores along the vector axis, data-dependent indices."""
from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from torsh.codegen.llvm.math_common import gather
from torsh.codegen.llvm.values import (
    WIDTH,
    cast,
    from_memory,
    load_vector,
    memory_element,
    scatter,
    store_vector,
    to_memory,
)
from torsh.codegen.llvm.writer import Operand, Writer, mangled
from torsh.compiler.kernel import BACK, ONE, SECOND, ZERO, Access, LoopKernel
from torsh.core.dtype import DType

_LOWEST = -(1 << 63)
_BAD_INDEX = 1          # code in the status words


@dataclass(slots=True)
class LaneGroup:
    """Where values are computed: ``lanes`` neighbours along the vector axis from index base + shift on; or one point
    (lanes 0). ``mask``: the lanes that exist, None if all do. ``values``: what is known, by position."""

    lanes: int = 0
    base: Operand | None = None
    shift: int = 0
    mask: Operand | None = None
    values: dict[int, Operand] = field(default_factory=dict)


@dataclass(slots=True)
class _Words:
    """Where an access's parameters are: offset, strides by axis, (stride, bound) of the indirect dimensions."""

    offset: int
    strides: dict[int, int]
    indirect: list[tuple[int, int]]


class Memory:
    """Memory access of one kernel. ``axes``: the current scalar indices of all axes but the vector axis."""

    def __init__(self, m: Writer, kernel: LoopKernel, lanes: int, vector_axis: int, axes: list[Operand | None]) -> None:
        self.m = m
        self.kernel = kernel
        self.lanes = lanes
        self.vector_axis = vector_axis
        self.axes = axes
        word = len(axes) + 2 * len(kernel.buffers)
        self.words: list[_Words] = []
        for access in kernel.accesses:
            strides: dict[int, int] = {}
            first, word = word, word + 1
            for axis in range(len(axes)):
                if access.axes >> axis & 1:
                    strides[axis], word = word, word + 1
            indirect = [(word + 2 * k, word + 2 * k + 1) for k in range(access.indirect)]
            word += 2 * access.indirect
            self.words.append(_Words(first, strides, indirect))
        self.first_scalar = word

    # ---- parameters --------------------------------------------------------------------------------------------------

    def parameter(self, word: int) -> Operand:
        """A parameter word."""
        return self.m.word(self.m.at(Operand(self.m, "%params", "ptr"), word, "i64"))

    def extent(self, axis: int) -> Operand:
        """Extent of an axis."""
        return self.parameter(axis)

    def _table(self, word: int, element: str) -> Operand:
        """The word of the table whose number is a parameter."""
        return self.m.word(self.m.at(Operand(self.m, "%table", "ptr"), self.parameter(word), "i64"), element)

    def number(self, scalar: int, element: str) -> Operand:
        """A Python number."""
        return self._table(self.first_scalar + scalar, element)

    def _buffer(self, number: int) -> Operand:
        word = len(self.axes) + 2 * number
        return self.m.at(self._table(word, "ptr"), self.parameter(word + 1), "i8")

    # ---- addresses ---------------------------------------------------------------------------------------------------

    def _motion(self, access: Access, number: int, group: LaneGroup) -> int:
        """How the access moves along the vector axis here."""
        moves = group.lanes and self.vector_axis in self.words[number].strides
        return access.vector if moves else ZERO

    def _address(self, number: int, group: LaneGroup, element: str) -> Operand:
        """Address of the (first) element, without indirect dimensions; grows from the outermost axis inwards.

        Of lanes that move backwards, the last one is first in memory.
        """
        m, access, words = self.m, self.kernel.accesses[number], self.words[number]
        pointer = m.at(self._buffer(access.buffer), self.parameter(words.offset), element)
        motion = self._motion(access, number, group)
        for axis, word in words.strides.items():
            if axis == self.vector_axis and group.lanes:
                assert group.base is not None
                if motion != ZERO:
                    index = (group.base if motion == ONE else -group.base if motion == BACK
                             else group.base * self.parameter(word))
                    pointer = m.at(pointer, index, element)
                continue
            index_or_none = self.axes[axis]
            if index_or_none is not None:
                pointer = m.at(pointer, index_or_none * self.parameter(word), element)
        if motion == ONE:
            pointer = m.at(pointer, group.shift, element)
        elif motion == BACK:
            pointer = m.at(pointer, 1 - group.lanes - group.shift, element)
        elif motion != ZERO and group.shift:
            pointer = m.at(pointer, self.parameter(words.strides[self.vector_axis]) * group.shift, element)
        return pointer

    def _lane_offsets(self, number: int) -> Operand:
        """Offsets of the lanes of a strided access."""
        stride = self.parameter(self.words[number].strides[self.vector_axis])
        return self.m.lane_numbers("i64", self.lanes) * self.m.splat(stride, self.lanes)

    # ---- loads and stores --------------------------------------------------------------------------------------------

    def load(self, number: int, group: LaneGroup) -> Operand:
        """The element of an access; a scalar if it does not move along the vector axis."""
        access = self.kernel.accesses[number]
        dtype = self.kernel.buffers[access.buffer]
        element = memory_element(self.m, dtype)
        address = self._address(number, group, element)
        return from_memory(self.m, self._fetch(number, address, element, group, group.mask), dtype)

    def _fetch(self, number: int, address: Operand, element: str, group: LaneGroup, mask: Operand | None) -> Operand:
        m, access = self.m, self.kernel.accesses[number]
        pinned = bool(self.kernel.written >> access.buffer & 1)
        motion = self._motion(access, number, group)
        if motion == ONE:
            return load_vector(m, address, element, group.lanes, mask, pinned)
        if motion == BACK:
            return m.reversed(load_vector(m, address, element, group.lanes, mask and m.reversed(mask), pinned))
        if motion == SECOND and group.lanes > 1:
            return self._load_second(address, element, group.lanes, mask, pinned)
        if motion != ZERO:
            address = m.at(address, self._lane_offsets(number), element)
            return self._gather(address, element, mask, pinned)
        text = f"load {element}, ptr {address.text}, align {WIDTH[element]}"
        return m.here(text, element) if pinned else m.pure(text, (address,), element)

    def _load_second(self, address: Operand, element: str, lanes: int, mask: Operand | None, pinned: bool) -> Operand:
        """Every second element, picked from two vectors: all that is read lies between elements that exist."""
        m, half = self.m, lanes // 2
        masks: list[Operand | None] = [None, None]
        if mask is not None:
            nobody = m.constant(False, "i1", lanes)
            masks = [m.pick(mask, nobody, [x // 2 if x % 2 == 0 else lanes for x in range(lanes)]),
                     m.pick(mask, nobody, [(x + lanes - 1) // 2 if x % 2 else lanes for x in range(lanes)])]
        low, high = (load_vector(m, m.at(address, at, element), element, lanes, own, pinned)
                     for at, own in zip((0, lanes - 1), masks, strict=True))
        return m.pick(low, high, [2 * x if x < half else 2 * x + 1 for x in range(lanes)])

    def _gather(self, addresses: Operand, element: str, mask: Operand | None, pinned: bool) -> Operand:
        m = self.m
        mask = mask or m.constant(True, "i1", addresses.lanes)
        if not pinned:
            return gather(m, addresses, element, WIDTH[element], mask)
        floor, m.floor = m.floor, len(m.scopes) - 1       # computed in this scope
        try:
            return gather(m, addresses, element, WIDTH[element], mask)
        finally:
            m.floor = floor

    def store(self, number: int, value: Operand, dtype: DType, group: LaneGroup) -> None:
        """Store a value of ``dtype`` through an access."""
        m, access = self.m, self.kernel.accesses[number]
        target = self.kernel.buffers[access.buffer]
        value = to_memory(m, cast(m, value, dtype, target), target)
        address = self._address(number, group, value.element)
        motion = self._motion(access, number, group)
        if motion == ONE:
            store_vector(m, m.splat(value, group.lanes), address, group.mask)
        elif motion == BACK:
            mask = group.mask and m.reversed(group.mask)
            store_vector(m, m.reversed(m.splat(value, group.lanes)), address, mask)
        elif motion != ZERO:
            addresses = m.at(address, self._lane_offsets(number), value.element)
            scatter(m, m.splat(value, group.lanes), addresses, group.mask)
        else:
            single = m.extract(value, 0) if value.lanes else value
            store_vector(m, single, address, None)

    def iota(self, number: int, group: LaneGroup) -> Operand:
        """offset + sum of axis index * stride."""
        m, access, words = self.m, self.kernel.accesses[number], self.words[number]
        result = self.parameter(words.offset)
        for axis, word in words.strides.items():
            index = self.axes[axis]
            if axis == self.vector_axis and group.lanes:
                if access.vector == ZERO:
                    continue
                assert group.base is not None
                index = group.base + group.shift
            if index is not None:
                one = axis == self.vector_axis and access.vector == ONE
                result = result + (index if one else index * self.parameter(word))
        motion = self._motion(access, number, group)
        if motion == ZERO:
            return result
        return result + (m.lane_numbers("i64", group.lanes) if motion == ONE else self._lane_offsets(number))

    # ---- data-dependent indices --------------------------------------------------------------------------------------

    def index_load(self, attr: Hashable, indices: Sequence[Operand], group: LaneGroup) -> Operand:
        """The element at data-dependent indices; zero, and a report in the status words, where one is out of range."""
        assert isinstance(attr, tuple)
        m, number = self.m, attr[0]
        access = self.kernel.accesses[number]
        dtype = self.kernel.buffers[access.buffer]
        element = memory_element(m, dtype)
        address = self._address(number, group, element)
        bad: Operand | None = None
        for index, (stride, bound) in zip(indices, self.words[number].indirect, strict=True):
            safe, wrong = self._checked(index, self.parameter(bound), group.mask)
            address = m.at(address, safe * self.parameter(stride), element)
            bad = wrong if bad is None else bad | wrong
        if bad is None:
            return self.load(number, group)
        if not address.lanes and self._motion(access, number, group) in (ZERO, ONE):
            address = m.select(bad, self._zeros(), address)
            return from_memory(m, self._fetch(number, address, element, group, group.mask), dtype)
        good = bad ^ True
        if self._motion(access, number, group) != ZERO:
            lanes = m.lane_numbers("i64", group.lanes)
            offsets = {ONE: lanes, BACK: m.reversed(lanes)}.get(access.vector) or self._lane_offsets(number)
            address = m.at(address, offsets, element)
        mask = m.both(m.splat(good, group.lanes), group.mask)
        return from_memory(m, self._gather(address, element, mask, bool(self.kernel.written >> access.buffer & 1)), dtype)

    def _zeros(self) -> Operand:
        """Memory that may be read in place of an element that does not exist."""
        self.m.globals["zeros"] = "@zeros = private unnamed_addr constant [512 x i8] zeroinitializer, align 64"
        return Operand(self.m, "@zeros", "ptr")

    def _checked(self, index: Operand, bound: Operand, mask: Operand | None) -> tuple[Operand, Operand]:
        """An index counted from the front, 0 where it is out of range; and where it is."""
        m = self.m
        key = ("checked", index.text, bound.text, mask.text if mask and index.lanes else None)
        depth = max(index.depth, bound.depth, mask.depth if mask and index.lanes else 0, m.floor)
        memo = m.scopes[depth].memo
        if key in memo:
            return memo[key]  # type: ignore[return-value]
        wrapped = m.select(m.compare("slt", index, 0), index + bound, index)
        bad = m.compare("uge", wrapped, bound)
        if mask is not None and index.lanes:
            bad = bad & mask
        m.hoisted(depth, lambda: m.when(m.any(bad), lambda: self._report(index, bound, bad), unlikely=True))
        memo[key] = result = m.select(bad, 0, wrapped), bad  # type: ignore[assignment]
        return result

    def _report(self, index: Operand, bound: Operand, bad: Operand) -> Sequence[Operand]:
        """Writes {code, index, size} into the status words."""
        m = self.m
        if index.lanes:
            name = f"@llvm.vector.reduce.smax.{mangled('i64', index.lanes)}"
            m.declare(f"i64 {name}({index.type})")
            chosen = m.select(bad, index, _LOWEST)
            index = m.pure(f"call i64 {name}({index.type} {chosen.text})", (chosen,), "i64", 0)
        status = Operand(m, "%status", "ptr")
        for word, value in enumerate((m.constant(_BAD_INDEX, "i64"), index, bound)):
            m.do(f"store i64 {value.text}, ptr {m.at(status, word, 'i64').text}, align 8")
        return []
