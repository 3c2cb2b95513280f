"""What is stored and what is computed on the way: the first decision about a program of primitives.

Every expression of the lowered program is one of

- an *input*: leaf, Python number or constant,
- *inlined*: computed inside of each kernel that needs it (elementwise ops, views, reads at data-dependent positions),
- *stored*: computed once into a buffer: outputs, results of reductions and of templates, operands of templates, and inlined
  kinds of expressions whose repetition would cost more than memory traffic.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import Any, Final

from torsh.compiler.affine import Form, Inexpressible, Map, NeedSplit, flat, identity, shifted, through
from torsh.compiler.cost import operation_cost
from torsh.compiler.templates import converts, selects
from torsh.core.dtype import DType
from torsh.core.shape import contiguous_strides
from torsh.ops.expr import CONSTANT_OP, ELEMENTWISE, LEAF_OP, REDUCTION, SCALAR_OP, VIEW, Expr
from torsh.ops.scan_sort import SCANS
from torsh.ops.shape import chain_geometry

INPUT: Final = "input"
INLINE: Final = "inline"       # elementwise ops, iota, index, gather
LOOK: Final = "view"
REDUCE: Final = "reduce"
TEMPLATE: Final = "template"   # matmul, convolutions, attention, Fourier transforms, scatter, index_put, scans, topk
ASSEMBLE: Final = "assemble"   # cat, view_write: a buffer written in parts
HOST: Final = "host"
NOTHING: Final = "nothing"     # a buffer with undefined contents, or without elements

# Templates: the operands that they read in rows.
_WINDOWED: Final = {"convolve": (1,), "convolve_weight": (0, 1), "depthwise": (1,), "depthwise_weight": (0, 1), "fourier": (0,)}
_CONTIGUOUS: Final = (*SCANS, "topk_indices", "sum_of_bags")
_CHEAP: Final = 6              # operations that are rather repeated than stored
_LONG: Final = 96              # operations in one inlined expression before it is cut
_WORTH: Final = 8              # operations that broadcasting should not repeat


Supported = Callable[[str, DType], bool]     # can loop kernels do the operation on arguments of the dtype?


def kind_of(e: Expr, supported: Supported) -> str:
    """Which kind of expression this is."""
    op, name = e.op, e.op.name
    if 0 in e.shape and op is not LEAF_OP:
        return NOTHING
    if op.kind == ELEMENTWISE:
        dtypes = {a.dtype for a in e.args}
        if name == "cast":
            dtypes.add(e.dtype)
        elif name == "where":
            dtypes = {e.dtype}
        return INLINE if all(supported(name, d) for d in dtypes) else HOST
    if op.kind == VIEW:
        return LOOK
    if op in (LEAF_OP, SCALAR_OP, CONSTANT_OP):
        return INPUT
    real = not e.dtype.is_complex
    if op.kind == REDUCTION:
        return REDUCE if supported(name, e.args[0].dtype) else HOST
    if name in ("iota", "index", "gather"):
        return INLINE if real else HOST
    if name == "cat":
        return ASSEMBLE
    if name == "view_write":
        return ASSEMBLE if chain_geometry(e.attr, e.shape) is not None else HOST  # type: ignore[arg-type]
    if name == "empty":
        return NOTHING
    return TEMPLATE if has_template(e) else HOST


def has_template(e: Expr) -> bool:
    """Can a template compute this expression?"""
    name, dtype = e.op.name, e.dtype
    attr: Any = e.attr
    if name == "matmul":
        return dtype.category in (1, 2)
    if name in ("blockwise_attention", "blockwise_attention_backward"):
        return True
    if name in SCANS:
        return not dtype.is_complex
    if name in _WINDOWED:
        return True
    if name == "sum_of_bags":
        return dtype.category == 2 and all(a.dtype is dtype for a in e.args[3:])
    if name == "topk_indices":
        return bool(e.shape) and attr[1] == len(e.shape) - 1 and selects(e.shape[-1], e.args[0].shape[-1])
    if name == "scatter":
        mode = attr[1]
        return len(e.shape) <= 6 and (mode == "set" or dtype.category in (1, 2))
    if name == "index_put":
        dims, accumulate = attr
        rank = len(e.args[1].shape) - (len(e.shape) - len(dims))
        return len(dims) <= 6 and rank <= 4 and len(e.shape) - len(dims) <= 4 and (not accumulate or dtype.category in (1, 2))
    return False


def operands(e: Expr) -> tuple[Expr, ...]:
    """The arguments of a template as it reads them: a product of matrices converts small types itself."""
    if e.op.name != "matmul":
        return e.args
    return tuple([a.args[0] if a.op.name == "cast" and converts(a.args[0].dtype, a.dtype) else a for a in e.args])


def source_of(e: Expr) -> Expr:
    """What a chain of views looks at."""
    while e.op.kind == VIEW:
        e = e.args[0]
    return e


def without_reshapes(e: Expr) -> Expr:
    """The expression with the same elements in the same order."""
    while e.op.name == "reshape":
        e = e.args[0]
    return e


def topological(outputs: Iterable[Expr]) -> list[Expr]:
    """All expressions, arguments first; depth first, so that neighbours in the list belong together."""
    order: list[Expr] = []
    seen: set[Expr] = set()
    stack: list[tuple[Expr, bool]] = [(e, False) for e in reversed(list(outputs))]
    while stack:
        e, done = stack.pop()
        if done:
            order.append(e)
        elif e not in seen:
            seen.add(e)
            stack.append((e, True))
            stack.extend((a, False) for a in reversed(e.args) if a not in seen)
    return order


class Graph:
    """The program's expressions and the decision about each.

    Attributes: ``order`` (topological), ``kinds``, ``uses`` (how many non-view expressions and outputs use an expression,
    through views), ``stored``.
    """

    def __init__(self, outputs: Sequence[Expr], forced: set[Expr], supported: Supported) -> None:
        self.order = topological(outputs)
        self.kinds = {e: kind_of(e, supported) for e in self.order}
        self.uses: dict[Expr, int] = {}
        self.stored: set[Expr] = set(forced)
        self.operations: dict[Expr, int] = {}      # cost of computing an expression where it is needed
        self.sizes: dict[Expr, int] = {}           # operations in it
        for e in self.order:
            if self.kinds[e] != LOOK:
                for a in e.args:
                    self._use(a)
        for e in outputs:
            self._use(e)
        repeated = self._repeated()
        interleaved = {source_of(e) for e in self.order if _interleaves(e)}
        for e in self.order:
            self._decide(e, repeated, interleaved)

    def _use(self, a: Expr) -> None:
        base = source_of(a)
        self.uses[base] = self.uses.get(base, 0) + 1

    def _repeated(self) -> set[Expr]:
        """Expressions that broadcasting or overlapping windows would compute several times."""
        result: set[Expr] = set()
        for e in self.order:
            if self.kinds[e] not in (INLINE, REDUCE, LOOK):
                continue
            for a in e.args:
                base = source_of(a)
                if prod(base.shape) > 1 and self.kinds[base] == INLINE and _repeats(e, a):
                    result.add(base)
        return result

    def _decide(self, e: Expr, repeated: set[Expr], interleaved: set[Expr]) -> None:
        kind = self.kinds[e]
        if kind == LOOK:
            self.operations[e] = self.operations[e.args[0]]
            if e in self.stored:
                self.operations[e] = 1
            return
        if kind == INPUT:
            self.operations[e] = 0
            return
        if kind != INLINE:
            self.stored.add(e)
            self.operations[e] = 1
            for a in operands(e) if kind in (TEMPLATE, HOST) else ():
                self._operand(e, a)
            return
        if e.op.name in ("index", "gather"):
            self._operand(e, e.args[0])
        total = operation_cost(e.op.name) + sum(self.operations[a] for a in e.args)
        size = 1 + sum(self._size(a) for a in e.args)
        uses = self.uses.get(e, 0)
        big = prod(e.shape) > 1
        if e in self.stored or size > _LONG or (big and uses > 1 and total > _CHEAP) or (
                uses > 1 and total > 4 * _CHEAP) or (e in repeated and total >= _WORTH) or (big and e in interleaved):
            self.stored.add(e)
            total = size = 1
        self.operations[e] = total
        self.sizes[e] = size

    def _size(self, a: Expr) -> int:
        base = source_of(a)
        return 1 if base in self.stored else self.sizes.get(base, 0)

    def _operand(self, e: Expr, a: Expr) -> None:
        """An operand of a template, of a host operation or of an indexed read: it has to be in memory."""
        if self.kinds[e] == HOST or e.op.name in _CONTIGUOUS:      # they take contiguous operands
            base = without_reshapes(a)
            if base.op is not LEAF_OP and not (base.op in (SCALAR_OP, CONSTANT_OP) and not a.shape):
                self.stored.add(base)
                self.operations[base] = 1
            return
        base = source_of(a)
        if any(a is e.args[k] for k in _WINDOWED.get(e.op.name, ())) and not self._in_rows(a):
            self.stored.add(a)
            self.operations[a] = 1
        elif base.op in (SCALAR_OP, CONSTANT_OP) or not self._addressable(a):
            while a.op.kind == VIEW and a.op.name != "reshape" and prod(a.args[0].shape) == prod(a.shape):
                a = a.args[0]               # strides express what is above the first reshape
            self.stored.add(a)
            self.operations[a] = 1
        elif base.op is not LEAF_OP:
            self.stored.add(base)
            self.operations[base] = 1

    def _in_rows(self, a: Expr) -> bool:
        """Are neighbours along the last dimension neighbours in memory? Convolutions read along it again and again."""
        return self._addressable(a, lambda strides: strides[-1] == 1 or a.shape[-1] == 1)

    def _addressable(self, a: Expr, suits: Callable[[tuple[int, ...]], bool] | None = None) -> bool:
        """Can strides (that suit) express the view chain? (Asked before its source is known to be stored.)"""
        base = source_of(a)
        added = not self.in_memory(base)
        if added:
            self.stored.add(base)
        try:
            strides = self.geometry(a)[2]
            if suits is None or suits(strides):
                return True
        except (NeedSplit, Inexpressible):
            pass
        if added:
            self.stored.discard(base)
        return False

    def in_memory(self, e: Expr) -> bool:
        """Does the expression have a buffer?"""
        return e in self.stored or e.op is LEAF_OP

    def geometry(self, a: Expr) -> tuple[Expr, int, tuple[int, ...]]:
        """(expression in memory, element offset, element strides) of an operand. Raises NeedSplit or Inexpressible."""
        factors = [(n,) for n in a.shape]
        base, address, where = self.look(a, identity(factors), a.shape)
        if where is not None:
            address = flat(where, contiguous_strides(base.shape), len(a.shape))
        return base, address[0], address[1:]

    def _contiguous(self, e: Expr) -> Expr:
        """What is in memory with the same elements in the same order, if that is how the expression is stored."""
        while e.op.name == "reshape" and not self.in_memory(e):
            e = e.args[0]
        return e

    def look(self, e: Expr, forms: Map, extents: Sequence[int], inside: bool = False) -> tuple[Expr, Form, Map | None]:
        """Follow views down to something that is no view or is in memory; ``inside``: at least one, the expression itself.

        Returns (expression, (), its map), or, where only the address is known, (expression, address in elements, None).
        """
        while e.op.kind == VIEW and (inside or not self.in_memory(e)):
            inside = False
            try:
                forms = through(e, forms, extents)
            except (NeedSplit, Inexpressible) as problem:
                # Of a contiguous buffer, the address alone will do.
                base, name = self._contiguous(e.args[0]), e.op.name
                if name in ("reshape", "as_strided") and self.in_memory(base):
                    strides, offset = (contiguous_strides(e.shape), 0) if name == "reshape" else e.attr[1:]  # type: ignore[index]
                    return base, shifted(flat(forms, strides, len(extents)), offset), None
                if isinstance(problem, NeedSplit):
                    raise
                raise MustStore(e.args[0]) from None
            e = e.args[0]
        return e, (), forms


class MustStore(Inexpressible):
    """The expression has to be stored, because a view of it cannot be expressed as an access."""

    def __init__(self, expr: Expr) -> None:
        super().__init__(expr)
        self.expr = expr


def _repeats(consumer: Expr, a: Expr) -> bool:
    """Are elements of the argument's source needed at several points, other than along the last axes?"""
    base = source_of(a)
    if prod(a.shape) > prod(base.shape):
        view = a
        while view.op.kind == VIEW:
            if view.op.name == "expand":
                if _broadcast_outside(view.args[0].shape, view.shape):
                    return True
            elif prod(view.shape) > prod(view.args[0].shape):
                return True
            view = view.args[0]
        return False
    return consumer.op.kind == ELEMENTWISE and _broadcast_outside(a.shape, consumer.shape)


def _interleaves(e: Expr) -> bool:
    """Does a view hold every element several times, one after the other? Copies do that well, and stores of kernels do not."""
    a = e.args[0] if e.op.name == "reshape" else e
    return a.op.name == "expand" and a is not e and a.args[0].shape[-1:] == (1,) != a.shape[-1:] and prod(a.args[0].shape) > 1


def _broadcast_outside(shape: Sequence[int], out: Sequence[int]) -> bool:
    """Is there a stretched axis outside of one that is not? (Inside, code that does not depend on it is hoisted.)"""
    extra = len(out) - len(shape)
    stretched = [d < extra or shape[d - extra] == 1 for d in range(len(out)) if out[d] != 1]
    return any(s and not all(stretched[k:]) for k, s in enumerate(stretched))

