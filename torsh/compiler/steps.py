"""What fusion makes of a program: steps, the buffers that they read and write, and their order."""
from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from math import prod
from typing import Any, Final

from torsh.compiler.affine import Map, constant_form, identity
from torsh.compiler.kernel import GRID_BLOCK
from torsh.core.shape import contiguous_strides
from torsh.ops.expr import TABLE, Expr, Shape

Factors = tuple[tuple[int, ...], ...]


class Buffer:
    """Memory of one stored expression (or of several that share it).

    ``output``: number of the program's output that it is, or -1; ``leaf``: leaf position, or -1; ``inside``: the output whose
    memory it borrows, or None (the scratch arena); ``offset``: in there, once planned; ``first``, ``last``: the steps that
    use it first and last.
    """

    __slots__ = ("nbytes", "output", "leaf", "inside", "offset", "first", "last")

    def __init__(self, nbytes: int, leaf: int = -1) -> None:
        self.nbytes = nbytes
        self.output = -1
        self.leaf = leaf
        self.inside: Buffer | None = None
        self.offset = 0
        self.first = -1
        self.last = -1


class Target:
    """Where a member's value goes: a buffer and a region of it, as element offset and strides over the member's shape."""

    __slots__ = ("buffer", "offset", "strides")

    def __init__(self, buffer: Buffer, offset: int, strides: Sequence[int]) -> None:
        self.buffer = buffer
        self.offset = offset
        self.strides = tuple(strides)


class Step:
    """Something that runs as a whole. ``reads``/``writes``: buffers; ``before``: bit set of the steps that have to run
    first, transitively; ``node``: the expression that it computes (of a template or a host step); ``siblings``: further
    results of the same computation; ``bias``: what a matrix product adds to every row; ``prepares``: it only brings an operand into
    another order, which may be kept between runs."""

    def __init__(self, number: int, node: Expr) -> None:
        self.number = number
        self.node = node
        self.before = 0
        self.siblings: list[Expr] = []
        self.bias: Expr | None = None
        self.prepares = False
        self.sources: set[Expr] = set()      # what it reads of other steps, and leaves
        self.reads: list[Buffer] = []
        self.writes: list[Buffer] = []


class Copy(Step):
    """A pure copy: ``node`` is a view of something in memory, stored to a target."""

    def __init__(self, number: int, node: Expr, target: Target) -> None:
        super().__init__(number, node)
        self.target = target


class Group(Step):
    """A loop kernel in the making; see the module's docstring."""

    def __init__(self, number: int, node: Expr, shape: Shape, reduced: frozenset[int], factors: Factors) -> None:
        super().__init__(number, node)
        self.shape = shape
        self.reduced = reduced
        self.factors = factors
        self.members: list[Expr] = []
        self.grid_level: set[Expr] = set()
        self.stores: list[Expr] = []
        self.canonical: dict[Expr, Map] = {}
        self.operations = 0
        self.indexed = False

    @property
    def extents(self) -> tuple[int, ...]:
        """Extents of the axes."""
        return tuple([n for parts in self.factors for n in parts])

    def map_of(self, e: Expr, factors: Factors) -> Map | None:
        """The map under which a member is computed here, or None if its shape does not fit."""
        full = identity(factors)
        if e.op.kind == "reduction":
            return tuple([form for d, form in enumerate(full) if d not in self.reduced])
        if e.shape == self.shape:
            return full
        if self.reduced:
            if e.shape == tuple([n for d, n in enumerate(self.shape) if d not in self.reduced]):
                return tuple([form for d, form in enumerate(full) if d not in self.reduced])
            if e.shape == tuple([1 if d in self.reduced else n for d, n in enumerate(self.shape)]):
                zero = constant_form(0, sum(map(len, factors)))
                return tuple([zero if d in self.reduced else form for d, form in enumerate(full)])
        return None


def independent(shape: Shape, reduced: Iterable[int]) -> int:
    """How many units of work a kernel over this space has."""
    gone = set(reduced)
    kept = [n for d, n in enumerate(shape) if d not in gone and n != 1]
    last = next((d for d in reversed(range(len(shape))) if shape[d] != 1), -1)
    if last in gone or not kept:
        return prod(kept)
    return prod(kept[:-1]) * -(-kept[-1] // GRID_BLOCK)


def spread(target: Target, factors: Factors) -> list[int]:
    """The strides of a target for the axes that its dimensions are split into."""
    return [stride * s for stride, parts in zip(target.strides, factors, strict=True) for s in contiguous_strides(parts)]


def computation(e: Expr) -> Hashable:
    """What expressions have in common that are results of one computation: all but the ``result`` that their attribute names."""
    attr: Any = e.attr
    return (e.op, e.args, attr._replace(result="")) if hasattr(attr, "result") else e


def copy_of(e: Expr) -> Expr:
    """An expression of its own (not interned) with the same elements: a copy to be stored somewhere else."""
    return Expr(TABLE["reshape"], (e,), e.shape, e.shape, e.dtype, False)


def in_order(steps: Sequence[Step]) -> list[Step]:
    """Steps after everything that has to run before them, otherwise as they were made."""
    done, result = 0, []
    for step in steps:
        missing = step.before & ~done
        todo = []
        while missing:
            low = missing & -missing
            todo.append(steps[low.bit_length() - 1])
            missing ^= low
        # What has fewer steps before it cannot depend on what has more.
        todo.sort(key=lambda s: (s.before.bit_count(), s.number))
        if not done >> step.number & 1:
            todo.append(step)
        for s in todo:
            done |= 1 << s.number
            result.append(s)
    return result


# What more steps than these wait for is not looked at: it stays in memory in any case.
_FEW: Final = 8


def releasing_early(steps: Sequence[Step]) -> list[Step]:
    """The steps in order, but those that take no memory, or free as much as they take, run as soon as they can: the gradient of a
    weight, say, once its operands are there, and not when the backward of all layers is done."""
    waiting: dict[Buffer, dict[Step, None]] = {}        # who has yet to write or read a buffer
    for step in steps:
        for b in _scratch(step):
            waiting.setdefault(b, {})[step] = None
    done, result = 0, []
    written: set[Buffer] = set()
    for step in steps:
        ready = [] if done >> step.number & 1 else [step]
        while ready:
            ran = ready.pop()
            done |= 1 << ran.number
            result.append(ran)
            touched = _scratch(ran)
            written.update(touched)
            for b in touched:
                del waiting[b][ran]
            for b in touched:
                if len(waiting[b]) <= _FEW:
                    ready.extend(s for s in waiting[b]
                                 if not s.before & ~done and s not in ready and _frees(s, waiting, written))
    return result


def _scratch(step: Step) -> dict[Buffer, None]:
    return {b: None for b in (*step.reads, *step.writes) if b.leaf < 0 and b.output < 0}


def _frees(step: Step, waiting: dict[Buffer, dict[Step, None]], written: set[Buffer]) -> bool:
    """Does a step leave no more memory in use than there was before it?"""
    gone = taken = 0
    for b in _scratch(step):
        if b not in written:
            taken += b.nbytes
        elif len(waiting[b]) == 1:
            gone += b.nbytes
    return gone >= taken
