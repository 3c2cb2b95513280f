"""Averaged stochastic gradient descent (Polyak and Juditsky, "Acceleration of stochastic approximation", 1992)."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from torsh.ops.common import mul, neg, sub
from torsh.optim.elementwise import Bucket, ElementwiseOptimizer, weight_decayed
from torsh.optim.group_update import lerp
from torsh.optim.optimizer import check_lr, check_not_negative, to_scalar


def asgd_rule(options: tuple[Any, ...], p: Any, g: Any, mean: Any, shrink: Any, eta: Any, mu: Any,
              decay: Any) -> tuple[Any, ...]:
    """State: ax. Numbers: 1 - lambd * eta, eta, mu, weight decay."""
    averaging, decay_on, maximize = options
    if maximize:
        g = neg(g)
    g = weight_decayed(g, p, decay, decay_on)
    p = sub(mul(p, shrink), mul(g, eta))
    return p, lerp(mean, p, mu) if averaging else p


class ASGD(ElementwiseOptimizer):
    """SGD that also keeps the average of the parameters (state ``ax``). Arguments and state are PyTorch's."""

    count_states: ClassVar[tuple[str, ...]] = ("step", "eta", "mu")
    rule = staticmethod(asgd_rule)

    def __init__(self, params: Iterable[Any], lr: Any = 1e-2, lambd: float = 1e-4, alpha: float = 0.75, t0: float = 1e6,
                 weight_decay: float = 0, foreach: bool | None = None, maximize: bool = False, differentiable: bool = False,
                 capturable: bool = False) -> None:
        check_lr(lr)
        check_not_negative(weight_decay=weight_decay)
        super().__init__(params, {
            "lr": lr, "lambd": lambd, "alpha": alpha, "t0": t0, "weight_decay": weight_decay, "foreach": foreach,
            "maximize": maximize, "differentiable": differentiable, "capturable": capturable})

    def initial(self, name: str, group: dict[str, Any], p: Any) -> Any:
        """First value of a state."""
        if name == "eta":
            return float(to_scalar(group["lr"]))
        return 1.0 if name == "mu" else super().initial(name, group, p)

    def tensor_states(self, group: dict[str, Any]) -> tuple[str, ...]:
        """The average."""
        return ("ax",)

    def options(self, group: dict[str, Any], bucket: Bucket) -> tuple[Any, ...]:
        """What of the rule is switched on."""
        return bucket.count("mu") != 1, group["weight_decay"] != 0, group["maximize"]

    def numbers(self, group: dict[str, Any], bucket: Bucket) -> Sequence[float]:
        """1 - lambd * eta, eta, mu, weight decay."""
        bucket.increment()
        eta = bucket.count("eta")
        return 1 - group["lambd"] * eta, eta, bucket.count("mu"), group["weight_decay"]

    def finish(self, group: dict[str, Any], bucket: Bucket) -> None:
        """eta and mu of the next step."""
        t, lr = bucket.count("step"), to_scalar(group["lr"])
        bucket.counts["eta"].fill(lr / (1 + group["lambd"] * lr * t) ** group["alpha"])
        bucket.counts["mu"].fill(1 / max(1, t - group["t0"]))
