"""The base class of all neural network modules."""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, Final

from torsh.autograd.modes import no_grad
from torsh.core.dtype import DType, bfloat16, float16, float32, float64
from torsh.core.errors import ArgumentTypeError, InvalidArgumentError, TorshError
from torsh.functional.common import T
from torsh.graph.capture import Structure
from torsh.graph.handle import Handle
from torsh.nn.modules.module_hooks import (
    ACTIVE,
    GLOBAL,
    HOOKED,
    ModuleHooks,
    call_with_hooks,
    register_module_backward_hook,
    register_module_buffer_registration_hook,
    register_module_forward_hook,
    register_module_forward_pre_hook,
    register_module_full_backward_hook,
    register_module_full_backward_pre_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from torsh.nn.modules.module_state import IncompatibleKeys, ModuleState, StateDictError
from torsh.nn.parameter import Buffer, Parameter, is_lazy
from torsh.tensor.tensor import Tensor

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks",
          "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks")
_KINDS = ("_parameters", "_buffers", "_modules")
_NOTHING: Final = object()


class ModuleAttributeError(TorshError, AttributeError):
    """A module without the attribute that was asked for."""


class RegistrationError(TorshError, KeyError):
    """A name under which nothing can be registered."""

    def __str__(self) -> str:
        return str(self.args[0])


