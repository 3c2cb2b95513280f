"""Gradient history of handles that outlive their window.

When a window runs, each live handle that requires a gradient and whose backward has not been taken gets a
:class:`Segment`: its backward as a function of a symbolic seed gradient, cut at the other live handles, plus the values
(residuals) that this function reads. The residuals are further outputs of the window's program: what backward needs and
nothing else.
"""
from __future__ import annotations

import itertools
import weakref
from collections.abc import Sequence
from typing import Any

from torsh.autograd.backward import FREED, Accumulator, freed_error, modified_error
from torsh.autograd.engine import (
    FUNCTION_NODE,
    FUNCTION_OUTPUT,
    GradientRecording,
    propagate,
    target_of,
    topological,
)
from torsh.core.errors import AutogradError
from torsh.graph.handle import expr_of, former, materialised
from torsh.graph.window import Window, history_planner, scalar_expr
from torsh.ops.expr import CACHES, LEAF_OP, SCALAR_OP, SEED_OP, VARIABLE_OP, VIEW, Expr, emit, placeholder_of, recording

_serials = itertools.count(1)           # of windows that leave histories: later ones are walked first


class SegmentPlan:
    """Shape-level part of a segment, shared by all runs of a program.

    Attributes: ``head`` (expression that the segment is of), ``seed`` (symbolic gradient), ``items`` ((target expression, gradient
    expression)), ``residuals`` (expressions of the old window that the gradients read), ``order`` (topological position in the
    window), ``inputs`` (where residuals depend on what requires gradients: what the head is computed from, with the number of the
    live handle that has it or -1; None if it cannot be computed again).
    """

    __slots__ = ("head", "seed", "items", "residuals", "cache", "order", "inputs")

    def __init__(self, head: Expr, stop: frozenset[Expr], order: int) -> None:
        self.head = head
        self.order = order
        self.cache: dict[Any, list[Expr]] = {}
        CACHES.append(self.cache)
        self.seed = Expr(SEED_OP, (), None, head.shape, head.dtype, True)
        self.inputs: list[tuple[Expr, int]] | None = []
        with GradientRecording(True):
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


def inputs_of(head: Expr, live: dict[Expr, int], window: Window) -> list[tuple[Expr, int]] | None:
    """Live handles, leaves, variables and numbers that an expression is computed from; None if not from them alone."""
    found: dict[Expr, int] = {}
    seen: set[Expr] = set()
    stack = list(head.args)
    while stack:
        e = stack.pop()
        if e in seen:
            continue
        seen.add(e)
        if e in live or e.op is LEAF_OP or e.op is SCALAR_OP or leaf_view(e, window):
            found[e] = live.get(e, -1)
        elif e.op in (FUNCTION_NODE, FUNCTION_OUTPUT, VARIABLE_OP):
            return None
        else:
            stack.extend(e.args)
    return list(found.items())


def leaf_view(e: Expr, window: Window) -> bool:
    """Is this a view that is an autograd leaf (``detach().requires_grad_()``), as it is now?"""
    if e.op is not VARIABLE_OP:
        return False
    t = window.variables[e.attr]  # type: ignore[call-overload]
    return t._root is not None and t._expr is e and t._version == t._root._version


Target = tuple[Any, Any]        # a handle, and the history that it had when it became a target


def target(t: Any) -> Target:
    """A handle that gradients are sent to later."""
    return t, t._history


def receiver(t: Any, history: Any) -> Any:
    """The handle to send a target's gradient to: another one, if the target has been written in place since."""
    written = history is not None and t._history is not history and t._history is not FREED
    return former(t, history) if written else t


class Passed:
    """History of a copy of a value: its gradient is the handle's that had the value."""

    __slots__ = ("target", "order")

    def __init__(self, target: Target, order: tuple[int, int] = (0, 0)) -> None:
        self.target = target
        self.order = order

    def backward(self, t: Any, g: Any, state: Accumulator) -> None:
        """Send the gradient on."""
        state.reach(receiver(*self.target), expr_of(g))


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
            if t._root._version != self.version:
                raise modified_error()
            return expr_of(t)
        if t._storage is self.storage and t._history is history:
            return expr_of(t)
        e = self.placeholder
        copy = materialised(type(t), self.storage, placeholder_of(e))
        copy._history = Passed(target(t)) if self.is_leaf else history
        return expr_of(copy)


