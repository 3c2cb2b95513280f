"""Adafactor (Shazeer and Stern, "Adafactor: adaptive learning rates with sublinear memory cost", 2018)."""
from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torsh
from torsh.core.errors import DTypeError, InvalidArgumentError
from torsh.optim.optimizer import Optimizer, check_lr, to_scalar


class Adafactor(Optimizer):
    """Adam whose mean squares are kept as one row and one column for each matrix. Arguments and state are PyTorch's."""

    def __init__(self, params: Iterable[Any], lr: Any = 1e-2, beta2_decay: float = -0.8, eps: Any = (None, 1e-3),
                 d: float = 1.0, weight_decay: float = 0.0, *, foreach: bool | None = None, maximize: bool = False) -> None:
        check_lr(lr, "Learning rate should be >= 0 but is: {}")
        checks = ((0.0 >= beta2_decay, f"beta2_decay should be <= 0 but is: {beta2_decay}"),
                  (eps[0] is None or eps[0] >= 0.0, f"epsilon1 should be >= 0 but is: {eps[0]}"),
                  (0.0 <= eps[1], f"epsilon2 should be >= 0 but is: {eps[1]}"),
                  (1.0 <= d, f"Clipping threshold d should be >= 1 but is: {d}"),
                  (0.0 <= weight_decay, f"weight_decay should be >= 0 but is: {weight_decay}"))
        for holds, message in checks:
            if not holds:
                raise InvalidArgumentError(message)
        super().__init__(params, {"lr": lr, "beta2_decay": beta2_decay, "eps": eps, "d": d, "weight_decay": weight_decay,
                                  "foreach": foreach, "maximize": maximize})

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

    def _state(self, p: Any, g: Any) -> Any:
        state = self.state[p]
        if not state:
            if p.is_complex():
                raise DTypeError("Adafactor does not support complex parameters")
            if getattr(g, "is_sparse", False):
                raise DTypeError("Adafactor does not support sparse gradients")
            state["step"] = torsh.as_tensor(0.0)
            if g.dim() > 1:
                state["row_var"] = g.new_zeros((*g.shape[:-1], 1))
                state["col_var"] = g.new_zeros((*g.shape[:-2], 1, g.shape[-1]))
            else:
                state["variance"] = torsh.zeros_like(g)
        return state

    def _update(self, group: dict[str, Any], p: Any, g: Any) -> None:
        state = self._state(p, g)
        if group["maximize"]:
            g = -g
        steps = float(state["step"]) + 1
        state["step"].fill_(steps)
        lr, (eps1, eps2) = to_scalar(group["lr"]), group["eps"]
        if eps1 is None:
            eps1 = torsh.finfo(p.dtype).eps
        weight = steps ** group["beta2_decay"]
        # Means of squares are kept on the device: nothing is read back in a step.
        size = (p.norm(2) / p.numel() ** 0.5).clamp(min=eps2) * min(lr, 1 / steps ** 0.5)
        if group["weight_decay"] != 0:
            p.mul_(1 - lr * group["weight_decay"])
        if g.dim() > 1:
            squares = g * g
            row, col = state["row_var"], state["col_var"]
            row.lerp_(squares.mean(-1, keepdim=True), weight)
            col.lerp_(squares.mean(-2, keepdim=True), weight)
            variance = (row @ col) / row.mean(-2, keepdim=True).clamp(min=eps1)
        else:
            variance = state["variance"]
            variance.lerp_(g * g, weight)
        update = variance.clamp(min=eps1 * eps1).rsqrt() * g
        limit = (update.norm(2) / (update.numel() ** 0.5 * group["d"])).clamp(min=1.0)
        p.sub_(update * (size / limit))
