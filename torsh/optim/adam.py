"""Adam (Kingma and Ba, "Adam: a method for stochastic optimization", 2015), with AMSGrad and decoupled weight decay."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torsh.core.errors import DTypeError, InvalidArgumentError
from torsh.ops.common import add, div, maximum, mul, neg, sqrt, sub
from torsh.optim.elementwise import Bucket, ElementwiseOptimizer, weight_decayed
from torsh.optim.group_update import lerp
from torsh.optim.optimizer import check_betas, check_fused, check_lr, check_not_negative, to_scalar
from torsh.tensor.tensor import Tensor


def adam_rule(options: tuple[Any, ...], p: Any, g: Any, *rest: Any) -> tuple[Any, ...]:
    """States: exp_avg, exp_avg_sq, with AMSGrad max_exp_avg_sq. Numbers: see :meth:`Adam.numbers`."""
    amsgrad, decay, maximize = options
    average, square, *highest = rest[:3 if amsgrad else 2]
    weight1, beta2, weight2, step_size, correction2, eps, weight_decay = rest[3 if amsgrad else 2:]
    if maximize:
        g = neg(g)
    if decay == "decoupled":
        p = mul(p, weight_decay)
    else:
        g = weight_decayed(g, p, weight_decay, decay == "L2")
    average = lerp(average, g, weight1)
    square = add(mul(square, beta2), mul(mul(g, g), weight2))
    if amsgrad:
        highest = [maximum(highest[0], square)]
    denominator = add(div(sqrt(highest[0] if amsgrad else square), correction2), eps)
    return sub(p, mul(step_size, div(average, denominator))), average, square, *highest


class Adam(ElementwiseOptimizer):
    """Adam: steps of the running mean of gradients over the root of the running mean of their squares.

    Arguments, defaults and state (``step``, ``exp_avg``, ``exp_avg_sq``, ``max_exp_avg_sq``) are PyTorch's; ``foreach``,
    ``fused`` and ``capturable`` are accepted (a group is one kernel in any case).
    """

    rule = staticmethod(adam_rule)

    def __init__(self, params: Iterable[Any], lr: Any = 1e-3, betas: Any = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0, amsgrad: bool = False, *, foreach: bool | None = None, maximize: bool = False,
                 capturable: bool = False, differentiable: bool = False, fused: bool | None = None,
                 decoupled_weight_decay: bool = False) -> None:
        if isinstance(lr, Tensor) and foreach and not capturable:
            raise InvalidArgumentError("lr as a Tensor is not supported for capturable=False and foreach=True")
        check_lr(lr)
        check_not_negative(eps=eps)
        check_betas(betas)
        check_not_negative(weight_decay=weight_decay)
        check_beta_types(betas, bool(foreach), capturable)
        super().__init__(params, {
            "lr": lr, "betas": tuple(to_scalar(b) for b in betas), "eps": eps, "weight_decay": weight_decay,
            "amsgrad": amsgrad, "maximize": maximize, "foreach": foreach, "capturable": capturable,
            "differentiable": differentiable, "fused": fused, "decoupled_weight_decay": decoupled_weight_decay})
        check_fused(fused, foreach, differentiable)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            for name, value in (("amsgrad", False), ("maximize", False), ("foreach", None), ("capturable", False),
                                ("differentiable", False), ("decoupled_weight_decay", False), ("fused", None)):
                group.setdefault(name, value)

    def tensor_states(self, group: dict[str, Any]) -> tuple[str, ...]:
        """Running means, with AMSGrad the highest mean of squares."""
        return ("exp_avg", "exp_avg_sq", "max_exp_avg_sq") if group["amsgrad"] else ("exp_avg", "exp_avg_sq")

    def options(self, group: dict[str, Any], bucket: Bucket) -> tuple[Any, ...]:
        """What of the rule is switched on."""
        if group["foreach"] and isinstance(group["lr"], Tensor) and not group["capturable"]:
            raise DTypeError("lr as a Tensor is not supported for capturable=False and foreach=True")
        decay = "none" if group["weight_decay"] == 0 else "decoupled" if group["decoupled_weight_decay"] else "L2"
        return group["amsgrad"], decay, group["maximize"]

    def numbers(self, group: dict[str, Any], bucket: Bucket) -> Sequence[float]:
        """1 - beta1, beta2, 1 - beta2, lr / (1 - beta1^t), sqrt(1 - beta2^t), eps, and for the decay its factor."""
        t = bucket.increment()
        beta1, beta2 = group["betas"]
        lr, decay = to_scalar(group["lr"]), group["weight_decay"]
        return (1 - beta1, beta2, 1 - beta2, lr / (1 - beta1 ** t), (1 - beta2 ** t) ** 0.5, group["eps"],
                1 - lr * decay if group["decoupled_weight_decay"] else decay)


def check_beta_types(betas: Any, foreach: bool, capturable: bool) -> None:
    """Raise ValueError unless both are floats or both are one-element tensors that the options allow."""
    tensors = [isinstance(b, Tensor) for b in betas]
    if not (all(tensors) or all(isinstance(b, float) for b in betas)):
        raise InvalidArgumentError("betas must be either both floats or both Tensors")
    if not tensors[0]:
        return
    for i in (0, 1):
        if foreach and not capturable:
            raise InvalidArgumentError(f"betas[{i}] as a Tensor is not supported for capturable=False and foreach=True")
        if betas[i].numel() != 1:
            raise InvalidArgumentError(f"Tensor betas[{i}] must be 1-element")
