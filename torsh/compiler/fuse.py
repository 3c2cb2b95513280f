"""Which stored expressions are computed together: groups, each of which becomes one loop kernel.

A group has a space (a shape, some of whose dimensions may be reduced) and members. A member is *full* (a value at every point
of the space: elementwise results, reductions' arguments) or *grid* (one value per point of the dimensions that are not
reduced). Members may use each other where both are looked at at the same point; so softmax, a normalisation or a loss with
its gradient end as one kernel. A member joins a group only if no chain of dependencies leaves the group and comes back.

Templates, host operations and parts of assembled buffers are steps of their own. :func:`fuse` gives all steps in an order in
which they can run.
"""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Final

from torsh.compiler.affine import Form, Map, NeedSplit, broadcast, constant_form, flat, identity, split_axis
from torsh.compiler.graph import ASSEMBLE, HOST, INLINE, INPUT, LOOK, NOTHING, REDUCE, TEMPLATE, Graph, MustStore, without_reshapes
from torsh.compiler.kernel import GRID_BLOCK
from torsh.compiler.templates import COPY_RANK, coalesce
from torsh.core.shape import broadcast_shapes, contiguous_strides
from torsh.ops.expr import TABLE, Expr, Shape
from torsh.ops.shape import chain_geometry

Factors = tuple[tuple[int, ...], ...]

_SMALL: Final = 1 << 16        # elements that one thread may as well do alone
_PARALLEL: Final = 8           # independent points that are enough to share
_MOST_VALUES: Final = 400      # inlined operations in one kernel
_MOST_MEMBERS: Final = 24


class Buffer:
    """Memory of one stored expression (or of several that share it).

    ``output``: number of the program's output that it is, or -1; ``leaf``: leaf position, or -1; ``offset``: in the scratch
    arena, once planned.
    """

    __slots__ = ("nbytes", "output", "leaf", "offset", "first", "last")

    def __init__(self, nbytes: int, leaf: int = -1) -> None:
        self.nbytes = nbytes
        self.output = -1
        self.leaf = leaf
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
    first, transitively; ``node``: the expression that it computes (of a template or a host step)."""

    def __init__(self, number: int, node: Expr) -> None:
        self.number = number
        self.node = node
        self.before = 0
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


def copy_of(e: Expr) -> Expr:
    """An expression of its own (not interned) with the same elements: a copy to be stored somewhere else."""
    return Expr(TABLE["reshape"], (e,), e.shape, e.shape, e.dtype, False)


class MustSeparate(Exception):
    """The base of a write cannot stay in the leaf's memory, because the leaf is read after the write begins."""

    def __init__(self, output: int) -> None:
        super().__init__(output)
        self.output = output


