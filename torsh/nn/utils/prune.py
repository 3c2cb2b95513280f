"""Pruning: a parameter multiplied by a mask of zeros and ones before every forward.

A pruned parameter ``name`` becomes the parameter ``name_orig`` and the buffer ``name_mask``; :func:`remove` makes it permanent.
"""
from __future__ import annotations

import numbers
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

from torsh.core.errors import ArgumentTypeError, IndexOutOfRangeError, InvalidArgumentError
from torsh.functional.common import T
from torsh.nn.modules.module import Module
from torsh.nn.utils.convert_parameters import parameters_to_vector


class BasePruningMethod(ABC):
    """The hook that masks a parameter. A method of one's own implements :meth:`compute_mask` and sets ``PRUNING_TYPE``:
    "unstructured" (it sees the entries that are left), "structured" (the channels of ``dim`` that are left) or "global" (all)."""

    PRUNING_TYPE: str = "unstructured"
    _tensor_name: Any = None

    def __call__(self, module: Module, inputs: Any) -> None:
        setattr(module, self._tensor_name, self.apply_mask(module))

    @abstractmethod
    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """The new mask for scores ``t``, given the mask so far."""

    def apply_mask(self, module: Module) -> Any:
        """The masked parameter."""
        if self._tensor_name is None:
            raise AssertionError(f"Module {module} has to be pruned")
        original = getattr(module, self._tensor_name + "_orig")
        return getattr(module, self._tensor_name + "_mask").to(dtype=original.dtype) * original

    @classmethod
    def apply(cls, module: Module, name: str, *args: Any, importance_scores: Any = None, **kwargs: Any) -> Any:
        """Prune a parameter, on top of what was pruned before; returns the method. importance_scores: instead of its values."""
        method = _joined(module, cls(*args, **kwargs), name)
        value = getattr(module, name)
        if importance_scores is not None and tuple(importance_scores.shape) != tuple(value.shape):
            raise AssertionError(f"importance_scores should have the same shape as parameter {name} of {module}, got "
                                 f"{importance_scores.shape} vs {value.shape}")
        scores = (value if importance_scores is None else importance_scores).detach()
        again = isinstance(method, PruningContainer)
        known = getattr(module, name + "_mask").detach().clone() if again else T["ones_like"](scores)
        mask = method.compute_mask(scores, default_mask=known)
        if not again:
            delattr(module, name)
            module.register_parameter(name + "_orig", value)
        module.register_buffer(name + "_mask", mask)
        setattr(module, name, method.apply_mask(module))
        for key, _ in _hooks(module, name):
            del module._forward_pre_hooks[key]  # type: ignore[attr-defined]
        module.register_forward_pre_hook(method)
        return method

    def prune(self, t: Any, default_mask: Any = None, importance_scores: Any = None) -> Any:
        """A pruned copy of a tensor."""
        if importance_scores is not None and tuple(importance_scores.shape) != tuple(t.shape):
            raise AssertionError(f"importance_scores should have the same shape as tensor t, got {importance_scores.shape} vs {t.shape}")
        return t * self.compute_mask(t if importance_scores is None else importance_scores,
                                     default_mask=T["ones_like"](t) if default_mask is None else default_mask)

    def remove(self, module: Any) -> None:
        """Make the masked value the parameter; the mask is gone, the zeros stay."""
        name = self._tensor_name
        value = self.apply_mask(module).detach()
        original = module._parameters[name + "_orig"]
        original.data = value
        for gone in (name, name + "_orig", name + "_mask"):
            delattr(module, gone)
        setattr(module, name, original)


def _hooks(module: Any, name: str) -> list[tuple[int, BasePruningMethod]]:
    """The pruning hooks of a parameter, with their keys."""
    return [(key, hook) for key, (hook, _) in module._forward_pre_hooks.items()
            if isinstance(hook, BasePruningMethod) and hook._tensor_name == name]


def _joined(module: Module, method: BasePruningMethod, name: str) -> BasePruningMethod:
    """The method, or a container of it and of the methods that pruned the parameter before."""
    method._tensor_name = name
    before = _hooks(module, name)
    if len(before) > 1:
        raise AssertionError(f"Avoid adding multiple pruning hooks to the same tensor {name} of module {module}. Use a PruningContainer.")
    if not before:
        return method
    old = before[0][1]
    container = old if isinstance(old, PruningContainer) else PruningContainer(old)
    container.add_pruning_method(method)
    return container


