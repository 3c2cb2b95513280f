"""AdamW (Loshchilov and Hutter, "Decoupled weight decay regularization", 2019)."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torsh.optim.adam import Adam


class AdamW(Adam):
    """:class:`Adam` whose weight decay shrinks the parameters themselves, not through the gradient."""

    def __init__(self, params: Iterable[Any], lr: Any = 1e-3, betas: Any = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 1e-2, amsgrad: bool = False, *, maximize: bool = False, foreach: bool | None = None,
                 capturable: bool = False, differentiable: bool = False, fused: bool | None = None) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, foreach=foreach, maximize=maximize,
                         capturable=capturable, differentiable=differentiable, fused=fused, decoupled_weight_decay=True)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            group["decoupled_weight_decay"] = True
