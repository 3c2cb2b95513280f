"""Devices: where tensors live."""
from __future__ import annotations

import os
import platform
import re
from typing import Any, Final

from torsh.core.errors import ArgumentTypeError, DeviceNotAvailableError, TorshError

KNOWN_TYPES: Final = ("cpu", "cuda", "mps", "metal", "webgpu", "meta", "xpu")


class DeviceNameError(TorshError, RuntimeError):
    """A string that names no device."""


class device:  # noqa: N801 - PyTorch's name
    """A device: a type (``"cpu"``) and an optional index.

    Example::

        >>> import torsh
        >>> torsh.device("cpu").type
        'cpu'
    """

    __slots__ = ("type", "index")

    def __init__(self, type: Any = "cpu", index: int | None = None) -> None:
        if isinstance(type, device):
            self.type: str = type.type
            self.index: int | None = type.index
            return
        if isinstance(type, int):
            type, index = "cuda", type
        if not isinstance(type, str):
            raise ArgumentTypeError(f"device(): argument 'type' must be str, not {type.__class__.__name__}")
        match = re.fullmatch(r"([a-z]+)(?::(\d+))?", type)
        if match is None or match[1] not in KNOWN_TYPES:
            raise DeviceNameError(f"Expected one of {', '.join(KNOWN_TYPES)} device type at start of device string: {type}")
        if match[2] is not None and index is not None:
            raise DeviceNameError(f"type (string) must not include an index because index was passed explicitly: {type}")
        self.type = match[1]
        self.index = int(match[2]) if match[2] is not None else index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, device) and (self.type, self.index) == (other.type, other.index)

    def __hash__(self) -> int:
        return hash((self.type, self.index))

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        index = "" if self.index is None else f", index={self.index}"
        return f"device(type='{self.type}'{index})"

    def __reduce__(self) -> tuple[Any, ...]:
        return device, (str(self),)

    # ToRSh's own spellings -------------------------------------------------------------------------------------------

    @classmethod
    def cpu(cls) -> device:
        """The CPU."""
        return cls("cpu")

    @classmethod
    def cuda(cls, index: int = 0) -> device:
        """CUDA device number ``index``."""
        return cls("cuda", index)

    @classmethod
    def cuda_if_available(cls) -> device:
        """CUDA device 0 where there is one, else the CPU."""
        candidate = cls("cuda", 0)
        return candidate if candidate.is_available() else cls("cpu")

    @classmethod
    def metal(cls) -> device:
        """Apple's GPU."""
        return cls("metal")

    @classmethod
    def webgpu(cls) -> device:
        """The WebGPU adapter."""
        return cls("webgpu")

    def is_available(self) -> bool:
        """Can tensors be put on this device by this build on this machine?"""
        return self.type == "cpu"

    def properties(self) -> dict[str, Any]:
        """Name, memory (GiB) and core count of the device."""
        require_available(self)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
        return {"name": platform.processor() or platform.machine(), "memory_gb": memory / 2**30,
                "cores": os.cpu_count() or 1, "compute_capability": None}


Device = device


def require_available(value: Any) -> device:
    """The device, or an error that says what to do if tensors can't be put there."""
    wanted = value if isinstance(value, device) else device(value)
    if not wanted.is_available():
        raise DeviceNotAvailableError(f"device {str(wanted)!r} is not available in this build of ToRSh: use device='cpu' "
                                      "(or Device.cuda_if_available() to choose automatically)")
    return wanted
