"""From stored expressions to ordered steps: groups (:mod:`.fuse`), templates, host operations, copies, and buffers that are
written in parts; and what may be written in place."""
from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from torsh.compiler import winograd
from torsh.compiler.affine import Form, Map, NeedSplit, flat, identity, split_axis
from torsh.compiler.fuse import Grouping
from torsh.compiler.graph import (
    ASSEMBLE,
    HOST,
    INLINE,
    INPUT,
    LOOK,
    NOTHING,
    REDUCE,
    TEMPLATE,
    MustStore,
    operands,
    without_reshapes,
)
from torsh.compiler.steps import Buffer, Copy, Factors, Group, Step, Target, computation, copy_of, in_order, releasing_early, spread
from torsh.compiler.templates import COPY_RANK, coalesce
from torsh.core.shape import contiguous_strides
from torsh.ops.common import expand, reduce_amax, reshape, slice_dim
from torsh.ops.convolution_primitives import WINOGRAD_WEIGHTS
from torsh.ops.expr import TABLE, Expr, emit
from torsh.ops.shape import chain_geometry


class MustSeparate(Exception):
    """The base of a write cannot stay in the leaf's memory, because the leaf is read after the write begins."""

    def __init__(self, output: int) -> None:
        super().__init__(output)
        self.output = output


