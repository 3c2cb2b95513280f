"""Backward calls: the walk from handle to handle, and the Python code (hooks, custom functions) that takes part in it.

Within the current window gradients are expressions, found by :func:`torsh.autograd.engine.propagate`. A handle that outlives its
window keeps a history (:mod:`torsh.autograd.history`) instead of the graph: :class:`Accumulator` goes on behind it.

Python code may read values, and so run the window at any moment: then the expressions noted before have no meaning any more.
Whatever has to outlive a call of such code is kept by handles.
"""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from torsh.autograd.engine import (
    FUNCTION_NODE,
    GradientRecording,
    add,
    ones_like,
    planned,
    propagate,
    propagated,
    target_of,
    topological,
)
from torsh.core.errors import AutogradError
from torsh.graph.handle import expr_of, write
from torsh.graph.window import Window, tensor_of
from torsh.ops.expr import LEAF_OP, VARIABLE_OP, Expr, no_grad_recording, recording


class Accumulator:
    """Collects gradients for handles during one backward call and runs what hangs on them.

    ``inputs``: None to accumulate into ``.grad`` of all leaves, else {id(handle): number} of what gradients are asked for.
    ``after_hooks``: whether an intermediate tensor among these gets its gradient after its hooks have run (as in PyTorch, yes for
    ``backward(inputs=...)``, no for ``autograd.grad``).
    """

    def __init__(self, inputs: dict[int, int] | None, create_graph: bool, retain_graph: bool, after_hooks: bool) -> None:
        self.inputs = inputs
        self.after_hooks = after_hooks
        self.create_graph = create_graph
        self.retain_graph = retain_graph
        self.results: dict[int, Any] = {}
        # Where gradients go on, in earlier windows: {id of the history: (handle, history, tensor or {output: tensor})}.
        self.waiting: dict[int, tuple[Any, Any, Any]] = {}

    def reach(self, t: Any, g: Expr) -> None:
        """A gradient arrives at a handle that is a leaf of the walk so far."""
        history = t._history
        if history is None or t._leaf_grad:
            self.deliver(t, g)
            return
        key = id(t if history is FREED else history)
        known = self.waiting.get(key)
        self.waiting[key] = (t, history, tensor_of(g if known is None else add(expr_of(known[2]), g)))

    def reach_all(self, pairs: Sequence[tuple[Any, Expr]]) -> None:
        """:meth:`reach` for several handles."""
        if any(t._extra for t, _ in pairs):
            kept = [(t, tensor_of(g)) for t, g in pairs]        # a hook of one may run the window
            for t, tensor in kept:
                self.reach(t, expr_of(tensor))
        else:
            for t, g in pairs:
                self.reach(t, g)

    def reach_function(self, history: Any, output: int, g: Any) -> None:
        """A gradient arrives at an output of a custom function that was called in an earlier window."""
        known = self.waiting.get(id(history))
        grads = {} if known is None else known[2]
        grads[output] = g if output not in grads else tensor_of(add(expr_of(grads[output]), expr_of(g)))
        self.waiting[id(history)] = (None, history, grads)

    def deliver(self, t: Any, g: Expr) -> None:
        """A complete gradient for an autograd leaf (or an input that was asked for)."""
        inputs = self.inputs
        if inputs is not None and id(t) not in inputs:
            return
        if t._extra and "hooks" in t._extra:
            g = expr_of(run_hooks(t, tensor_of(g), self.create_graph))
        if inputs is not None:
            self.found(t, g)
        else:
            accumulate(t, g, self.create_graph)

    def found(self, t: Any, g: Expr) -> None:
        """A gradient of an input that was asked for."""
        number = self.inputs[id(t)]  # type: ignore[index]
        known = self.results.get(number)
        self.results[number] = tensor_of(g if known is None else add(expr_of(known), g))

    def drain(self) -> None:
        """Go on behind handles with history, latest first, until only leaves are left."""
        while self.waiting:
            key = max(self.waiting, key=lambda k: self.waiting[k][1].order)
            t, history, g = self.waiting.pop(key)
            if t is not None:
                given = g
                if t._extra:
                    g = run_hooks(t, g, self.create_graph)
                    if "retain" in t._extra:
                        accumulate(t, expr_of(g), self.create_graph)
                if self.inputs is not None and id(t) in self.inputs:
                    self.found(t, expr_of(g if self.after_hooks else given))
            history.backward(t, g, self)


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