class Module(ModuleHooks, ModuleState):
    """Base of all modules: holds parameters, buffers and other modules, which are registered by assigning them.

    Example::

        >>> import torsh
        >>> class Twice(torsh.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.scale = torsh.nn.Parameter(torsh.tensor(2.0))
        ...     def forward(self, x):
        ...         return x * self.scale
        >>> Twice()(torsh.tensor(3.0)).item()
        6.0
    """

    training: bool
    call_super_init: bool = False
    dump_patches: bool = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if not self.call_super_init and (args or kwargs):
            unwanted = f"an unexpected keyword argument '{next(iter(kwargs))}'" if kwargs else \
                f"1 positional argument but {len(args) + 1} were given"
            raise ArgumentTypeError(f"{type(self).__name__}.__init__() {'got' if kwargs else 'takes'} {unwanted}")
        own = self.__dict__
        own["training"] = True
        for kind in _KINDS:
            own[kind] = {}
        own["_non_persistent_buffers_set"] = set()
        for name in _HOOKS:
            own[name] = OrderedDict()
        if self.call_super_init:
            super().__init__(*args, **kwargs)

    # ---- calling -----------------------------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the module's result; every module overrides it."""
        raise NotImplementedError(f'Module [{type(self).__name__}] is missing the required "forward" function')

    def __call__(self, first: Any = _NOTHING, /, *args: Any, **kwargs: Any) -> Any:
        if ACTIVE or HOOKED and self._has_hooks:
            return call_with_hooks(self, args if first is _NOTHING else (first, *args), kwargs)
        if not args and not kwargs and first is not _NOTHING:
            return self.forward(first)              # the usual call, without packing arguments
        return self.forward(*args, **kwargs) if first is _NOTHING else self.forward(first, *args, **kwargs)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile ``forward`` (see :func:`torsh.compile`)."""
        from torsh.graph.capture import Compiled
        self.__dict__["forward"] = Compiled(self.forward)

    # ---- attributes --------------------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        own = self.__dict__
        for kind in _KINDS:
            found = own.get(kind)
            if found is not None and name in found:
                return found[name]
        raise ModuleAttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __setattr__(self, name: str, value: Any) -> None:
        own = self.__dict__
        if isinstance(value, Parameter):
            self._require_init("parameters")
            self._forget(name, "_parameters")
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            self._require_init("module")
            if name in own["_parameters"]:
                raise self._cannot_assign(value, name, "parameter", "torsh.nn.Parameter")
            self._forget(name, "_modules")
            for hook in GLOBAL.module.values():
                replaced = hook(self, name, value)
                value = value if replaced is None else replaced
            own["_modules"][name] = value
            Structure.changed()
        elif "_parameters" in own and name in own["_parameters"]:
            if value is not None:
                raise self._cannot_assign(value, name, "parameter", "torsh.nn.Parameter")
            self.register_parameter(name, None)
        elif "_modules" in own and name in own["_modules"]:
            if value is not None:
                raise self._cannot_assign(value, name, "child module", "torsh.nn.Module")
            own["_modules"][name] = None
            Structure.changed()
        elif isinstance(value, Handle) and isinstance(value, Buffer):
            self._require_init("buffer")
            self._forget(name, "_buffers")
            self.register_buffer(name, value, getattr(value, "persistent", True))
        elif "_buffers" in own and name in own["_buffers"]:
            if value is not None and not isinstance(value, Handle):
                raise self._cannot_assign(value, name, "buffer", "torsh.nn.Buffer, torsh.Tensor")
            for hook in GLOBAL.buffer.values():
                replaced = hook(self, name, value)
                value = value if replaced is None else replaced
            own["_buffers"][name] = value
            Structure.changed()
        else:
            object.__setattr__(self, name, value)

    @staticmethod
    def _cannot_assign(value: Any, name: str, kind: str, wanted: str) -> ArgumentTypeError:
        return ArgumentTypeError(f"cannot assign '{_type_label(value)}' as {kind} '{name}' ({wanted} or None expected)")

    def _require_init(self, what: str) -> None:
        if "_parameters" not in self.__dict__:
            raise ModuleAttributeError(f"cannot assign {what} before Module.__init__() call")

    def _forget(self, name: str, keep: str) -> None:
        """Remove other attributes of this name."""
        own = self.__dict__
        own.pop(name, None)
        for kind in _KINDS:
            if kind != keep:
                own[kind].pop(name, None)
        own["_non_persistent_buffers_set"].discard(name)

    def __delattr__(self, name: str) -> None:
        for kind in _KINDS:
            if name in self.__dict__[kind]:
                del self.__dict__[kind][name]
                self._non_persistent_buffers_set.discard(name)
                Structure.changed()
                return
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        names = [*dir(type(self)), *self.__dict__, *self._parameters, *self._modules, *self._buffers]
        return sorted({n for n in names if not n[:1].isdigit()})

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if state.get("_has_hooks"):
            HOOKED[:] = [True]
        for name in _HOOKS:
            self.__dict__.setdefault(name, OrderedDict())
        self.__dict__.setdefault("_non_persistent_buffers_set", set())

    # ---- registration ------------------------------------------------------------------------------------------------

    def _check_name(self, name: Any, kind: str) -> None:
        if not isinstance(name, str):
            raise ArgumentTypeError(f"{kind} name should be a string. Got {type(name).__name__}")
        if kind != "module" and "." in name:
            raise RegistrationError(f'{kind} name can\'t contain "."')
        if kind == "module" and "." in name:
            raise RegistrationError(f'module name can\'t contain ".", got: {name}')
        if name == "":
            raise RegistrationError(f'{kind} name can\'t be empty string ""')
        if name not in self.__dict__["_" + kind + "s"] and hasattr(self, name):
            raise RegistrationError(f"attribute '{name}' already exists")

    def register_parameter(self, name: str, param: Any) -> None:
        """Add a parameter (or None: a place for one).

        Raises TypeError for anything else, ValueError for tensors that were computed, KeyError for names in use.
        """
        if "_parameters" not in self.__dict__:
            raise ModuleAttributeError("cannot assign parameter before Module.__init__() call")
        self._check_name(name, "parameter")
        if param is not None:
            if not isinstance(param, Parameter):
                raise ArgumentTypeError(f"cannot assign '{_type_label(param)}' object to parameter '{name}' (torsh.nn.Parameter or "
                                        "None required)")
            if not param.is_leaf:
                raise InvalidArgumentError(f"Cannot assign non-leaf Tensor to parameter '{name}'. Model parameters must be created "
                                           f"explicitly. To express '{name}' as a function of another Tensor, compute the value in "
                                           "the forward() method.")
            for hook in GLOBAL.parameter.values():
                replaced = hook(self, name, param)
                param = param if replaced is None else replaced
        self._parameters[name] = param
        Structure.changed()

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """Add a tensor that is part of the module's state but not trained; persistent ones are in state_dict."""
        if "_buffers" not in self.__dict__:
            raise ModuleAttributeError("cannot assign buffer before Module.__init__() call")
        self._check_name(name, "buffer")
        if tensor is not None and not isinstance(tensor, Handle):
            raise ArgumentTypeError(f"cannot assign '{_type_label(tensor)}' object to buffer '{name}' (torsh Tensor or None required)")
        for hook in GLOBAL.buffer.values():
            replaced = hook(self, name, tensor)
            tensor = tensor if replaced is None else replaced
        self._buffers[name] = tensor
        if persistent:
            self._non_persistent_buffers_set.discard(name)
        else:
            self._non_persistent_buffers_set.add(name)
        Structure.changed()

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a child module (or None: a place for one)."""
        if not isinstance(module, Module) and module is not None:
            raise ArgumentTypeError(f"{_type_label(module)} is not a Module subclass")
        self._check_name(name, "module")
        for hook in GLOBAL.module.values():
            replaced = hook(self, name, module)
            module = module if replaced is None else replaced
        self._modules[name] = module
        Structure.changed()

    def register_module(self, name: str, module: Module | None) -> None:
        """The same as :meth:`add_module`."""
        self.add_module(name, module)

    # ---- walking -----------------------------------------------------------------------------------------------------

    def named_modules(self, memo: set[Any] | None = None, prefix: str = "",
                      remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """(name, module) of this module and all below it."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """This module and all below it."""
        for _, module in self.named_modules():
            yield module

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) of the direct children."""
        seen: set[Any] = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def children(self) -> Iterator[Module]:
        """The direct children."""
        for _, module in self.named_children():
            yield module

    def _named_members(self, get_members: Callable[[Any], Any], prefix: str = "", recurse: bool = True,
                       remove_duplicate: bool = True) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        modules = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        for path, module in modules:
            for name, value in get_members(module):
                if value is None or id(value) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(value))
                yield (f"{path}.{name}" if path else name), value

    def named_parameters(self, prefix: str = "", recurse: bool = True,
                         remove_duplicate: bool = True) -> Iterator[tuple[str, Any]]:
        """(name, parameter) of this module and, with ``recurse``, of all below it."""
        yield from self._named_members(lambda m: m._parameters.items(), prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Any]:
        """The parameters of this module and, with ``recurse``, of all below it."""
        for _, parameter in self.named_parameters(recurse=recurse):
            yield parameter

    def named_buffers(self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True) -> Iterator[tuple[str, Any]]:
        """(name, buffer) of this module and, with ``recurse``, of all below it."""
        yield from self._named_members(lambda m: m._buffers.items(), prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Any]:
        """The buffers of this module and, with ``recurse``, of all below it."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    def get_submodule(self, target: str) -> Module:
        """The module at a dotted path ("" is the module itself); AttributeError if there is none."""
        module: Any = self
        for part in target.split(".") if target else []:
            if not hasattr(module, part):
                raise ModuleAttributeError(f"{module._get_name()} has no attribute `{part}`")
            module = getattr(module, part)
            if not isinstance(module, Module):
                raise ModuleAttributeError(f"`{part}` is not an nn.Module")
        return module  # type: ignore[no-any-return]

    def set_submodule(self, target: str, module: Module, strict: bool = False) -> None:
        """Replace (or, unless ``strict``, add) the module at a dotted path."""
        if target == "":
            raise InvalidArgumentError("Cannot set the submodule without a target name!")
        if not isinstance(module, Module):
            raise InvalidArgumentError(f"`module` is not an nn.Module, found {type(module)}")
        path, _, name = target.rpartition(".")
        parent = self.get_submodule(path)
        if strict and not hasattr(parent, name):
            raise ModuleAttributeError(f"{parent._get_name()} has no attribute `{name}`")
        if hasattr(parent, name) and not isinstance(getattr(parent, name), Module):
            raise ModuleAttributeError(f"`{name}` is not an nn.Module")
        setattr(parent, name, module)

    def get_parameter(self, target: str) -> Any:
        """The parameter at a dotted path; AttributeError if there is none."""
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if not hasattr(module, name):
            raise ModuleAttributeError(f"{module._get_name()} has no attribute `{name}`")
        value = getattr(module, name)
        if not isinstance(value, Parameter):
            raise ModuleAttributeError(f"`{name}` is not an nn.Parameter")
        return value

    def get_buffer(self, target: str) -> Any:
        """The buffer at a dotted path; AttributeError if there is none."""
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if not hasattr(module, name):
            raise ModuleAttributeError(f"{module._get_name()} has no attribute `{name}`")
        if name not in module._buffers:
            raise ModuleAttributeError(f"`{name}` is not a buffer")
        return getattr(module, name)

    def apply(self, fn: Callable[[Module], Any]) -> Any:
        """Call ``fn`` on all modules below, then on this one; returns the module."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    # ---- modes -------------------------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Any:
        """Set training mode for this module and all below it."""
        if not isinstance(mode, bool):
            raise InvalidArgumentError("training mode is expected to be boolean")
        if self.training is not mode:
            self.training = mode
            Structure.changed()             # only real changes make captured steps stale
        for module in self.children():
            module.train(mode)
        return self

    def eval(self) -> Any:
        """Set evaluation mode for this module and all below it."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        """Switch gradients of all parameters on or off."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        Structure.changed()
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset the gradients of all parameters."""
        for p in self.parameters():
            if p._grad is not None:
                if set_to_none:
                    p._grad = None
                else:
                    p._grad = p._grad.detach()
                    p._grad.zero_()

    # ---- conversions -------------------------------------------------------------------------------------------------

    def _apply(self, fn: Callable[[Any], Any], recurse: bool = True) -> Any:
        """Replace all parameters and buffers by ``fn`` of them (parameters stay the same objects)."""
        if recurse:
            for module in self.children():
                module._apply(fn, recurse)
        with no_grad():
            for p in self._parameters.values():
                if p is not None:
                    _convert_parameter(p, fn)
            for name, buffer in self._buffers.items():
                if buffer is not None:
                    new = fn(buffer)
                    if new is not buffer:
                        self._buffers[name] = new
                        Structure.changed()
        return self

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """Move or cast: ``to(device)``, ``to(dtype)``, ``to(device, dtype)``, ``to(tensor)``; integers keep their dtype.

        non_blocking and memory_format are accepted as in PyTorch.
        """
        device, dtype = _target(args, kwargs)
        if dtype is not None and not (dtype.is_floating_point or dtype.is_complex):
            raise ArgumentTypeError(f"nn.Module.to only accepts floating point or complex dtypes, but got desired dtype={dtype}")

        def convert(t: Any) -> Any:
            return t.to(device, dtype if dtype is not None and t.dtype.category >= 2 else None)
        return self._apply(convert)

    def to_device(self, device: Any) -> Any:
        """Move to a device."""
        return self.to(device=device)

    def to_dtype(self, dtype: DType) -> Any:
        """Cast floating-point parameters and buffers."""
        return self.to(dtype=dtype)

    def to_empty(self, *, device: Any = None, recurse: bool = True) -> Any:
        """Move to a device without copying: the contents become undefined."""
        return self._apply(lambda t: T["empty_like"](t, device=device), recurse)

    def _cast(self, dtype: DType) -> Any:
        return self._apply(lambda t: t.to(dtype) if t.dtype.category == 2 else t)

    def float(self) -> Any:
        """Cast all floating-point parameters and buffers to float32."""
        return self._cast(float32)

    def double(self) -> Any:
        """Cast all floating-point parameters and buffers to float64."""
        return self._cast(float64)

    def half(self) -> Any:
        """Cast all floating-point parameters and buffers to float16."""
        return self._cast(float16)

    def bfloat16(self) -> Any:
        """Cast all floating-point parameters and buffers to bfloat16."""
        return self._cast(bfloat16)

    def type(self, dst_type: Any) -> Any:
        """Cast all parameters and buffers."""
        return self._apply(lambda t: t.type(dst_type))

    def cpu(self) -> Any:
        """Move to the CPU."""
        return self.to("cpu")

    def cuda(self, device: Any = None) -> Any:
        """Move to a CUDA device; raises where there is none."""
        return self.to("cuda" if device is None else device if not isinstance(device, int) else f"cuda:{device}")

    def share_memory(self) -> Any:
        """Move parameters and buffers to shared memory where tensors support it; returns the module."""
        return self._apply(lambda t: t.share_memory_())

    # ---- printing ----------------------------------------------------------------------------------------------------

    def _get_name(self) -> str:
        return self.__class__.__name__

    def extra_repr(self) -> str:
        """What the module shows of itself in ``repr``."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        children = [f"({name}): {indented(repr(module))}" for name, module in self._modules.items()]
        name = self._get_name()
        if not children and len(lines) <= 1:
            return f"{name}({extra})"
        return f"{name}(\n  " + "\n  ".join(lines + children) + "\n)"


