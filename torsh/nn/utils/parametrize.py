"""Parametrizations: a parameter computed, whenever it is read, from other parameters."""
from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from torsh.autograd.modes import no_grad
from torsh.core.errors import InvalidArgumentError, ShapeMismatchError
from torsh.graph.handle import Handle
from torsh.nn.modules.container import ModuleDict, ModuleList
from torsh.nn.modules.module import Module
from torsh.nn.modules.module_state import StateDictError
from torsh.nn.parameter import Parameter


class _Cache:
    """Values computed inside of :func:`cached`; ``depth``: how many of these contexts are open."""

    depth = 0
    values: dict[tuple[int, str], Any] = {}


@contextmanager
def cached() -> Iterator[None]:
    """Inside of this context, a parametrized tensor is computed only once, the first time that it is read.

    Example::

        >>> import torsh
        >>> from torsh.nn.utils import parametrizations, parametrize
        >>> layer = parametrizations.weight_norm(torsh.nn.Linear(2, 2))
        >>> with parametrize.cached():
        ...     layer.weight is layer.weight
        True
    """
    _Cache.depth += 1
    try:
        yield
    finally:
        _Cache.depth -= 1
        if not _Cache.depth:
            _Cache.values = {}


def _register(module: Module, name: str, value: Any) -> None:
    if isinstance(value, Parameter):
        module.register_parameter(name, value)
    else:
        module.register_buffer(name, value)


def _inverted(modules: Sequence[Any], value: Any) -> Any:
    """``right_inverse`` of all modules that have one, the last first."""
    for module in reversed(modules):
        if hasattr(module, "right_inverse"):
            try:
                value = module.right_inverse(value)
            except NotImplementedError:
                pass
    return value


class ParametrizationList(ModuleList):
    """The parametrizations of one tensor, and what it is computed from: ``original``, or ``original0``, ``original1`` …"""

    def __init__(self, modules: Sequence[Module], original: Any, unsafe: bool = False) -> None:
        if not modules:
            raise InvalidArgumentError("ParametrizationList requires one or more modules.")
        super().__init__(modules)
        self.unsafe = unsafe
        shape, dtype = original.shape, original.dtype
        with no_grad():
            new = _inverted(list(modules), original)
        if not isinstance(new, (Handle, Sequence)):
            raise InvalidArgumentError("'right_inverse' must return a Tensor or a Sequence of tensors (list, tuple...). Got "
                                       f"{type(new).__name__}")
        self.is_tensor = isinstance(new, Handle)
        self.ntensors = 1 if self.is_tensor else len(new)  # type: ignore[arg-type]
        if self.is_tensor:
            self._keep_one(original, new)
        else:
            self._keep_several(original, new)
        if not unsafe:
            _check_same("Registering a parametrization", self(), shape, dtype)

    def _keep_one(self, original: Any, new: Any) -> None:
        for kind in ("dtype", "device"):
            if getattr(original, kind) != getattr(new, kind):
                raise InvalidArgumentError(f"When `right_inverse` outputs one tensor, it may not change the {kind}.\noriginal.{kind}: "
                                           f"{getattr(original, kind)}\nright_inverse(original).{kind}: {getattr(new, kind)}")
        if new is not original:
            original.data = new.detach()
        _register(self, "original", original)

    def _keep_several(self, original: Any, new: Any) -> None:
        for i, part in enumerate(new):
            if not isinstance(part, Handle):
                raise InvalidArgumentError("'right_inverse' must return a Tensor or a Sequence of tensors (list, tuple...). Got element "
                                           f"{i} of the sequence with type {type(part).__name__}.")
            if isinstance(original, Parameter):
                part = Parameter(part.detach(), original.requires_grad)  # type: ignore[attr-defined]
            part.requires_grad_(original.requires_grad)
            _register(self, f"original{i}", part)

    def right_inverse(self, value: Any) -> None:
        """Set the originals so that the parametrized tensor becomes ``value``."""
        with no_grad():
            for module in reversed(list(self)):
                if not hasattr(module, "right_inverse"):
                    raise ShapeMismatchError(f"parametrization {type(module).__name__} does not implement right_inverse.")
                value = module.right_inverse(value)
            if self.is_tensor:
                self._set("original", value, "The tensor returned by `right_inverse`", "`right_inverse` should return a tensor.")
                return
            if not isinstance(value, Sequence):
                raise InvalidArgumentError(f"'right_inverse' must return a sequence of tensors. Got {type(value).__name__}.")
            if len(value) != self.ntensors:
                raise InvalidArgumentError(f"'right_inverse' must return a sequence of tensors of length {self.ntensors}. Got a sequence "
                                           f"of length {len(value)}.")
            for i, part in enumerate(value):
                self._set(f"original{i}", part, f"Tensor {i} returned by `right_inverse`",
                          f"'right_inverse' must return a sequence of tensors: element {i} is none.")

    def _set(self, name: str, value: Any, label: str, wanted: str) -> None:
        if not isinstance(value, Handle):
            raise InvalidArgumentError(f"{wanted} Got {type(value).__name__}")
        own = getattr(self, name)
        if value.dtype is not own.dtype:
            raise InvalidArgumentError(f"{label} has dtype {value.dtype} while `{name}` has dtype {own.dtype}")
        own.data = value.detach()  # type: ignore[attr-defined]

    def forward(self) -> Any:
        """The parametrized tensor."""
        names = ["original"] if self.is_tensor else [f"original{i}" for i in range(self.ntensors)]
        first, *rest = self
        value = first(*[getattr(self, name) for name in names])
        for module in rest:
            value = module(value)
        return value


