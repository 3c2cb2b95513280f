"""Adamax (Kingma and Ba, "Adam: a method for stochastic optimization", 2015)."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torsh.ops.common import absolute, add, div, maximum, mul, neg, sub
from torsh.optim.elementwise import Bucket, ElementwiseOptimizer, weight_decayed
from torsh.optim.group_update import lerp
from torsh.optim.optimizer import check_betas, check_lr, check_not_negative, to_scalar


def adamax_rule(options: tuple[Any, ...], p: Any, g: Any, average: Any, peak: Any, weight1: Any, beta2: Any, step_size: Any,
                eps: Any, decay: Any) -> tuple[Any, ...]:
    """States: exp_avg, exp_inf. Numbers: 1 - beta1, beta2, lr / (1 - beta1^t), eps, weight decay."""
    decay_on, maximize = options
    if maximize:
        g = neg(g)
    g = weight_decayed(g, p, decay, decay_on)
    average = lerp(average, g, weight1)
    peak = maximum(mul(peak, beta2), add(absolute(g), eps))
    return sub(p, mul(step_size, div(average, peak))), average, peak


class Adamax(ElementwiseOptimizer):
    """Adam with the decaying maximum of gradients in place of the mean square. Arguments and state are PyTorch's."""

    rule = staticmethod(adamax_rule)

    def __init__(self, params: Iterable[Any], lr: Any = 2e-3, betas: Any = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0, foreach: bool | None = None, *, maximize: bool = False,
                 differentiable: bool = False, capturable: bool = False) -> None:
        check_lr(lr)
        check_not_negative(eps=eps)
        check_betas(betas)
        check_not_negative(weight_decay=weight_decay)
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "foreach": foreach, "maximize": maximize,
            "differentiable": differentiable, "capturable": capturable})

    def tensor_states(self, group: dict[str, Any]) -> tuple[str, ...]:
        """Running mean and decaying maximum."""
        return "exp_avg", "exp_inf"

    def options(self, group: dict[str, Any], bucket: Bucket) -> tuple[Any, ...]:
        """What of the rule is switched on."""
        return group["weight_decay"] != 0, group["maximize"]

    def numbers(self, group: dict[str, Any], bucket: Bucket) -> Sequence[float]:
        """1 - beta1, beta2, lr / (1 - beta1^t), eps, weight decay."""
        t = bucket.increment()
        beta1, beta2 = group["betas"]
        return 1 - beta1, beta2, to_scalar(group["lr"]) / (1 - beta1 ** t), group["eps"], group["weight_decay"]
