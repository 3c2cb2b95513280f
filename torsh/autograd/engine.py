"""Reverse mode over expressions.

The expression graph is the tape. :func:`propagate` walks it once in reverse topological order, turning gradient rules into
more expressions. Its result is memoised on the interned expressions, so the backward of a training step costs one
look-up when the step is recorded again.

Three kinds of expressions end or interrupt the walk:

- *targets*: leaves and variables (autograd leaves), and whatever the caller asks gradients for;
- *cuts*: expressions whose handles carry hooks or retained gradients, run as the walk passes;
- *function nodes*: custom autograd functions, whose backward is Python code.

A handle that outlives its window keeps a :class:`torsh.autograd.history.Segment` instead of the graph.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from torsh.core.errors import AutogradError
from torsh.graph.handle import expr_of, materialised, requires_grad, write
from torsh.graph.window import Window, tensor_of
from torsh.ops.contraction import sum_of
from torsh.ops.expr import (
    CACHES,
    LEAF_OP,
    MEMO_GRAD,
    MEMO_NO_GRAD,
    SEED_OP,
    TABLE,
    VARIABLE_OP,
    Expr,
    Op,
    constant,
    emit1,
    emit2,
    make,
    no_grad_recording,
    recording,
)

_plans: Final[dict[Any, list[tuple[Expr, Expr]]]] = {}
CACHES.append(_plans)

# The value of output number attr of a custom function: args (value, node). The node's args are the function's inputs.
FUNCTION_NODE: Final = Op("function_node", lambda attr, *args: ((), args[0].dtype), None,
                          gradient=lambda e, g: (), kind="leaf")
FUNCTION_OUTPUT: Final = Op("function_output", lambda attr, value, node: (value.shape, value.dtype),
                            None, gradient=lambda e, g: (None, None), decompose=lambda e: e.args[0])


def ones_like(e: Expr) -> Expr:
    """An expression of ones in the shape and dtype of ``e``."""
    one = constant(1.0, e.dtype)
    return one if not e.shape else emit1(TABLE["expand"], one, e.shape)


def zeros_like(e: Expr) -> Expr:
    """An expression of zeros in the shape and dtype of ``e``."""
    zero = constant(0.0, e.dtype)
    return zero if not e.shape else emit1(TABLE["expand"], zero, e.shape)


def add(a: Expr, b: Expr) -> Expr:
    """Sum of two gradients of the same expression."""
    return emit2(TABLE["add"], a, b)


def topological(heads: Iterable[Expr], stop: Any = ()) -> list[Expr]:
    """The expressions that require gradients below the heads, arguments first; not below those in ``stop``."""
    order: list[Expr] = []
    seen: set[Expr] = set()
    stack: list[tuple[Expr, bool]] = [(h, False) for h in heads]
    while stack:
        e, done = stack.pop()
        if done:
            order.append(e)
            continue
        if e in seen or not e.requires_grad:
            continue
        seen.add(e)
        stack.append((e, True))
        if e.op is VARIABLE_OP or e in stop:
            continue
        for a in e.args:
            if a.requires_grad and a not in seen:
                stack.append((a, False))
    return order


def rule(e: Expr, g: Expr) -> Sequence[Expr | None]:
    """Gradients of the arguments of ``e``, by its rule or through its decomposition."""
    gradient = e.op.gradient
    found = None if gradient is None else gradient(e, g)
    return through_decomposition(e, g) if found is None else found


def through_decomposition(e: Expr, g: Expr) -> list[Expr | None]:
    """Gradients of a composite op without a rule: those of its decomposition."""
    # The arguments stand in as leaves of the decomposition, so that the walk ends there.
    saved = recording.memo, recording.grad_enabled
    recording.memo, recording.grad_enabled = MEMO_GRAD, True
    try:
        inner = e.op.decompose(e)  # type: ignore[misc]
    finally:
        recording.memo, recording.grad_enabled = saved
    found = dict(propagate([(inner, g)], frozenset(a for a in e.args if a.requires_grad)))
    return [found.pop(a, None) for a in e.args]     # an argument that occurs twice gets its gradient once


def propagate(seeds: Sequence[tuple[Expr, Expr]], targets: Any = frozenset(), stop_at_targets: bool = True,
              visit: Callable[[Expr, Expr], Expr] | None = None,
              call_function: Callable[[Expr, dict[int, Expr]], Sequence[Expr | None]] | None = None,
              ) -> list[tuple[Expr, Expr]]:
    """Walk back from (head, gradient) pairs; returns (expression, gradient) for every leaf, variable and target reached.

    visit: called with each cut expression and its complete gradient; returns the gradient to go on with.
    call_function: called with a function node and {output number: gradient}; returns gradients of the node's arguments.
    """
    order = topological([h for h, _ in seeds], targets if stop_at_targets else ())
    grads: dict[Expr, Any] = {}                 # what arrives at an expression: pieces of its gradient, at a function {output: gradient}
    for head, g in seeds:
        grads.setdefault(head, []).append(g)
    found: list[tuple[Expr, Expr]] = []
    for e in reversed(order):
        arrived = grads.pop(e, None)
        if arrived is None:
            continue
        if e.op is FUNCTION_NODE:
            if call_function is None:
                raise AutogradError("a custom function was met in a walk that cannot run it")
            pieces = call_function(e, arrived)
        else:
            g = arrived[0] if len(arrived) == 1 else sum_of(arrived)
            if visit is not None:
                g = visit(e, g)
            is_target = e in targets
            if is_target or e.op is LEAF_OP or e.op is VARIABLE_OP:
                found.append((e, g))
                if stop_at_targets or not is_target or e.op is LEAF_OP or e.op is VARIABLE_OP:
                    continue
            if e.op is FUNCTION_OUTPUT:
                grads.setdefault(e.args[1], {})[e.attr[1]] = g  # type: ignore[index, call-overload]
                continue
            pieces = rule(e, g)
        for a, piece in zip(e.args, pieces, strict=False):
            if piece is None or not a.requires_grad:
                continue
            known = grads.get(a)
            if known is None:
                grads[a] = [piece]
            else:
                known.append(piece)
    return found


def planned(head: Expr, create_graph: bool) -> list[tuple[Expr, Expr]]:
    """The memoised backward of one head with a gradient of ones."""
    key = (head, create_graph)
    plan = _plans.get(key)
    if plan is None:
        with GradientRecording(create_graph):
            plan = propagate([(head, ones_like(head))])
        _plans[key] = plan
    return plan


class GradientRecording:
    """Context in which gradient rules record: with gradients of their own only for ``create_graph``."""

    __slots__ = ("create_graph", "saved")

    def __init__(self, create_graph: bool) -> None:
        self.create_graph = create_graph

    def __enter__(self) -> None:
        self.saved = (recording.memo, recording.grad_enabled)
        recording.memo = MEMO_GRAD if self.create_graph else MEMO_NO_GRAD
        recording.grad_enabled = self.create_graph

    def __exit__(self, *exc: object) -> None:
        recording.memo, recording.grad_enabled = self.saved


# ---- the worklist over handles -----------------------------------------------------------------------------------------


class Accumulator:
    """Collects gradients for handles during one backward call and runs what hangs on them.

    ``inputs``: None to accumulate into ``.grad`` of all leaves (backward), else {id(handle): number} (autograd.grad).
    """

    def __init__(self, inputs: dict[int, int] | None, create_graph: bool, retain_graph: bool) -> None:
        self.inputs = inputs
        self.create_graph = create_graph
        self.retain_graph = retain_graph
        self.results: dict[int, Expr] = {}
        # Handles behind which gradients go on (they have outlived their window): {id of the history: (handle, gradient)}.
        self.waiting: dict[int, tuple[Any, Expr]] = {}

    def reach(self, t: Any, g: Expr) -> None:
        """A gradient arrives at a handle that is a leaf of the walk so far."""
        if t._history is not None and not t._leaf_grad:
            key = id(t if t._history is FREED else t._history)
            known = self.waiting.get(key)
            self.waiting[key] = (t, g if known is None else add(known[1], g))
        else:
            self.deliver(t, g)

    def deliver(self, t: Any, g: Expr) -> None:
        """A complete gradient for an autograd leaf (or an input that was asked for)."""
        inputs = self.inputs
        if inputs is not None and id(t) not in inputs:
            return
        if t._extra and "hooks" in t._extra:
            g = run_hooks(t, g)
        if inputs is not None:
            number = inputs[id(t)]
            known = self.results.get(number)
            self.results[number] = g if known is None else add(known, g)
        else:
            accumulate(t, g, self.create_graph)

    def drain(self) -> None:
        """Go on behind handles with history, latest first, until only leaves are left."""
        while self.waiting:
            key = max(self.waiting, key=lambda k: self.waiting[k][0]._history.order)
            t, g = self.waiting.pop(key)
            if t._extra:
                if "hooks" in t._extra:
                    g = run_hooks(t, g)
                if "retain" in t._extra and self.inputs is None:
                    accumulate(t, g, self.create_graph)
            if self.inputs is not None and id(t) in self.inputs:
                number = self.inputs[id(t)]
                known = self.results.get(number)
                self.results[number] = g if known is None else add(known, g)
            t._history.backward(t, g, self)


def accumulate(t: Any, g: Expr, create_graph: bool) -> None:
    """Add a gradient to ``t.grad``; PyTorch's rule: in place unless a graph is being created."""
    grad = t._grad
    if grad is None:
        t._grad = tensor_of(g)
    elif create_graph:
        t._grad = tensor_of(add(expr_of(grad), g))
    else:
        with no_grad_recording():
            write(grad, add(expr_of(grad), g))
    if t._extra and "post_accumulate" in t._extra:
        for hook in list(t._extra["post_accumulate"].values()):
            hook(t)


