"""``name_copy``: the functions that give views, with copies in place of views."""
from __future__ import annotations

from typing import Any, Final

from torsh.tensor import conversion, shaping, splitting  # noqa: F401  (they declare the views)
from torsh.tensor.function import METHODS, NAMESPACES, function

_VIEWS: Final = ("as_strided", "detach", "diagonal", "expand", "permute", "select", "split", "split_with_sizes", "squeeze", "t",
                 "transpose", "unbind", "unfold", "unsqueeze", "view", "view_as_complex", "view_as_real")


def _copied(result: Any) -> Any:
    return tuple([_copied(r) for r in result]) if isinstance(result, (tuple, list)) else result.clone()


def _copy_function(name: str) -> None:
    view = METHODS.get(name) or NAMESPACES[""][name]

    def fn(input: Any, *args: Any, **kwargs: Any) -> Any:
        return _copied(view(input, *args, **kwargs))
    fn.__name__ = name + "_copy"
    fn.__doc__ = f"A copy of what ``{name}`` gives as a view."
    function(name + "_copy", method=False)(fn)


for _name in _VIEWS:
    if _name in METHODS or _name in NAMESPACES[""]:
        _copy_function(_name)


@function("alias_copy", method=False)
def alias_copy(input: Any) -> Any:
    """A copy of the tensor."""
    return input.clone()


@function("slice_copy", method=False)
def slice_copy(input: Any, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Any:
    """A copy of a slice of one dimension."""
    return input[(slice(None),) * (dim % max(input.ndim, 1)) + (slice(start, end, step),)].clone()
