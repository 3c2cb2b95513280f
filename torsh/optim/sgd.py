"""Stochastic gradient descent, with momentum."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from torsh.core.errors import InvalidArgumentError
from torsh.ops.common import add, mul, neg, sub
from torsh.optim.elementwise import Bucket, ElementwiseOptimizer, weight_decayed
from torsh.optim.optimizer import check_fused, to_scalar
from torsh.tensor.tensor import Tensor


def sgd_rule(options: tuple[Any, ...], p: Any, g: Any, *rest: Any) -> tuple[Any, ...]:
    """States: the momentum buffer, if there is momentum. Numbers: see :meth:`SGD.numbers`."""
    momentum_on, fresh, nesterov, decay_on, maximize = options
    if maximize:
        g = neg(g)
    if not momentum_on:
        lr, decay = rest
        return (sub(p, mul(weight_decayed(g, p, decay, decay_on), lr)),)
    buffer, lr, decay, momentum, undamped = rest
    g = weight_decayed(g, p, decay, decay_on)
    buffer = g if fresh else add(mul(buffer, momentum), mul(g, undamped))
    direction = add(g, mul(buffer, momentum)) if nesterov else buffer
    return sub(p, mul(direction, lr)), buffer


class SGD(ElementwiseOptimizer):
    """Stochastic gradient descent: ``p -= lr * g``, with momentum ``b = momentum * b + (1 - dampening) * g; p -= lr * b``.

    Arguments, defaults and state (``momentum_buffer``) are PyTorch's; ``foreach`` and ``fused`` are accepted (a group is one
    kernel in any case).
    """

    count_states: ClassVar[tuple[str, ...]] = ()
    rule = staticmethod(sgd_rule)

    def __init__(self, params: Iterable[Any], lr: Any = 1e-3, momentum: float = 0, dampening: float = 0,
                 weight_decay: float = 0, nesterov: bool = False, *, maximize: bool = False, foreach: bool | None = None,
                 differentiable: bool = False, fused: bool | None = None) -> None:
        if isinstance(lr, Tensor) and lr.numel() != 1:
            raise InvalidArgumentError("Tensor lr must be 1-element")
        if lr < 0.0:
            raise InvalidArgumentError(f"Invalid learning rate: {lr}")
        if momentum < 0.0:
            raise InvalidArgumentError(f"Invalid momentum value: {momentum}")
        if weight_decay < 0.0:
            raise InvalidArgumentError(f"Invalid weight_decay value: {weight_decay}")
        if nesterov and (momentum <= 0 or dampening != 0):
            raise InvalidArgumentError("Nesterov momentum requires a momentum and zero dampening")
        super().__init__(params, {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "nesterov": nesterov,
            "maximize": maximize, "foreach": foreach, "differentiable": differentiable, "fused": fused})
        check_fused(fused, foreach, differentiable)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            for name, value in (("nesterov", False), ("maximize", False), ("foreach", None), ("differentiable", False),
                                ("fused", False)):
                group.setdefault(name, value)

    def tensor_states(self, group: dict[str, Any]) -> tuple[str, ...]:
        """The momentum buffer, if there is momentum."""
        return ("momentum_buffer",) if group["momentum"] != 0 else ()

    def options(self, group: dict[str, Any], bucket: Bucket) -> tuple[Any, ...]:
        """What of the rule is switched on."""
        return (group["momentum"] != 0, bucket.fresh, group["nesterov"], to_scalar(group["weight_decay"]) != 0,
                group["maximize"])

    def numbers(self, group: dict[str, Any], bucket: Bucket) -> Sequence[float]:
        """lr, weight decay, with momentum also momentum and 1 - dampening."""
        momentum = group["momentum"]
        common = to_scalar(group["lr"]), to_scalar(group["weight_decay"])
        return (*common, momentum, 1 - group["dampening"]) if momentum != 0 else common