class Fusion(Grouping):
    """Builds the steps of a program, expression by expression."""

    # ---- expressions ---------------------------------------------------------------------------------------------------

    def build(self) -> list[Step]:
        """Steps for everything stored, in an order in which they can run, with their reads and writes."""
        extra = self._claim_outputs()
        aliases = self._shared_bases()
        self._join_regions(aliases)
        for e in self.graph.order:
            if e in self.graph.stored:
                self._compute(e, aliases)
        for number, e in extra:
            buffer = Buffer(prod(e.shape) * e.dtype.itemsize)
            buffer.output = number
            self.copy(copy_of(e), Target(buffer, 0, contiguous_strides(e.shape)))
        self._finish()
        return releasing_early(in_order(self.steps))

    def _claim_outputs(self) -> list[tuple[int, Expr]]:
        """Compute outputs where they are wanted; those that need a copy of their own are returned."""
        extra = []
        for number, e in enumerate(self.outputs):
            node = without_reshapes(e)
            if node in self.kept or self.graph.kinds[node] in (INPUT, LOOK):
                extra.append((number, e))
                continue
            self.graph.stored.add(node)
            self.kept.add(node)
            self.buffer_of(node).output = number
        return extra

    def _finish(self) -> None:
        """Note which members have to be stored, what steps read and write, and keep old values until they are read."""
        for step in self.steps:
            self.kept.update(step.sources)
        for step in self.steps:
            step.reads = list({self.buffer_of(e): None for e in step.sources})
            if isinstance(step, Group):
                step.stores = [m for m in step.members if m in self.kept]
                step.writes = list({self.target_of(m).buffer: None for m in step.stores})
            else:
                written = [self.buffer_of(x) for x in (step.node, *step.siblings)]
                step.writes = [step.target.buffer] if isinstance(step, Copy) else written
        checking = [s for s in self.steps if self._checks(s)]
        for number, position in self.in_place.items():
            if (number in self.separate or not self._old_value_first(number, position)
                    or not self._checked_first(number, checking)):
                if number in self.uncopied:
                    raise MustSeparate(number)
                self.late.append(number)

    def _checks(self, step: Step) -> bool:
        """Can the step fail, because it meets an index outside of its range?"""
        if isinstance(step, Group):
            return step.indexed
        names = ("scatter", "index_put", "sum_of_bags")
        return not isinstance(step, Copy) and (step.node.op.name in names or self.graph.kinds[step.node] == HOST)

    def _checked_first(self, number: int, checking: Sequence[Step]) -> bool:
        """Overwrite a leaf only when nothing can fail any more, so that an error changes nothing; False if impossible.

        Scattered writes are the exception: they skip what is out of range.
        """
        for writer in [s for s in self.steps if any(b.output == number for b in s.writes)]:
            for step in checking:
                if step is writer:
                    if isinstance(step, Group):
                        return False
                elif step.before >> writer.number & 1:
                    return False
                else:
                    self.after(writer, 1 << step.number)
        return True

    def _old_value_first(self, number: int, position: int) -> bool:
        """Let all that reads a leaf run before it is overwritten; False if that is impossible."""
        writers = [s for s in self.steps if any(b.output == number for b in s.writes)]
        for reader in self.steps:
            found = [e for e in reader.sources if e.op.name == "leaf" and e.attr == position]
            if not found:
                continue
            for writer in writers:
                if reader is writer:
                    if not all(self._same_elements(reader, leaf, number) for leaf in found):
                        return False
                elif reader.before >> writer.number & 1:
                    return False
                else:
                    self.after(writer, 1 << reader.number)
        return True

    def _same_elements(self, step: Step, leaf: Expr, number: int) -> bool:
        """Does a kernel read of the leaf only the element that it writes at the same point?"""
        if not isinstance(step, Group):
            return False
        extents = step.extents
        axes = len(extents)
        stores = [m for m in step.stores if self.target_of(m).buffer.output == number]
        forms: set[Map | None] = set()
        for m in step.members:
            at = identity(step.factors) if m.op.kind == "reduction" else step.canonical[m]
            forms |= self.sources(m, at, extents)[0].get(leaf, set())
        read = {None if at is None else flat(at, contiguous_strides(leaf.shape), axes) for at in forms}
        for m in stores:
            target = self.target_of(m)
            address = flat(step.canonical[m], target.strides, axes)
            if read != {(address[0] + target.offset, *address[1:])}:
                return False
        # With reductions, points are visited several times: grid members are stored at the end, full ones at the last visit that
        # reads the leaf.
        return True

    def _shared_bases(self) -> dict[Expr, Expr]:
        """Bases of writes that nobody else needs: they are computed right into the buffer of the result."""
        graph = self.graph
        kept = {without_reshapes(e) for e in self.outputs}
        aliases: dict[Expr, Expr] = {}
        for e in graph.order:
            if e.op.name in ("view_write", "scatter", "index_put") and graph.kinds[e] != HOST:
                base = without_reshapes(e.args[0])
                if graph.uses.get(base) == 1 and graph.kinds[base] not in (INPUT, LOOK) and base not in kept:
                    graph.stored.add(base)
                    self.kept.add(base)
                    aliases[base] = e
        return aliases

    def _join_regions(self, aliases: dict[Expr, Expr]) -> None:
        """Joins that are parts of joins, and of nothing else, are written right into their part of the whole."""
        graph = self.graph
        kept = {without_reshapes(e) for e in self.outputs}
        for e in graph.order:
            if e.op.name == "cat":
                dim: int = e.attr  # type: ignore[assignment]
                position = 0
                for a in e.args:
                    if a.op.name == "cat" and graph.uses.get(a) == 1 and a not in kept and a not in aliases:
                        self.part_of[a] = e, dim, position
                    position += a.shape[dim]

    def _region_of(self, e: Expr) -> Target:
        """Where a join is written."""
        whole = self.part_of.get(e)
        if whole is None:
            return Target(self.buffer_of(e), 0, contiguous_strides(e.shape))
        outer, dim, position = whole
        region = self._region_of(outer)
        return Target(region.buffer, region.offset + position * region.strides[dim], region.strides)

    def _compute(self, e: Expr, aliases: dict[Expr, Expr]) -> None:
        if e in aliases:
            root = aliases[e]
            while root in aliases:
                root = aliases[root]
            self.buffers[e] = self.buffer_of(root)
        kind = self.graph.kinds[e]
        if kind in (INLINE, REDUCE, INPUT):
            if not self._added_by_product(e):
                self.place(e)
        elif kind == LOOK:
            self.copy(e)
        elif kind == NOTHING:
            self.buffer_of(e)
            self.ready[e] = 0
        elif kind == ASSEMBLE:
            self._assemble(e, aliases)
        elif kind == TEMPLATE:
            self._template(e, aliases)
        else:
            self._host(e)

    def _added_by_product(self, e: Expr) -> bool:
        """Let a matrix product add its bias, if that is all that the expression does."""
        if e.op.name != "add":
            return False
        for product, bias in (e.args, e.args[::-1]):
            node, vector = without_reshapes(product), without_reshapes(bias)
            step = self.products.get(node)
            if (step is None or step.bias is not None or node in self.kept or self.graph.uses.get(node) != 1
                    or vector.op.name != "leaf" or not bias.shape or prod(bias.shape) != bias.shape[-1]
                    or bias.shape[-1:] != node.shape[-1:]
                    or product.shape[-1:] != node.shape[-1:] or product.shape != e.shape):
                continue
            step.bias = vector
            step.sources.add(vector)
            self.buffers[node] = self.buffer_of(e)
            self.ready[e] = self.ready[node]
            return True
        return False

    def copy(self, e: Expr, target: Target | None = None, extra: int = 0) -> int:
        """Store a view (or a copy) of something; the bit set of the step that does it."""
        if target is not None:
            self.targets[e] = target
            self.kept.add(e)
        inner = self._plain_source(e, self.target_of(e))
        if inner is None and e.dtype.is_complex:
            return self._computed_on_host(e)
        if inner is None or (inner in self.group_of and e.shape == inner.shape):
            group = self.place(e, extra)
            return 1 << group.number
        step = Copy(len(self.steps), e, self.target_of(e))
        self.add(step, self.needed_by((inner,)) | extra)
        step.sources.add(inner)
        self.kept.add(e)
        self.ready[e] = 1 << step.number
        return 1 << step.number

    def _computed_on_host(self, e: Expr) -> int:
        """Store a view of a complex number, which loop kernels cannot do."""
        target = self.target_of(e)
        if (target.offset, target.strides) != (0, contiguous_strides(e.shape)) or target.buffer.nbytes != prod(
                e.shape) * e.dtype.itemsize:
            raise MustStore(e.args[0])
        x = without_reshapes(e)
        step = Expr(x.op, x.args, x.attr, x.shape, x.dtype, False)
        self.graph.kinds[step] = HOST
        self.buffers[step] = target.buffer
        self._host(step)
        self.ready[e] = self.ready[step]
        return self.ready[e]

    def _plain_source(self, e: Expr, target: Target) -> Expr | None:
        """What a pure copy reads; None if it has to be computed, or has more dimensions than copies can have."""
        base, factors, address = self.copied(e)
        if not self.graph.in_memory(base):
            return None
        extents = [n for parts in factors for n in parts]
        merged, _ = coalesce(extents, address[1:], spread(target, factors))
        return base if len(merged) <= COPY_RANK or e.dtype.is_complex else None

    def copied(self, e: Expr) -> tuple[Expr, Factors, Form]:
        """(source, axes, address in the source) of a view that is copied, its dimensions split as far as needed."""
        factors: Factors = tuple([(n,) for n in e.shape])
        while True:
            extents = [n for parts in factors for n in parts]
            try:
                base, address, where = self.graph.look(e, identity(factors), extents, True)
                if where is not None:
                    address = flat(where, contiguous_strides(base.shape), len(extents))
                return base, factors, address
            except NeedSplit as split:
                factors = tuple(split_axis(factors, split.axis, split.inner))

    def _assemble(self, e: Expr, aliases: dict[Expr, Expr]) -> None:
        if e.op.name == "view_write":
            buffer = self.buffer_of(e)
            base, value = e.args
            start = self._base(e, base, aliases)
            geometry = chain_geometry(e.attr, base.shape)  # type: ignore[arg-type]
            assert geometry is not None
            part = copy_of(value)
            self.ready[e] = start | self.copy(part, Target(buffer, geometry[2], geometry[1]), start)
            return
        dim: int = e.attr  # type: ignore[assignment]
        position, done, region = 0, 0, self._region_of(e)
        for a in e.args:
            start = region.offset + position * region.strides[dim]
            done |= self.ready[a] if a in self.part_of else self.copy(copy_of(a), Target(region.buffer, start, region.strides))
            position += a.shape[dim]
        self.ready[e] = done

    def _base(self, e: Expr, base: Expr, aliases: dict[Expr, Expr]) -> int:
        """Fill the buffer of a write with its base; the steps that do it."""
        source = without_reshapes(base)
        if source in aliases and aliases[source] is e:
            return self.ready[source]
        if source.op.name == "leaf" and self._takes_place_of(e, source):
            return 0
        return self.copy(copy_of(base), Target(self.buffer_of(e), 0, contiguous_strides(base.shape)))

    def _takes_place_of(self, e: Expr, source: Expr) -> bool:
        """Will the result be stored in the leaf's own memory?"""
        number = self.buffer_of(e).output
        if number < 0 or number in self.separate or self.in_place.get(number, -1) != source.attr:
            return False
        self.uncopied.add(number)
        return True

    def _template(self, e: Expr, aliases: dict[Expr, Expr]) -> None:
        first = 0
        if e.op.name in ("scatter", "index_put"):
            first = self._base(e, e.args[0], aliases)
            if self.buffer_of(e).output in self.uncopied:
                first |= self._checks_of(e)
            read = e.args[1:]
        else:
            read = operands(e)
        if e.op.name == "convolve" and self._suits_winograd(e):
            read = (self._winograd_weights(e), *read[1:])
        bases = [self.graph.geometry(a)[0] for a in read]
        self._step(e, bases, first)

    def _suits_winograd(self, e: Expr) -> bool:
        """Is a convolution one that is computed with transformed weights?"""
        attr: Any = e.attr
        weight, x = e.args[:2]
        x_column = self.graph.geometry(x)[2][-1]
        _, rows, channels, *kernel = weight.shape
        phase = attr.phases[0]
        whole = len(attr.phases) == 1 and tuple(kernel) == tuple(phase.geometry.kernel)
        return whole and winograd.suits(e.dtype, channels, rows, x.shape, phase.geometry, x_column)

    def _winograd_weights(self, e: Expr) -> Expr:
        """The step that transforms the weights of a convolution."""
        attr: Any = e.attr
        backwards = attr.phases[0].geometry.dilation[0] < 0
        weight = e.args[0]
        assert WINOGRAD_WEIGHTS.infer is not None
        shape, dtype = WINOGRAD_WEIGHTS.infer(backwards, weight)
        found = self.prepared[e] = Expr(WINOGRAD_WEIGHTS, (weight,), backwards, shape, dtype, False)
        self.graph.kinds[found] = TEMPLATE
        self.graph.stored.add(found)
        self._step(found, [self.graph.geometry(weight)[0]], 0)
        self.steps[-1].prepares = True
        return found

    def _checks_of(self, e: Expr) -> int:
        """Look at all positions before a write to the user's own memory begins, so that a bad one changes nothing.

        A read at every position does that: of one element, repeated to the size of the dimension, in one kernel per index.
        """
        base = e.args[0]
        element = slice_dim(reshape(base, (prod(base.shape),)), 0, 0, 1)
        if e.op.name == "scatter":
            dims: Any = (e.attr[0],)  # type: ignore[index]
            indices = e.args[1:2]
        else:
            dims, indices = e.attr[0], e.args[2:]  # type: ignore[index]
        done = 0
        for dim, index in zip(dims, indices, strict=True):
            line = expand(element, (base.shape[dim] if base.shape else 1,))
            flat_index = reshape(index, (prod(index.shape),))
            name, attr = ("gather", 0) if e.op.name == "scatter" else ("index", (0,))
            check = reduce_amax(emit(TABLE[name], (line, flat_index), attr), (0,))
            self.graph.stored.add(check)
            self.place(check)
            self.kept.add(check)
            done |= self.ready[check]
        return done

    def _host(self, e: Expr) -> None:
        self._step(e, [base for base in map(without_reshapes, e.args) if self.graph.in_memory(base)], 0)

    def _step(self, e: Expr, bases: Sequence[Expr], first: int) -> None:
        key = computation(e)
        step = self.computations.get(key)
        if step is not None:                    # it has the same arguments, so nothing else has to run first
            step.siblings.append(e)
        else:
            step = self.computations[key] = Step(len(self.steps), e)
            if e.op.name == "matmul":
                self.products[e] = step
            self.add(step, self.needed_by(bases) | first)
            step.sources.update(bases)
        self.buffer_of(e)
        self.ready[e] = first | 1 << step.number
