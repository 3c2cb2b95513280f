"""Gradient history of handles that outlive their window.

When a window runs, each live handle that requires a gradient and whose backward has not been taken gets a
:class:`Segment`: its backward as a function of a symbolic seed gradient, cut at the other live handles, plus the values
(residuals) that this function reads. The residuals are further outputs of the window's program: what backward needs and
nothing else.
"""
from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Final

from torsh.autograd.engine import (
    FREED,
    FUNCTION_NODE,
    FUNCTION_OUTPUT,
    Accumulator,
    GradientRecording,
    freed_error,
    propagate,
    target_of,
    topological,
)
from torsh.core.errors import AutogradError
from torsh.graph.handle import expr_of, former, materialised
from torsh.graph.window import Window, history_planner, scalar_expr
from torsh.ops.expr import CACHES, LEAF_OP, SCALAR_OP, SEED_OP, VARIABLE_OP, VIEW, Expr, emit, leaf, recording

_serials = itertools.count(1)           # of windows that leave histories: later ones are walked first


class SegmentPlan:
    """Shape-level part of a segment, shared by all runs of a program.

    Attributes: ``seed`` (symbolic gradient), ``items`` ((target expression, gradient expression)), ``residuals``
    (expressions of the old window that the gradients read), ``function`` (node of a custom function, or None),
    ``order`` (topological position in the window). ``inputs``, where residuals depend on what requires gradients: what the head is
    computed from, with the number of the live handle that has it or -1; None if it cannot be computed again.
    """

    __slots__ = ("seed", "items", "residuals", "cache", "order", "function", "output", "inputs")

    def __init__(self, head: Expr, stop: frozenset[Expr], order: int, create_graph: bool) -> None:
        self.order = order
        self.cache: dict[Any, list[Expr]] = {}
        CACHES.append(self.cache)
        self.seed = Expr(SEED_OP, (), None, head.shape, head.dtype, True)
        self.function: int | None = None
        self.output = 0
        self.items: list[tuple[Expr, Expr]] = []
        self.residuals: list[Expr] = []
        self.inputs: list[tuple[Expr, int]] | None = []
        if head.op is FUNCTION_OUTPUT:
            self.function, self.output = head.args[1].attr, head.attr[1]  # type: ignore[index, assignment]
            return
        with GradientRecording(create_graph):
            # The head itself is a cut too; its arguments are where the walk may stop.
            self.items = propagate([(head, self.seed)], stop - {head})
        self.residuals = residuals_of(head, [g for _, g in self.items], self.seed)


def residuals_of(head: Expr, gradients: Sequence[Expr], seed: Expr) -> list[Expr]:
    """Forward expressions that gradient expressions read, as near to the gradients as possible."""
    forward: set[Expr] = set()
    stack = [head]
    while stack:
        e = stack.pop()
        if e not in forward:
            forward.add(e)
            stack.extend(e.args)
    found: dict[Expr, None] = {}
    seen: set[Expr] = set()
    stack = list(gradients)
    while stack:
        e = stack.pop()
        if e in seen or e is seed:
            continue
        seen.add(e)
        if (e in forward or (e.op.residual and forward.issuperset(e.args))) and e.op.name != "constant":
            # Save what a view looks at, not the view: it is derived again at no cost.
            while e.op.kind == VIEW and e.op.name != "expand" and e.args and e.args[0] not in found:
                e = e.args[0]
            if e.op.name != "constant":
                found[e] = None
        else:
            stack.extend(e.args)
    return list(found)


def inputs_of(head: Expr, live: dict[Expr, int]) -> list[tuple[Expr, int]] | None:
    """Live handles, leaves, variables and numbers that an expression is computed from; None if not from them alone."""
    found: dict[Expr, int] = {}
    seen: set[Expr] = set()
    stack = list(head.args)
    while stack:
        e = stack.pop()
        if e in seen:
            continue
        seen.add(e)
        if e in live or e.op is LEAF_OP or e.op is SCALAR_OP:
            found[e] = live.get(e, -1)
        elif e.op in (FUNCTION_NODE, FUNCTION_OUTPUT, VARIABLE_OP):
            return None
        else:
            stack.extend(e.args)
    return list(found.items())


