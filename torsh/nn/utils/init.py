"""Modules without initialisation."""
from __future__ import annotations

import inspect
from typing import Any

from torsh.core.errors import AutogradError
from torsh.nn.modules.module import Module
from torsh.tensor.generator import default_generator


def skip_init(module_cls: Any, *args: Any, **kwargs: Any) -> Any:
    """A module whose parameters are not drawn: their contents are undefined. Takes the arguments of ``module_cls``.

    Raises RuntimeError for classes that are no modules or do not take ``device``.
    """
    if not (isinstance(module_cls, type) and issubclass(module_cls, Module)):
        raise AutogradError(f"Expected a Module; got {module_cls}")
    if not _takes_device(module_cls):
        raise AutogradError("Module must support a 'device' arg to skip initialization")
    # Values are computed late: what is drawn here and replaced at once is never computed. The generator stays as it was.
    state = default_generator.get_state()
    module = module_cls(*args, **kwargs)
    default_generator.set_state(state)
    return module.to_empty(device=kwargs.get("device"))


def _takes_device(module_cls: Any) -> bool:
    """Does the constructor, or one that it passes its keywords to, take ``device``?"""
    for cls in module_cls.__mro__:
        if "__init__" in vars(cls):
            parameters = inspect.signature(cls.__init__).parameters
            if "device" in parameters:
                return True
            if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
                return False
    return False


__all__ = ["skip_init"]
