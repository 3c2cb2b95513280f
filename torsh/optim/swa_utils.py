"""Averages of a model's parameters: stochastic weight averaging and exponential moving averages."""
from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from typing import Any

import torsh
from torsh.core.errors import InvalidArgumentError
from torsh.nn.modules.module import Module
from torsh.optim.lr_scheduler import LRScheduler, per_group
from torsh.optim.optimizer import Optimizer

__all__ = ["AveragedModel", "update_bn", "SWALR", "get_ema_multi_avg_fn", "get_swa_multi_avg_fn", "get_ema_avg_fn",
           "get_swa_avg_fn"]


def _check_decay(decay: float) -> None:
    if decay < 0.0 or decay > 1.0:
        raise InvalidArgumentError(f"Invalid decay value {decay} provided. Please provide a value in [0,1] range.")


def _is_inexact(t: Any) -> bool:
    return bool(t.is_floating_point() or t.is_complex())


def get_ema_multi_avg_fn(decay: float = 0.999) -> Callable[..., None]:
    """``multi_avg_fn`` of an exponential moving average over lists of tensors."""
    _check_decay(decay)

    def ema_update(averages: Sequence[Any], current: Sequence[Any], _: Any) -> None:
        with torsh.no_grad():
            for average, value in zip(averages, current, strict=True):
                if _is_inexact(average):
                    average.lerp_(value, 1 - decay)
                else:
                    average.copy_(average * decay + value * (1 - decay))
    return ema_update


def get_swa_multi_avg_fn() -> Callable[..., None]:
    """``multi_avg_fn`` of an equal average over lists of tensors."""

    def swa_update(averages: Sequence[Any], current: Sequence[Any], num_averaged: Any) -> None:
        with torsh.no_grad():
            weight = 1 / (num_averaged + 1)
            for average, value in zip(averages, current, strict=True):
                average.copy_(average + (value - average) * weight)
    return swa_update


def get_ema_avg_fn(decay: float = 0.999) -> Callable[..., Any]:
    """``avg_fn`` of an exponential moving average."""
    _check_decay(decay)

    def ema_update(average: Any, current: Any, num_averaged: Any) -> Any:
        with torsh.no_grad():
            return decay * average + (1 - decay) * current
    return ema_update


def get_swa_avg_fn() -> Callable[..., Any]:
    """``avg_fn`` of an equal average."""

    def swa_update(average: Any, current: Any, num_averaged: Any) -> Any:
        with torsh.no_grad():
            return average + (current - average) / (num_averaged + 1)
    return swa_update


class AveragedModel(Module):
    """A copy of a model (``module``) whose parameters are averages; feed it by :meth:`update_parameters`.

    ``avg_fn(average, current, num_averaged)`` gives the new average of one tensor, ``multi_avg_fn`` updates lists in place;
    without either it is the equal average. ``use_buffers`` averages buffers too, otherwise they are copied.
    """

    n_averaged: Any

    def __init__(self, model: Any, device: Any = None, avg_fn: Callable[..., Any] | None = None,
                 multi_avg_fn: Callable[..., None] | None = None, use_buffers: bool = False) -> None:
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise AssertionError("Only one of avg_fn and multi_avg_fn should be provided")
        self.module = deepcopy(model)
        if device is not None:
            self.module = self.module.to(device)
        self.register_buffer("n_averaged", torsh.as_tensor(0, dtype=torsh.int64, device=device))
        self.avg_fn = avg_fn
        self.multi_avg_fn = multi_avg_fn
        self.use_buffers = use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The averaged model's output."""
        return self.module(*args, **kwargs)

    def _pairs(self, model: Any) -> list[tuple[Any, Any]]:
        own, other = self.module.parameters(), model.parameters()
        if self.use_buffers:
            own, other = itertools.chain(own, self.module.buffers()), itertools.chain(other, model.buffers())
        return [(a.detach(), b.detach().to(a.device)) for a, b in zip(own, other, strict=False)]

    def update_parameters(self, model: Any) -> None:
        """Take the parameters of ``model`` into the averages."""
        pairs = self._pairs(model)
        count = int(self.n_averaged.item())
        with torsh.no_grad():
            if count == 0:
                for average, value in pairs:
                    average.copy_(value)
            elif self.multi_avg_fn is not None:
                groups: dict[Any, list[tuple[Any, Any]]] = {}
                for pair in pairs:
                    groups.setdefault((pair[0].device, pair[0].dtype), []).append(pair)
                for group in groups.values():
                    self.multi_avg_fn([a for a, _ in group], [b for _, b in group], self.n_averaged)
            else:
                average_of = self.avg_fn or get_swa_avg_fn()
                for average, value in pairs:
                    average.copy_(average_of(average, value, self.n_averaged))
            if not self.use_buffers:
                for own, other in zip(self.module.buffers(), model.buffers(), strict=True):
                    own.detach().copy_(other.detach().to(own.device))
            self.n_averaged += 1


def update_bn(loader: Iterable[Any], model: Any, device: Any = None) -> None:
    """Compute the running statistics of batch normalisation anew, by one pass over ``loader`` in training mode."""
    from torsh.nn.modules.batchnorm import _BatchNorm
    momenta = {}
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.reset_running_stats()
            momenta[module] = module.momentum
    if not momenta:
        return
    was_training = model.training
    model.train()
    for module in momenta:
        module.momentum = None
    with torsh.no_grad():
        for batch in loader:
            x = batch[0] if isinstance(batch, (list, tuple)) else batch
            model(x if device is None else x.to(device))
    for module, momentum in momenta.items():
        module.momentum = momentum
    model.train(was_training)


class SWALR(LRScheduler):
    """Anneal the learning rate to ``swa_lr`` over ``anneal_epochs`` and keep it there."""

    def __init__(self, optimizer: Optimizer, swa_lr: Any, anneal_epochs: int = 10, anneal_strategy: str = "cos",
                 last_epoch: int = -1) -> None:
        for value, group in zip(per_group("swa_lr", optimizer, swa_lr), optimizer.param_groups, strict=True):
            group["swa_lr"] = value
        if anneal_strategy not in ("cos", "linear"):
            raise InvalidArgumentError(f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}")
        self._anneal_strategy = anneal_strategy
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise InvalidArgumentError(f"anneal_epochs must be equal or greater than 0, got {anneal_epochs}")
        self.anneal_epochs = anneal_epochs
        super().__init__(optimizer, last_epoch)

    def anneal_func(self, t: float) -> float:
        """How far the annealing is at the fraction ``t`` of its time."""
        return t if self._anneal_strategy == "linear" else (1 - math.cos(math.pi * t)) / 2

    def get_lr(self) -> list[Any]:
        """The learning rates of the current step."""
        self._warn_outside_step()
        step = self._step_count - 1
        if self.anneal_epochs == 0:
            step = max(1, step)
        before = self.anneal_func(max(0, min(1, (step - 1) / max(1, self.anneal_epochs))))
        alpha = self.anneal_func(max(0, min(1, step / max(1, self.anneal_epochs))))
        lrs = []
        for group in self.optimizer.param_groups:
            target = group["swa_lr"]
            start = target if before == 1 else (group["lr"] - before * target) / (1 - before)
            lrs.append(target * alpha + start * (1 - alpha))
        return lrs