def _check_same(what: str, value: Any, shape: Any, dtype: Any) -> None:
    """Raise unless a parametrization gave a tensor of this shape and dtype."""
    if not isinstance(value, Handle):
        raise InvalidArgumentError(f"A parametrization must return a tensor. Got {type(value).__name__}.")
    for kind, wanted, got in (("dtype", dtype, value.dtype), ("shape", tuple(shape), tuple(value.shape))):
        if wanted != got:
            raise InvalidArgumentError(f"{what} may not change the {kind} of the tensor, unless the `unsafe` flag is enabled.\n"
                                       f"unparametrized {kind}: {wanted}\nparametrized {kind}: {got}")


def _no_state(self: Any) -> Any:
    raise StateDictError("Serialization of parametrized modules is only supported through state_dict(): a class made for one module "
                         "cannot be found again when it is loaded.")


def _copied(self: Any, memo: dict[int, Any]) -> Any:
    """A deep copy, with a class of its own: parametrizations may be removed from one of the two."""
    cls: Any = type(self)
    own: Any = type(cls.__name__, cls.__bases__, {k: v for k, v in vars(cls).items() if k in _MEMBERS or isinstance(v, property)})
    replica = own.__new__(own)
    memo[id(self)] = replica
    replica.__dict__.update(copy.deepcopy(self.__dict__, memo))
    return replica


_MEMBERS: Final[dict[str, Any]] = {"__getstate__": _no_state, "__deepcopy__": _copied}


def _make_own_class(module: Module) -> None:
    """Give the module a class of its own, to put properties on."""
    cls: type[Any] = type(module)
    members = {k: v for k, v in _MEMBERS.items() if not hasattr(cls, k) or k == "__getstate__"}
    own: Any = type(f"Parametrized{cls.__name__}", (cls,), members)
    module.__class__ = own


def _make_property(module: Module, name: str) -> None:
    def get(self: Any) -> Any:
        if not _Cache.depth:
            return self.parametrizations[name]()
        key = (id(self), name)
        if key not in _Cache.values:
            _Cache.values[key] = self.parametrizations[name]()
        return _Cache.values[key]

    def put(self: Any, value: Any) -> None:
        self.parametrizations[name].right_inverse(value)
    setattr(type(module), name, property(get, put))


def register_parametrization(module: Module, tensor_name: str, parametrization: Module, *, unsafe: bool = False) -> Module:
    """Let a parameter or buffer be computed by ``parametrization`` from now on; several are applied in order.

    The parametrization may have ``right_inverse``, which is used to keep the present value and for assignments. Without
    ``unsafe``, shape and dtype must stay the same. Returns the module. state_dict holds ``parametrizations.<name>.original``.

    Example::

        >>> import torsh
        >>> from torsh.nn.utils import parametrize
        >>> class Symmetric(torsh.nn.Module):
        ...     def forward(self, x):
        ...         return x.triu() + x.triu(1).transpose(-1, -2)
        >>> layer = parametrize.register_parametrization(torsh.nn.Linear(3, 3), "weight", Symmetric())
        >>> torsh.equal(layer.weight, layer.weight.T), list(layer.state_dict())
        (True, ['bias', 'parametrizations.weight.original'])
    """
    parametrization.train(module.training)
    owner: Any = module
    if is_parametrized(module, tensor_name):
        if not unsafe:
            _check_next(getattr(module, tensor_name), parametrization, tensor_name)
        owner.parametrizations[tensor_name].append(parametrization)
        owner.parametrizations[tensor_name].unsafe |= unsafe
    elif tensor_name in module._buffers or tensor_name in module._parameters:
        steps = ParametrizationList([parametrization], getattr(module, tensor_name), unsafe=unsafe)
        delattr(module, tensor_name)
        if not is_parametrized(module):
            _make_own_class(module)
            owner.parametrizations = ModuleDict()
        _make_property(module, tensor_name)
        owner.parametrizations[tensor_name] = steps
    else:
        raise InvalidArgumentError(f"Module '{module}' does not have a parameter, a buffer, or a parametrized element with name "
                                   f"'{tensor_name}'")
    return module


