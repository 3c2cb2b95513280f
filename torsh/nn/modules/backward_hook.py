"""Full backward hooks of modules, as autograd functions around forward."""
from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from torsh.autograd.function import Function
from torsh.core.errors import AutogradError
from torsh.graph.handle import Handle, requires_grad
from torsh.ops.expr import recording


def _replaced(result: Any, current: tuple[Any, ...], kind: str) -> tuple[Any, ...]:
    """The gradients after a hook that may have returned others."""
    if result is None:
        return current
    given = result if isinstance(result, tuple) else (result,)
    if len(given) != len(current):
        raise AutogradError(f"Backward {kind}hook returned an invalid number of grad_{'output' if kind else 'input'}, got "
                            f"{len(given)}, but expected {len(current)}")
    return given


def _placed(values: Sequence[Any], spots: Sequence[int], length: int) -> tuple[Any, ...]:
    """``values`` at their positions among ``length`` arguments, None elsewhere."""
    out: list[Any] = [None] * length
    for spot, value in zip(spots, values, strict=True):
        out[spot] = value
    return tuple(out)


class BackwardHook:
    """Catches the gradients of a module's outputs and inputs for one call of it."""

    def __init__(self, module: Any, pre_hooks: list[Any], hooks: list[Any]) -> None:
        self.module = module
        self.pre_hooks = pre_hooks
        self.hooks = hooks
        self.grad_outputs: tuple[Any, ...] | None = None
        self.input_spots: list[int] = []
        self.n_inputs = 0

    def inputs(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments, passed through a function whose backward calls the hooks."""
        self.n_inputs = len(args)
        spots = [i for i, a in enumerate(args) if isinstance(a, Handle)]
        if not recording.grad_enabled or not any(requires_grad(args[i]) for i in spots):
            return args
        self.input_spots = spots
        hook = self

        class Inputs(Function):
            @staticmethod
            def forward(ctx: Any, *tensors: Any) -> Any:
                ctx.set_materialize_grads(False)
                return tuple(t.view_as(t) for t in tensors)

            @staticmethod
            def backward(ctx: Any, *grads: Any) -> Any:
                return hook.call(grads)
        wrapped = Inputs.apply(*[args[i] for i in spots])
        out = list(args)
        for i, t in zip(spots, wrapped, strict=True):
            out[i] = t
        return tuple(out)

    def outputs(self, out: Any) -> Any:
        """The result, passed through a function whose backward notes its gradients."""
        parts = (out,) if isinstance(out, Handle) else out if isinstance(out, tuple) else ()
        if not parts:
            warnings.warn("For backward hooks to be called, module output should be a Tensor or a tuple of Tensors but received "
                          f"{type(out)}", stacklevel=4)
        spots = [i for i, o in enumerate(parts) if isinstance(o, Handle)]
        if not recording.grad_enabled or not any(requires_grad(parts[i]) for i in spots):
            return out
        hook = self

        class Outputs(Function):
            @staticmethod
            def forward(ctx: Any, *values: Any) -> Any:
                ctx.set_materialize_grads(False)
                return tuple(t.view_as(t) for t in values)

            @staticmethod
            def backward(ctx: Any, *grads: Any) -> Any:
                return hook.note(grads, spots, len(parts))
        wrapped = _placed(Outputs.apply(*[parts[i] for i in spots]), spots, len(parts))
        if isinstance(out, Handle):
            return wrapped[0]
        result = [w if w is not None else o for w, o in zip(wrapped, parts, strict=True)]
        return type(out)(*result) if hasattr(out, "_fields") else tuple(result)

    def note(self, grads: tuple[Any, ...], spots: list[int], length: int) -> tuple[Any, ...]:
        """Gradients of the outputs have arrived."""
        full = _placed(grads, spots, length)
        for pre in self.pre_hooks:
            full = _replaced(pre(self.module, full), full, "pre ")
        self.grad_outputs = full
        if not self.input_spots:
            # No input takes part in autograd, so this is the last time that the hooks can run.
            nothing = (None,) * self.n_inputs
            for user in self.hooks:
                result = user(self.module, nothing, full)
                if result is not None and not all(r is None for r in result):
                    raise AutogradError("Backward hook for Modules where no input requires gradient should always return None or "
                                        "None for all gradients.")
        return tuple(full[i] for i in spots)

    def call(self, grads: tuple[Any, ...]) -> tuple[Any, ...]:
        """Run the module's backward hooks on the gradients of its inputs."""
        if self.grad_outputs is None:           # gradients that did not come through the module's outputs
            return grads
        full = _placed(grads, self.input_spots, self.n_inputs)
        for user in self.hooks:
            full = _replaced(user(self.module, full, self.grad_outputs), full, "")
        self.grad_outputs = None
        return tuple(full[i] for i in self.input_spots)