class PruningContainer(BasePruningMethod):
    """Several methods, one after the other, for the same parameter."""

    def __init__(self, *args: BasePruningMethod) -> None:
        self._pruning_methods: tuple[BasePruningMethod, ...] = ()
        if len(args) == 1:
            self._tensor_name = args[0]._tensor_name
        for method in args:
            self.add_pruning_method(method)

    def add_pruning_method(self, method: Any) -> None:
        """Add a method for the same parameter."""
        if not isinstance(method, BasePruningMethod):
            raise ArgumentTypeError(f"{type(method)} is not a BasePruningMethod subclass")
        if self._tensor_name != method._tensor_name:
            raise InvalidArgumentError(f"Can only add pruning methods acting on the parameter named '{self._tensor_name}' to "
                                       f"PruningContainer {self}. Found '{method._tensor_name}'")
        self._pruning_methods += (method,)

    def __len__(self) -> int:
        return len(self._pruning_methods)

    def __iter__(self) -> Iterator[BasePruningMethod]:
        return iter(self._pruning_methods)

    def __getitem__(self, idx: Any) -> Any:
        return self._pruning_methods[idx]

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """The mask so far, and in what it leaves the mask of the method that came last."""
        method: Any = self._pruning_methods[-1]
        place = _remaining(method, t, default_mask)
        mask = default_mask.to(dtype=t.dtype).clone()
        mask[place] = method.compute_mask(t[place], default_mask=default_mask[place]).to(dtype=mask.dtype)
        return mask


def _remaining(method: Any, t: Any, mask: Any) -> Any:
    """The index of the part of a tensor that a further method sees."""
    kind = method.PRUNING_TYPE
    if kind == "unstructured":
        return mask == 1
    if kind == "global":
        return (slice(None),) * t.dim()
    if kind != "structured":
        raise InvalidArgumentError(f"Unrecognized PRUNING_TYPE {kind}")
    dim = _checked_dim(t, method.dim)
    left = mask.sum([d for d in range(t.dim()) if d != dim]) != 0
    return (*(slice(None),) * dim, left, *(slice(None),) * (t.dim() - dim - 1))


def _checked_amount(amount: Any) -> Any:
    if not isinstance(amount, numbers.Real):
        raise ArgumentTypeError(f"Invalid type for amount: {amount}. Must be int or float.")
    if float(amount) < 0 or (not isinstance(amount, numbers.Integral) and float(amount) > 1):
        raise InvalidArgumentError(f"amount={amount} should either be a float in the range [0, 1] or a non-negative integer")
    return amount


def _checked_dim(t: Any, dim: int) -> int:
    if not -t.dim() <= dim < t.dim():
        raise IndexOutOfRangeError(f"Invalid index {dim} for tensor of size {t.shape}")
    return dim % t.dim()


def _count(amount: Any, size: int) -> int:
    """How many of ``size`` entries to prune."""
    count = int(amount) if isinstance(amount, numbers.Integral) else round(amount * size)
    if count > size:
        raise InvalidArgumentError(f"amount={amount} should be smaller than the number of parameters to prune={size}")
    return count


class Identity(BasePruningMethod):
    """Prunes nothing, but makes the mask."""

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """The mask so far."""
        return default_mask


class _Unstructured(BasePruningMethod):
    def __init__(self, amount: Any) -> None:
        self.amount = _checked_amount(amount)

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """The mask so far without the entries of lowest score."""
        count = _count(self.amount, t.numel())
        if not count:
            return default_mask.clone()
        lowest = self._scores(t).reshape(-1).topk(count, largest=False).indices
        return default_mask.reshape(-1).index_fill(0, lowest, 0).reshape(default_mask.shape)

    def _scores(self, t: Any) -> Any:
        raise NotImplementedError("a method needs scores by which entries are pruned")


class RandomUnstructured(_Unstructured):
    """Prunes entries at random; amount: how many, or their share."""

    def _scores(self, t: Any) -> Any:
        return T["rand_like"](t)


class L1Unstructured(_Unstructured):
    """Prunes the entries nearest to zero; amount: how many, or their share."""

    def _scores(self, t: Any) -> Any:
        return t.abs()


class _Structured(BasePruningMethod):
    PRUNING_TYPE = "structured"

    def __init__(self, amount: Any, dim: int = -1) -> None:
        self.amount, self.dim = _checked_amount(amount), dim

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """The mask so far without the channels of lowest score."""
        if t.dim() < 2:
            raise InvalidArgumentError("Structured pruning can only be applied to multidimensional tensors. Found tensor of shape "
                                       f"{t.shape} with {t.dim()} dims")
        dim = _checked_dim(t, self.dim)
        count = _count(self.amount, t.shape[dim])
        if not count:
            return default_mask
        lowest = self._scores(t, dim).topk(count, largest=False).indices
        return default_mask.index_fill(dim, lowest, 0)

    def _scores(self, t: Any, dim: int) -> Any:
        raise NotImplementedError("a method needs scores by which channels are pruned")


