"""Optimizers whose update is one elementwise rule for each parameter: how groups become few calls of ``group_update``."""
from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, ClassVar

import numpy as np

from torsh.backend.base import Storage, address_of
from torsh.core.dtype import float32, float64, get_default_dtype
from torsh.core.errors import CompileError, DTypeError
from torsh.graph.capture import Structure, before_replay
from torsh.graph.window import backend
from torsh.ops.common import add, mul
from torsh.ops.expr import recording
from torsh.optim.direct import DirectUpdate
from torsh.optim.group_update import Rule, group_update
from torsh.optim.optimizer import Optimizer, to_scalar
from torsh.tensor.tensor import Tensor, from_storage


class Bucket:
    """Parameters of one group that are updated together: they have been updated equally often.

    Attributes: ``params`` and ``states`` as :func:`group_update` takes them; ``counts`` (name -> float array with one
    element for each parameter, which is the memory of the 0-dimensional state tensors such as ``step``); ``fresh``
    (no update yet).
    """

    __slots__ = ("params", "states", "counts", "fresh", "direct")

    def __init__(self, params: list[Any], states: list[Any], counts: dict[str, np.ndarray[Any, Any]], fresh: bool) -> None:
        self.params = params
        self.states = states
        self.counts = counts
        self.fresh = fresh
        self.direct = DirectUpdate()

    def gradients(self) -> list[Any]:
        """The gradients of the parameters."""
        return [p._grad for p in self.params]

    def count(self, name: str) -> float:
        """The common value of a 0-dimensional state."""
        return float(self.counts[name].item(0))

    def increment(self) -> float:
        """Count one more step; the new number of steps."""
        steps = self.counts["step"]
        steps += 1
        return float(steps.item(0))


def zeros_like(p: Any, value: float = 0.0) -> Tensor:
    """A new tensor with the shape and dtype of ``p``, filled with a number."""
    dtype = p.dtype
    number = complex(value, value) if dtype.is_complex else value
    shape = tuple(p.shape)
    nbytes = prod(shape) * dtype.itemsize
    storage = backend().allocate(nbytes)        # not NumPy's: what that frees need not go back to the system
    if value:
        ctypes.memmove(storage.pointer, address_of(np.full(shape, number, dtype.numpy)), nbytes)
    else:
        ctypes.memset(storage.pointer, 0, nbytes)
    return from_storage(storage, shape, dtype)


def count_tensors(values: np.ndarray[Any, Any]) -> list[Tensor]:
    """0-dimensional tensors that share the memory of the elements of an array."""
    dtype = float64 if values.dtype == np.float64 else float32
    start, step = values.__array_interface__["data"][0], values.itemsize
    # shared: the array goes on writing to this memory.
    return [from_storage(Storage(start + i * step, step, values, shared=True), (), dtype) for i in range(len(values))]


