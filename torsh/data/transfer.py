"""Batches between processes: tensors travel as raw bytes beside a pickle, large ones through files in shared memory.

The receiving side maps such a file and removes its name at once, so nothing is copied and nothing is left behind.
"""
from __future__ import annotations

import contextlib
import mmap
import os
import pickle
import tempfile
from typing import Any, Final

import numpy as np

from torsh.backend.base import Storage, address_of
from torsh.core.dtype import dtype_by_name
from torsh.tensor.tensor import Tensor, from_storage

INLINE_LIMIT: Final = 1 << 16       # bytes up to which a pipe is as fast as a mapped file
ALIGNMENT: Final = 64


class _Pickler(pickle.Pickler):
    """Takes tensors out of the stream; the parent gets them as (number of the buffer, dtype, shape, requires_grad)."""

    def __init__(self, file: Any) -> None:
        super().__init__(file, protocol=5)
        self.arrays: list[np.ndarray[Any, Any]] = []

    def persistent_id(self, obj: Any) -> Any:
        """Tensors are handed over by number."""
        if not isinstance(obj, Tensor):
            return None
        self.arrays.append(np.ascontiguousarray(obj.detach()._ndarray()))
        return len(self.arrays) - 1, obj.dtype.name, tuple(obj.shape), obj.requires_grad


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Any, buffers: list[Any]) -> None:
        super().__init__(file)
        self.buffers = buffers

    def persistent_load(self, pid: Any) -> Any:
        """Make a tensor over the bytes of a buffer."""
        number, name, shape, requires_grad = pid
        dtype = dtype_by_name(name)
        array = np.frombuffer(self.buffers[number], np.uint8).view(dtype.numpy).reshape(shape)
        storage = Storage(address_of(array), array.nbytes, array)
        t = from_storage(storage, shape, dtype)
        return t.requires_grad_() if requires_grad else t


def shared_directory() -> str | None:
    """A new directory for files in memory; None where the system has no such place."""
    if not os.path.isdir("/dev/shm"):
        return None
    with contextlib.suppress(OSError):
        return tempfile.mkdtemp(prefix="torsh-loader-", dir="/dev/shm")
    return None


def send(connection: Any, message: Any, directory: str | None, name: str) -> None:
    """Send a message with tensors in it."""
    import io
    stream = io.BytesIO()
    pickler = _Pickler(stream)
    pickler.dump(message)
    arrays = pickler.arrays
    sizes = [a.nbytes for a in arrays]
    path = None
    if directory is not None and sum(sizes) > INLINE_LIMIT:
        path = write_file(os.path.join(directory, name), arrays)
    connection.send((path, sizes))
    connection.send_bytes(stream.getbuffer())
    if path is None:
        for a in arrays:
            if a.nbytes:
                connection.send_bytes(a.reshape(-1).view(np.uint8).data)


def write_file(path: str, arrays: list[np.ndarray[Any, Any]]) -> str | None:
    """Write arrays one after the other, aligned; None (and no file) if there is no room."""
    try:
        with open(path, "xb", buffering=0) as file:
            for a in arrays:
                data = a.reshape(-1).view(np.uint8).data
                done = 0
                while done < a.nbytes:
                    done += file.write(data[done:])
                file.write(b"\0" * (-a.nbytes % ALIGNMENT))
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(path)
        return None
    return path


def receive(connection: Any) -> Any:
    """Receive a message of :func:`send`."""
    import io
    path, sizes = connection.recv()
    stream = connection.recv_bytes()
    if path is None:
        buffers: list[Any] = [bytearray(connection.recv_bytes()) if n else bytearray() for n in sizes]
    else:
        buffers = mapped(path, sizes)
    return _Unpickler(io.BytesIO(stream), buffers).load()


def mapped(path: str, sizes: list[int]) -> list[Any]:
    """The pieces of a file in memory; its name is gone afterwards."""
    with open(path, "r+b") as file:
        os.unlink(path)
        # Private: the writer is done with it, and pages are only copied if somebody writes to them.
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    buffers, start = [], 0
    for n in sizes:
        buffers.append(view[start:start + n])
        start += n + -n % ALIGNMENT
    return buffers
