"""Calls of modules with other parameters than their own."""
from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torsh.core.errors import InvalidArgumentError
from torsh.nn.modules.module import Module
from torsh.nn.modules.module_state import StateDictError


def _named(module: Module) -> dict[str, Any]:
    """All parameters and buffers, tied ones under each of their names."""
    return {**dict(module.named_parameters(remove_duplicate=False)), **dict(module.named_buffers(remove_duplicate=False))}


def _with_tied(module: Module, given: dict[str, Any]) -> dict[str, Any]:
    """The given tensors under all names of the parameters that they stand for."""
    ties: dict[int, list[str]] = {}
    for name, tensor in _named(module).items():
        ties.setdefault(id(tensor), []).append(name)
    out = dict(given)
    for names in ties.values():
        values = [given[name] for name in names if name in given]
        if len({id(v) for v in values}) > 1:
            raise InvalidArgumentError(f"functional_call got multiple values for keys {sorted(names)}, which are tied. Consider using "
                                       "tie_weights=False")
        if values:
            out.update(dict.fromkeys(names, values[0]))
    return out


def _check_keys(module: Module, given: dict[str, Any]) -> None:
    own = _named(module)
    problems = [f"{title} key(s): {', '.join(map(repr, keys))}." for title, keys in (
        ("Unexpected", [k for k in given if k not in own]), ("Missing", [k for k in own if k not in given])) if keys]
    if problems:
        raise StateDictError(f"Error(s) in reparametrizing for {module._get_name()}:\n\t" + "\n\t".join(problems))


def _place(module: Module, name: str) -> tuple[dict[str, Any], str]:
    """Where a tensor is kept: among the parameters or the buffers of the module that has it."""
    path, _, last = name.rpartition(".")
    owner = module.get_submodule(path)
    kept = next((d for d in (owner._parameters, owner._buffers) if last in d), None)
    return (owner.__dict__ if kept is None else kept), last


@contextmanager
def _swapped(module: Module, given: dict[str, Any], tied: dict[str, Any]) -> Iterator[None]:
    """Inside, the module has the given tensors; tensors that it replaced meanwhile are put into ``given``."""
    saved = []
    try:
        for name, value in tied.items():
            place, last = _place(module, name)
            saved.append((name, place, last, last in place, place.get(last)))
            place[last] = value
        yield
    finally:
        for name, place, last, known, old in reversed(saved):
            if name in given:
                given[name] = place.get(last)
            if known:
                place[last] = old
            else:
                place.pop(last, None)


def call_with(module: Module, parameters_and_buffers: dict[str, Any], args: Any = None, kwargs: dict[str, Any] | None = None, *,
              tie_weights: bool = True, strict: bool = False) -> Any:
    """The module's result with other tensors in the place of its parameters and buffers, by their dotted names.

    tie_weights: parameters that are shared stay shared. strict: raise RuntimeError unless exactly all are given.
    """
    tied = _with_tied(module, parameters_and_buffers) if tie_weights else dict(parameters_and_buffers)
    if strict:
        _check_keys(module, tied)
    values = () if args is None else args if isinstance(args, tuple) else (args,)
    with _swapped(module, parameters_and_buffers, tied):
        return module(*values, **(kwargs or {}))


def functional_call(module: Module, parameters_and_buffers: dict[str, Any], args: Any = None, kwargs: dict[str, Any] | None = None, *,
                    tie_weights: bool = True, strict: bool = False) -> Any:
    """:func:`call_with` under its old name; ``torsh.func.functional_call`` is the one to use."""
    warnings.warn("`torsh.nn.utils.stateless.functional_call` is deprecated: use `torsh.func.functional_call`.", FutureWarning,
                  stacklevel=2)
    return call_with(module, parameters_and_buffers, args, kwargs, tie_weights=tie_weights, strict=strict)


__all__ = ["functional_call"]