class Passed:
    """History of a copy of a value: its gradient is the handle's that had the value."""

    __slots__ = ("handle",)
    order: Final = (0, 0)

    def __init__(self, handle: Any) -> None:
        self.handle = handle

    def backward(self, t: Any, g: Expr, state: Accumulator) -> None:
        """Send the gradient on."""
        state.reach(self.handle, g)


class Source:
    """A value that an expression of an earlier window was computed from: a number, or the handle that had it."""

    __slots__ = ("number", "handle", "history", "storage", "placeholder", "version", "is_leaf")

    def __init__(self, number: Any, handle: Any = None, storage: Any = None) -> None:
        self.number = number
        if handle is not None:
            self.handle, self.history, self.storage = handle, handle._history, storage
            self.placeholder, self.version, self.is_leaf = handle._expr, handle._version, handle._leaf_grad

    def expr(self) -> Expr:
        """The value as an expression of the current window, with its history."""
        if self.number is not None:
            return scalar_expr(self.number)
        t, history = self.handle, self.history
        if t._root is not None:
            if t._version != self.version:
                raise AutogradError("one of the variables needed for gradient computation has been modified by an inplace operation")
            return expr_of(t)
        if t._storage is self.storage and t._history is history:
            return expr_of(t)
        e = self.placeholder
        copy = materialised(type(t), self.storage, leaf(-1, e.shape, e.dtype, False))
        copy._history = Passed(t) if self.is_leaf else history
        return expr_of(copy)


class Segment:
    """The history of one materialised handle: a plan, residual handles and the handles that its gradients go to."""

    __slots__ = ("plan", "residuals", "targets", "order", "function", "sources")

    def __init__(self, plan: SegmentPlan, residuals: list[Any] | None, order: tuple[int, int], function: Any) -> None:
        self.plan = plan
        self.residuals = residuals
        self.targets: list[tuple[Any, Any]] = []    # handles, and the histories that they had when this one was made
        self.order = order
        self.function = function
        self.sources: list[Source] | None = []      # what the handle's value can be computed from again

    def backward(self, t: Any, g: Expr, state: Accumulator) -> None:
        """Send the gradient ``g`` of handle ``t`` on to the targets."""
        if self.residuals is None:
            raise freed_error()
        plan = self.plan
        if self.function is not None:
            self.function.reach(plan.output, g, state)
            return
        if state.create_graph and (plan.inputs is None or plan.inputs):
            self.backward_again(g, state)
            return
        values = [expr_of(r) for r in self.residuals]
        key = (g, tuple(values), state.create_graph)
        outs = plan.cache.get(key)
        if outs is None:
            bind = dict(zip(plan.residuals, values, strict=True))
            bind[plan.seed] = g
            with GradientRecording(state.create_graph):
                outs = plan.cache[key] = substitute([g for _, g in plan.items], bind)
        for (target, history), out in zip(self.targets, outs, strict=True):
            written = history is not None and target._history is not history and target._history is not FREED
            state.reach(former(target, history) if written else target, out)
        if not state.retain_graph and plan.residuals:
            self.residuals = self.sources = None

    def backward_again(self, g: Expr, state: Accumulator) -> None:
        """:meth:`backward` whose result is differentiable in all that the value was computed from: it is recorded anew."""
        inputs = self.plan.inputs
        if inputs is None:
            raise AutogradError("create_graph: the graph of this value has a custom function, or a parameter that was written in "
                                "place, behind values that have been read already. Call backward before values are read "
                                "(item(), print, numpy()).")
        assert self.sources is not None
        bind = {e: source.expr() for (e, _), source in zip(inputs, self.sources, strict=True)}
        with GradientRecording(True):
            head, = substitute([plan_head(self.plan)], bind)
            found = propagate([(head, g)])
        window = recording.window
        for e, piece in found:
            state.reach(target_of(e, window), piece)


