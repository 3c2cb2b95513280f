"""Adadelta (Zeiler, "ADADELTA: an adaptive learning rate method", 2012)."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torsh.core.errors import InvalidArgumentError
from torsh.ops.common import add, div, mul, neg, sqrt, sub
from torsh.optim.elementwise import Bucket, ElementwiseOptimizer, weight_decayed
from torsh.optim.optimizer import check_lr, check_not_negative, to_scalar


def adadelta_rule(options: tuple[Any, ...], p: Any, g: Any, square: Any, travelled: Any, lr: Any, rho: Any, weight: Any,
                  eps: Any, decay: Any) -> tuple[Any, ...]:
    """States: square_avg, acc_delta. Numbers: lr, rho, 1 - rho, eps, weight decay."""
    decay_on, maximize = options
    if maximize:
        g = neg(g)
    g = weight_decayed(g, p, decay, decay_on)
    square = add(mul(square, rho), mul(mul(g, g), weight))
    delta = mul(div(sqrt(add(travelled, eps)), sqrt(add(square, eps))), g)
    travelled = add(mul(travelled, rho), mul(mul(delta, delta), weight))
    return sub(p, mul(delta, lr)), square, travelled


class Adadelta(ElementwiseOptimizer):
    """Adadelta: steps scaled by the ratio of mean squares of earlier steps and gradients. Arguments and state are
    PyTorch's."""

    rule = staticmethod(adadelta_rule)

    def __init__(self, params: Iterable[Any], lr: Any = 1.0, rho: float = 0.9, eps: float = 1e-6, weight_decay: float = 0,
                 foreach: bool | None = None, *, capturable: bool = False, maximize: bool = False,
                 differentiable: bool = False) -> None:
        check_lr(lr)
        if not 0.0 <= rho <= 1.0:
            raise InvalidArgumentError(f"Invalid rho value: {rho}")
        check_not_negative(eps=eps, weight_decay=weight_decay)
        super().__init__(params, {
            "lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize, "capturable": capturable,
            "foreach": foreach, "differentiable": differentiable})

    def tensor_states(self, group: dict[str, Any]) -> tuple[str, ...]:
        """Mean squares of gradients and of steps."""
        return "square_avg", "acc_delta"

    def options(self, group: dict[str, Any], bucket: Bucket) -> tuple[Any, ...]:
        """What of the rule is switched on."""
        return group["weight_decay"] != 0, group["maximize"]

    def numbers(self, group: dict[str, Any], bucket: Bucket) -> Sequence[float]:
        """lr, rho, 1 - rho, eps, weight decay."""
        bucket.increment()
        return to_scalar(group["lr"]), group["rho"], 1 - group["rho"], group["eps"], group["weight_decay"]
