"""Gradients compared with finite differences."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from torsh.autograd.functions import grad
from torsh.core.errors import AutogradError, TorshError
from torsh.graph.handle import Handle


class GradcheckError(TorshError, RuntimeError):
    """A gradient that does not agree with finite differences."""


def _outputs(fn: Callable[..., Any], inputs: Sequence[Any]) -> list[Any]:
    out = fn(*inputs)
    return [out] if isinstance(out, Handle) else [o for o in out if isinstance(o, Handle)]


def _numerical(fn: Callable[..., Any], inputs: Sequence[Any], k: int, weights: Sequence[Any], eps: float) -> Any:
    """Derivative of the weighted sum of the outputs with respect to every element of input ``k``."""
    from torsh.tensor.creation import tensor
    base = np.array(inputs[k].detach().numpy())
    result = np.zeros(base.shape)
    for position in np.ndindex(base.shape):
        values = []
        for sign in (1, -1):
            moved = base.copy()
            moved[position] += sign * eps
            changed = [tensor(moved) if i == k else (t.detach() if isinstance(t, Handle) else t) for i, t in enumerate(inputs)]  # type: ignore[attr-defined]
            outs = _outputs(fn, changed)
            values.append(sum(float((o * w).sum()) for o, w in zip(outs, weights, strict=True)))
        result[position] = (values[0] - values[1]) / (2 * eps)
    return result


def gradcheck(func: Callable[..., Any], inputs: Any, *, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3,
              raise_exception: bool = True, nondet_tol: float = 0.0, check_undefined_grad: bool = True, **options: Any) -> bool:
    """Compare gradients of real inputs with central differences, in one random direction of the outputs.

    Inputs should be float64. Raises :class:`GradcheckError` (or returns False) where they differ by more than
    ``atol + rtol * |numerical|``; ValueError if no input requires grad.
    """
    from torsh.tensor.creation import tensor
    args = (inputs,) if isinstance(inputs, Handle) else tuple(inputs)
    checked = [i for i, t in enumerate(args) if isinstance(t, Handle) and t.requires_grad]  # type: ignore[attr-defined]
    if not checked:
        raise NoInputError("gradcheck expects at least one input tensor to require gradient, but none of the them have "
                           "requires_grad=True.")
    outs = _outputs(func, args)
    rng = np.random.default_rng(0)
    weights = [tensor(rng.standard_normal(tuple(o.shape)), dtype=o.dtype) for o in outs]
    live = [(o, w) for o, w in zip(outs, weights, strict=True) if o.requires_grad]
    found = grad([o for o, _ in live], [args[i] for i in checked], [w for _, w in live], allow_unused=True)
    for i, g in zip(checked, found, strict=True):
        numerical = _numerical(func, args, i, weights, eps)
        analytical = np.zeros(numerical.shape) if g is None else g.detach().numpy()
        if not np.allclose(analytical, numerical, rtol, atol, equal_nan=True):
            if not raise_exception:
                return False
            raise GradcheckError(f"Jacobian mismatch for input {i}:\nnumerical:{numerical}\nanalytical:{analytical}")
    return True


def gradgradcheck(func: Callable[..., Any], inputs: Any, grad_outputs: Any = None, *, eps: float = 1e-6, atol: float = 1e-5,
                  rtol: float = 1e-3, raise_exception: bool = True, **options: Any) -> bool:
    """:func:`gradcheck` of the gradients themselves."""
    from torsh.tensor.creation import tensor
    args = (inputs,) if isinstance(inputs, Handle) else tuple(inputs)
    checked = [i for i, t in enumerate(args) if isinstance(t, Handle) and t.requires_grad]  # type: ignore[attr-defined]
    rng = np.random.default_rng(1)
    weights = [tensor(rng.standard_normal(tuple(o.shape)), dtype=o.dtype) for o in _outputs(func, args)]

    def first(*values: Any) -> Any:
        own = [v if not (isinstance(v, Handle) and i in checked) or v.requires_grad else v.requires_grad_()  # type: ignore[attr-defined]
               for i, v in enumerate(values)]
        outs = _outputs(func, own)
        pairs = [(o, w) for o, w in zip(outs, weights, strict=True) if o.requires_grad]
        return tuple(g for g in grad([o for o, _ in pairs], [own[i] for i in checked], [w for _, w in pairs], create_graph=True,
                                     allow_unused=True, materialize_grads=True))
    return gradcheck(first, args, eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception)


class NoInputError(TorshError, ValueError):
    """No input to check."""


__all__ = ["AutogradError", "GradcheckError", "gradcheck", "gradgradcheck"]