def substitute(exprs: Sequence[Expr], bind: dict[Expr, Expr]) -> list[Expr]:
    """Rebuild expressions with some of their parts replaced."""
    done = dict(bind)
    for root in exprs:
        stack = [root]
        while stack:
            e = stack[-1]
            if e in done:
                stack.pop()
                continue
            missing = [a for a in e.args if a not in done]
            if missing:
                stack.extend(missing)
                continue
            stack.pop()
            done[e] = emit(e.op, tuple([done[a] for a in e.args]), e.attr) if e.args else e
    return [done[e] for e in exprs]


class HistoryPlan:
    """The histories of all live handles of a program."""

    __slots__ = ("segments", "residuals", "freed")

    def __init__(self) -> None:
        self.segments: list[tuple[int, SegmentPlan, list[int]]] = []
        self.residuals: list[Expr] = []
        self.freed: list[int] = []

    def attach(self, window: Window, live: list[Any], residuals: list[Any]) -> None:
        """Give each live handle its segment after a run."""
        serial = next(_serials)
        by_expr: dict[Expr, Any] = {}
        for i, plan, _ in self.segments:
            by_expr[plan_head(plan)] = live[i]
        made: list[Segment] = []
        for i, plan, positions in self.segments:
            function = window.functions[plan.function] if plan.function is not None else None
            made.append(Segment(plan, [residuals[p] for p in positions], (serial, plan.order), function))
            live[i]._history = made[-1]
        for segment in made:
            targets = [by_expr[e] if e in by_expr else target_of(e, window) for e, _ in segment.plan.items]
            segment.targets = [(t, t._history) for t in targets]
            segment.sources = [source_of(e, number, window, live) for e, number in segment.plan.inputs or ()]
        for i in self.freed:
            live[i]._history = FREED


def source_of(e: Expr, number: int, window: Window, live: list[Any]) -> Source:
    """What a segment computes its value from again: see :func:`inputs_of`."""
    if number >= 0:
        return Source(None, live[number], live[number]._storage)
    position: Any = e.attr
    if e.op is SCALAR_OP:
        return Source(window.scalars[position])
    return Source(None, window.leaves[position], window.storages[position])


def plan_head(plan: SegmentPlan) -> Expr:
    """The expression whose backward a plan is."""
    return plan.seed.plan  # type: ignore[no-any-return]


def plan_history(window: Window, live: list[Any]) -> HistoryPlan | None:
    """Decide what histories the live handles of a window need."""
    candidates = [(i, t) for i, t in enumerate(live)
                  if t._expr.requires_grad and not t._leaf_grad and t._expr.op not in (LEAF_OP, VARIABLE_OP)]
    if not candidates:
        return None
    result = HistoryPlan()
    consumed = set(topological(window.consumed))
    heads: list[tuple[int, Expr]] = []
    taken: set[Expr] = set()
    for i, t in candidates:
        if t._expr in consumed and t._expr not in window.cuts:
            result.freed.append(i)
        else:
            heads.append((i, t._expr))
            taken.add(t._expr)
    stop = frozenset(taken)
    rank = {e: k for k, e in enumerate(topological([e for _, e in heads]))}
    positions: dict[Expr, int] = {}
    numbers = {t._expr: i for i, t in enumerate(live)}
    for i, e in heads:
        plan = SegmentPlan(e, stop, rank[e], True)
        plan.seed.plan = e
        if any(r.requires_grad for r in plan.residuals):
            plan.inputs = inputs_of(e, numbers)
        where = []
        for r in plan.residuals:
            if r not in positions:
                positions[r] = len(result.residuals)
                result.residuals.append(r)
            where.append(positions[r])
        result.segments.append((i, plan, where))
    return result


history_planner[:] = [plan_history]
__all__ = ["FREED", "FUNCTION_NODE", "HistoryPlan", "Segment", "plan_history", "recording"]