class Fusion:
    """Builds the steps of a program, expression by expression."""

    def __init__(self, graph: Graph, outputs: Sequence[Expr], in_place: Sequence[tuple[int, int]],
                 separate: Iterable[int] = ()) -> None:
        self.graph = graph
        self.steps: list[Step] = []
        self.buffers: dict[Expr, Buffer] = {}
        self.targets: dict[Expr, Target] = {}
        self.ready: dict[Expr, int] = {}           # steps after which a stored expression has its value
        self.group_of: dict[Expr, Group] = {}
        self.kept: set[Expr] = set()               # members whose values something else than their group needs
        self.shared: dict[tuple[Shape, Expr], Group] = {}
        self.outputs = outputs
        self.met_index = False                     # did the last member walked through read at positions that are data?
        self.late: list[int] = []                  # in-place outputs that are copied into place at the end
        self.in_place = dict(in_place)
        self.separate = frozenset(separate)        # in-place outputs that are known to be late
        self.uncopied: set[int] = set()            # outputs that take their leaf's memory as the base of a write

    # ---- buffers -------------------------------------------------------------------------------------------------------

    def buffer_of(self, e: Expr) -> Buffer:
        """The buffer of a stored expression or leaf."""
        found = self.buffers.get(e)
        if found is None:
            found = Buffer(prod(e.shape) * e.dtype.itemsize, e.attr if e.op.name == "leaf" else -1)  # type: ignore[arg-type]
            self.buffers[e] = found
        return found

    def target_of(self, e: Expr) -> Target:
        """Where a member is stored: its own buffer if nothing else was said."""
        found = self.targets.get(e)
        if found is None:
            found = self.targets[e] = Target(self.buffer_of(e), 0, contiguous_strides(e.shape))
        return found

    # ---- steps ---------------------------------------------------------------------------------------------------------

    def add(self, step: Step, needed: int) -> None:
        """Append a step that has to run after the steps in the bit set."""
        step.before = self.closure(needed)
        self.steps.append(step)

    def closure(self, needed: int) -> int:
        """The steps of a bit set and all that have to run before them."""
        total, rest = needed, needed
        while rest:
            low = rest & -rest
            total |= self.steps[low.bit_length() - 1].before
            rest ^= low
        return total

    def after(self, step: Step, needed: int) -> None:
        """Let a step, and whatever comes after it, run after further steps."""
        added = self.closure(needed)
        step.before |= added
        bit = 1 << step.number
        for other in self.steps:
            if other.before & bit:
                other.before |= step.before

    def needed_by(self, sources: Iterable[Expr]) -> int:
        """Steps that compute stored expressions."""
        total = 0
        for e in sources:
            total |= self.ready.get(e, 0)
        return total

    # ---- walking through inlined expressions -----------------------------------------------------------------------------

    def sources(self, root: Expr, forms: Map, extents: Sequence[int]) -> tuple[dict[Expr, set[Map | None]], int]:
        """(what is in memory that a member reads, with the maps under which; the number of inlined operations)."""
        graph = self.graph
        self.met_index = False
        found: dict[Expr, set[Map | None]] = {}
        seen: set[tuple[Expr, Map]] = set()
        stack: list[tuple[Expr, Map]] = []
        axes = len(extents)

        def read(e: Expr, at: Map) -> None:
            base, _, where = graph.look(e, at, extents)
            if graph.in_memory(base):
                found.setdefault(base, set()).add(where)
            elif base.args or base.op.name == "iota":
                assert where is not None
                stack.append((base, where))

        def read_arguments(e: Expr, at: Map) -> None:
            self.met_index = self.met_index or e.op.name in ("index", "gather")
            for a, where in arguments(e, at, axes):
                if where is None:
                    base = graph.geometry(a)[0]
                    found.setdefault(base, set()).add(None)
                else:
                    read(a, where)

        if root.op.kind == "view":
            inner = graph.look(root, forms, extents, True)
            if inner[2] is None or graph.in_memory(inner[0]):
                found.setdefault(inner[0], set()).add(inner[2])
            elif inner[0].args:
                stack.append((inner[0], inner[2]))
        elif root.op.kind == "reduction":
            read(root.args[0], forms)
        else:
            read_arguments(root, forms)
        count = 1
        while stack:
            item = stack.pop()
            if item in seen:
                continue
            seen.add(item)
            count += 1
            read_arguments(*item)
        return found, count

    # ---- members -------------------------------------------------------------------------------------------------------

    def place(self, root: Expr, extra: int = 0) -> Group:
        """Compute a stored expression in a loop kernel: one that is there, or a new one. extra: steps to wait for."""
        reduces = root.op.kind == "reduction"
        shape = root.args[0].shape if reduces else root.shape
        reduced = frozenset(root.attr[0]) if reduces else frozenset()  # type: ignore[index]
        factors: Factors = tuple([(n,) for n in shape])
        factors, found, count = self._traced(root, shape, factors, None)
        for group in self._candidates(found, shape, root):
            if self._join(group, root, shape, reduced, extra):
                return group
        group = Group(len(self.steps), root, shape, reduced, factors)
        self.add(group, self.needed_by(found) | extra)
        self._enter(group, root, found, count)
        return group

    def _traced(self, root: Expr, shape: Shape, factors: Factors, group: Group | None) -> tuple[
            Factors, dict[Expr, set[Map | None]], int]:
        """The sources of a member, with axes split as far as its views need it."""
        while True:
            extents = [n for parts in factors for n in parts]
            forms = identity(factors) if group is None or root.op.kind == "reduction" else group.map_of(root, factors)
            assert forms is not None
            try:
                found, count = self.sources(root, forms, extents)
                return factors, found, count
            except NeedSplit as split:
                factors = tuple(split_axis(factors, split.axis, split.inner))

    def _candidates(self, found: dict[Expr, set[Map | None]], shape: Shape, root: Expr) -> list[Group]:
        groups: dict[int, Group] = {}
        for e in found:
            for group in (self.group_of.get(e), self.shared.get((shape, e))):
                if group is not None:
                    groups[group.number] = group
        return [groups[number] for number in sorted(groups, reverse=True)]

    def _join(self, group: Group, root: Expr, shape: Shape, reduced: frozenset[int], extra: int) -> bool:
        if len(group.members) >= _MOST_MEMBERS:
            return False
        level_full = shape == group.shape
        if reduced and (not level_full or (group.reduced and group.reduced != reduced)):
            return False
        if not level_full and (not group.reduced or group.map_of(root, group.factors) is None):
            return False
        together = reduced or group.reduced
        if together and level_full and not self._worth(group, root, shape, together):
            return False
        saved, group.reduced = group.reduced, frozenset(together)
        if self._fits(group, root, level_full, extra):
            return True
        group.reduced = saved
        return False

    def _worth(self, group: Group, root: Expr, shape: Shape, together: frozenset[int]) -> bool:
        """May values of the full space and a reduction share a kernel without losing threads?"""
        pure = root.op.kind == "reduction" and all(m.op.kind == "reduction" for m in group.members)
        return pure or prod(shape) <= _SMALL or independent(shape, together) >= _PARALLEL

    def _fits(self, group: Group, root: Expr, level_full: bool, extra: int) -> bool:
        """Join if what the member reads allows it. The group has the reduced dimensions that it would have then."""
        factors, found, count = self._traced(root, group.shape, group.factors, group)
        if group.operations + count > _MOST_VALUES:
            return False
        canonical = group.canonical
        if factors != group.factors:
            canonical = {}
            for m in group.members:
                forms = group.map_of(m, factors)
                assert forms is not None
                canonical[m] = forms
        outside = []
        for e, maps in found.items():
            if e not in canonical:
                outside.append(e)
            elif maps != {canonical[e]} or (not level_full and e not in group.grid_level):
                return False
        needed = self.closure(self.needed_by(outside) | extra)
        if needed >> group.number & 1:
            return False
        if group.factors != factors:
            group.factors, group.canonical = factors, canonical
        self.after(group, needed)
        if not level_full:
            group.grid_level.add(root)
        self._enter(group, root, found, count)
        return True

    def _enter(self, group: Group, root: Expr, found: dict[Expr, set[Map | None]], count: int) -> None:
        for e in found:
            if e not in group.canonical:
                group.sources.add(e)
                self.shared[group.shape, e] = group
        forms = group.map_of(root, group.factors)
        assert forms is not None
        group.members.append(root)
        group.canonical[root] = forms
        group.operations += count
        group.indexed = group.indexed or self.met_index
        if root.op.kind == "reduction":
            group.grid_level.add(root)
        self.group_of[root] = group
        self.ready[root] = 1 << group.number

    # ---- expressions ---------------------------------------------------------------------------------------------------

    def build(self) -> list[Step]:
        """Steps for everything stored, in an order in which they can run, with their reads and writes."""
        extra = self._claim_outputs()
        aliases = self._shared_bases()
        for e in self.graph.order:
            if e in self.graph.stored:
                self._compute(e, aliases)
        for number, e in extra:
            buffer = Buffer(prod(e.shape) * e.dtype.itemsize)
            buffer.output = number
            self.copy(copy_of(e), Target(buffer, 0, contiguous_strides(e.shape)))
        self._finish()
        return in_order(self.steps)

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
                step.writes = [step.target.buffer if isinstance(step, Copy) else self.buffer_of(step.node)]
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
        return not isinstance(step, Copy) and (step.node.op.name in ("scatter", "index_put") or self.graph.kinds[step.node] == HOST)

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

    def _compute(self, e: Expr, aliases: dict[Expr, Expr]) -> None:
        if e in aliases:
            root = aliases[e]
            while root in aliases:
                root = aliases[root]
            self.buffers[e] = self.buffer_of(root)
        kind = self.graph.kinds[e]
        if kind in (INLINE, REDUCE, INPUT):
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
                base, address, _ = self.graph.look(e, identity(factors), extents, True)
                return base, factors, address
            except NeedSplit as split:
                factors = tuple(split_axis(factors, split.axis, split.inner))

    def _assemble(self, e: Expr, aliases: dict[Expr, Expr]) -> None:
        buffer = self.buffer_of(e)
        if e.op.name == "view_write":
            base, value = e.args
            start = self._base(e, base, aliases)
            geometry = chain_geometry(e.attr, base.shape)  # type: ignore[arg-type]
            assert geometry is not None
            part = copy_of(value)
            self.ready[e] = start | self.copy(part, Target(buffer, geometry[2], geometry[1]), start)
            return
        dim: int = e.attr  # type: ignore[assignment]
        strides, position, done = contiguous_strides(e.shape), 0, 0
        for a in e.args:
            done |= self.copy(copy_of(a), Target(buffer, position * strides[dim], strides))
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
            operands = e.args[1:]
        else:
            operands = e.args
        bases = [self.graph.geometry(a)[0] for a in operands]
        self._step(e, bases, first)

    def _host(self, e: Expr) -> None:
        self._step(e, [base for base in map(without_reshapes, e.args) if self.graph.in_memory(base)], 0)

    def _step(self, e: Expr, bases: Sequence[Expr], first: int) -> None:
        step = Step(len(self.steps), e)
        self.add(step, self.needed_by(bases) | first)
        step.sources.update(bases)
        self.buffer_of(e)
        self.ready[e] = first | 1 << step.number


