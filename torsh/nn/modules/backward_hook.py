"""Full backward hooks of modules, as autograd functions around forward."""
from __future__ import annotations

from typing import Any

from torsh.autograd.function import Function
from torsh.graph.handle import Handle, requires_grad


class BackwardHook:
    """Catches the gradients of a module's outputs and inputs for one call of it."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.grad_outputs: tuple[Any, ...] = ()

    def inputs(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments, passed through a function whose backward calls the hooks."""
        spots = [i for i, a in enumerate(args) if isinstance(a, Handle) and requires_grad(a)]
        if not spots:
            return args
        hook = self

        class Inputs(Function):
            @staticmethod
            def forward(ctx: Any, *tensors: Any) -> Any:
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
        tensors = [out] if isinstance(out, Handle) else [o for o in out if isinstance(o, Handle)] if \
            isinstance(out, tuple) else []
        if not any(requires_grad(t) for t in tensors):
            return out
        hook = self

        class Outputs(Function):
            @staticmethod
            def forward(ctx: Any, *values: Any) -> Any:
                return tuple(t.view_as(t) for t in values)

            @staticmethod
            def backward(ctx: Any, *grads: Any) -> Any:
                for pre in list(hook.module._backward_pre_hooks.values()):
                    result = pre(hook.module, grads)
                    if result is not None:
                        grads = result if isinstance(result, tuple) else (result,)
                hook.grad_outputs = grads
                return grads
        wrapped = iter(Outputs.apply(*tensors))
        if isinstance(out, Handle):
            return next(wrapped)
        return tuple(next(wrapped) if isinstance(o, Handle) else o for o in out)

    def call(self, grads: tuple[Any, ...]) -> tuple[Any, ...]:
        """Run the module's backward hooks on the gradients of its inputs."""
        for hook in list(self.module._backward_hooks.values()):
            result = hook(self.module, grads, self.grad_outputs)
            if result is not None:
                grads = result if isinstance(result, tuple) else (result,)
        return grads
