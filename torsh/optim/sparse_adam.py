"""Adam for sparse gradients: only the rows that a gradient holds are updated ("lazy" Adam)."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torsh
from torsh.core.errors import DTypeError, InvalidArgumentError
from torsh.optim.optimizer import Optimizer, check_betas, to_scalar
from torsh.tensor.tensor import Tensor


class SparseAdam(Optimizer):
    """Adam that leaves rows without gradient alone. Arguments and state are PyTorch's.

    Raises RuntimeError in :meth:`step` for dense gradients (use :class:`Adam`), ValueError for sparse or complex parameters.
    """

    def __init__(self, params: Iterable[Any], lr: Any = 1e-3, betas: Any = (0.9, 0.999), eps: float = 1e-8,
                 maximize: bool = False) -> None:
        if isinstance(lr, Tensor) and lr.numel() != 1:
            raise InvalidArgumentError("Tensor lr must be 1-element")
        if not 0.0 < to_scalar(lr):
            raise InvalidArgumentError(f"Invalid learning rate: {lr}")
        if not 0.0 < eps:
            raise InvalidArgumentError(f"Invalid epsilon value: {eps}")
        check_betas(betas)
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "maximize": maximize})
        places = [(i, j, p) for i, group in enumerate(self.param_groups) for j, p in enumerate(group["params"])]
        sparse = [[i, j] for i, j, p in places if getattr(p, "is_sparse", False)]
        if sparse:
            raise InvalidArgumentError(f"Sparse params at indices {sparse}: SparseAdam requires dense parameter tensors")
        complex_ = [[i, j] for i, j, p in places if p.is_complex()]
        if complex_:
            raise InvalidArgumentError(f"Complex params at indices {complex_}: SparseAdam does not support complex "
                                       "parameters")

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
        if not getattr(g, "is_sparse", False):
            raise DTypeError("SparseAdam does not support dense gradients, please consider Adam instead")
        state = self.state[p]
        if not state:
            state["step"] = 0
            state["exp_avg"] = torsh.zeros_like(p)
            state["exp_avg_sq"] = torsh.zeros_like(p)
        state["step"] += 1
        steps = state["step"]
        g = g.coalesce()
        values = -g._values() if group["maximize"] else g._values()
        if values.numel() == 0:
            return
        index = tuple(g._indices())
        beta1, beta2 = group["betas"]
        average = torsh.lerp(state["exp_avg"][index], values, 1 - beta1)
        square = torsh.lerp(state["exp_avg_sq"][index], values * values, 1 - beta2)
        state["exp_avg"][index] = average
        state["exp_avg_sq"][index] = square
        size = to_scalar(group["lr"]) * math.sqrt(1 - beta2 ** steps) / (1 - beta1 ** steps)
        p[index] = p[index] - size * (average / (square.sqrt() + group["eps"]))
