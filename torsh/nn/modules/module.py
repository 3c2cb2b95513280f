"""The base class of all neural network modules."""
from __future__ import annotations

import itertools
from collections import OrderedDict, namedtuple
from collections.abc import Callable, Iterator
from typing import Any

from torsh.core.dtype import DType, bfloat16, float16, float32, float64
from torsh.core.errors import ArgumentTypeError, TorshError
from torsh.core.hooks import RemovableHandle
from torsh.graph.capture import Structure
from torsh.graph.handle import Handle
from torsh.nn.parameter import Buffer, Parameter
from torsh.tensor.tensor import Tensor

IncompatibleKeys = namedtuple("IncompatibleKeys", ["missing_keys", "unexpected_keys"])
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks",
          "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks")


class StateDictError(TorshError, RuntimeError):
    """A state_dict that does not fit a module."""


class ModuleAttributeError(TorshError, AttributeError):
    """A module without the attribute that was asked for."""


class Module:
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
    _version: int = 1
    call_super_init: bool = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        put = object.__setattr__
        put(self, "training", True)
        for name in ("_parameters", "_buffers", "_modules"):
            put(self, name, {})
        put(self, "_non_persistent_buffers_set", set())
        for name in _HOOKS:
            put(self, name, OrderedDict())
        put(self, "_has_hooks", False)

    # ---- calling -----------------------------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the module's result; every module overrides it."""
        raise NotImplementedError(f'Module [{type(self).__name__}] is missing the required "forward" function')

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self._has_hooks:
            return self.forward(*args, **kwargs)
        return self._call_with_hooks(args, kwargs)

    def _call_with_hooks(self, args: Any, kwargs: Any) -> Any:
        for hook, with_kwargs in list(self._forward_pre_hooks.values()):
            if with_kwargs:
                result = hook(self, args, kwargs)
                if result is not None:
                    args, kwargs = result
            else:
                result = hook(self, args)
                if result is not None:
                    args = result if isinstance(result, tuple) else (result,)
        backward = None
        if self._backward_hooks or self._backward_pre_hooks:
            from torsh.nn.modules.backward_hook import BackwardHook
            backward = BackwardHook(self)
            args = backward.inputs(args)
        out = self.forward(*args, **kwargs)
        for hook, with_kwargs in list(self._forward_hooks.values()):
            result = hook(self, args, kwargs, out) if with_kwargs else hook(self, args, out)
            if result is not None:
                out = result
        return backward.outputs(out) if backward is not None else out

    def _add_hook(self, kind: str, hook: Any, prepend: bool = False) -> RemovableHandle:
        hooks = getattr(self, kind)
        handle = RemovableHandle(hooks)
        hooks[handle.id] = hook
        if prepend:
            hooks.move_to_end(handle.id, last=False)
        object.__setattr__(self, "_has_hooks", True)
        return handle

    def register_forward_pre_hook(self, hook: Callable[..., Any], *, prepend: bool = False,
                                  with_kwargs: bool = False) -> RemovableHandle:
        """Call ``hook(module, args)`` before every forward; it may return other arguments."""
        return self._add_hook("_forward_pre_hooks", (hook, with_kwargs), prepend)

    def register_forward_hook(self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False,
                              always_call: bool = False) -> RemovableHandle:
        """Call ``hook(module, args, output)`` after every forward; it may return another output."""
        return self._add_hook("_forward_hooks", (hook, with_kwargs), prepend)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_input, grad_output)`` when gradients of the inputs are computed."""
        return self._add_hook("_backward_hooks", hook, prepend)

    register_backward_hook = register_full_backward_hook

    def register_full_backward_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_output)`` before gradients go through the module."""
        return self._add_hook("_backward_pre_hooks", hook, prepend)

    def register_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(module, state_dict, prefix, local_metadata)`` after state_dict."""
        return self._add_hook("_state_dict_hooks", hook)

    _register_state_dict_hook = register_state_dict_post_hook

    def register_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(module, prefix, keep_vars)`` before state_dict."""
        return self._add_hook("_state_dict_pre_hooks", hook)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(module, state_dict, prefix, ...)`` before load_state_dict."""
        return self._add_hook("_load_state_dict_pre_hooks", hook)

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(module, incompatible_keys)`` after load_state_dict."""
        return self._add_hook("_load_state_dict_post_hooks", hook)

    # ---- attributes --------------------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        for kind in ("_parameters", "_buffers", "_modules"):
            found = self.__dict__.get(kind)
            if found is not None and name in found:
                return found[name]
        raise ModuleAttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __setattr__(self, name: str, value: Any) -> None:
        own = self.__dict__
        if isinstance(value, Parameter):
            self._require_init(Parameter.__name__ + "s")
            self._forget(name, "_parameters")
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            self._require_init("module")
            self._forget(name, "_modules")
            own["_modules"][name] = value
            Structure.changed()
        elif isinstance(value, Buffer):
            self._forget(name, "_buffers")
            self.register_buffer(name, value, getattr(value, "persistent", True))
        elif "_parameters" in own and name in own["_parameters"]:
            if value is not None:
                raise ArgumentTypeError(f"cannot assign '{type(value).__name__}' as parameter '{name}' (torsh.nn.Parameter or None "
                                        "expected)")
            self.register_parameter(name, None)
        elif "_modules" in own and name in own["_modules"]:
            if value is not None:
                raise ArgumentTypeError(f"cannot assign '{type(value).__name__}' as child module '{name}' (torsh.nn.Module or None "
                                        "expected)")
            own["_modules"][name] = value
            Structure.changed()
        elif "_buffers" in own and name in own["_buffers"]:
            if value is not None and not isinstance(value, Handle):
                raise ArgumentTypeError(f"cannot assign '{type(value).__name__}' as buffer '{name}' (torsh.Tensor or None expected)")
            own["_buffers"][name] = value
            Structure.changed()
        else:
            object.__setattr__(self, name, value)

    def _require_init(self, what: str) -> None:
        if "_parameters" not in self.__dict__:
            raise ModuleAttributeError(f"cannot assign {what} before Module.__init__() call")

    def _forget(self, name: str, keep: str) -> None:
        self.__dict__.pop(name, None)
        for kind in ("_parameters", "_buffers", "_modules"):
            if kind != keep:
                self.__dict__[kind].pop(name, None)
        self._non_persistent_buffers_set.discard(name)

    def __delattr__(self, name: str) -> None:
        for kind in ("_parameters", "_buffers", "_modules"):
            if name in self.__dict__[kind]:
                del self.__dict__[kind][name]
                self._non_persistent_buffers_set.discard(name)
                Structure.changed()
                return
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        names = [*dir(type(self)), *self.__dict__, *self._parameters, *self._buffers, *self._modules]
        return sorted({n for n in names if n.isidentifier()})

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for name in _HOOKS:
            self.__dict__.setdefault(name, OrderedDict())

    def _check_name(self, name: str, kind: str) -> None:
        if not isinstance(name, str):
            raise ArgumentTypeError(f"{kind} name should be a string. Got {type(name).__name__}")
        if "." in name:
            raise KeyError(f'{kind} name can\'t contain "."')
        if name == "":
            raise KeyError(f'{kind} name can\'t be empty string ""')

    def register_parameter(self, name: str, param: Any) -> None:
        """Add a parameter (or None: a place for one)."""
        self._require_init("parameter")
        self._check_name(name, "parameter")
        if hasattr(self, name) and name not in self._parameters:
            raise KeyError(f"attribute '{name}' already exists")
        if param is not None and not isinstance(param, Parameter):
            raise ArgumentTypeError(f"cannot assign '{type(param).__name__}' object to parameter '{name}' (torsh.nn.Parameter or None "
                                    "required)")
        if param is not None and not param.is_leaf:
            raise TorshValueError(f"Cannot assign non-leaf Tensor to parameter '{name}'. Model parameters must be created "
                                  "explicitly. To express '" + name + "' as a function of another Tensor, compute the value in the "
                                  "forward() method.")
        self._parameters[name] = param
        Structure.changed()

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """Add a tensor that is part of the module's state but not trained."""
        self._require_init("buffer")
        self._check_name(name, "buffer")
        if hasattr(self, name) and name not in self._buffers:
            raise KeyError(f"attribute '{name}' already exists")
        if tensor is not None and not isinstance(tensor, Handle):
            raise ArgumentTypeError(f"cannot assign '{type(tensor).__name__}' object to buffer '{name}' (torsh.Tensor or None required)")
        self._buffers[name] = tensor
        if persistent:
            self._non_persistent_buffers_set.discard(name)
        else:
            self._non_persistent_buffers_set.add(name)
        Structure.changed()

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a child module (or None: a place for one)."""
        if not isinstance(module, Module) and module is not None:
            raise ArgumentTypeError(f"{type(module).__name__} is not a Module subclass")
        self._check_name(name, "module")
        if hasattr(self, name) and name not in self._modules:
            raise KeyError(f"attribute '{name}' already exists")
        self._modules[name] = module
        Structure.changed()

    register_module = add_module

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
        return (m for _, m in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) of the direct children."""
        seen: set[Any] = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def children(self) -> Iterator[Module]:
        """The direct children."""
        return (m for _, m in self.named_children())

    def _named_members(self, kind: str, prefix: str, recurse: bool, remove_duplicate: bool = True) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        modules = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        for path, module in modules:
            for name, value in getattr(module, kind).items():
                if value is None or id(value) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(value))
                yield (f"{path}.{name}" if path else name), value

    def named_parameters(self, prefix: str = "", recurse: bool = True,
                         remove_duplicate: bool = True) -> Iterator[tuple[str, Any]]:
        """(name, parameter) of this module and, with ``recurse``, of all below it."""
        return self._named_members("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Any]:
        """The parameters of this module and, with ``recurse``, of all below it."""
        return (p for _, p in self.named_parameters(recurse=recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True) -> Iterator[tuple[str, Any]]:
        """(name, buffer) of this module and, with ``recurse``, of all below it."""
        return self._named_members("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Any]:
        """The buffers of this module and, with ``recurse``, of all below it."""
        return (b for _, b in self.named_buffers(recurse=recurse))

    def get_submodule(self, target: str) -> Module:
        """The module at a dotted path."""
        module: Any = self
        for part in target.split(".") if target else []:
            if not hasattr(module, part):
                raise ModuleAttributeError(f"{type(module).__name__} has no attribute `{part}`")
            module = getattr(module, part)
            if not isinstance(module, Module):
                raise ModuleAttributeError(f"`{part}` is not an nn.Module")
        return module  # type: ignore[no-any-return]

    def get_parameter(self, target: str) -> Any:
        """The parameter at a dotted path."""
        path, _, name = target.rpartition(".")
        value = getattr(self.get_submodule(path), name)
        if not isinstance(value, Parameter):
            raise ModuleAttributeError(f"`{name}` is not an nn.Parameter")
        return value

    def get_buffer(self, target: str) -> Any:
        """The buffer at a dotted path."""
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        value = getattr(module, name)
        if name not in module._buffers:
            raise ModuleAttributeError(f"`{name}` is not a buffer")
        return value

    def apply(self, fn: Callable[[Module], Any]) -> Any:
        """Call ``fn`` on all modules below, then on this one; returns the module."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    # ---- state -------------------------------------------------------------------------------------------------------

    def get_extra_state(self) -> Any:
        """Further state to keep in state_dict; override together with :meth:`set_extra_state`."""
        raise NotImplementedError("override get_extra_state and set_extra_state together to keep further state")

    def set_extra_state(self, state: Any) -> None:
        """Take what :meth:`get_extra_state` gave."""
        raise NotImplementedError("override get_extra_state and set_extra_state together to keep further state")

    def state_dict(self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        """All parameters and persistent buffers by name (detached, sharing memory, unless ``keep_vars``)."""
        if args:
            destination = args[0]
            prefix = args[1] if len(args) > 1 else prefix
            keep_vars = args[2] if len(args) > 2 else keep_vars
        if destination is None:
            destination = OrderedDict()
            destination._metadata = OrderedDict()
        metadata = {"version": self._version}
        if hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]] = metadata
        for hook in self._state_dict_pre_hooks.values():
            hook(self, prefix, keep_vars)
        self._save_to_state_dict(destination, prefix, keep_vars)
        for name, module in self._modules.items():
            if module is not None:
                module.state_dict(destination=destination, prefix=prefix + name + ".", keep_vars=keep_vars)
        for hook in self._state_dict_hooks.values():
            result = hook(self, destination, prefix, metadata)
            destination = destination if result is None else result
        return destination

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        for name, value in itertools.chain(self._parameters.items(), self._buffers.items()):
            if value is not None and name not in self._non_persistent_buffers_set:
                destination[prefix + name] = value if keep_vars else value.detach()
        if type(self).get_extra_state is not Module.get_extra_state:
            destination[prefix + "_extra_state"] = self.get_extra_state()

    def _load_from_state_dict(self, state_dict: Any, prefix: str, local_metadata: Any, strict: bool, missing_keys: list[str],
                              unexpected_keys: list[str], error_msgs: list[str]) -> None:
        for hook in self._load_state_dict_pre_hooks.values():
            hook(self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        own = {k: v for k, v in itertools.chain(self._parameters.items(), self._buffers.items())
               if v is not None and k not in self._non_persistent_buffers_set}
        assign = bool(local_metadata.get("assign_to_params_buffers", False))
        for name, value in own.items():
            key = prefix + name
            if key not in state_dict:
                if strict:
                    missing_keys.append(key)
                continue
            self._load_one(name, value, key, state_dict[key], assign, error_msgs)
        extra = prefix + "_extra_state"
        if type(self).set_extra_state is not Module.set_extra_state:
            if extra in state_dict:
                self.set_extra_state(state_dict[extra])
            elif strict:
                missing_keys.append(extra)
        elif strict and extra in state_dict:
            unexpected_keys.append(extra)
        if strict:
            for key in state_dict:
                if key.startswith(prefix) and key != extra:
                    parts = key[len(prefix):].split(".", 1)
                    if len(parts) > 1:
                        if parts[0] not in self._modules:
                            unexpected_keys.append(key)
                    elif parts[0] not in own:
                        unexpected_keys.append(key)

    def _load_one(self, name: str, value: Any, key: str, given: Any, assign: bool, error_msgs: list[str]) -> None:
        if not isinstance(given, Handle):
            error_msgs.append(f'While copying the parameter named "{key}", expected torsh.Tensor or Tensor-like object from checkpoint '
                              f"but received {type(given)}")
            return
        given_tensor: Any = given
        if not value.ndim and given_tensor.ndim == 1 and given_tensor.shape[0] == 1:
            given_tensor = given_tensor[0]
        if tuple(value.shape) != tuple(given_tensor.shape):
            error_msgs.append(f"size mismatch for {key}: copying a param with shape {given_tensor.shape} from checkpoint, the shape in "
                              f"current model is {value.shape}.")
            return
        from torsh.autograd.modes import no_grad
        with no_grad():
            if assign:
                if isinstance(value, Parameter) and not isinstance(given_tensor, Parameter):
                    given_tensor = Parameter(given_tensor, requires_grad=value.requires_grad)
                (self._parameters if name in self._parameters else self._buffers)[name] = given_tensor
                Structure.changed()
            else:
                value.copy_(given_tensor)

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """Copy parameters and buffers from a state_dict; returns the missing and unexpected keys.

        strict: raise RuntimeError if keys do not match. assign: take the given tensors themselves.
        Nothing is changed if a size does not match.
        """
        if not hasattr(state_dict, "keys"):
            raise ArgumentTypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
        metadata = getattr(state_dict, "_metadata", None)
        state = OrderedDict(state_dict)
        errors = self._size_errors(state)
        missing: list[str] = []
        unexpected: list[str] = []

        def load(module: Module, prefix: str) -> None:
            local = {} if metadata is None else dict(metadata.get(prefix[:-1], {}))
            if assign:
                local["assign_to_params_buffers"] = True
            part = OrderedDict((k, v) for k, v in state.items() if k.startswith(prefix)) if prefix else state
            module._load_from_state_dict(part, prefix, local, True, missing, unexpected, errors)
            for name, child in module._modules.items():
                if child is not None:
                    load(child, prefix + name + ".")
            keys = IncompatibleKeys(missing, unexpected)
            for hook in module._load_state_dict_post_hooks.values():
                hook(module, keys)
        if not errors:
            load(self, "")
        messages = list(errors)
        if strict:
            if unexpected:
                messages.insert(0, "Unexpected key(s) in state_dict: " + ", ".join(f'"{k}"' for k in unexpected) + ". ")
            if missing:
                messages.insert(0, "Missing key(s) in state_dict: " + ", ".join(f'"{k}"' for k in missing) + ". ")
        if messages:
            raise StateDictError(f"Error(s) in loading state_dict for {type(self).__name__}:\n\t" + "\n\t".join(messages))
        return IncompatibleKeys(missing, unexpected)

    def _size_errors(self, state: Any) -> list[str]:
        """What would not fit, found before anything is changed."""
        if any(m._load_state_dict_pre_hooks or type(m)._load_from_state_dict is not Module._load_from_state_dict
               for m in self.modules()):
            return []
        errors = []
        for key, value in itertools.chain(self.named_parameters(remove_duplicate=False), self.named_buffers(remove_duplicate=False)):
            given = state.get(key)
            if isinstance(given, Handle) and tuple(given._expr.shape) != tuple(value.shape) and not (
                    not value.ndim and given._expr.shape == (1,)):
                errors.append(f"size mismatch for {key}: copying a param with shape {given.shape} from checkpoint, the shape in "  # type: ignore[attr-defined]
                              f"current model is {value.shape}.")
        return errors

    # ---- modes and conversions ---------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Any:
        """Set training mode for this module and all below it."""
        if not isinstance(mode, bool):
            raise TorshValueError("training mode is expected to be boolean")
        object.__setattr__(self, "training", mode)
        for module in self.children():
            module.train(mode)
        Structure.changed()
        return self

    def eval(self) -> Any:
        """Set evaluation mode for this module and all below it."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        """Switch gradients of all parameters on or off."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset the gradients of all parameters."""
        for p in self.parameters():
            if p.grad is not None:
                if set_to_none:
                    p.grad = None
                else:
                    p.grad = p.grad.detach().zero_()

    def _apply(self, fn: Callable[[Any], Any], recurse: bool = True) -> Any:
        """Replace all parameters and buffers by ``fn`` of them (parameters stay the same objects)."""
        from torsh.autograd.modes import no_grad
        if recurse:
            for module in self.children():
                module._apply(fn)
        with no_grad():
            for p in self._parameters.values():
                if p is not None:
                    new = fn(p.detach())
                    if new.dtype is not p.dtype or new is not p:
                        grad = p.grad
                        p._grad = None
                        p.data = new.clone() if new._root is not None else new
                        if grad is not None:
                            p.grad = fn(grad)
            for name, b in self._buffers.items():
                if b is not None:
                    self._buffers[name] = fn(b)
        Structure.changed()
        return self

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """Move or cast: ``to(device)``, ``to(dtype)``, ``to(device, dtype)``, ``to(tensor)``; integers keep their dtype."""
        dtype = kwargs.get("dtype")
        device = kwargs.get("device")
        for a in args:
            if isinstance(a, DType):
                dtype = a
            elif isinstance(a, Handle):
                dtype = a.dtype  # type: ignore[attr-defined]
            elif not isinstance(a, bool):
                device = a
        if dtype is not None and dtype.category < 2:
            raise ArgumentTypeError(f"nn.Module.to only accepts floating point or complex dtypes, but got desired dtype={dtype}")

        def convert(t: Any) -> Any:
            return t.to(device, dtype if dtype is not None and t.dtype.category >= 2 else None)
        return self._apply(convert)

    to_device = to_dtype = to

    def _cast(self, dtype: DType) -> Any:
        return self._apply(lambda t: t.to(dtype) if t.dtype.category >= 2 else t)

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

    def type(self, dst_type: DType) -> Any:
        """Cast all parameters and buffers."""
        return self._apply(lambda t: t.to(dst_type))

    def cpu(self) -> Any:
        """Move to the CPU."""
        return self

    def share_memory(self) -> Any:
        """Accepted for compatibility."""
        return self

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile ``forward`` (see :func:`torsh.compile`)."""
        from torsh.graph.capture import Compiled
        object.__setattr__(self, "forward", Compiled(self.forward))

    # ---- printing ----------------------------------------------------------------------------------------------------

    def _get_name(self) -> str:
        return self.__class__.__name__

    def extra_repr(self) -> str:
        """What the module shows of itself in ``repr``."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        children = []
        for name, module in self._modules.items():
            text = repr(module).split("\n")
            children.append(f"({name}): " + "\n".join([text[0], *["  " + line for line in text[1:]]]))
        name = self._get_name()
        if len(lines) == 1 and not children:
            return f"{name}({lines[0]})"
        if not lines and not children:
            return f"{name}()"
        return f"{name}(\n  " + "\n  ".join(lines + children) + "\n)"


class TorshValueError(TorshError, ValueError):
    """A value that a module can't take."""


__all__ = ["Module", "Tensor"]
