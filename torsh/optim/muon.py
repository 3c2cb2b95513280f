"""Muon (Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024)."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torsh
from torsh.core.errors import DTypeError, InvalidArgumentError
from torsh.optim.optimizer import Optimizer, check_lr, to_scalar

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalized(g: Any, coefficients: tuple[float, float, float], steps: int, eps: float) -> Any:
    """Nearly the orthogonal factor of a matrix, by Newton-Schulz iterations in bfloat16."""
    if steps >= 100:
        raise InvalidArgumentError("Number of steps must be less than 100 for computational efficiency")
    if g.dim() != 2:
        raise InvalidArgumentError("Input tensor gradient must be a 2D matrix")
    if len(coefficients) != 3:
        raise InvalidArgumentError("Coefficients must be a tuple of exactly 3 values")
    a, b, c = coefficients
    x = g.bfloat16()
    tall = g.size(0) > g.size(1)
    if tall:
        x = x.T
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = torsh.addmm(x, torsh.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


class Muon(Optimizer):
    """Momentum whose update is orthogonalized, for the matrices of hidden layers. Arguments and state are PyTorch's.

    Raises ValueError for parameters that are no matrices.
    """

    def __init__(self, params: Iterable[Any], lr: Any = 1e-3, weight_decay: float = 0.1, momentum: float = 0.95,
                 nesterov: bool = True, ns_coefficients: tuple[float, float, float] = COEFFICIENTS, eps: float = 1e-7,
                 ns_steps: int = 5, adjust_lr_fn: str | None = None) -> None:
        check_lr(lr, "Learning rate should be >= 0 but is: {}")
        if not 0.0 <= momentum:
            raise InvalidArgumentError(f"momentum should be >= 0 but is: {momentum}")
        if not 0.0 <= weight_decay:
            raise InvalidArgumentError(f"weight decay should be >= 0 but is: {weight_decay}")
        if adjust_lr_fn not in (None, "original", "match_rms_adamw"):
            raise InvalidArgumentError(f"Adjust learning rate function {adjust_lr_fn} is not supported")
        super().__init__(params, {
            "lr": lr, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov,
            "ns_coefficients": ns_coefficients, "eps": eps, "ns_steps": ns_steps, "adjust_lr_fn": adjust_lr_fn})
        for p in self._parameters():
            if p.dim() != 2:
                raise InvalidArgumentError(f"Muon only supports 2D parameters whereas we found a parameter with size: "
                                           f"{p.size()}")

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters; ``closure`` evaluates the model again and returns the loss."""
        loss = None
        if closure is not None:
            with torsh.enable_grad():
                loss = closure()
        with torsh.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        self._update(group, p, p.grad)
        return loss

    def _update(self, group: dict[str, Any], p: Any, g: Any) -> None:
        if p.is_complex():
            raise DTypeError("Muon does not support complex parameters")
        if getattr(g, "is_sparse", False):
            raise DTypeError("Muon does not support sparse gradients")
        state = self.state[p]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torsh.zeros_like(g)
        buffer, momentum, lr = state["momentum_buffer"], group["momentum"], to_scalar(group["lr"])
        buffer.lerp_(g, 1 - momentum)
        update = g.lerp(buffer, momentum) if group["nesterov"] else buffer
        update = orthogonalized(update, group["ns_coefficients"], group["ns_steps"], group["eps"])
        rows, columns = p.shape
        ratio = 0.2 * math.sqrt(max(rows, columns)) if group["adjust_lr_fn"] == "match_rms_adamw" else \
            math.sqrt(max(1, rows / columns))
        p.mul_(1 - lr * group["weight_decay"])
        p.add_(update, alpha=-lr * ratio)