def run_hooks(t: Any, g: Expr) -> Expr:
    """Call the handle's tensor hooks with its gradient; a hook may return another one."""
    for hook in list(t._extra["hooks"].values()):
        result = hook(tensor_of(g))
        if result is not None:
            if tuple(expr_of(result).shape) != g.shape:
                raise AutogradError(f"hook has changed the size of value: expected {g.shape}, got {result.shape}")
            g = expr_of(result)
    return g


def target_of(e: Expr, window: Window) -> Any:
    """The handle that a leaf or variable expression of the window stands for."""
    return window.leaves[e.attr] if e.op is LEAF_OP else window.variables[e.attr]  # type: ignore[index, call-overload]


def run_backward(roots: Sequence[tuple[Any, Expr | None]], inputs: Sequence[Any] | None, retain_graph: bool,
                 create_graph: bool) -> list[Expr | None]:
    """Backward from (handle, gradient or None for ones) pairs.

    With ``inputs`` None, accumulates into the leaves' ``.grad``; else returns one gradient (or None) per input.
    """
    numbers = None if inputs is None else {id(t): i for i, t in enumerate(inputs)}
    state = Accumulator(numbers, create_graph, retain_graph)
    if inputs is None and len(roots) == 1 and roots[0][1] is None and not recording.window.cuts \
            and not recording.window.functions and roots[0][0]._history is None:
        head = expr_of(roots[0][0])
        plan = planned(head, create_graph)
        window = recording.window
        for e, g in plan:
            t = target_of(e, window)
            if t._leaf_grad and t._grad is None and not t._extra:
                t._grad = tensor_of(g)          # nothing hangs on it: the usual case
            else:
                state.reach(t, g)
        consume(roots[0][0], head, retain_graph)
    else:
        general_backward(roots, inputs, state)
    state.drain()
    return [] if inputs is None else [state.results.get(numbers[id(t)]) for t in inputs]  # type: ignore[index, call-overload]


