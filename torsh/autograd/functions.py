"""``torsh.autograd``: backward, grad, and their argument checks."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torsh.autograd import history as _history  # noqa: F401 - registers itself with the graph layer
from torsh.autograd.backward import accumulate, run_backward
from torsh.autograd.engine import zeros_like
from torsh.core.errors import ArgumentTypeError, AutogradError, ShapeMismatchError
from torsh.graph.handle import Handle, expr_of, requires_grad
from torsh.graph.window import tensor_of
from torsh.ops.expr import Expr


def as_tuple(value: Any) -> tuple[Any, ...]:
    """A tensor or a sequence as a tuple."""
    return (value,) if isinstance(value, Handle) or value is None else tuple(value)


def head_gradient(t: Any, g: Any) -> Expr | None:
    """The gradient to start from at an output: checked, or None for ones."""
    if not requires_grad(t):
        raise AutogradError("element 0 of tensors does not require grad and does not have a grad_fn")
    shape = t._expr.shape
    if g is None:
        n = 1
        for s in shape:
            n *= s
        if n != 1:
            raise AutogradError("grad can be implicitly created only for scalar outputs")
        if t._expr.dtype.category == 3:
            raise AutogradError("grad can be implicitly created only for real scalar outputs but got complex")
        return None
    if not isinstance(g, Handle):
        raise ArgumentTypeError(f"gradients can be either Tensors or None, but got {type(g).__name__}")
    e = expr_of(g)
    if e.shape != shape:
        raise ShapeMismatchError(f"Mismatch in shape: grad_output[0] has a shape of {list(e.shape)} and output[0] has a shape "
                                 f"of {list(shape)}.")
    return e


def backward(tensors: Any, grad_tensors: Any = None, retain_graph: bool | None = None, create_graph: bool = False,
             grad_variables: Any = None, inputs: Any = None) -> None:
    """Accumulate gradients of ``tensors`` into the ``.grad`` of the leaves (of ``inputs`` only, if given).

    grad_tensors: gradients of the tensors; may be None for scalars. retain_graph: keep the graph for another backward
    (default: ``create_graph``). Raises RuntimeError for tensors that do not require grad and for freed graphs.
    """
    heads = as_tuple(tensors)
    grads = as_tuple(grad_tensors) if grad_tensors is not None else (None,) * len(heads)
    if len(grads) != len(heads):
        raise AutogradError(f"got {len(heads)} tensors and {len(grads)} gradients")
    roots = [(t, head_gradient(t, g)) for t, g in zip(heads, grads, strict=True)]
    retain = create_graph if retain_graph is None else retain_graph
    if inputs is None:
        run_backward(roots, None, retain, create_graph)
        return
    wanted = as_tuple(inputs)
    if not wanted:
        raise AutogradError("'inputs' argument to backward() cannot be empty.")
    for t, g in zip(wanted, run_backward(roots, wanted, retain, create_graph, True), strict=True):
        if g is not None:
            accumulate(t, expr_of(g), create_graph)


def grad(outputs: Any, inputs: Any, grad_outputs: Any = None, retain_graph: bool | None = None, create_graph: bool = False,
         only_inputs: bool = True, allow_unused: bool | None = None, is_grads_batched: bool = False,
         materialize_grads: bool = False) -> tuple[Any, ...]:
    """Gradients of the sum of ``outputs`` (weighted by ``grad_outputs``) with respect to ``inputs``.

    Returns one tensor per input, or None for inputs that the outputs do not depend on if ``allow_unused``.
    Raises RuntimeError if an input does not require grad or is unused.

    Example::

        >>> import torsh
        >>> x = torsh.tensor(3.0, requires_grad=True)
        >>> torsh.autograd.grad(x * x, x)
        (tensor(6.),)
    """
    if is_grads_batched:
        return batched_grad(outputs, inputs, grad_outputs, retain_graph, create_graph, allow_unused)
    heads, wanted = as_tuple(outputs), as_tuple(inputs)
    grads = as_tuple(grad_outputs) if grad_outputs is not None else (None,) * len(heads)
    if len(grads) != len(heads):
        raise AutogradError(f"got {len(heads)} tensors and {len(grads)} gradients")
    for t in wanted:
        if not isinstance(t, Handle):
            raise ArgumentTypeError(f"all inputs have to be Tensors, but got {type(t).__name__}")
        if not requires_grad(t):
            raise AutogradError("One of the differentiated Tensors does not require grad")
    roots = [(t, head_gradient(t, g)) for t, g in zip(heads, grads, strict=True) if requires_grad(t) or len(heads) == 1]
    retain = create_graph if retain_graph is None else retain_graph
    found = run_backward(roots, wanted, retain, create_graph)
    if allow_unused is None:
        allow_unused = materialize_grads
    out: list[Any] = []
    for t, g in zip(wanted, found, strict=True):
        if g is None and not allow_unused:
            raise AutogradError("One of the differentiated Tensors appears to not have been used in the graph. Set "
                                "allow_unused=True if this is the desired behavior.")
        if g is None and materialize_grads:
            g = tensor_of(zeros_like(t._expr))
        out.append(g)
    return tuple(out)


def batched_grad(outputs: Any, inputs: Any, grad_outputs: Any, retain_graph: bool | None, create_graph: bool,
                 allow_unused: bool | None) -> tuple[Any, ...]:
    """grad with a leading batch dimension in ``grad_outputs``: one backward per entry, stacked."""
    heads, grads = as_tuple(outputs), as_tuple(grad_outputs)
    count = grads[0].shape[0]
    rows: Sequence[tuple[Any, ...]] = [
        grad(heads, inputs, tuple(g[i] for g in grads), True if i < count - 1 else retain_graph, create_graph,
             allow_unused=allow_unused) for i in range(count)]
    stack = rows[0][0].new_zeros(0).__class__
    from torsh.ops.expr import TABLE, emit, emit1
    out: list[Any] = []
    for column in zip(*rows, strict=True):
        if column[0] is None:
            out.append(None)
            continue
        parts = tuple(emit1(TABLE["reshape"], expr_of(c), (1, *c._expr.shape)) for c in column)
        out.append(stack(emit(TABLE["cat"], parts, 0)))
    return tuple(out)
