"""ToRSh: PyTorch's API, in pure Python, recorded and compiled.

Change one import, ``import torsh as torch``, and a PyTorch program keeps working. Operations are recorded and run as compiled
programs when values are needed; see ``docs/architecture.md``.
"""
from __future__ import annotations

import importlib
import math as _math
from typing import Any

# The op table comes first: everything else looks operations up in it.
import torsh.ops
import torsh.functional.activation
import torsh.linalg
from torsh import autograd
from torsh.autograd import enable_grad, inference_mode, is_grad_enabled, is_inference_mode_enabled, no_grad, set_grad_enabled
from torsh.autograd.autocast import autocast, get_autocast_dtype, is_autocast_available, is_autocast_enabled
from torsh.core import errors
from torsh.core.device import Device, device
from torsh.core.dtype import (
    DType,
    bfloat16,
    complex64,
    complex128,
    float16,
    float32,
    float64,
    get_default_dtype,
    int8,
    int16,
    int32,
    int64,
    set_default_dtype,
    uint8,
)
from torsh.core.dtype import (
    bool_ as bool,
)
from torsh.core.errors import (
    AutogradError,
    CompileError,
    DeviceMismatchError,
    DeviceNotAvailableError,
    DistributedError,
    DTypeError,
    IndexOutOfRangeError,
    InvalidArgumentError,
    OutOfMemoryError,
    SerializationError,
    ShapeMismatchError,
    TorshError,
)
from torsh.core.formats import (
    channels_last,
    channels_last_3d,
    contiguous_format,
    layout,
    memory_format,
    preserve_format,
    sparse_coo,
    sparse_csr,
    strided,
)
from torsh.core.settings import (
    are_deterministic_algorithms_enabled,
    get_default_device,
    get_float32_matmul_precision,
    is_deterministic_algorithms_warn_only_enabled,
    set_default_device,
    set_float32_matmul_precision,
    use_deterministic_algorithms,
)
from torsh.core.size import Size
from torsh.graph.capture import compile_step as compile
from torsh.graph.runtime import (
    explain,
    get_num_interop_threads,
    get_num_threads,
    set_num_interop_threads,
    set_num_threads,
    synchronize,
    use_backend,
)
from torsh.graph.window import statistics as _statistics
from torsh.tensor import NAMESPACES as _NAMESPACES
from torsh.tensor import Tensor
from torsh.tensor.generator import Generator, default_generator, manual_seed
from torsh.version import __version__

half, float, double = float16, float32, float64
short, int, long = int16, int32, int64
cfloat, cdouble = complex64, complex128
dtype = DType
Shape = Size
pi, e, inf, nan, newaxis = _math.pi, _math.e, _math.inf, _math.nan, None

globals().update(_NAMESPACES[""])

# Subpackages that are imported when they are first used, so that `import torsh` stays quick.
_LAZY = {"nn", "optim", "utils", "data", "linalg", "special", "fft", "jit", "fx", "profiler", "hub", "testing", "random", "func",
         "backends", "cuda", "prelude", "amp", "distributions", "serialization", "memory", "version", "training", "sparse"}
_FROM_MODULES = {"save": "torsh.serialization", "load": "torsh.serialization"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        try:
            return importlib.import_module(f"torsh.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"torsh.{name}":
                raise
    if name in _FROM_MODULES:
        value = getattr(importlib.import_module(_FROM_MODULES[name]), name)
        globals()[name] = value
        return value
    functional = importlib.import_module("torsh.nn.functional")
    if name in getattr(functional, "TORCH_NAMES", ()):
        value = getattr(functional, name)
        globals()[name] = value
        return value
    if name in _NAMESPACES[""]:         # declared by a family of functions that has just been loaded
        value = _NAMESPACES[""][name]
        globals()[name] = value
        return value
    raise AttributeError(f"module 'torsh' has no attribute {name!r}")


def is_storage(obj: Any) -> Any:
    """Storages are not exposed as objects: always False."""
    return False


def finfo(type: DType | None = None) -> Any:
    """Limits of a floating-point dtype (``eps``, ``max``, ``min``, ``tiny``, ``bits``)."""
    from torsh.core.limits import finfo as make
    return make(type or get_default_dtype())


def iinfo(type: DType) -> Any:
    """Limits of an integer dtype (``max``, ``min``, ``bits``)."""
    from torsh.core.limits import iinfo as make
    return make(type)
