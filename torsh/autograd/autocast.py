"""Automatic mixed precision: inside of :class:`autocast`, products run in lower precision and losses in float32."""
from __future__ import annotations

import functools
import warnings
from typing import Any, Final

from torsh.core.device import device
from torsh.core.dtype import DType, bfloat16, float16
from torsh.core.errors import ArgumentTypeError
from torsh.ops.autocast import memos_for
from torsh.ops.expr import recording

_SUPPORTED: Final = {"cpu": (bfloat16, float16)}
_default: Final[dict[str, DType]] = {"cpu": bfloat16}


def is_autocast_available(device_type: str) -> bool:
    """Can operations on this type of device be autocast?"""
    return device(device_type).type in _SUPPORTED


def is_autocast_enabled(device_type: str | None = None) -> bool:
    """Is autocast on in this thread, for this type of device ("cuda" if not given, as in PyTorch)?"""
    return device(device_type or "cuda").type == "cpu" and recording.autocast is not None


def get_autocast_dtype(device_type: str) -> DType:
    """The lower precision that autocast uses on this type of device."""
    kind = device(device_type).type
    if kind not in _default:
        raise ArgumentTypeError(f"autocast is not available for device type {kind!r} in this build; use 'cpu'")
    return recording.autocast or _default[kind]


class autocast:  # noqa: N801 - PyTorch's name
    """Context manager and decorator: matrix products, convolutions and attention take their operands in lower precision, losses
    in float32, whatever the dtype of the tensors; other operations compute in the dtype that they are given.

    Args:
        device_type: ``"cpu"``.
        dtype: bfloat16 (the default) or float16; with another one, autocast is off and a warning says so.
        enabled: False switches autocast off inside.
        cache_enabled: accepted; a tensor that several operations take is converted once in any case.

    Backward runs in the dtypes of forward, inside of the region or after it. Raises RuntimeError for an unknown device type.

    Example::

        >>> import torsh
        >>> layer, x = torsh.nn.Linear(4, 2), torsh.ones(3, 4)
        >>> with torsh.autocast("cpu"):
        ...     layer(x).dtype
        torsh.bfloat16
    """

    def __init__(self, device_type: str, dtype: DType | None = None, enabled: bool = True,
                 cache_enabled: bool | None = None) -> None:
        if not isinstance(device_type, str):
            raise ArgumentTypeError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
        self.device = device(device_type).type
        self.fast_dtype = _default.get(self.device, float16) if dtype is None else dtype
        self._enabled = bool(enabled)
        self._cache_enabled = cache_enabled is not False
        self._saved: list[DType | None] = []
        supported = _SUPPORTED.get(self.device)
        if supported is None:
            if self._enabled:
                warnings.warn(f"User provided device_type of '{self.device}', but {self.device.upper()} is not available. "
                              "Disabling", UserWarning, stacklevel=2)
            self._enabled = False
        elif self._enabled and self.fast_dtype not in supported:
            warnings.warn(f"In {self.device.upper()} autocast, but the target dtype is not supported. Disabling autocast.\n"
                          f"{self.device.upper()} Autocast only supports dtypes of "
                          f"{', '.join(f'torch.{d.name}' for d in supported)} currently.", UserWarning, stacklevel=2)
            self._enabled = False

    def __enter__(self) -> Any:
        self._saved.append(recording.autocast)
        if self.device == "cpu":
            _switch(self.fast_dtype if self._enabled else None)
        return self

    def __exit__(self, *exc: object) -> None:
        _switch(self._saved.pop())

    def __call__(self, fn: Any) -> Any:
        @functools.wraps(fn)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self:
                return fn(*args, **kwargs)
        return wrapped


def _switch(dtype: DType | None) -> None:
    recording.autocast = dtype
    recording.memos = memos_for(dtype)
    recording.memo = recording.memos[recording.grad_enabled]


def custom_fwd(fwd: Any = None, *, device_type: str, cast_inputs: DType | None = None) -> Any:
    """Decorator of the forward of a custom autograd function: with ``cast_inputs``, floating-point arguments come in that dtype
    and autocast is off inside, where it is on outside."""
    if fwd is None:
        return functools.partial(custom_fwd, device_type=device_type, cast_inputs=cast_inputs)

    @functools.wraps(fwd)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        args[0]._autocast = recording.autocast
        if cast_inputs is None or not is_autocast_enabled(device_type):
            return fwd(*args, **kwargs)
        with autocast(device_type, enabled=False):
            return fwd(*_cast(args, cast_inputs), **_cast(kwargs, cast_inputs))
    return decorated


def custom_bwd(bwd: Any = None, *, device_type: str) -> Any:
    """Decorator of the backward of a custom autograd function: it runs under the autocast that its forward ran under."""
    if bwd is None:
        return functools.partial(custom_bwd, device_type=device_type)

    @functools.wraps(bwd)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        dtype = getattr(args[0], "_autocast", None)
        with autocast(device_type, dtype, enabled=dtype is not None):
            return bwd(*args, **kwargs)
    return decorated


def _cast(value: Any, dtype: DType) -> Any:
    """Floating-point tensors (but float64) in a nested value, in another dtype."""
    if isinstance(value, dict):
        return {k: _cast(v, dtype) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([_cast(v, dtype) for v in value])
    eligible = hasattr(value, "_expr") and value.dtype.category == 2 and value.dtype.name != "float64"
    return value.to(dtype) if eligible else value


__all__ = ["autocast", "custom_bwd", "custom_fwd", "get_autocast_dtype", "is_autocast_available", "is_autocast_enabled"]
