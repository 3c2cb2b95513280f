"""Which stored expressions are computed together: groups, each of which becomes one loop kernel.

A group has a space (a shape, some of whose dimensions may be reduced) and members. A member is *full* (a value at every point
of the space: elementwise results, reductions' arguments) or *grid* (one value per point of the dimensions that are not
reduced). Members may use each other where both are looked at at the same point; so softmax, a normalisation or a loss with
its gradient end as one kernel. A member joins a group only if no chain of dependencies leaves the group and comes back.
"""
from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from math import prod
from typing import Final

from torsh.compiler.affine import Map, NeedSplit, identity, split_axis
from torsh.compiler.graph import Graph
from torsh.compiler.inline import arguments
from torsh.compiler.steps import Buffer, Factors, Group, Step, Target, independent
from torsh.core.shape import contiguous_strides
from torsh.ops.expr import Expr, Shape

_SMALL: Final = 1 << 16        # elements that one thread may as well do alone
_PARALLEL: Final = 8           # independent points that are enough to share
_MOST_VALUES: Final = 400      # inlined operations in one kernel
_MOST_MEMBERS: Final = 24


class Grouping:
    """Steps, and the groups among them that members join."""

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
        self.products: dict[Expr, Step] = {}
        self.computations: dict[Hashable, Step] = {}
        self.prepared: dict[Expr, Expr] = {}       # the weights of convolutions, in the form that their templates read
        self.outputs = outputs
        self.part_of: dict[Expr, tuple[Expr, int, int]] = {}     # joins within joins: (the whole, dimension, position)
        self.met_index = False                     # did the last member walked through read at positions that are data?
        self.late: list[int] = []                  # in-place outputs that are copied into place at the end
        self.in_place = {number: position for number, position in in_place if position >= 0}
        self.owned = frozenset([number for number, _ in in_place])      # outputs in memory that tensors have already
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