class Segment:
    """The history of one materialised handle: a plan, residual handles and the handles that its gradients go to."""

    __slots__ = ("plan", "residuals", "targets", "order", "sources")

    def __init__(self, plan: SegmentPlan, residuals: list[Any] | None, order: tuple[int, int]) -> None:
        self.plan = plan
        self.residuals = residuals
        self.targets: list[Target] = []
        self.order = order
        self.sources: list[Source | None] | None = []      # what the handle's value can be computed from again

    def backward(self, t: Any, gradient: Any, state: Accumulator) -> None:
        """Send the gradient of handle ``t`` on to the targets."""
        plan = self.plan
        if self.residuals is None:
            raise freed_error()
        g = expr_of(gradient)
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
        if not state.retain_graph and plan.residuals:
            self.residuals = self.sources = None
        state.reach_all([(receiver(*to), out) for to, out in zip(self.targets, outs, strict=True)])

    def backward_again(self, g: Expr, state: Accumulator) -> None:
        """:meth:`backward` whose result is differentiable in all that the value was computed from: it is recorded anew."""
        inputs = self.plan.inputs
        sources = [source for source in self.sources or () if source is not None]
        if inputs is None or len(sources) < len(inputs):
            raise AutogradError("create_graph: the graph of this value has a custom function, or a parameter that was written in "
                                "place, behind values that have been read already. Call backward before values are read "
                                "(item(), print, numpy()).")
        bind = {e: source.expr() for (e, _), source in zip(inputs, sources, strict=True)}
        with GradientRecording(True):
            head, = substitute([self.plan.head], bind)
            found = propagate([(head, g)])
        window = recording.window
        state.reach_all([(target_of(e, window), piece) for e, piece in found])


class FunctionHistory:
    """A call of a custom function in an earlier window: what its outputs' histories lead to."""

    __slots__ = ("call", "targets", "order", "output_orders", "__weakref__")

    def __init__(self, call: Any, order: tuple[int, int]) -> None:
        self.call = call
        self.targets: list[Target | None] = []      # of the function's tensors; None for those that do not require grad
        self.order = order
        self.output_orders: dict[int, tuple[int, int]] = {}
        call.ctx._history = weakref.ref(self)

    def backward(self, t: Any, grads: dict[int, Any], state: Accumulator) -> None:
        """Run the user's backward on {output number: gradient} and send the result on."""
        found = self.call.backward(grads, state)
        state.reach_all([(receiver(*to), e) for to, e in zip(self.targets, found, strict=True)
                         if to is not None and e is not None])


    def output(self, number: int) -> OutputHistory:
        """The history of an output."""
        return OutputHistory(self, number, self.output_orders[number])


class OutputHistory:
    """The history of an output of a custom function that was called in an earlier window."""

    __slots__ = ("function", "output", "order")

    def __init__(self, function: FunctionHistory, output: int, order: tuple[int, int]) -> None:
        self.function = function
        self.output = output
        self.order = order

    def backward(self, t: Any, g: Any, state: Accumulator) -> None:
        """Send the gradient on to the function."""
        state.reach_function(self.function, self.output, g)


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
    """The histories of all live handles of a program, and of the values behind them that custom functions took and returned."""

    __slots__ = ("heads", "segments", "functions", "outputs", "residuals", "copies", "freed")

    def __init__(self) -> None:
        self.heads: list[tuple[int, Expr]] = []     # what gets a history: number of the live handle (-1: nobody has the value)
        self.segments: list[tuple[int, SegmentPlan, list[int]]] = []    # (number of the head, plan, numbers of its residuals)
        self.functions: list[tuple[Expr, int]] = []                     # (node of a custom function, order)
        self.outputs: list[tuple[int, Expr, int]] = []                  # (number of the head, its expression, order)
        self.residuals: list[Expr] = []
        self.copies: list[tuple[int, Expr]] = []    # live handles that have the value of a leaf or variable
        self.freed: list[int] = []

    def is_open(self) -> bool:
        """Is there a handle whose backward has not been taken?"""
        return bool(self.heads or self.copies)

    def attach(self, window: Window, live: list[Any], residuals: list[Any]) -> None:
        """Give each live handle its history after a run."""
        for i in self.freed:
            live[i]._history = FREED
        if self.heads or self.copies:
            self.attach_heads(window, live, residuals)

    def attach_heads(self, window: Window, live: list[Any], residuals: list[Any]) -> None:
        """:meth:`attach` for handles whose backward has not been taken."""
        serial = next(_serials)
        heads = [live[i] if i >= 0 else nobody(e) for i, e in self.heads]
        functions = {node: FunctionHistory(window.functions[node.attr], (serial, order))  # type: ignore[index, call-overload]
                     for node, order in self.functions}
        segments = [Segment(plan, [residuals[p] for p in positions], (serial, plan.order)) for _, plan, positions in self.segments]
        for (number, _, _), segment in zip(self.segments, segments, strict=True):
            heads[number]._history = segment
        for number, e, order in self.outputs:
            function, output = functions[e.args[1]], e.attr[1]  # type: ignore[index, call-overload]
            function.output_orders[output] = serial, order
            heads[number]._history = function.output(output)
        # Several handles may have the same value: gradients go to the one with hooks.
        by_expr = {e: t for (_, e), t in sorted(zip(self.heads, heads, strict=True), key=lambda head: head[1]._extra is not None)}

        def reached(e: Expr) -> Target:
            return target(by_expr[e] if e in by_expr else target_of(e, window))

        for segment in segments:
            segment.targets = [reached(e) for e, _ in segment.plan.items]
            segment.sources = [source_of(e, number, window, live) for e, number in segment.plan.inputs or ()]
        for node, function in functions.items():
            function.targets = [reached(e) if e.requires_grad else None for e in node.args]
        for i, e in self.copies:
            live[i]._history = Passed(target(target_of(e, window)), (serial, -1))


