"""The base class of all optimizers: parameter groups, state, hooks and state_dict in PyTorch's form."""
from __future__ import annotations

import functools
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from itertools import chain
from typing import Any, Final

from torsh.core.errors import ArgumentTypeError, InvalidArgumentError, TorshError
from torsh.core.hooks import RemovableHandle
from torsh.graph.capture import Structure
from torsh.graph.window import flush
from torsh.tensor.tensor import Tensor

required: Final = object()      # default of an option that every parameter group has to give

_global_pre_hooks: Final[OrderedDict[int, Callable[..., Any]]] = OrderedDict()
_global_post_hooks: Final[OrderedDict[int, Callable[..., Any]]] = OrderedDict()


class HookResultError(TorshError, RuntimeError):
    """A step hook that returned something else than None or (args, kwargs)."""


class ParameterState(dict[str, Any]):
    """State of one parameter; changes made from outside tell the optimizer to look at its state again."""

    __slots__ = ("changes",)

    def __init__(self, changes: list[int], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.changes = changes

    def __reduce__(self) -> Any:
        return dict, (dict(self),)

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return deepcopy(dict(self), memo)

    def __copy__(self) -> dict[str, Any]:
        return dict(self)


class OptimizerState(defaultdict[Any, Any]):
    """State of all parameters: makes an empty :class:`ParameterState` for a parameter that it does not know."""

    def __init__(self, changes: list[int]) -> None:
        super().__init__(lambda: ParameterState(changes))
        self.changes = changes

    def __reduce__(self) -> Any:
        return _rebuild_state, (list(self.items()),)


def _rebuild_state(items: list[tuple[Any, dict[str, Any]]]) -> OptimizerState:
    state = OptimizerState([0])
    for key, value in items:
        state[key] = ParameterState(state.changes, value)
    return state


def _counted(name: str, base: type) -> Callable[..., Any]:
    """A method of ``dict`` that also counts as a change."""
    original = getattr(base, name)

    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.changes[0] += 1
        return original(self, *args, **kwargs)
    return method


for _name in ("__setitem__", "__delitem__", "pop", "popitem", "clear", "update", "setdefault", "__ior__"):
    setattr(ParameterState, _name, _counted(_name, dict))
    setattr(OptimizerState, _name, _counted(_name, defaultdict))


def to_scalar(value: Any) -> Any:
    """A Python number from a number or a one-element tensor."""
    return value.item() if isinstance(value, Tensor) else value


def check_lr(lr: Any, minimum: str = "Invalid learning rate: {}") -> None:
    """Raise ValueError unless ``lr`` is a non-negative number or one-element tensor."""
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise InvalidArgumentError("Tensor lr must be 1-element")
    if not 0.0 <= to_scalar(lr):
        raise InvalidArgumentError(minimum.format(lr))


def check_not_negative(**values: Any) -> None:
    """Raise ValueError for the first value below zero; ``_`` in a name prints as a space if the name ends with one."""
    for name, value in values.items():
        if not 0.0 <= to_scalar(value):
            raise InvalidArgumentError(f"Invalid {_PRINTED.get(name, name)} value: {value}")


_PRINTED: Final = {"eps": "epsilon"}


def check_betas(betas: Any) -> None:
    """Raise ValueError unless both coefficients lie in [0, 1)."""
    for i in (0, 1):
        if not 0.0 <= to_scalar(betas[i]) < 1.0:
            raise InvalidArgumentError(f"Invalid beta parameter at index {i}: {betas[i]}")


class OptionConflictError(TorshError, RuntimeError):
    """Options of an optimizer that exclude each other."""


def check_fused(fused: Any, foreach: Any, differentiable: bool) -> None:
    """Raise RuntimeError for implementations that exclude each other."""
    if fused and differentiable:
        raise OptionConflictError("`fused` does not support `differentiable`")
    if fused and foreach:
        raise OptionConflictError("`fused` and `foreach` cannot be `True` together.")


def _with_hooks(step: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a class's ``step``: hooks before and after, and the end of the window (everything recorded is run)."""

    @functools.wraps(step)
    def wrapper(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        self._opt_called = True
        pre, post = self._optimizer_step_pre_hooks, self._optimizer_step_post_hooks
        if not (pre or post or _global_pre_hooks or _global_post_hooks):
            result = step(self, *args, **kwargs)
            flush()
            return result
        arguments: Any = (self, *args)
        for hook in (*_global_pre_hooks.values(), *pre.values()):
            changed = hook(self, arguments, kwargs)
            if changed is not None:
                if not (isinstance(changed, tuple) and len(changed) == 2):
                    raise HookResultError(f"{step} must return None or a tuple of (new_args, new_kwargs), but got "
                                          f"{changed}.")
                arguments, kwargs = changed
        result = step(*arguments, **kwargs)
        flush()
        for hook in (*post.values(), *_global_post_hooks.values()):
            hook(self, arguments, kwargs)
        return result

    wrapper.hooked = True  # type: ignore[attr-defined]
    return wrapper


class Optimizer:
    """Base class: ``params`` is an iterable of tensors, of ``(name, tensor)`` pairs or of dicts (parameter groups).

    A subclass defines ``step(closure=None)``. ``param_groups`` (list of dicts) holds the options of each group, ``state``
    maps parameters to dicts.

    Raises TypeError for a single tensor, ValueError for an empty list.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        step = cls.__dict__.get("step")
        if step is not None and not hasattr(step, "hooked"):
            cls.step = _with_hooks(step)  # type: ignore[method-assign]

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self._make_hooks()
        if isinstance(params, Tensor):
            raise ArgumentTypeError("params argument given to the optimizer should be an iterable of Tensors or dicts, "
                                    f"but got {_type_name(params)}")
        self.param_groups: list[dict[str, Any]] = []
        groups = list(params)
        if not groups:
            raise InvalidArgumentError("optimizer got an empty parameter list")
        for group in groups if isinstance(groups[0], dict) else [{"params": groups}]:
            self.add_param_group(group)

    def _make_hooks(self) -> None:
        self._changes = [0]
        self._opt_called = False
        self.state: Any = OptimizerState(self._changes)
        self._optimizer_step_pre_hooks: OrderedDict[int, Any] = OrderedDict()
        self._optimizer_step_post_hooks: OrderedDict[int, Any] = OrderedDict()
        self._optimizer_state_dict_pre_hooks: OrderedDict[int, Any] = OrderedDict()
        self._optimizer_state_dict_post_hooks: OrderedDict[int, Any] = OrderedDict()
        self._optimizer_load_state_dict_pre_hooks: OrderedDict[int, Any] = OrderedDict()
        self._optimizer_load_state_dict_post_hooks: OrderedDict[int, Any] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {"defaults": self.defaults, "state": self.state, "param_groups": self.param_groups}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "_changes" not in self.__dict__:
            self._make_hooks()
        self.__dict__.update(state)
        if "state" in state:
            self._adopt_state(state["state"])
        self.defaults.setdefault("differentiable", False)

    def _adopt_state(self, given: Any) -> None:
        """Take over a mapping as this optimizer's state."""
        self._changes[0] += 1
        Structure.changed()
        adopted = OptimizerState(self._changes)
        for key, value in given.items():
            adopted[key] = ParameterState(self._changes, value) if isinstance(value, dict) else value
        self.state = adopted

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines += ["", f"Parameter Group {i}"] if i else ["Parameter Group 0"]
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return "\n".join(lines) + "\n)"

    # ---- hooks -------------------------------------------------------------------------------------------------------

    def _register(self, hooks: OrderedDict[int, Any], hook: Any, prepend: bool = False) -> RemovableHandle:
        handle = RemovableHandle(hooks)
        hooks[handle.id] = hook
        if prepend:
            hooks.move_to_end(handle.id, last=False)
        return handle

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(optimizer, args, kwargs)`` before each step; it may return new ``(args, kwargs)``."""
        return self._register(self._optimizer_step_pre_hooks, hook)

    def register_step_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(optimizer, args, kwargs)`` after each step."""
        return self._register(self._optimizer_step_post_hooks, hook)

    def register_state_dict_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call ``hook(optimizer)`` before :meth:`state_dict`."""
        return self._register(self._optimizer_state_dict_pre_hooks, hook, prepend)

    def register_state_dict_post_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call ``hook(optimizer, state_dict)`` after :meth:`state_dict`; it may return another one."""
        return self._register(self._optimizer_state_dict_post_hooks, hook, prepend)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call ``hook(optimizer, state_dict)`` before :meth:`load_state_dict`; it may return another one."""
        return self._register(self._optimizer_load_state_dict_pre_hooks, hook, prepend)

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call ``hook(optimizer)`` after :meth:`load_state_dict`."""
        return self._register(self._optimizer_load_state_dict_post_hooks, hook, prepend)

    # ---- state -------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """``{"state": {number: {...}}, "param_groups": [{..., "params": [numbers]}]}``; tensors are not copied."""
        for hook in self._optimizer_state_dict_pre_hooks.values():
            hook(self)
        number: dict[int, int] = {}
        groups = []
        start = 0
        for group in self.param_groups:
            for i, p in enumerate(group["params"], start):
                number.setdefault(id(p), i)
            start += len(group["params"])
            groups.append({**{k: v for k, v in group.items() if k != "params"},
                           "params": [number[id(p)] for p in group["params"]]})
        state = {number[id(k)] if isinstance(k, Tensor) else k: dict(v) if isinstance(v, ParameterState) else v
                 for k, v in self.state.items()}
        result: dict[str, Any] = {"state": state, "param_groups": groups}
        for hook in self._optimizer_state_dict_post_hooks.values():
            changed = hook(self, result)
            if changed is not None:
                result = changed
        return result

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a :meth:`state_dict`: options of the groups and state, cast to the parameters' dtypes.

        Raises ValueError if the number or the sizes of the groups differ.
        """
        state_dict = state_dict.copy()
        for hook in self._optimizer_load_state_dict_pre_hooks.values():
            changed = hook(self, state_dict)
            if changed is not None:
                state_dict = changed
        saved = deepcopy(state_dict["param_groups"])
        if len(self.param_groups) != len(saved):
            raise InvalidArgumentError("loaded state dict has a different number of parameter groups")
        if any(len(g["params"]) != len(s["params"]) for g, s in zip(self.param_groups, saved, strict=True)):
            raise InvalidArgumentError("loaded state dict contains a parameter group that doesn't match the size of "
                                       "optimizer's group")
        parameter = dict(zip(chain.from_iterable(s["params"] for s in saved),
                             chain.from_iterable(g["params"] for g in self.param_groups), strict=True))
        state: dict[Any, Any] = {}
        for key, value in state_dict["state"].items():
            if key in parameter:
                state[parameter[key]] = _cast(parameter[key], value, None)
            else:
                state[key] = value
        for group, new in zip(self.param_groups, saved, strict=True):
            new["params"] = group["params"]
            if "param_names" in group:
                new.setdefault("param_names", group["param_names"])
        self.__setstate__({"state": state, "param_groups": saved})
        for hook in self._optimizer_load_state_dict_post_hooks.values():
            hook(self)

    # ---- use ---------------------------------------------------------------------------------------------------------

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients (``set_to_none``) or fill them with zeros."""
        for group in self.param_groups:
            if set_to_none:
                for p in group["params"]:
                    p._grad = None
                continue
            for p in group["params"]:
                if p.grad is not None:
                    if p.grad.grad_fn is not None:
                        p.grad.detach_()
                    else:
                        p.grad.requires_grad_(False)
                    p.grad.zero_()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters; ``closure`` evaluates the model again and returns the loss."""
        raise NotImplementedError("subclasses of Optimizer define step()")

    def get_lr(self) -> list[Any]:
        """Learning rate of each parameter group."""
        return [group["lr"] for group in self.param_groups]

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group: ``{"params": ..., option: value}``; missing options come from the defaults.

        Raises TypeError for things that are no tensors or for sets, ValueError for tensors that are no leaves, for
        parameters of another group, and for groups of which only some have names.
        """
        if not isinstance(param_group, dict):
            raise ArgumentTypeError(f"param_group must be a dict, but got {type(param_group)}")
        self._changes[0] += 1
        Structure.changed()
        tensors, names = _tensors_and_names(param_group["params"])
        param_group["params"] = tensors
        if names:
            param_group["param_names"] = names
        for p in tensors:
            if not isinstance(p, Tensor):
                raise ArgumentTypeError(f"optimizer can only optimize Tensors, but one of the params is {_type_name(p)}")
            if not self.defaults.get("differentiable") and not (p.is_leaf or p.retains_grad):
                raise InvalidArgumentError("can't optimize a non-leaf Tensor")
        for name, default in self.defaults.items():
            if default is required and name not in param_group:
                raise InvalidArgumentError(f"parameter group didn't specify a value of required optimization parameter "
                                           f"{name}")
            param_group.setdefault(name, default)
        self._check_duplicates(param_group)
        self.param_groups.append(param_group)

    def _check_duplicates(self, param_group: dict[str, Any]) -> None:
        own = {id(p) for p in param_group["params"]}
        if len(own) != len(param_group["params"]):
            warnings.warn("optimizer contains a parameter group with duplicate parameters; in future, this will cause an "
                          "error",
                          stacklevel=4)
        for group in self.param_groups:
            if ("param_names" in param_group) != ("param_names" in group):
                which = "with names" if "param_names" in param_group else "without names"
                raise InvalidArgumentError("all optimizer param groups should be with/without names. "
                                           f"cannot add param group {which} to the optimizer")
        if any(id(p) in own for group in self.param_groups for p in group["params"]):
            raise InvalidArgumentError("some parameters appear in more than one parameter group")

    def _parameters(self) -> Iterator[Any]:
        """All parameters of all groups."""
        return chain.from_iterable(group["params"] for group in self.param_groups)


def _type_name(value: Any) -> str:
    """Name of a value's type, as error messages print it."""
    cls = type(value)
    return cls.__name__ if cls.__module__ == "builtins" else f"torsh.{cls.__name__}" if isinstance(value, Tensor) else \
        f"{cls.__module__}.{cls.__qualname__}"


def _tensors_and_names(params: Any) -> tuple[list[Any], list[str]]:
    """Split ``params`` of a group into tensors and names (none, or one for each tensor)."""
    if isinstance(params, Tensor):
        params = [params]
    elif isinstance(params, set):
        raise ArgumentTypeError("optimizer parameters need to be organized in ordered collections, but the ordering of "
                                "tensors in sets will change between runs. Please use a list instead.")
    params = list(params)
    tensors = [p[1] if isinstance(p, tuple) else p for p in params]
    names = [p[0] for p in params if isinstance(p, tuple)]
    if names and len(names) != len(tensors):
        raise InvalidArgumentError("all optimizer params should be with/without names. Some param names are missing")
    return tensors, names


def _cast(parameter: Any, value: Any, key: str | None) -> Any:
    """Loaded state in the dtype of its parameter; the number of steps keeps its own."""
    if isinstance(value, Tensor):
        t: Any = value
        return t.to(dtype=parameter.dtype, copy=True) if key != "step" and parameter.is_floating_point() else t.clone()
    if isinstance(value, dict):
        return {k: _cast(parameter, v, k) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([_cast(parameter, v, None) for v in value])
    return value


def register_optimizer_step_pre_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call ``hook(optimizer, args, kwargs)`` before each step of any optimizer."""
    handle = RemovableHandle(_global_pre_hooks)
    _global_pre_hooks[handle.id] = hook
    return handle


def register_optimizer_step_post_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call ``hook(optimizer, args, kwargs)`` after each step of any optimizer."""
    handle = RemovableHandle(_global_post_hooks)
    _global_post_hooks[handle.id] = hook
    return handle