def run_hooks(t: Any, g: Any, create_graph: bool) -> Any:
    """Call the handle's tensor hooks with its gradient, a tensor; a hook may return another one."""
    hooks = t._extra.get("hooks")
    if not hooks:
        return g
    with GradientRecording(create_graph):
        for hook in list(hooks.values()):
            result = hook(g)
            if result is not None:
                if tuple(result.shape) != tuple(g.shape):
                    raise AutogradError(f"hook has changed the size of value: expected {g.shape}, got {result.shape}")
                g = result
    return g


class PythonCode:
    """Runs the Python code that hangs on expressions of the current window during a walk (``propagate``'s callbacks).

    That code may run the window. Around each call, handles keep the gradients that are on their way and the values that these
    belong to; if the window has gone, they go on behind the histories that those handles have got.
    """

    def __init__(self, state: Accumulator, wanted: dict[Expr, list[Any]]) -> None:
        self.window = recording.window
        self.cuts = self.window.cuts
        self.state = state
        self.wanted = wanted
        self.leaves = self.window.leaves
        self.kept: list[tuple[Any, Any]] = []       # see keep(): what was found so far, once and for all

    def has_run(self) -> bool:
        """Is the window of the walk gone?"""
        return recording.window is not self.window or self.window.leaves is not self.leaves

    def handle(self, e: Expr) -> Any:
        """A handle that has a value of the window: the one that the user has, if it matters which."""
        if e.op is LEAF_OP or e.op is VARIABLE_OP:
            return target_of(e, self.window)
        t = self.wanted[e][0] if e in self.wanted else self.cuts.get(e)
        if t is not None and t._expr is e and (t._root is None or t._version == t._root._version):
            return t
        return tensor_of(e)

    def keep(self, grads: dict[Expr, Any], found: list[tuple[Expr, Expr]]) -> list[tuple[Any, Any]]:
        """Pairs (handle, its gradient so far) for all that a walk has under way, and for what it has found."""
        for e, g in found[len(self.kept):]:
            self.kept.append((settled(e, self.wanted, self.window), tensor_of(g)))
        pairs: list[tuple[Any, Any]] = []
        for e, arrived in grads.items():
            if e.op is FUNCTION_NODE:
                pairs.extend((tensor_of(output), tensor_of(g)) for output, g in arrived.items())
            else:
                t = self.handle(e)
                pairs.extend((t, tensor_of(g)) for g in arrived)
        return pairs

    def send_on(self, pairs: Iterable[tuple[Any, Any]]) -> None:
        """The window has gone: gradients go on behind handles."""
        for handles, g in self.kept:
            settle(handles, g, self.state)
        for t, g in pairs:
            self.state.reach_all([(t, expr_of(g))])

    def cut(self, e: Expr, g: Expr, grads: dict[Expr, Any], found: list[tuple[Expr, Expr]]) -> tuple[Expr, Expr] | None:
        """Hooks and retained gradients of an intermediate handle."""
        t = self.cuts[e]
        if t._leaf_grad or not t._extra:
            return g, g
        pairs, own, given = self.keep(grads, found), tensor_of(e), tensor_of(g)
        gradient = run_hooks(t, given, self.state.create_graph)
        if "retain" in t._extra:
            accumulate(t, expr_of(gradient), self.state.create_graph)
        if self.state.after_hooks:
            given = gradient
        if not self.has_run():
            return expr_of(given), expr_of(gradient)
        settle((self.wanted.get(e, []), None), given, self.state)
        self.send_on([*pairs, (own, gradient)])
        return None

    def function(self, node: Expr, arrived: dict[Expr, Expr], grads: dict[Expr, Any],
                 found: list[tuple[Expr, Expr]]) -> Sequence[Expr | None] | None:
        """Backward of a custom function."""
        pairs = self.keep(grads, found)
        inputs = [self.handle(a) if a.requires_grad else None for a in node.args]
        call = self.window.functions[node.attr]  # type: ignore[index, call-overload]
        result = call.backward({output.attr[1]: tensor_of(g) for output, g in arrived.items()}, self.state)  # type: ignore[index]
        if not self.has_run():
            return result  # type: ignore[no-any-return]
        own = [(t, tensor_of(g)) for t, g in zip(inputs, result, strict=True) if t is not None and g is not None]
        self.send_on([*pairs, *own])
        return None


