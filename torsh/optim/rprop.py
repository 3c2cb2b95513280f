"""Resilient backpropagation (Riedmiller and Braun, "A direct adaptive method for faster backpropagation learning", 1993)."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torsh.core.errors import InvalidArgumentError
from torsh.ops.common import gt, maximum, minimum, mul, neg, sub, where
from torsh.optim.elementwise import Bucket, ElementwiseOptimizer, zeros_like
from torsh.optim.group_update import sign
from torsh.optim.optimizer import check_lr, to_scalar


def rprop_rule(options: tuple[Any, ...], p: Any, g: Any, previous: Any, size: Any, shrink: Any, grow: Any, smallest: Any,
               largest: Any) -> tuple[Any, ...]:
    """States: prev, step_size. Numbers: the two factors and the bounds of the step size."""
    (maximize,) = options
    if maximize:
        g = neg(g)
    agreement = mul(g, previous)
    reversed_ = gt(0.0, agreement)
    factor = where(gt(agreement, 0.0), grow, where(reversed_, shrink, 1.0))
    size = minimum(maximum(mul(size, factor), smallest), largest)
    g = where(reversed_, 0.0, g)
    return sub(p, mul(sign(g), size)), g, size


class Rprop(ElementwiseOptimizer):
    """Steps by sign, whose sizes grow while the sign stays and shrink when it turns. Arguments and state are PyTorch's."""

    rule = staticmethod(rprop_rule)

    def __init__(self, params: Iterable[Any], lr: Any = 1e-2, etas: tuple[float, float] = (0.5, 1.2),
                 step_sizes: tuple[float, float] = (1e-6, 50), *, capturable: bool = False, foreach: bool | None = None,
                 maximize: bool = False, differentiable: bool = False) -> None:
        check_lr(lr)
        if not 0.0 < etas[0] < 1.0 < etas[1]:
            raise InvalidArgumentError(f"Invalid eta values: {etas[0]}, {etas[1]}")
        super().__init__(params, {
            "lr": lr, "etas": etas, "step_sizes": step_sizes, "foreach": foreach, "maximize": maximize,
            "differentiable": differentiable, "capturable": capturable})

    def initial(self, name: str, group: dict[str, Any], p: Any) -> Any:
        """First value of a state: step sizes start at the learning rate."""
        return zeros_like(p, to_scalar(group["lr"])) if name == "step_size" else super().initial(name, group, p)

    def tensor_states(self, group: dict[str, Any]) -> tuple[str, ...]:
        """Previous gradients and step sizes."""
        return "prev", "step_size"

    def options(self, group: dict[str, Any], bucket: Bucket) -> tuple[Any, ...]:
        """What of the rule is switched on."""
        return (group["maximize"],)

    def numbers(self, group: dict[str, Any], bucket: Bucket) -> Sequence[float]:
        """Shrinking and growing factor, smallest and largest step."""
        bucket.increment()
        return *group["etas"], *group["step_sizes"]
