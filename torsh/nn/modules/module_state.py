"""state_dict and load_state_dict of modules."""
from __future__ import annotations

import itertools
from collections import OrderedDict, namedtuple
from typing import Any

from torsh.autograd.modes import no_grad
from torsh.core.errors import ArgumentTypeError, TorshError
from torsh.graph.capture import Structure
from torsh.graph.handle import Handle
from torsh.nn.parameter import Parameter, is_lazy

EXTRA_STATE = "_extra_state"


class StateDictError(TorshError, RuntimeError):
    """A state_dict that does not fit a module."""


class IncompatibleKeys(namedtuple("IncompatibleKeys", ["missing_keys", "unexpected_keys"])):
    """What load_state_dict returns: the keys that were missing and those that nobody expected."""

    __slots__ = ()

    def __repr__(self) -> str:
        return super().__repr__() if self.missing_keys or self.unexpected_keys else "<All keys matched successfully>"

    __str__ = __repr__


class ModuleState:
    """The part of Module that gives and takes its state."""

    _version: int = 1

    def get_extra_state(self) -> Any:
        """Further state to keep in state_dict; override together with :meth:`set_extra_state`."""
        raise StateDictError("Reached a code path in Module.get_extra_state() that should never be called: override get_extra_state "
                             "and set_extra_state together to keep further state.")

    def set_extra_state(self, state: Any) -> None:
        """Take what :meth:`get_extra_state` gave."""
        raise StateDictError("Reached a code path in Module.set_extra_state() that should never be called: override get_extra_state "
                             "and set_extra_state together to keep further state.")

    # ---- giving ------------------------------------------------------------------------------------------------------

    def state_dict(self: Any, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        """All parameters and persistent buffers by name (detached, sharing memory, unless ``keep_vars``).

        Example::

            >>> import torsh
            >>> list(torsh.nn.Linear(2, 3).state_dict())
            ['weight', 'bias']
        """
        if args:
            named: tuple[Any, ...] = (destination, prefix, keep_vars)
            destination, prefix, keep_vars = args + named[len(args):]
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
                module.state_dict(destination=destination, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        for hook, may_replace in self._state_dict_hooks.values():
            result = hook(self, destination, prefix, metadata)
            if result is not None:
                if not may_replace:
                    raise StateDictError("state_dict post-hook must return None")
                destination = result
        return destination

    def _save_to_state_dict(self: Any, destination: Any, prefix: str, keep_vars: bool) -> None:
        for name, value in self._own_state():
            destination[prefix + name] = value if keep_vars or is_lazy(value) else value.detach()
        if type(self).get_extra_state is not ModuleState.get_extra_state:
            destination[prefix + EXTRA_STATE] = self.get_extra_state()

    def _own_state(self: Any) -> list[tuple[str, Any]]:
        """The module's own parameters and persistent buffers."""
        hidden = self._non_persistent_buffers_set
        return [(name, value) for name, value in itertools.chain(self._parameters.items(), self._buffers.items())
                if value is not None and name not in hidden]

    # ---- taking ------------------------------------------------------------------------------------------------------

    def load_state_dict(self: Any, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """Copy parameters and buffers from a state_dict; returns the missing and unexpected keys.

        strict: raise RuntimeError if keys do not match. assign: take the given tensors themselves instead of copying.
        Sizes that do not match raise RuntimeError in any case, after all entries that fit were copied.
        """
        if not hasattr(state_dict, "keys"):
            raise ArgumentTypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
        metadata = getattr(state_dict, "_metadata", None)
        state = OrderedDict(state_dict)
        missing: list[str] = []
        unexpected: list[str] = []
        errors: list[str] = []

        def load(module: Any, part: Any, prefix: str) -> None:
            local = {} if metadata is None else metadata.get(prefix[:-1], {})
            if assign:
                local["assign_to_params_buffers"] = assign
            module._load_from_state_dict(part, prefix, local, True, missing, unexpected, errors)
            for name, child in module._modules.items():
                if child is not None:
                    start = f"{prefix}{name}."
                    load(child, {k: v for k, v in part.items() if k.startswith(start)}, start)
            keys = IncompatibleKeys(missing, unexpected)
            for hook in module._load_state_dict_post_hooks.values():
                if hook(module, keys) is not None:
                    raise AssertionError("Hooks registered with ``register_load_state_dict_post_hook`` are not expected to return "
                                         "new values, if incompatible_keys need to be modified, it should be done inplace.")
        load(self, state, "")
        if strict:
            for title, keys in (("Unexpected", unexpected), ("Missing", missing)):
                if keys:
                    errors.insert(0, f"{title} key(s) in state_dict: " + ", ".join(f'"{k}"' for k in keys) + ". ")
        if errors:
            raise StateDictError(f"Error(s) in loading state_dict for {type(self).__name__}:\n\t" + "\n\t".join(errors))
        return IncompatibleKeys(missing, unexpected)

    def _load_from_state_dict(self: Any, state_dict: Any, prefix: str, local_metadata: Any, strict: bool,
                              missing_keys: list[str], unexpected_keys: list[str], error_msgs: list[str]) -> None:
        for hook, with_module in self._load_state_dict_pre_hooks.values():
            given = (state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
            hook(self, *given) if with_module else hook(*given)
        own = dict(self._own_state())
        assign = bool(local_metadata.get("assign_to_params_buffers", False))
        for name, value in own.items():
            key = prefix + name
            if key in state_dict:
                self._load_one(name, value, key, state_dict[key], assign, error_msgs)
            elif strict:
                missing_keys.append(key)
        extra = prefix + EXTRA_STATE
        if type(self).set_extra_state is not ModuleState.set_extra_state:
            if extra in state_dict:
                self.set_extra_state(state_dict[extra])
            elif strict:
                missing_keys.append(extra)
        elif strict and extra in state_dict:
            unexpected_keys.append(extra)
        if strict:
            self._note_unexpected(state_dict, prefix, own, unexpected_keys)

    def _note_unexpected(self: Any, state_dict: Any, prefix: str, own: dict[str, Any], unexpected_keys: list[str]) -> None:
        for key in state_dict:
            if key.startswith(prefix) and key != prefix + EXTRA_STATE:
                first, dot, _ = key[len(prefix):].partition(".")
                if first not in (self._modules if dot else own):
                    unexpected_keys.append(key)

    def _load_one(self: Any, name: str, value: Any, key: str, given: Any, assign: bool, error_msgs: list[str]) -> None:
        """Copy (or assign) one entry; what does not fit is noted in ``error_msgs``."""
        if not isinstance(given, Handle):
            error_msgs.append(f'While copying the parameter named "{key}", expected torsh.Tensor or Tensor-like object from '
                              f"checkpoint but received {type(given)}")
            return
        new: Any = given
        if not is_lazy(value):
            if not value.ndim and tuple(new.shape) == (1,):         # checkpoints of old versions kept numbers as vectors
                new = new[0]
            if tuple(value.shape) != tuple(new.shape):
                error_msgs.append(f"size mismatch for {key}: copying a param with shape {new.shape} from checkpoint, the shape in "
                                  f"current model is {value.shape}.")
                return
        try:
            with no_grad():
                if assign:
                    self._assign_state(name, value, new)
                else:
                    value.copy_(new)
        except Exception as error:
            error_msgs.append(f'While copying the parameter named "{key}", whose dimensions in the model are {value.size()} and '
                              f"whose dimensions in the checkpoint are {new.size()}, an exception occurred : {error.args}.")

    def _assign_state(self: Any, name: str, value: Any, new: Any) -> None:
        if isinstance(value, Parameter):
            if isinstance(new, Parameter):
                new.requires_grad_(value.requires_grad)
            else:
                new = Parameter(new, requires_grad=value.requires_grad)
        (self._parameters if name in self._parameters else self._buffers)[name] = new
        Structure.changed()
