"""Saving and loading: safetensors files that never hold code.

:func:`save` writes nested containers of tensors and plain values as one file in the safetensors format: tensors in its body,
the structure as JSON in its metadata. A ``dict[str, Tensor]`` (a state_dict) is an ordinary safetensors file, which other
programs read. :func:`load` reads these files, any other safetensors file, and the tensors in PyTorch's own checkpoints,
whose pickle is interpreted with an allow-list: nothing in a file is ever executed.
"""
from __future__ import annotations

import contextlib
import os
import tempfile
from typing import Any, Final

from torsh.core.device import require_available
from torsh.core.errors import SerializationError
from torsh.serialization.container import Source, pack, read_header
from torsh.serialization.structure import decode, encode
from torsh.serialization.torch_reader import is_torch_file, load_torch

__all__ = ["load", "save"]

MAP_FROM: Final = 256 * 2**20       # bytes from which files are mapped instead of read
_KEY: Final = "torsh"               # metadata entry with the structure


def save(obj: Any, f: Any, pickle_module: Any = None, pickle_protocol: int = 2,
         _use_new_zipfile_serialization: bool = True) -> None:
    """Save tensors and plain values to a path or a binary file object.

    ``obj`` may be a tensor, a number, text, bytes, None, a dtype, a device, a size, a NumPy array, or a dict, list, tuple or
    set of these. Tensors that share memory share it again when they are loaded. A file appears under its name only when it
    is complete. The pickle arguments are accepted and ignored: there is no pickle.

    Raises SerializationError (a RuntimeError) for anything else, such as modules: save their ``state_dict()``.
    """
    structure, arrays = encode(obj)
    parts = pack(arrays, {_KEY: structure, "format": "pt"})
    if hasattr(f, "write"):
        for part in parts:
            f.write(part)
        return
    write_file(os.fspath(f), parts)


def write_file(path: Any, parts: Any) -> None:
    """Write a file under a temporary name, make it durable, and rename it."""
    directory, name = os.path.split(os.path.abspath(path))
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{os.fsdecode(name)}.", suffix=".part", dir=directory)
    except OSError as error:
        raise SerializationError(f"save: can't write in the directory {os.fsdecode(directory)!r}: "
                                 f"{error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)      # mkstemp makes files that only their owner can read
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise SerializationError(f"save: can't write {os.fsdecode(path)!r}: {error.strerror}") from error
        raise
    with contextlib.suppress(OSError):          # the name itself, where the system can make that durable
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def load(f: Any, map_location: Any = None, pickle_module: Any = None, *, weights_only: bool | None = None,
         mmap: bool | None = None, **pickle_load_args: Any) -> Any:
    """Load what :func:`save` wrote, a safetensors file, or a PyTorch checkpoint, from a path or a binary file object.

    Args:
        map_location: device for the tensors; tensors of devices that are not there come to the CPU.
        mmap: map the file instead of reading it (pages are read when they are needed; by default for large files).
        weights_only, pickle_module: accepted; loading never executes code in any case.

    Raises FileNotFoundError, and SerializationError (a RuntimeError) for files that are truncated, corrupted, or hold
    something that can't be loaded safely.
    """
    if map_location is not None and not callable(map_location) and not isinstance(map_location, dict):
        require_available(map_location)
    with contextlib.ExitStack() as stack:
        if hasattr(f, "read"):
            source = Source(f, "the file object", mapped=False)
        else:
            file = stack.enter_context(open(f, "rb"))
            large = os.fstat(file.fileno()).st_size >= MAP_FROM
            source = Source(file, repr(os.fsdecode(f)), mapped=large if mmap is None else mmap)
        if is_torch_file(source):
            return load_torch(source)
        header, metadata = read_header(source)
        arrays = {name: source.array(entry) for name, entry in header.items()}
    return decode(metadata.get(_KEY), arrays, source.name)