def _check_next(value: Any, parametrization: Any, name: str) -> None:
    """Raise unless a further parametrization, and its inverse, keep shape and dtype."""
    result = parametrization(value)
    _check_same("Registering a parametrization", result, value.shape, value.dtype)
    if hasattr(parametrization, "right_inverse"):
        try:
            back = parametrization.right_inverse(result)
        except NotImplementedError:
            return
        if not isinstance(back, Handle):
            raise InvalidArgumentError(f"parametrization.right_inverse must return a tensor. Got: {type(back).__name__}")
        for kind, wanted, got in (("dtype", value.dtype, back.dtype), ("shape", tuple(value.shape), tuple(back.shape))):
            if wanted != got:
                raise InvalidArgumentError(f"The tensor returned by parametrization.right_inverse must have the same {kind} as "
                                           f"module.{name}, unless the `unsafe` flag is enabled.\nmodule.{name}.{kind}: {wanted}\n"
                                           f"returned {kind}: {got}")


def is_parametrized(module: Any, tensor_name: str | None = None) -> bool:
    """Has the module any parametrization, or one of this tensor?"""
    steps = getattr(module, "parametrizations", None)
    if not isinstance(steps, ModuleDict):
        return False
    return len(steps) > 0 if tensor_name is None else tensor_name in steps


def remove_parametrizations(module: Module, tensor_name: str, leave_parametrized: bool = True) -> Module:
    """Make the tensor an ordinary parameter or buffer again, with its computed value or (``leave_parametrized=False``) its
    original one."""
    if not is_parametrized(module, tensor_name):
        raise InvalidArgumentError(f"Module {module} does not have a parametrization on {tensor_name}")
    owner: Any = module
    steps = owner.parametrizations[tensor_name]
    if steps.is_tensor:
        original = steps.original
        if leave_parametrized:
            with no_grad():
                original.data = getattr(module, tensor_name).detach()
    elif leave_parametrized:
        value = getattr(module, tensor_name)
        original = Parameter(value.detach()) if value.requires_grad else value
    else:
        raise InvalidArgumentError("Cannot leave unparametrized (`leave_parametrized=False`) a tensor that is parametrized in terms of "
                                   "a sequence of tensors.")
    delattr(type(module), tensor_name)
    del owner.parametrizations[tensor_name]
    _register(module, tensor_name, original)
    if not is_parametrized(module):
        del owner.parametrizations
        module.__class__ = type(module).__bases__[0]
    return module


def type_before_parametrizations(module: Module) -> type:
    """The module's class without what parametrizations made of it."""
    return type(module).__bases__[0] if is_parametrized(module) else type(module)


def transfer_parametrizations_and_params(from_module: Module, to_module: Module, tensor_name: str | None = None) -> Module:
    """Give ``to_module`` the parametrizations (all, or of one tensor) and originals of ``from_module``."""
    if not is_parametrized(from_module):
        return to_module
    source: Any = from_module
    target: Any = to_module
    for name in list(source.parametrizations) if tensor_name is None else [tensor_name]:
        steps = source.parametrizations[name]
        if not hasattr(to_module, name):
            setattr(to_module, name, Parameter(getattr(from_module, name).detach()))
        for step in steps:
            register_parametrization(to_module, name, step)
        for original in ["original"] if steps.is_tensor else [f"original{i}" for i in range(steps.ntensors)]:
            setattr(target.parametrizations[name], original, getattr(steps, original))
    return to_module


__all__ = ["ParametrizationList", "cached", "is_parametrized", "register_parametrization", "remove_parametrizations",
           "transfer_parametrizations_and_params", "type_before_parametrizations"]
