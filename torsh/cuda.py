"""``torsh.cuda`` as programs that choose their device see it: there is no CUDA device in this version.

Questions are answered truthfully (no device, no memory in use), and seeding or emptying caches of no device does nothing, as in
PyTorch without CUDA. What needs a device raises :class:`torsh.core.errors.DeviceNotAvailableError`.

Example::

    >>> import torsh
    >>> "cuda" if torsh.cuda.is_available() else "cpu"
    'cpu'
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from torsh.core.device import device, require_available
from torsh.core.errors import ArgumentTypeError


def is_available() -> bool:
    """Can tensors be put on a CUDA device?"""
    return device.cuda().is_available()


def device_count() -> int:
    """Number of CUDA devices."""
    return int(is_available())


def is_initialized() -> bool:
    """Has a CUDA device been used?"""
    return False


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """Does the current CUDA device compute with bfloat16?"""
    return is_available()


def get_arch_list() -> list[str]:
    """CUDA architectures that this build has code for."""
    return []


def get_rng_state_all() -> list[Any]:
    """States of the generators of all CUDA devices."""
    return []


def empty_cache() -> None:
    """Give unused memory of CUDA devices back."""


def _seed(name: str, doc: str) -> Callable[[int], None]:
    def seed(seed: int) -> None:
        if not isinstance(seed, int):
            raise ArgumentTypeError(f"{name}(): seed must be int, not {type(seed).__name__}")
    seed.__name__, seed.__doc__ = name, doc
    return seed


manual_seed = _seed("manual_seed", "Seed the generator of the current CUDA device.")
manual_seed_all = _seed("manual_seed_all", "Seed the generators of all CUDA devices.")


def seed_all() -> None:
    """Seed the generators of all CUDA devices with random numbers."""


def _bytes(name: str) -> Callable[..., int]:
    def count(device: Any = None) -> int:
        return 0
    count.__name__ = name
    count.__doc__ = f"{name.replace('_', ' ').capitalize()} on a CUDA device, in bytes."
    return count


memory_allocated, max_memory_allocated, memory_reserved, max_memory_reserved = map(
    _bytes, ("memory_allocated", "max_memory_allocated", "memory_reserved", "max_memory_reserved"))


def _needs_device(name: str) -> Callable[..., NoReturn]:
    def function(*args: Any, **kwargs: Any) -> NoReturn:
        require_available("cuda")
        raise AssertionError("unreachable: no CUDA device is available in this version")
    function.__name__ = name
    function.__doc__ = f"``{name}`` of a CUDA device; raises DeviceNotAvailableError, because there is none."
    return function


(synchronize, current_device, get_device_name, get_device_capability, get_device_properties, set_device, init, current_stream,
 mem_get_info, reset_peak_memory_stats, initial_seed, get_rng_state, set_rng_state) = map(_needs_device, (
     "synchronize", "current_device", "get_device_name", "get_device_capability", "get_device_properties", "set_device", "init",
     "current_stream", "mem_get_info", "reset_peak_memory_stats", "initial_seed", "get_rng_state", "set_rng_state"))
