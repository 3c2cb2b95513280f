"""Lazy modules: parameters get their shapes from the first input."""
from __future__ import annotations

from typing import Any

from torsh.core.errors import AutogradError
from torsh.nn.parameter import is_lazy


class LazyModuleMixin:
    """Makes a module whose parameters have no shape until the first call.

    A subclass names the class to become (``cls_to_become``) and implements ``initialize_parameters(*args)``, which gives its
    uninitialized parameters a shape. The first call does this and turns the module into ``cls_to_become``.

    Example::

        >>> import torsh
        >>> layer = torsh.nn.LazyLinear(3)
        >>> layer(torsh.ones(2, 5)).shape, type(layer).__name__, layer.in_features
        (torsh.Size([2, 3]), 'Linear', 5)
    """

    cls_to_become: Any = None

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[call-arg]
        self._register_load_state_dict_pre_hook(_load_lazily, with_module=True)
        self.register_forward_pre_hook(_initialize_first, with_kwargs=True)

    def initialize_parameters(self: Any, *args: Any, **kwargs: Any) -> None:
        """Give the parameters a shape that fits the arguments of the first call."""
        raise NotImplementedError(f"initialize_parameters is not implemented for {type(self).__name__}: a lazy module has to override it")

    def has_uninitialized_params(self: Any) -> bool:
        """Is there a parameter or buffer without a shape?"""
        return any(is_lazy(t) for t in (*self._parameters.values(), *self._buffers.values()))


def _load_lazily(module: Any, state_dict: Any, prefix: str, *rest: Any) -> None:
    """Give parameters without shape the shapes of the entries that are about to be loaded."""
    for name, value in (*module._parameters.items(), *module._buffers.items()):
        given = state_dict.get(prefix + name)
        if given is not None and is_lazy(value) and not is_lazy(given):
            value.materialize(given.shape)


def _initialize_first(module: Any, args: Any, kwargs: Any) -> None:
    """Before the first forward: infer the shapes, and become an ordinary module."""
    module.initialize_parameters(*args, **kwargs)
    if module.has_uninitialized_params():
        raise AutogradError(f"module {module._get_name()} has not been fully initialized")
    for hooks, own in ((module._forward_pre_hooks, _initialize_first), (module._load_state_dict_pre_hooks, _load_lazily)):
        for key in [key for key, (hook, _) in hooks.items() if hook is own]:
            del hooks[key]
    if not (module._forward_pre_hooks or module._forward_hooks or module._backward_hooks or module._backward_pre_hooks):
        module.__dict__.pop("_has_hooks", None)         # calls need not look for hooks any more
    if module.cls_to_become is not None:
        module.__class__ = module.cls_to_become
