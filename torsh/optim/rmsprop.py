"""RMSprop (Hinton, lecture 6 of "Neural networks for machine learning", 2012)."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torsh.ops.common import add, div, mul, neg, sqrt, sub
from torsh.optim.elementwise import Bucket, ElementwiseOptimizer, weight_decayed
from torsh.optim.group_update import lerp
from torsh.optim.optimizer import check_lr, check_not_negative, to_scalar


def rmsprop_rule(options: tuple[Any, ...], p: Any, g: Any, *rest: Any) -> tuple[Any, ...]:
    """States: square_avg, then momentum_buffer and grad_avg if used. Numbers: see :meth:`RMSprop.numbers`."""
    momentum_on, centered, decay_on, maximize = options
    *states, lr, alpha, weight, eps, decay, momentum = rest
    if maximize:
        g = neg(g)
    g = weight_decayed(g, p, decay, decay_on)
    square = add(mul(states[0], alpha), mul(mul(g, g), weight))
    new = [square]
    spread, mean = square, None
    if centered:
        mean = lerp(states[-1], g, weight)
        spread = sub(square, mul(mean, mean))
    direction = div(g, add(sqrt(spread), eps))
    if momentum_on:
        direction = add(mul(states[1], momentum), direction)
        new.append(direction)
    if mean is not None:
        new.append(mean)
    return sub(p, mul(direction, lr)), *new


class RMSprop(ElementwiseOptimizer):
    """RMSprop: gradients over the root of the running mean of their squares. Arguments and state are PyTorch's."""

    rule = staticmethod(rmsprop_rule)

    def __init__(self, params: Iterable[Any], lr: Any = 1e-2, alpha: float = 0.99, eps: float = 1e-8,
                 weight_decay: float = 0, momentum: float = 0, centered: bool = False, capturable: bool = False,
                 foreach: bool | None = None, maximize: bool = False, differentiable: bool = False) -> None:
        check_lr(lr)
        check_not_negative(eps=eps, momentum=momentum, weight_decay=weight_decay, alpha=alpha)
        super().__init__(params, {
            "lr": lr, "momentum": momentum, "alpha": alpha, "eps": eps, "centered": centered, "weight_decay": weight_decay,
            "capturable": capturable, "foreach": foreach, "maximize": maximize, "differentiable": differentiable})

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            for name, value in (("momentum", 0), ("centered", False), ("foreach", None), ("maximize", False),
                                ("differentiable", False), ("capturable", False)):
                group.setdefault(name, value)

    def tensor_states(self, group: dict[str, Any]) -> tuple[str, ...]:
        """Mean square, and momentum and mean if used."""
        return ("square_avg", *(("momentum_buffer",) if group["momentum"] > 0 else ()),
                *(("grad_avg",) if group["centered"] else ()))

    def options(self, group: dict[str, Any], bucket: Bucket) -> tuple[Any, ...]:
        """What of the rule is switched on."""
        return group["momentum"] > 0, group["centered"], group["weight_decay"] != 0, group["maximize"]

    def numbers(self, group: dict[str, Any], bucket: Bucket) -> Sequence[float]:
        """lr, alpha, 1 - alpha, eps, weight decay, momentum."""
        bucket.increment()
        alpha = group["alpha"]
        return to_scalar(group["lr"]), alpha, 1 - alpha, group["eps"], group["weight_decay"], group["momentum"]