class ElementwiseOptimizer(Optimizer):
    """Base of optimizers with an elementwise rule.

    A subclass gives the ``rule`` and says what it works on: ``tensor_states(group)``, ``options(group, bucket)`` and
    ``numbers(group, bucket)``; ``count_states`` are the names of 0-dimensional states, which stand before the tensors.
    """

    count_states: ClassVar[tuple[str, ...]] = ("step",)
    rule: ClassVar[Rule]
    _plans: dict[int, tuple[Any, list[Bucket]]]     # of each group: what it was made for, and its buckets
    _plan_changes: int
    _planned_state: Any

    def tensor_states(self, group: dict[str, Any]) -> tuple[str, ...]:
        """Names of the state tensors of each parameter."""
        raise NotImplementedError

    def options(self, group: dict[str, Any], bucket: Bucket) -> tuple[Any, ...]:
        """The part of the rule's options that is fixed in a program, for the step after those counted so far."""
        raise NotImplementedError

    def numbers(self, group: dict[str, Any], bucket: Bucket) -> Sequence[float]:
        """Count the step and give the numbers of the rule."""
        raise NotImplementedError

    def initial(self, name: str, group: dict[str, Any], p: Any) -> Any:
        """First value of a state: a tensor, or a number for a 0-dimensional one."""
        return 0.0 if name in self.count_states else zeros_like(p)

    def finish(self, group: dict[str, Any], bucket: Bucket) -> None:
        """Called after each step of a bucket."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters that have gradients; ``closure`` evaluates the model again and returns the loss."""
        loss = None
        if closure is not None:
            import torsh
            with torsh.enable_grad():
                loss = closure()
        for position, group in enumerate(self.param_groups):
            active = [p for p in group["params"] if p._grad is not None]
            if active:
                self._step_group(position, group, active)
        return loss

    def _step_group(self, position: int, group: dict[str, Any], active: list[Any]) -> None:
        plans: dict[int, tuple[Any, list[Bucket]]] | None = self.__dict__.get("_plans")
        if plans is None or self._plan_changes != self._changes[0] or self._planned_state is not self.state:
            if not hasattr(self.state, "changes"):
                self._adopt_state(self.state)       # the user assigned another mapping
            plans = self._plans = {}
            self._plan_changes, self._planned_state = self._changes[0], self.state
        key = (self.tensor_states(group), *map(id, active))
        known = plans.get(position)
        if known is None or known[0] != key:
            known = plans[position] = (key, self._make_buckets(group, active))
            self._plan_changes = self._changes[0]
        buckets = known[1]
        apply = self._capture_bucket if recording.capture is not None else self._update_bucket
        for bucket in buckets:
            apply(group, bucket)
            if bucket.fresh:
                bucket.fresh = False
                if len(buckets) > 1:
                    plans.pop(position, None)       # it may now be joined with others

    def _update_bucket(self, group: dict[str, Any], bucket: Bucket) -> None:
        """Record the update of a bucket."""
        options = self.options(group, bucket)
        numbers = self.numbers(group, bucket)
        group_update(type(self).rule, options, bucket.params, bucket.gradients(), bucket.states, numbers,
                     differentiable=group.get("differentiable", False), direct=bucket.direct)
        self.finish(group, bucket)

    def _capture_bucket(self, group: dict[str, Any], bucket: Bucket) -> None:
        """Record the update of a bucket in a step that is being captured: its numbers are counted again in every call."""
        options = self.options(group, bucket)
        values: list[float] = []

        def count() -> None:
            if self.options(group, bucket) != options:
                Structure.changed()
                raise CompileError(f"compile: options of {type(self).__name__} were switched on or off since the step was "
                                   "compiled; call the step again, and it will be compiled with the new ones")
            values[:] = map(float, self.numbers(group, bucket))
            self.finish(group, bucket)
            bucket.fresh = False
            if self.options(group, bucket) != options:
                Structure.changed()         # the next call is another program

        before_replay(count)
        group_update(type(self).rule, options, bucket.params, bucket.gradients(), bucket.states,
                     [functools.partial(values.__getitem__, i) for i in range(len(values))],
                     differentiable=group.get("differentiable", False))

    def _make_buckets(self, group: dict[str, Any], active: list[Any]) -> list[Bucket]:
        """Sort parameters with gradients by how often they were updated; make missing state."""
        names = self.tensor_states(group)
        sorted_in: dict[Any, list[Any]] = {}
        for p in active:
            if getattr(p._grad, "is_sparse", False):
                raise DTypeError(f"{type(self).__name__} does not support sparse gradients, please consider SparseAdam "
                                 "instead")
            if not names and not self.count_states:
                sorted_in.setdefault((False,), []).append(p)
                continue
            state = self.state[p]
            fresh = all(state.get(name) is None for name in names) if names else False
            for name in (*self.count_states, *names):
                if state.get(name) is None:
                    state[name] = self.initial(name, group, p)
            counts = tuple(float(to_scalar(state[name])) for name in self.count_states)
            sorted_in.setdefault((fresh, *counts), []).append(p)
        return [self._make_bucket(group, names, params, key[0], key[1:]) for key, params in sorted_in.items()]

    def _make_bucket(self, group: dict[str, Any], names: tuple[str, ...], params: list[Any], fresh: bool,
                     values: tuple[float, ...]) -> Bucket:
        kind = np.float64 if get_default_dtype() is float64 else np.float32
        counts: dict[str, np.ndarray[Any, Any]] = {}
        for name, value in zip(self.count_states, values, strict=False):
            counts[name] = np.full(len(params), value, kind)
            for p, t in zip(params, count_tensors(counts[name]), strict=True):
                self.state[p][name] = t
        states = [self.state[p][name] for name in names for p in params]
        return Bucket(params, states, counts, fresh)


def weight_decayed(g: Any, p: Any, decay: Any, on: bool) -> Any:
    """The gradient with L2 regularisation, if it is switched on."""
    return add(g, mul(p, decay)) if on else g