def general_backward(roots: Sequence[tuple[Any, Expr | None]], inputs: Sequence[Any] | None, state: Accumulator) -> None:
    """Backward with several heads, given gradients, targets inside of the graph, hooks or custom functions."""
    seeds: list[tuple[Expr, Expr]] = []
    heads: list[tuple[Any, Expr]] = []
    for t, g in roots:
        if t._history is not None and t._root is None and t._storage is not None:
            state.reach(t, ones_like(t._expr) if g is None else g)
            continue
        head = expr_of(t)
        check_not_consumed(t, head)
        seeds.append((head, ones_like(head) if g is None else g))
        heads.append((t, head))
    if not seeds:
        return
    wanted: dict[Expr, list[Any]] = {}
    for t in inputs or ():
        if t._storage is None or t._root is not None or t._token is recording.window.token:
            wanted.setdefault(expr_of(t), []).append(t)
    found = walk(seeds, wanted, state)
    window = recording.window
    for e, g in found:
        if e in wanted:
            for t in wanted[e]:
                number = state.inputs[id(t)]  # type: ignore[index, call-overload]
                state.results[number] = g if number not in state.results else add(state.results[number], g)
        if e.op is LEAF_OP or e.op is VARIABLE_OP:
            t = target_of(e, window)
            if not any(t is w for w in wanted.get(e, ())):
                state.reach(t, g)
    for t, head in heads:
        consume(t, head, state.retain_graph)


