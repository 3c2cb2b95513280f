"""Settings of PyTorch that programs make, and that ToRSh fulfils whatever they are.

ToRSh computes matrix products of float32 in float32, and all of its algorithms are deterministic.
"""
from __future__ import annotations

from typing import Any, Final

from torsh.core.device import device, require_available
from torsh.core.errors import InvalidArgumentError

_PRECISIONS: Final = ("highest", "high", "medium")
_state: Final[dict[str, Any]] = {"precision": "highest", "deterministic": False, "warn_only": False, "device": device("cpu")}


def set_float32_matmul_precision(precision: str) -> None:
    """Allow matrix products of float32 less precision: ``"highest"`` (default), ``"high"`` or ``"medium"``; more is given."""
    if precision not in _PRECISIONS:
        raise InvalidArgumentError(f"{precision} is not one of 'highest', 'high', or 'medium'")
    _state["precision"] = precision


def get_float32_matmul_precision() -> str:
    """What :func:`set_float32_matmul_precision` was called with last."""
    return str(_state["precision"])


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Ask for deterministic algorithms; ToRSh has no others."""
    _state["deterministic"], _state["warn_only"] = bool(mode), bool(warn_only)


def are_deterministic_algorithms_enabled() -> bool:
    """Has :func:`use_deterministic_algorithms` asked for them?"""
    return bool(_state["deterministic"])


def is_deterministic_algorithms_warn_only_enabled() -> bool:
    """Has :func:`use_deterministic_algorithms` asked for warnings only?"""
    return bool(_state["deterministic"] and _state["warn_only"])


def set_default_device(device: Any) -> None:
    """The device of new tensors; None: the CPU. Raises DeviceNotAvailableError for those that are not there."""
    _state["device"] = require_available("cpu" if device is None else device)


def get_default_device() -> device:
    """The device of new tensors."""
    return _state["device"]  # type: ignore[no-any-return]
