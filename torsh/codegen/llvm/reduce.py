"""Reductions of loop kernels: accumulators, their update, and how accumulators and lanes are folded into one."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from torsh.codegen.llvm.elementwise import extremum
from torsh.codegen.llvm.values import REGISTER, is_narrow, rounded
from torsh.codegen.llvm.writer import Operand, Writer
from torsh.core.dtype import DType, bool_

_NOWHERE: Final = (1 << 63) - 1     # position of an accumulator that has seen nothing


class Reduction:
    """One reduction: ``kind`` as in the kernel IR, of values of ``dtype``. An accumulator is a list of operands:
    the value, and for argmax and argmin its position."""

    def __init__(self, m: Writer, kind: str, dtype: DType) -> None:
        self.m = m
        self.kind = kind
        self.dtype = dtype
        self.located = kind.startswith("arg")
        self.largest = kind in ("max", "argmax")

    def initial(self, lanes: int) -> list[Operand]:
        """An accumulator that has seen nothing."""
        value = self.m.constant(self._identity(), REGISTER[self.dtype.name], lanes)
        return [value, self.m.constant(_NOWHERE, "i64", lanes)] if self.located else [value]

    def _identity(self) -> float | int | bool:
        if self.kind in ("sum", "prod"):
            return 1 if self.kind == "prod" else 0
        if self.dtype.is_floating_point:
            return float("-inf") if self.largest else float("inf")
        if self.dtype is bool_:
            return not self.largest
        width = self.dtype.itemsize * 8
        low, high = (-(1 << (width - 1)), (1 << (width - 1)) - 1) if self.dtype.is_signed else (0, (1 << width) - 1)
        return low if self.largest else high

    def update(self, accumulator: Sequence[Operand], value: Operand, position: Operand | None,
               mask: Operand | None) -> list[Operand]:
        """The accumulator after one more value per lane of the mask."""
        m = self.m
        value = m.splat(value, accumulator[0].lanes)
        if self.located:
            assert position is not None
            fresh = m.compare("eq", accumulator[1], _NOWHERE)
            takes = self._better(value, accumulator[0]) | fresh
            takes = m.both(takes, mask) or takes
            return [m.select(takes, value, accumulator[0]), m.select(takes, position, accumulator[1])]
        combined = self._combine(accumulator[0], value)
        return [combined if mask is None else m.select(mask, combined, accumulator[0])]

    def merge(self, a: Sequence[Operand], b: Sequence[Operand]) -> list[Operand]:
        """Two accumulators folded into one."""
        m = self.m
        if not self.located:
            return [self._combine(a[0], b[0])]
        unseen = m.compare("eq", b[1], _NOWHERE)
        fresh = m.compare("eq", a[1], _NOWHERE)
        earlier = m.compare("slt", b[1], a[1]) & self._ties(a[0], b[0])
        takes = m.select(unseen, False, self._better(b[0], a[0]) | earlier | fresh)
        return [m.select(takes, b[0], a[0]), m.select(takes, b[1], a[1])]

    def _combine(self, a: Operand, b: Operand) -> Operand:
        m, flags = self.m, "" if is_narrow(self.dtype) else "contract "
        if self.kind in ("max", "min"):
            return extremum(self.largest)(m, self.dtype, (a, b))
        if self.dtype is bool_:
            return a | b if self.kind == "sum" else a & b
        op = "add" if self.kind == "sum" else "mul"
        return m.binary("f" + op, a, b, flags) if self.dtype.is_floating_point else m.binary(op, a, b)

    def _better(self, new: Operand, old: Operand) -> Operand:
        """Whether ``new`` replaces an older value: NaN beats everything but NaN."""
        m, order = self.m, "gt" if self.largest else "lt"
        if self.dtype.is_floating_point:
            nan = m.compare("uno", new, new) & m.compare("ord", old, old)
            return m.compare("o" + order, new, old) | nan
        return m.compare(("s" if self.dtype.is_signed and self.dtype is not bool_ else "u") + order, new, old)

    def _ties(self, a: Operand, b: Operand) -> Operand:
        m = self.m
        if not self.dtype.is_floating_point:
            return m.compare("eq", a, b)
        return m.compare("oeq", a, b) | (m.compare("uno", a, a) & m.compare("uno", b, b))

    def folded(self, accumulators: Sequence[Sequence[Operand]]) -> list[Operand]:
        """Several accumulators in one."""
        parts = [list(a) for a in accumulators]
        while len(parts) > 1:
            half = (len(parts) + 1) // 2
            parts = [self.merge(parts[k], parts[k + half]) if k + half < len(parts) else parts[k] for k in range(half)]
        return parts[0]

    def across_lanes(self, accumulator: Sequence[Operand]) -> list[Operand]:
        """The lanes of an accumulator folded into scalars."""
        parts = list(accumulator)
        while parts[0].lanes:
            parts = self.merge([self.m.part(v, False) for v in parts], [self.m.part(v, True) for v in parts])
        return parts

    def result(self, accumulator: Sequence[Operand]) -> Operand:
        """The value of the reduction."""
        if self.located:
            return accumulator[1]
        return rounded(self.m, accumulator[0], self.dtype) if is_narrow(self.dtype) else accumulator[0]