def walk(seeds: list[tuple[Expr, Expr]], wanted: dict[Expr, list[Any]], state: Accumulator) -> list[tuple[Expr, Expr]]:
    """:func:`propagate`, memoised unless Python code (hooks, custom functions) takes part."""
    window = recording.window
    if window.cuts or window.functions:
        visit = Visitor(window, state)
        with GradientRecording(state.create_graph):
            return propagate(seeds, wanted, False, visit.cut, visit.function)
    key = (tuple(seeds), tuple(wanted), state.create_graph)
    plan = _plans.get(key)
    if plan is None:
        with GradientRecording(state.create_graph):
            plan = _plans[key] = propagate(seeds, frozenset(wanted), False)
    return plan


class Visitor:
    """Runs the Python code that hangs on expressions of the current window during a walk."""

    def __init__(self, window: Window, state: Accumulator) -> None:
        self.window = window
        self.state = state

    def cut(self, e: Expr, g: Expr) -> Expr:
        """Hooks and retained gradients of an intermediate handle."""
        t = self.window.cuts.get(e)
        if t is None or t._leaf_grad or not t._extra:
            return g
        if "hooks" in t._extra:
            g = run_hooks(t, g)
        if "retain" in t._extra and self.state.inputs is None:
            accumulate(t, g, self.state.create_graph)
        return g

    def function(self, node: Expr, grads: dict[int, Expr]) -> Sequence[Expr | None]:
        """Backward of a custom function."""
        return self.window.functions[node.attr].backward(grads, self.state)  # type: ignore[index, call-overload]


def consume(t: Any, head: Expr, retain_graph: bool) -> None:
    """Note that the backward of a handle has been taken and its graph may be freed."""
    if not retain_graph:
        recording.window.consumed.append(head)
        if not t._leaf_grad:
            t._history = FREED


# Ops whose gradients need none of the forward's values: taking their backward twice is harmless, as in PyTorch.
SAVES_NOTHING: Final = frozenset({"add", "sub", "neg", "sum", "mean", "reshape", "permute", "transpose", "expand", "slice",
                                  "select", "view_write", "cat", "cast", "variable", "leaf", "unsqueeze", "squeeze",
                                  "diagonal", "unfold", "as_strided", "detach"})


def check_not_consumed(t: Any, head: Expr) -> None:
    """Raise PyTorch's error for a second backward through a graph that was freed."""
    if t._history is FREED and not t._leaf_grad and any(e.op.name not in SAVES_NOTHING for e in topological([head])):
        raise freed_error()


class Freed:
    """History of a handle whose graph was freed by a backward call."""

    __slots__ = ()
    order: Final = (0, 0)

    def backward(self, t: Any, g: Expr, state: Accumulator) -> None:
        """Always raises PyTorch's error for a second backward."""
        raise freed_error()


FREED: Final = Freed()


def freed_error() -> AutogradError:
    """The error for a second backward through a freed graph."""
    return AutogradError(
        "Trying to backward through the graph a second time (or directly access saved tensors after they have already been "
        "freed). Saved intermediate values of the graph are freed when you call .backward() or autograd.grad(). Specify "
        "retain_graph=True if you need to backward through the graph a second time or if you need to access saved tensors "
        "after calling backward.")


__all__ = ["AutogradError", "FUNCTION_NODE", "FUNCTION_OUTPUT", "MEMO_NO_GRAD", "SEED_OP", "make", "materialised",
           "requires_grad", "run_backward", "propagate", "topological"]