def nobody(e: Expr) -> Any:
    """A handle for a value that gradients go through and that nobody has."""
    return materialised(Window.tensor_class, None, placeholder_of(e))  # type: ignore[arg-type]


def source_of(e: Expr, number: int, window: Window, live: list[Any]) -> Source | None:
    """What a segment computes its value from again: see :func:`inputs_of`. None if nobody has it any more."""
    if number >= 0:
        return Source(None, live[number], live[number]._storage)
    position: Any = e.attr
    if e.op is SCALAR_OP:
        return Source(window.scalars[position])
    if e.op is VARIABLE_OP:
        return Source(None, window.variables[position]) if leaf_view(e, window) else None
    return Source(None, window.leaves[position], window.storages[position])


def plan_history(window: Window, live: list[Any]) -> HistoryPlan | None:
    """Decide what histories the live handles of a window need."""
    candidates = [(i, t) for i, t in enumerate(live) if t._expr.requires_grad and not t._leaf_grad]
    if not candidates:
        return None
    result = HistoryPlan()
    consumed = set(topological(window.consumed))
    for i, t in candidates:
        if t._expr.op is LEAF_OP or t._expr.op is VARIABLE_OP:
            result.copies.append((i, t._expr))
        elif t._expr in consumed and t._expr not in window.cuts:
            result.freed.append(i)
        else:
            result.heads.append((i, t._expr))
    order = topological([e for _, e in result.heads])
    rank = {e: k for k, e in enumerate(order)}
    result.functions = [(e, rank[e]) for e in order if e.op is FUNCTION_NODE]
    if result.functions:
        result.heads.extend((-1, e) for e in ends_at_functions(order, {e for _, e in result.heads}))
    stop = frozenset(e for _, e in result.heads)
    numbers = {t._expr: i for i, t in enumerate(live)}
    positions: dict[Expr, int] = {}
    for number, (_, e) in enumerate(result.heads):
        if e.op is FUNCTION_OUTPUT:
            result.outputs.append((number, e, rank[e]))
            continue
        plan = SegmentPlan(e, stop, rank[e])
        if any(r.requires_grad for r in plan.residuals):
            plan.inputs = inputs_of(e, numbers, window)
        result.segments.append((number, plan, [positions.setdefault(r, len(positions)) for r in plan.residuals]))
    result.residuals = list(positions)
    return result


def ends_at_functions(order: Sequence[Expr], known: set[Expr]) -> list[Expr]:
    """Values that custom functions took and returned, where gradients stop on their way; those that are not ``known``."""
    found: dict[Expr, None] = {}
    for e in order:
        if e.op is FUNCTION_OUTPUT:
            found[e] = None
        elif e.op is FUNCTION_NODE:
            found.update((a, None) for a in e.args if a.requires_grad and a.op is not LEAF_OP and a.op is not VARIABLE_OP)
    return [e for e in found if e not in known]


history_planner[:] = [plan_history]
__all__ = ["FREED", "FUNCTION_NODE", "HistoryPlan", "Segment", "plan_history", "recording"]