def arguments(e: Expr, forms: Map, axes: int) -> list[tuple[Expr, Map | None]]:
    """The arguments of an inlined expression and their maps; None for what is read at positions that are data."""
    name = e.op.name
    if name == "index":
        source, *indices = e.args
        _, inside = index_maps(e, forms)
        shape = broadcast_shape(indices)
        return [(source, None), *[(i, broadcast(i.shape, shape, inside, axes)) for i in indices]]
    if name == "gather":
        return [(e.args[0], None), (e.args[1], forms)]
    return [(a, broadcast(a.shape, e.shape, forms, axes)) for a in e.args]


def broadcast_shape(exprs: Sequence[Expr]) -> Shape:
    """The common shape."""
    return broadcast_shapes(*[e.shape for e in exprs])


def index_maps(e: Expr, forms: Map) -> tuple[dict[int, Form], Map]:
    """(form per dimension of the source that is not indexed, map of the index tensors) of ``index``."""
    dims: tuple[int, ...] = e.attr  # type: ignore[assignment]
    source, *indices = e.args
    rank = len(broadcast_shape(indices))
    neighbours = dims == tuple(range(dims[0], dims[0] + len(dims)))
    at = dims[0] if neighbours else 0
    rest = iter((*forms[:at], *forms[at + rank:]))
    return {d: next(rest) for d in range(len(source.shape)) if d not in dims}, forms[at:at + rank]


def gather_maps(e: Expr, forms: Map) -> dict[int, Form]:
    """Form per dimension of gather's source other than the gathered one."""
    return {d: form for d, form in enumerate(forms) if d != e.attr}


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
