"""Custom autograd functions: forward and backward written by the user."""
from __future__ import annotations

import functools
import weakref
from collections.abc import Sequence
from typing import Any

from torsh.autograd.backward import Accumulator, freed_error, modified_error
from torsh.autograd.engine import FUNCTION_NODE, FUNCTION_OUTPUT, zeros_like
from torsh.autograd.modes import enable_grad, no_grad
from torsh.core.errors import AutogradError
from torsh.graph.handle import Handle, expr_of, materialised, requires_grad, root_of, write
from torsh.graph.window import Window, tensor_of
from torsh.ops.expr import MEMO_GRAD, Expr, placeholder_of, recording


class FunctionContext:
    """What ``forward`` leaves for ``backward``: saved tensors, flags and any attributes."""

    def __init__(self) -> None:
        self._saved: tuple[Any, ...] | None = ()
        self._versions: tuple[int, ...] = ()
        self._outputs: dict[int, tuple[int, Any]] = {}      # {position in _saved: (number, reference) of the output that it is}
        self._history: Any = None               # reference to the call's history, once its window has run
        self._not_differentiable: tuple[Any, ...] = ()
        self._dirty: tuple[Any, ...] = ()
        self._materialize = True
        self.needs_input_grad: tuple[bool, ...] = ()

    def save_for_backward(self, *tensors: Any) -> None:
        """Keep tensors for ``backward``, which finds them in :attr:`saved_tensors`."""
        self._saved = tensors

    def save_for_forward(self, *tensors: Any) -> None:
        """Accepted for compatibility; forward mode reads :attr:`saved_tensors`."""
        self._saved = self._saved or tensors

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """The tensors of :meth:`save_for_backward`; raises RuntimeError if one has been written in place since."""
        saved = self._saved
        if saved is None:
            raise freed_error()
        if self._outputs:
            saved = tuple(self._output(i, t) if i in self._outputs else t for i, t in enumerate(saved))
        for t, version in zip(saved, self._versions, strict=False):
            if isinstance(t, Handle) and root_of(t)._version != version:
                raise modified_error()
        return saved

    def _output(self, position: int, value: Any) -> Any:
        """A saved output: the tensor that the caller got, or another one of its value and history if that is not in use any more."""
        number, reference = self._outputs[position]
        output = reference()
        if output is None:
            output = materialised(type(value), value._storage, placeholder_of(value._expr))
            output._history = self._history().output(number)
            output._version = root_of(value)._version
            self._outputs[position] = number, weakref.ref(output)
        return output

    def _seal(self, outputs: dict[int, Any]) -> None:
        """Note what has been saved, when forward is done. outputs: {id of a tensor of forward: output with a graph}."""
        saved = self._saved or ()
        # Weak references, because the outputs refer to this context through their histories.
        self._outputs = {i: (outputs[id(t)]._expr.attr[1], weakref.ref(outputs[id(t)])) for i, t in enumerate(saved)
                         if id(t) in outputs and outputs[id(t)] is not t}
        self._versions = tuple(root_of(outputs.get(id(t), t))._version if isinstance(t, Handle) else 0 for t in saved)

    def mark_non_differentiable(self, *tensors: Any) -> None:
        """Declare outputs that have no gradient."""
        self._not_differentiable = tensors

    def mark_dirty(self, *tensors: Any) -> None:
        """Declare inputs that ``forward`` changes in place."""
        self._dirty = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """Whether missing output gradients arrive as zeros (default) or as None."""
        self._materialize = value


class Call:
    """One call of a custom function that gradients can flow through."""

    def __init__(self, cls: Any, ctx: FunctionContext, positions: Sequence[int], shapes: Sequence[tuple[int, ...]],
                 outputs: Sequence[Expr]) -> None:
        self.cls = cls
        self.ctx = ctx
        self.positions = positions              # of the tensors among forward's arguments, in the order of the node's args
        self.shapes = shapes                    # of these tensors
        self.outputs = [placeholder_of(e) for e in outputs]

    def backward(self, grads: dict[int, Any], state: Accumulator) -> list[Expr | None]:
        """Run the user's backward on {output number: gradient}; returns gradients of the node's arguments."""
        ctx = self.ctx
        outs = [grads[i] if i in grads else tensor_of(zeros_like(e)) if ctx._materialize else None
                for i, e in enumerate(self.outputs)]
        saved = recording.memo, recording.grad_enabled      # in a walk the memo is none of the grad modes' under autocast
        try:
            with (enable_grad() if state.create_graph else no_grad()):
                result = self.cls.backward(ctx, *outs)
        finally:
            recording.memo, recording.grad_enabled = saved
        result = result if isinstance(result, tuple) else (result,)
        name = self.cls.__name__
        needed = len(ctx.needs_input_grad)
        if len(result) < needed or any(r is not None for r in result[needed:]):
            raise AutogradError(f"function {name}Backward returned an incorrect number of gradients (expected {needed}, got "
                                f"{len(result)})")
        if not state.retain_graph:
            ctx._saved = None if ctx._saved else ctx._saved
        return [self.checked(position, shape, result[position])
                for position, shape in zip(self.positions, self.shapes, strict=True)]

    def checked(self, position: int, shape: tuple[int, ...], g: Any) -> Expr | None:
        """The gradient that the user's backward returned for an argument of this shape."""
        if g is None:
            return None
        if not isinstance(g, Handle):
            raise AutogradError(f"{self.cls.__name__}Backward: expected Variable or None (got {type(g).__name__})")
        e = expr_of(g)
        if e.shape != shape:
            raise AutogradError(f"Function {self.cls.__name__}Backward returned an invalid gradient at index {position} - got "
                                f"{list(e.shape)} but expected shape compatible with {list(shape)}")
        return e


