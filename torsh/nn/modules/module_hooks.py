"""Hooks of modules: registration per module and for all modules, and the call that runs them."""
from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

from torsh.core.errors import TorshError
from torsh.core.hooks import RemovableHandle

Hook = Callable[..., Any]


class HookError(TorshError, RuntimeError):
    """Hooks that do not fit together, or that return the wrong thing."""


class _GlobalHooks:
    """Hooks of all modules; ``any`` is True as soon as one was registered that forward has to look for."""

    def __init__(self) -> None:
        self.forward_pre: OrderedDict[int, Any] = OrderedDict()
        self.forward: OrderedDict[int, Any] = OrderedDict()
        self.backward_pre: OrderedDict[int, Any] = OrderedDict()
        self.backward: OrderedDict[int, Any] = OrderedDict()
        self.parameter: OrderedDict[int, Any] = OrderedDict()
        self.buffer: OrderedDict[int, Any] = OrderedDict()
        self.module: OrderedDict[int, Any] = OrderedDict()


GLOBAL: Final = _GlobalHooks()
# Not empty while a forward or backward hook of all modules exists: what Module.__call__ looks at.
ACTIVE: Final[dict[int, bool]] = {}
# Not empty once any module has had a hook of its own. Attributes of modules are slow to look up: without hooks, none is.
HOOKED: Final[list[bool]] = []


def _add(hooks: OrderedDict[int, Any], hook: Any, prepend: bool = False, active: bool = False) -> RemovableHandle:
    handle = RemovableHandle(hooks, extra_dict=ACTIVE if active else None)
    hooks[handle.id] = hook
    if active:
        ACTIVE[handle.id] = True
    if prepend:
        hooks.move_to_end(handle.id, last=False)
    return handle


def register_module_forward_pre_hook(hook: Hook) -> RemovableHandle:
    """Call ``hook(module, args)`` before every forward of every module."""
    return _add(GLOBAL.forward_pre, (hook, False), active=True)


def register_module_forward_hook(hook: Hook, *, with_kwargs: bool = False, always_call: bool = False) -> RemovableHandle:
    """Call ``hook(module, args, output)`` after every forward of every module."""
    return _add(GLOBAL.forward, (hook, with_kwargs, always_call), active=True)


def register_module_full_backward_pre_hook(hook: Hook) -> RemovableHandle:
    """Call ``hook(module, grad_output)`` before gradients go through any module."""
    return _add(GLOBAL.backward_pre, hook, active=True)


def register_module_full_backward_hook(hook: Hook) -> RemovableHandle:
    """Call ``hook(module, grad_input, grad_output)`` when gradients of the inputs of any module are computed."""
    return _add(GLOBAL.backward, hook, active=True)


register_module_backward_hook = register_module_full_backward_hook


def register_module_parameter_registration_hook(hook: Hook) -> RemovableHandle:
    """Call ``hook(module, name, parameter)`` when any module registers a parameter; it may return another one."""
    return _add(GLOBAL.parameter, hook)


def register_module_buffer_registration_hook(hook: Hook) -> RemovableHandle:
    """Call ``hook(module, name, buffer)`` when any module registers a buffer; it may return another one."""
    return _add(GLOBAL.buffer, hook)


def register_module_module_registration_hook(hook: Hook) -> RemovableHandle:
    """Call ``hook(module, name, submodule)`` when any module registers a child; it may return another one."""
    return _add(GLOBAL.module, hook)


