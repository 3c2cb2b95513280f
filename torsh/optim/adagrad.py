"""Adagrad (Duchi, Hazan and Singer, "Adaptive subgradient methods", 2011)."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torsh.core.errors import DTypeError
from torsh.ops.common import add, div, mul, neg, sqrt, sub
from torsh.optim.elementwise import Bucket, ElementwiseOptimizer, count_tensors, weight_decayed, zeros_like
from torsh.optim.optimizer import check_fused, check_lr, check_not_negative, to_scalar


def adagrad_rule(options: tuple[Any, ...], p: Any, g: Any, total: Any, lr: Any, eps: Any, decay: Any) -> tuple[Any, ...]:
    """State: the sum of squares. Numbers: decayed lr, eps, weight decay."""
    decay_on, maximize = options
    if maximize:
        g = neg(g)
    g = weight_decayed(g, p, decay, decay_on)
    total = add(total, mul(g, g))
    return sub(p, mul(lr, div(g, add(sqrt(total), eps)))), total


class Adagrad(ElementwiseOptimizer):
    """Adagrad: gradients over the root of the sum of all their squares. Arguments and state are PyTorch's."""

    rule = staticmethod(adagrad_rule)

    def __init__(self, params: Iterable[Any], lr: Any = 1e-2, lr_decay: float = 0, weight_decay: float = 0,
                 initial_accumulator_value: float = 0, eps: float = 1e-10, foreach: bool | None = None, *,
                 maximize: bool = False, differentiable: bool = False, fused: bool | None = None) -> None:
        check_lr(lr)
        check_not_negative(lr_decay=lr_decay, weight_decay=weight_decay,
                           initial_accumulator_value=initial_accumulator_value, eps=eps)
        super().__init__(params, {
            "lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value, "foreach": foreach, "maximize": maximize,
            "differentiable": differentiable, "fused": fused})
        check_fused(fused, foreach, differentiable)
        import numpy as np
        for p in self._parameters():
            state = self.state[p]
            state["step"] = count_tensors(np.zeros(1, np.float32))[0]
            state["sum"] = zeros_like(p, initial_accumulator_value)

    def initial(self, name: str, group: dict[str, Any], p: Any) -> Any:
        """First value of a state (for parameters that were added later)."""
        return 0.0 if name == "step" else zeros_like(p, self.defaults["initial_accumulator_value"])

    def share_memory(self) -> None:
        """Share the sums of squares with other processes."""
        for p in self._parameters():
            self.state[p]["sum"].share_memory_()

    def tensor_states(self, group: dict[str, Any]) -> tuple[str, ...]:
        """The sum of squares."""
        return ("sum",)

    def options(self, group: dict[str, Any], bucket: Bucket) -> tuple[Any, ...]:
        """What of the rule is switched on."""
        return group["weight_decay"] != 0, group["maximize"]

    def numbers(self, group: dict[str, Any], bucket: Bucket) -> Sequence[float]:
        """lr / (1 + (t - 1) * lr_decay), eps, weight decay."""
        t = bucket.increment()
        return to_scalar(group["lr"]) / (1 + (t - 1) * group["lr_decay"]), group["eps"], group["weight_decay"]

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters; those with sparse gradients only in the rows that the gradients hold."""
        loss = None
        if closure is not None:
            import torsh
            with torsh.enable_grad():
                loss = closure()
        sparse = [(group, p, p._grad) for group in self.param_groups for p in group["params"]
                  if p._grad is not None and getattr(p._grad, "is_sparse", False)]
        for group, p, g in sparse:
            self._sparse_update(group, p, g)
            p._grad = None
        super().step()
        for _, p, g in sparse:
            p._grad = g
        return loss

    def _sparse_update(self, group: dict[str, Any], p: Any, g: Any) -> None:
        import torsh
        if group["weight_decay"] != 0:
            raise DTypeError("weight_decay option is not compatible with sparse gradients")
        state = self.state[p]
        with torsh.no_grad():
            step = float(state["step"]) + 1
            state["step"] = torsh.as_tensor(step)
            g = g.coalesce()
            values = -g._values() if group["maximize"] else g._values()
            index = tuple(g._indices())
            rows = state["sum"][index] + values * values
            state["sum"][index] = rows
            lr = to_scalar(group["lr"]) / (1 + (step - 1) * group["lr_decay"])
            p[index] = p[index] - lr * (values / (rows.sqrt() + group["eps"]))
