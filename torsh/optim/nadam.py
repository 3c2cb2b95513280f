"""NAdam (Dozat, "Incorporating Nesterov momentum into Adam", 2016)."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from torsh.ops.common import add, div, mul, neg, sqrt, sub
from torsh.optim.elementwise import Bucket, ElementwiseOptimizer, weight_decayed
from torsh.optim.group_update import lerp
from torsh.optim.optimizer import check_betas, check_lr, check_not_negative, to_scalar


def nadam_rule(options: tuple[Any, ...], p: Any, g: Any, average: Any, square: Any, weight1: Any, beta2: Any, weight2: Any,
               correction2: Any, eps: Any, gradient_size: Any, average_size: Any, decay: Any) -> tuple[Any, ...]:
    """States: exp_avg, exp_avg_sq. Numbers: see :meth:`NAdam.numbers`."""
    kind, maximize = options
    if maximize:
        g = neg(g)
    if kind == "decoupled":
        p = mul(p, decay)
    else:
        g = weight_decayed(g, p, decay, kind == "L2")
    average = lerp(average, g, weight1)
    square = add(mul(square, beta2), mul(mul(g, g), weight2))
    denominator = add(sqrt(div(square, correction2)), eps)
    p = sub(p, mul(gradient_size, div(g, denominator)))
    return sub(p, mul(average_size, div(average, denominator))), average, square


class NAdam(ElementwiseOptimizer):
    """Adam with Nesterov momentum. Arguments and state (``step``, ``mu_product``, …) are PyTorch's."""

    count_states: ClassVar[tuple[str, ...]] = ("step", "mu_product")
    rule = staticmethod(nadam_rule)

    def __init__(self, params: Iterable[Any], lr: Any = 2e-3, betas: Any = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0, momentum_decay: float = 4e-3, decoupled_weight_decay: bool = False, *,
                 foreach: bool | None = None, maximize: bool = False, capturable: bool = False,
                 differentiable: bool = False) -> None:
        check_lr(lr)
        check_not_negative(eps=eps)
        check_betas(betas)
        check_not_negative(weight_decay=weight_decay, momentum_decay=momentum_decay)
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay, "maximize": maximize, "foreach": foreach,
            "capturable": capturable, "differentiable": differentiable})

    def initial(self, name: str, group: dict[str, Any], p: Any) -> Any:
        """First value of a state."""
        return 1.0 if name == "mu_product" else super().initial(name, group, p)

    def tensor_states(self, group: dict[str, Any]) -> tuple[str, ...]:
        """Running means of gradients and squares."""
        return "exp_avg", "exp_avg_sq"

    def options(self, group: dict[str, Any], bucket: Bucket) -> tuple[Any, ...]:
        """What of the rule is switched on."""
        decay = "none" if group["weight_decay"] == 0 else "decoupled" if group["decoupled_weight_decay"] else "L2"
        return decay, group["maximize"]

    def numbers(self, group: dict[str, Any], bucket: Bucket) -> Sequence[float]:
        """1 - beta1, beta2, 1 - beta2, 1 - beta2^t, eps, sizes of the two parts of the step, weight decay or its factor."""
        t = bucket.increment()
        beta1, beta2 = group["betas"]
        lr, decay = to_scalar(group["lr"]), group["weight_decay"]
        mu = beta1 * (1.0 - 0.5 * (0.96 ** (t * group["momentum_decay"])))
        mu_next = beta1 * (1.0 - 0.5 * (0.96 ** ((t + 1) * group["momentum_decay"])))
        products = bucket.counts["mu_product"]
        products *= mu
        product = bucket.count("mu_product")
        return (1 - beta1, beta2, 1 - beta2, 1 - beta2 ** t, group["eps"], lr * (1.0 - mu) / (1.0 - product),
                lr * mu_next / (1.0 - product * mu_next), 1 - lr * decay if group["decoupled_weight_decay"] else decay)
