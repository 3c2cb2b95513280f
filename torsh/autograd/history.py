"""Gradient history of handles that outlive their window.

When a window runs, each live handle that requires a gradient and whose backward has not been taken gets a
:class:`Segment`: its backward as a function of a symbolic seed gradient, cut at the other live handles, plus the values
(residuals) that this function reads. The residuals are further outputs of the window's program: what backward needs and
nothing else.
"""
from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

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
from torsh.graph.handle import expr_of
from torsh.graph.window import Window, history_planner
from torsh.ops.expr import CACHES, LEAF_OP, SEED_OP, VARIABLE_OP, VIEW, Expr, emit, recording

_serials = itertools.count(1)           # of windows that leave histories: later ones are walked first


class SegmentPlan:
    """Shape-level part of a segment, shared by all runs of a program.

    Attributes: ``seed`` (symbolic gradient), ``items`` ((target expression, gradient expression)), ``residuals``
    (expressions of the old window that the gradients read), ``function`` (node of a custom function, or None),
    ``order`` (topological position in the window).
    """

    __slots__ = ("seed", "items", "residuals", "cache", "order", "function", "output")

    def __init__(self, head: Expr, stop: frozenset[Expr], order: int, create_graph: bool) -> None:
        self.order = order
        self.cache: dict[Any, list[Expr]] = {}
        CACHES.append(self.cache)
        self.seed = Expr(SEED_OP, (), None, head.shape, head.dtype, True)
        self.function: int | None = None
        self.output = 0
        self.items: list[tuple[Expr, Expr]] = []
        self.residuals: list[Expr] = []
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


class Segment:
    """The history of one materialised handle: a plan, residual handles and the handles that its gradients go to."""

    __slots__ = ("plan", "residuals", "targets", "order", "function")

    def __init__(self, plan: SegmentPlan, residuals: list[Any] | None, targets: list[Any], order: tuple[int, int],
                 function: Any) -> None:
        self.plan = plan
        self.residuals = residuals
        self.targets = targets
        self.order = order
        self.function = function

    def backward(self, t: Any, g: Expr, state: Accumulator) -> None:
        """Send the gradient ``g`` of handle ``t`` on to the targets."""
        if self.residuals is None:
            raise freed_error()
        plan = self.plan
        if self.function is not None:
            self.function.reach(plan.output, g, state)
            return
        values = [expr_of(r) for r in self.residuals]
        key = (g, tuple(values), state.create_graph)
        outs = plan.cache.get(key)
        if outs is None:
            bind = dict(zip(plan.residuals, values, strict=True))
            bind[plan.seed] = g
            with GradientRecording(state.create_graph):
                outs = plan.cache[key] = substitute([g for _, g in plan.items], bind)
        for target, out in zip(self.targets, outs, strict=True):
            state.reach(target, out)
        if not state.retain_graph and plan.residuals:
            self.residuals = None


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
        for i, plan, positions in self.segments:
            targets = [by_expr[e] if e in by_expr else target_of(e, window) for e, _ in plan.items]
            function = window.functions[plan.function] if plan.function is not None else None
            live[i]._history = Segment(plan, [residuals[p] for p in positions], targets,
                                       (serial, plan.order), function)
        for i in self.freed:
            live[i]._history = FREED


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
    for i, e in heads:
        plan = SegmentPlan(e, stop, rank[e], True)
        plan.seed.plan = e
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