def settled(e: Expr, wanted: dict[Expr, list[Any]], window: Window) -> tuple[list[Any], Any]:
    """Who gets a gradient that a walk has found: (inputs that were asked for, leaf or handle with history, or None)."""
    target = target_of(e, window) if e.op is LEAF_OP or e.op is VARIABLE_OP else None
    return [t for t in wanted.get(e, ()) if t is not target], target


def settle(handles: tuple[list[Any], Any], g: Any, state: Accumulator) -> None:
    """Give a gradient (a tensor) to those who get it."""
    asked, target = handles
    for t in asked:
        state.found(t, expr_of(g))
    if target is not None:
        state.reach(target, expr_of(g))


def run_backward(roots: Sequence[tuple[Any, Expr | None]], inputs: Sequence[Any] | None, retain_graph: bool,
                 create_graph: bool, after_hooks: bool = False) -> list[Any]:
    """Backward from (handle, gradient or None for ones) pairs.

    With ``inputs`` None, accumulates into the leaves' ``.grad``; else returns one gradient (a tensor, or None) per input.
    after_hooks: see :class:`Accumulator`.
    """
    if inputs is None and len(roots) == 1 and roots[0][1] is None and not recording.window.cuts \
            and not recording.window.functions and roots[0][0]._history is None:
        simple_backward(roots[0][0], retain_graph, create_graph)
        return []
    numbers = None if inputs is None else {id(t): i for i, t in enumerate(inputs)}
    state = Accumulator(numbers, create_graph, retain_graph, after_hooks)
    general_backward(roots, inputs, state)
    state.drain()
    return [] if inputs is None else [state.results.get(numbers[id(t)]) for t in inputs]  # type: ignore[index, call-overload]


def simple_backward(root: Any, retain_graph: bool, create_graph: bool) -> None:
    """Backward from one number, where no Python code takes part: the usual case."""
    head = expr_of(root)
    plan = planned(head, create_graph)
    window = recording.window
    others: list[tuple[Any, Expr]] = []
    for e, g in plan:
        t = target_of(e, window)
        if t._leaf_grad and t._grad is None and not t._extra:
            t._grad = tensor_of(g)
        else:
            others.append((t, g))
    if not retain_graph:
        consume(root, head)
    if others:
        state = Accumulator(None, create_graph, retain_graph, False)
        state.reach_all(others)
        state.drain()


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
    window, leaves = recording.window, recording.window.leaves
    wanted: dict[Expr, list[Any]] = {}
    for t in inputs or ():
        if t._storage is None or t._root is not None or t._token is window.token:
            wanted.setdefault(expr_of(t), []).append(t)
    found = [(settled(e, wanted, window), tensor_of(g)) for e, g in walk(seeds, wanted, state)]
    if not state.retain_graph:
        for t, head in heads:
            consume(t, head, recording.window is window and window.leaves is leaves)
    for handles, gradient in found:
        settle(handles, gradient, state)


def walk(seeds: list[tuple[Expr, Expr]], wanted: dict[Expr, list[Any]], state: Accumulator) -> list[tuple[Expr, Expr]]:
    """:func:`propagate`, memoised unless Python code (hooks, custom functions) takes part."""
    window = recording.window
    if window.cuts or window.functions:
        with GradientRecording(state.create_graph):
            return propagate(seeds, wanted, False, PythonCode(state, wanted))
    return propagated(tuple(seeds), tuple(wanted), state.create_graph)


def consume(t: Any, head: Expr, in_window: bool = True) -> None:
    """Note that the backward of a handle has been taken, and that its graph (in the window, or in histories) may be freed."""
    if in_window:
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

    def backward(self, t: Any, g: Any, state: Accumulator) -> None:
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


def modified_error() -> AutogradError:
    """The error for a saved tensor that has been written to."""
    return AutogradError("one of the variables needed for gradient computation has been modified by an inplace operation. Write to "
                         "a copy of it (clone()), or write after backward.")