def _after_pre_hooks(module: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """The arguments as the hooks before forward leave them."""
    for hook, with_kwargs in [*GLOBAL.forward_pre.values(), *module._forward_pre_hooks.values()]:
        if with_kwargs:
            result = hook(module, args, kwargs)
            if result is not None:
                if not (isinstance(result, tuple) and len(result) == 2):
                    raise HookError(f"forward pre-hook must return None or a tuple of (new_args, new_kwargs), but got {result}.")
                args, kwargs = result
        else:
            result = hook(module, args)
            if result is not None:
                args = result if isinstance(result, tuple) else (result,)
    return args, kwargs


def _run_always(module: Any, args: Any, kwargs: Any, out: Any, done: set[int]) -> None:
    """After an error in forward or in a hook: run the remaining hooks that asked to be called always."""
    for hooks in (GLOBAL.forward, module._forward_hooks):
        for key, (hook, with_kwargs, always) in list(hooks.items()):
            if always and key not in done:
                try:
                    hook(module, args, kwargs, out) if with_kwargs else hook(module, args, out)
                except Exception as error:
                    warnings.warn(f"forward hook with ``always_call=True`` raised an exception that was silenced as another error "
                                  f"was raised in forward: {error}", stacklevel=3)


def call_with_hooks(module: Any, args: Any, kwargs: Any) -> Any:
    """``module.forward`` with everything that hooks add to it."""
    out = None
    done: set[int] = set()
    try:
        args, kwargs = _after_pre_hooks(module, args, kwargs)
        backward = None
        if module._backward_hooks or module._backward_pre_hooks or GLOBAL.backward or GLOBAL.backward_pre:
            from torsh.nn.modules.backward_hook import BackwardHook
            backward = BackwardHook(module, [*GLOBAL.backward_pre.values(), *module._backward_pre_hooks.values()],
                                    [*GLOBAL.backward.values(), *module._backward_hooks.values()])
            args = backward.inputs(args)
        out = module.forward(*args, **kwargs)
        for hooks in (GLOBAL.forward, module._forward_hooks):
            for key, (hook, with_kwargs, _) in list(hooks.items()):
                done.add(key)
                result = hook(module, args, kwargs, out) if with_kwargs else hook(module, args, out)
                if result is not None:
                    out = result
        return out if backward is None else backward.outputs(out)
    except Exception:
        _run_always(module, args, kwargs, out, done)
        raise


class ModuleHooks:
    """The part of Module that registers hooks. ``_has_hooks`` says whether a call has to look for any."""

    _has_hooks: bool = False
    _is_full_backward_hook: bool | None = None

    def _add_hook(self, kind: str, hook: Any, prepend: bool = False) -> RemovableHandle:
        handle = _add(self.__dict__[kind], hook, prepend)
        self.__dict__["_has_hooks"] = True
        HOOKED[:] = [True]
        return handle

    def register_forward_pre_hook(self, hook: Hook, *, prepend: bool = False, with_kwargs: bool = False) -> RemovableHandle:
        """Call ``hook(module, args)`` (or ``hook(module, args, kwargs)``) before forward; it may return other arguments."""
        return self._add_hook("_forward_pre_hooks", (hook, with_kwargs), prepend)

    def register_forward_hook(self, hook: Hook, *, prepend: bool = False, with_kwargs: bool = False,
                              always_call: bool = False) -> RemovableHandle:
        """Call ``hook(module, args, output)`` (with ``kwargs`` before output, if wanted) after forward; it may return another
        output. always_call: also if forward raises."""
        return self._add_hook("_forward_hooks", (hook, with_kwargs, always_call), prepend)

    def _one_kind(self, full: bool) -> None:
        if self._is_full_backward_hook is (not full):
            raise HookError("Cannot use both regular backward hooks and full backward hooks on a single Module. Please use only "
                            "one of them.")
        self.__dict__["_is_full_backward_hook"] = full

    def register_full_backward_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_input, grad_output)`` when gradients of the inputs are computed; it may return others."""
        self._one_kind(True)
        return self._add_hook("_backward_hooks", hook, prepend)

    def register_backward_hook(self, hook: Hook) -> RemovableHandle:
        """Old form of :meth:`register_full_backward_hook`, with the same effect."""
        self._one_kind(False)
        return self._add_hook("_backward_hooks", hook)

    def register_full_backward_pre_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_output)`` before gradients go through the module; it may return other gradients."""
        return self._add_hook("_backward_pre_hooks", hook, prepend)

    def register_state_dict_post_hook(self, hook: Hook) -> RemovableHandle:
        """Call ``hook(module, state_dict, prefix, local_metadata)`` after state_dict; it changes state_dict in place."""
        return _add(self.__dict__["_state_dict_hooks"], (hook, False))

    def _register_state_dict_hook(self, hook: Hook) -> RemovableHandle:
        """As :meth:`register_state_dict_post_hook`, but the hook may return another state_dict."""
        return _add(self.__dict__["_state_dict_hooks"], (hook, True))

    def register_state_dict_pre_hook(self, hook: Hook) -> RemovableHandle:
        """Call ``hook(module, prefix, keep_vars)`` before state_dict."""
        return _add(self.__dict__["_state_dict_pre_hooks"], hook)

    def _register_load_state_dict_pre_hook(self, hook: Hook, with_module: bool = False) -> RemovableHandle:
        return _add(self.__dict__["_load_state_dict_pre_hooks"], (hook, with_module))

    def register_load_state_dict_pre_hook(self, hook: Hook) -> RemovableHandle:
        """Call ``hook(module, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)`` before
        load_state_dict."""
        return self._register_load_state_dict_pre_hook(hook, with_module=True)

    def register_load_state_dict_post_hook(self, hook: Hook) -> RemovableHandle:
        """Call ``hook(module, incompatible_keys)`` after load_state_dict; it may change the lists of keys in place."""
        return _add(self.__dict__["_load_state_dict_post_hooks"], hook)

