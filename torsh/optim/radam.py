"""RAdam (Liu et al., "On the variance of the adaptive learning rate and beyond", 2020)."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torsh.ops.common import add, div, mul, neg, sqrt, sub
from torsh.optim.elementwise import Bucket, ElementwiseOptimizer, weight_decayed
from torsh.optim.group_update import lerp
from torsh.optim.optimizer import check_betas, check_lr, check_not_negative, to_scalar


def radam_rule(options: tuple[Any, ...], p: Any, g: Any, average: Any, square: Any, weight1: Any, beta2: Any, weight2: Any,
               step_size: Any, eps: Any, decay: Any) -> tuple[Any, ...]:
    """States: exp_avg, exp_avg_sq. Numbers: see :meth:`RAdam.numbers`."""
    kind, rectified, maximize = options
    if maximize:
        g = neg(g)
    if kind == "decoupled":
        p = mul(p, decay)
    else:
        g = weight_decayed(g, p, decay, kind == "L2")
    average = lerp(average, g, weight1)
    square = add(mul(square, beta2), mul(mul(g, g), weight2))
    update = div(average, add(sqrt(square), eps)) if rectified else average
    return sub(p, mul(step_size, update)), average, square


class RAdam(ElementwiseOptimizer):
    """Adam that trusts the mean square only once its variance is tractable. Arguments and state are PyTorch's."""

    rule = staticmethod(radam_rule)

    def __init__(self, params: Iterable[Any], lr: Any = 1e-3, betas: Any = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0, decoupled_weight_decay: bool = False, *, foreach: bool | None = None,
                 maximize: bool = False, capturable: bool = False, differentiable: bool = False) -> None:
        check_lr(lr)
        check_not_negative(eps=eps)
        check_betas(betas)
        check_not_negative(weight_decay=weight_decay)
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize, "foreach": foreach,
            "capturable": capturable, "decoupled_weight_decay": decoupled_weight_decay, "differentiable": differentiable})

    def tensor_states(self, group: dict[str, Any]) -> tuple[str, ...]:
        """Running means of gradients and squares."""
        return "exp_avg", "exp_avg_sq"

    def _length(self, beta2: float, t: float) -> float:
        """Length of the simple moving average that the exponential one stands for after ``t`` steps."""
        return 2 / (1 - beta2) - 1 - 2 * t * beta2 ** t / (1 - beta2 ** t)

    def options(self, group: dict[str, Any], bucket: Bucket) -> tuple[Any, ...]:
        """What of the rule is switched on."""
        decay = "none" if group["weight_decay"] == 0 else "decoupled" if group["decoupled_weight_decay"] else "L2"
        return decay, self._length(group["betas"][1], bucket.count("step") + 1) > 5.0, group["maximize"]

    def numbers(self, group: dict[str, Any], bucket: Bucket) -> Sequence[float]:
        """1 - beta1, beta2, 1 - beta2, size of the step with all corrections, eps, weight decay or its factor."""
        t = bucket.increment()
        beta1, beta2 = group["betas"]
        lr, decay = to_scalar(group["lr"]), group["weight_decay"]
        step_size = lr / (1 - beta1 ** t)
        length, limit = self._length(beta2, t), 2 / (1 - beta2) - 1
        if length > 5.0:
            step_size *= ((length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length)) ** 0.5
            step_size *= (1 - beta2 ** t) ** 0.5
        return (1 - beta1, beta2, 1 - beta2, step_size, group["eps"],
                1 - lr * decay if group["decoupled_weight_decay"] else decay)