class RandomStructured(_Structured):
    """Prunes channels of ``dim`` at random; amount: how many, or their share."""

    def _scores(self, t: Any, dim: int) -> Any:
        return T["rand"](t.shape[dim])


class LnStructured(_Structured):
    """Prunes the channels of ``dim`` with the smallest n-norm; amount: how many, or their share."""

    def __init__(self, amount: Any, n: Any, dim: int = -1) -> None:
        super().__init__(amount, dim)
        self.n = n

    def _scores(self, t: Any, dim: int) -> Any:
        return T["norm"](t, self.n, [d for d in range(t.dim()) if d != dim])


class CustomFromMask(BasePruningMethod):
    """Prunes where a given mask is 0."""

    PRUNING_TYPE = "global"

    def __init__(self, mask: Any) -> None:
        self.mask = mask

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """The product of both masks."""
        if tuple(default_mask.shape) != tuple(self.mask.shape):
            raise AssertionError(f"default_mask shape {default_mask.shape} must match self.mask shape {self.mask.shape}")
        return default_mask * self.mask.to(dtype=default_mask.dtype)


def identity(module: Any, name: str) -> Any:
    """Give a parameter a mask of ones; returns the module, as all functions here."""
    Identity.apply(module, name)
    return module


def random_unstructured(module: Any, name: str, amount: Any) -> Any:
    """Prune entries at random; amount: how many, or their share."""
    RandomUnstructured.apply(module, name, amount)
    return module


def l1_unstructured(module: Any, name: str, amount: Any, importance_scores: Any = None) -> Any:
    """Prune the entries nearest to zero (or of the lowest scores); amount: how many, or their share.

    Example::

        >>> import torsh
        >>> layer = torsh.nn.utils.prune.l1_unstructured(torsh.nn.Linear(4, 2), "weight", amount=3)
        >>> int((layer.weight == 0).sum()), [name for name, _ in layer.named_buffers()]
        (3, ['weight_mask'])
    """
    L1Unstructured.apply(module, name, amount=amount, importance_scores=importance_scores)
    return module


def random_structured(module: Any, name: str, amount: Any, dim: int) -> Any:
    """Prune channels of ``dim`` at random; amount: how many, or their share."""
    RandomStructured.apply(module, name, amount, dim)
    return module


def ln_structured(module: Any, name: str, amount: Any, n: Any, dim: int, importance_scores: Any = None) -> Any:
    """Prune the channels of ``dim`` with the smallest n-norm; amount: how many, or their share."""
    LnStructured.apply(module, name, amount, n, dim, importance_scores=importance_scores)
    return module


def custom_from_mask(module: Any, name: str, mask: Any) -> Any:
    """Prune where ``mask`` is 0."""
    CustomFromMask.apply(module, name, mask)
    return module


def global_unstructured(parameters: Any, pruning_method: Any, importance_scores: Any = None, **kwargs: Any) -> None:
    """Prune several parameters, (module, name) pairs, as if they were one; importance_scores: scores by such pairs."""
    if not isinstance(parameters, Iterable):
        raise ArgumentTypeError("global_unstructured(): parameters is not an Iterable")
    given = {} if importance_scores is None else importance_scores
    if not isinstance(given, dict):
        raise ArgumentTypeError("global_unstructured(): importance_scores must be of type dict")
    pairs = list(parameters)
    method = pruning_method(**kwargs)
    if method.PRUNING_TYPE != "unstructured":
        raise ArgumentTypeError('Only "unstructured" PRUNING_TYPE supported for the `pruning_method`. Found method '
                                f"{pruning_method} of type {method.PRUNING_TYPE}")
    values = [getattr(module, name).detach() for module, name in pairs]
    scores = parameters_to_vector([given.get(pair, value) for pair, value in zip(pairs, values, strict=True)])
    known = parameters_to_vector([getattr(module, name + "_mask", T["ones_like"](value))
                                  for (module, name), value in zip(pairs, values, strict=True)])
    mask = PruningContainer(method).compute_mask(scores, known)
    for (module, name), value, part in zip(pairs, values, mask.split([v.numel() for v in values]), strict=True):
        custom_from_mask(module, name, part.reshape(value.shape))


def remove(module: Any, name: str) -> Any:
    """Make the pruning of a parameter permanent: the masked value becomes the parameter."""
    for key, hook in _hooks(module, name):
        hook.remove(module)
        del module._forward_pre_hooks[key]
        return module
    raise InvalidArgumentError(f"Parameter '{name}' of module {module} has to be pruned before pruning can be removed")


def is_pruned(module: Module) -> bool:
    """Does the module, or one below it, have a pruned parameter?"""
    return any(isinstance(hook, BasePruningMethod) for part in module.modules()
               for hook, _ in part._forward_pre_hooks.values())  # type: ignore[attr-defined]