def _target(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """(device, dtype) that the arguments of ``Module.to`` ask for."""
    unknown = set(kwargs) - {"device", "dtype", "non_blocking", "memory_format", "tensor"}
    if unknown or len(args) > 3:
        raise ArgumentTypeError("to() received an invalid combination of arguments: it takes device, dtype, or tensor, and non_blocking "
                                "and memory_format")
    given = [a for a in (*args, kwargs.get("tensor")) if a is not None and not isinstance(a, bool)]
    device, dtype = kwargs.get("device"), kwargs.get("dtype")
    for a in given:
        if isinstance(a, Tensor):
            return a.device, a.dtype
        if isinstance(a, DType):
            dtype = a
        elif device is None:
            device = a
        else:
            raise ArgumentTypeError(f"to() received an invalid combination of arguments: two devices, {device} and {a}")
    return device, dtype


def _type_label(value: Any) -> str:
    """A value's type as messages name it: ``int``, ``torsh.FloatTensor``."""
    cls = type(value)
    if isinstance(value, Handle) and not isinstance(value, Parameter):
        return str(value.type())
    return cls.__name__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def indented(text: str) -> str:
    """The text with all lines but the first moved right."""
    return text.replace("\n", "\n  ")


def _convert_parameter(p: Any, fn: Callable[[Any], Any]) -> None:
    """Let a parameter, and its gradient, take the value ``fn`` of it."""
    if is_lazy(p):
        p.data = fn(Tensor.detach(p))
        return
    source = p.detach()
    new = fn(source)
    if new is source:
        return
    if new._base is not None:                   # a view of some other memory, perhaps the parameter's own
        new = new.clone()
    grad, p._grad = p._grad, None
    p.data = new
    if grad is not None:
        p.grad = fn(grad).requires_grad_(grad.requires_grad)
    Structure.changed()


__all__ = ["IncompatibleKeys", "Module", "StateDictError", "Tensor", "indented", "register_module_backward_hook",
           "register_module_buffer_registration_hook", "register_module_forward_hook", "register_module_forward_pre_hook",
           "register_module_full_backward_hook", "register_module_full_backward_pre_hook",
           "register_module_module_registration_hook", "register_module_parameter_registration_hook"]