class FunctionMeta(type):
    """Gives each function class the name of its backward node."""


class Function(metaclass=FunctionMeta):
    """Base of custom functions: static methods ``forward(ctx, ...)`` and ``backward(ctx, *grads)``; call ``apply``.

    Example::

        >>> import torsh
        >>> class Double(torsh.autograd.Function):
        ...     @staticmethod
        ...     def forward(ctx, x):
        ...         return x * 2
        ...     @staticmethod
        ...     def backward(ctx, g):
        ...         return g * 2
        >>> x = torsh.tensor(1.0, requires_grad=True)
        >>> Double.apply(x).backward()
        >>> x.grad
        tensor(2.)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise AutogradError(f"{type(self).__name__} should not be instantiated. Methods on autograd functions are all static, so "
                            "you should invoke them on the class itself (use .apply)")

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """Compute the outputs; override it."""
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Save what ``backward`` needs, if ``forward`` does not take ``ctx``."""
        raise NotImplementedError("setup_context is not implemented.")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """Gradients of the inputs from gradients of the outputs; override it."""
        raise NotImplementedError("You must implement either the backward or vjp method for your custom autograd.Function to "
                                  "use it with backward mode AD.")

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Call the function, recording it for gradients."""
        ctx = FunctionContext()
        ctx.needs_input_grad = tuple(isinstance(a, Handle) and requires_grad(a) and recording.grad_enabled for a in args)
        recorded = any(ctx.needs_input_grad)
        before = [(i, a) for i, a in enumerate(args) if isinstance(a, Handle)]
        with no_grad():
            if cls.setup_context is not Function.setup_context:
                output = cls.forward(*args, **kwargs)
                cls.setup_context(ctx, args, output)
            else:
                output = cls.forward(ctx, *args, **kwargs)
        if not recorded:
            return output
        return record(cls, ctx, before, output)


def record(cls: Any, ctx: FunctionContext, before: list[tuple[int, Any]], output: Any) -> Any:
    """Tie the outputs of a forward call to a node of the graph."""
    outputs = output if isinstance(output, tuple) else (output,)
    window = recording.window
    tensors = [o for o in outputs if isinstance(o, Handle)]
    args = tuple(expr_of(a) for _, a in before)
    call = Call(cls, ctx, [i for i, _ in before], [a.shape for a in args], [expr_of(o) for o in tensors])
    number = len(window.functions)
    window.functions.append(call)
    # Interned by position: a step that is recorded again finds its program again.
    key = (FUNCTION_NODE, args, number)
    node = MEMO_GRAD.get(key) or MEMO_GRAD.setdefault(key, Expr(FUNCTION_NODE, args, number, (), args[0].dtype, True))
    made: dict[int, Any] = {}
    k = 0
    for o in outputs:
        if not isinstance(o, Handle):
            continue
        if not any(o is n for n in ctx._not_differentiable) and expr_of(o).dtype.category >= 2:
            made[id(o)] = tied(o, node, number, k, any(o is d for d in ctx._dirty))
        k += 1
    ctx._seal(made)
    result = tuple(made.get(id(o), o) for o in outputs)
    return result if isinstance(output, tuple) else result[0]


def tied(o: Any, node: Expr, number: int, k: int, dirty: bool) -> Any:
    """An output whose gradient goes to the node."""
    value = expr_of(o)
    key = (FUNCTION_OUTPUT, (value, node), (number, k))
    e = MEMO_GRAD.get(key)
    if e is None:
        e = MEMO_GRAD.setdefault(key, Expr(FUNCTION_OUTPUT, (value, node), (number, k), value.shape, value.dtype, True))
    if dirty:
        write(o, e)
        return o
    out = Window.tensor_class(e)
    # Histories of handles that outlive the window end here, so this handle has to live as long as the window.
    recording.window.cuts[e] = out
    return out


def once_differentiable(fn: Any) -> Any:
    """Mark a ``backward`` whose result can't be differentiated again."""
    @functools.wraps(fn)
    def wrapper(ctx: Any, *args: Any) -> Any:
        with no_grad():
            return fn(ctx, *args)
    return wrapper


class InplaceFunction(Function):
    """PyTorch's name for functions that may work in place."""
