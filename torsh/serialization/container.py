"""The safetensors format: an 8-byte length, a JSON header (name -> dtype, shape, place) and the bytes of the tensors.

Everything in a header is checked before a byte of data is used: sizes against the file, places against each other, and
numbers of bytes against shapes.
"""
from __future__ import annotations

import io
import json
import math
import mmap
import os
import struct
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import ml_dtypes
import numpy as np

from torsh.core.errors import SerializationError

HEADER_LIMIT: Final = 100_000_000
ALIGNMENT: Final = 64
RANK_LIMIT: Final = 64
NAMES: Final = {
    np.dtype(np.bool_): "BOOL", np.dtype(np.uint8): "U8", np.dtype(np.int8): "I8", np.dtype(np.int16): "I16",
    np.dtype(np.int32): "I32", np.dtype(np.int64): "I64", np.dtype(np.float16): "F16", np.dtype(ml_dtypes.bfloat16): "BF16",
    np.dtype(np.float32): "F32", np.dtype(np.float64): "F64"}
DTYPES: Final = {name: dtype for dtype, name in NAMES.items()}


class Entry(NamedTuple):
    """Where a tensor lies in a file."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int              # from the beginning of the file
    nbytes: int


class Source:
    """Something to read from, with its size known."""

    def __init__(self, file: Any, name: str, mapped: bool) -> None:
        self.name = name
        self.file = file
        self.origin = 0
        self.view: Any = None
        try:
            self.origin = file.tell()
            self.size = file.seek(0, os.SEEK_END) - self.origin
        except (OSError, AttributeError, io.UnsupportedOperation):      # a stream: read it all
            data = file.read()
            self.file, self.origin, self.size = io.BytesIO(data), 0, len(data)
        if mapped and self.size:
            # Private: what programs write into the tensors does not reach the file.
            self.view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))

    def read(self, start: int, count: int) -> bytes:
        """Bytes of the file; raises if they are not there."""
        self.file.seek(self.origin + start)
        data = self.file.read(count)
        if len(data) != count:
            raise SerializationError(f"load: {self.name} is truncated: {count} bytes expected at {start}, found {len(data)}")
        return bytes(data)

    def array(self, entry: Entry) -> np.ndarray[Any, Any]:
        """A tensor's contents as a writable array: mapped, or read."""
        if self.view is not None:
            raw = np.frombuffer(self.view[entry.start:entry.start + entry.nbytes], np.uint8)
            if entry.nbytes and raw.__array_interface__["data"][0] % entry.dtype.itemsize:
                raw = raw.copy()
        else:
            raw = np.empty(entry.nbytes, np.uint8)
            self.file.seek(self.origin + entry.start)
            if entry.nbytes and read_into(self.file, raw.data) != entry.nbytes:
                raise SerializationError(f"load: {self.name} is truncated: {entry.nbytes} bytes expected at {entry.start}")
        if entry.dtype == np.bool_ and entry.nbytes and raw.max() > 1:
            raise SerializationError(f"load: {self.name} holds a bool tensor with values that are neither 0 nor 1")
        return raw.view(entry.dtype).reshape(entry.shape)


def read_into(file: Any, target: memoryview) -> int:
    """Fill a buffer from a file; the number of bytes that came."""
    done = 0
    if hasattr(file, "readinto"):
        while done < len(target):
            count = file.readinto(target[done:])
            if not count:
                break
            done += count
        return done
    data = file.read(len(target))
    target[:len(data)] = data
    return len(data)


def pack(arrays: dict[str, np.ndarray[Any, Any]], metadata: dict[str, str]) -> Iterator[Any]:
    """The parts of a file, in order. Large elements come first, so that every tensor is aligned."""
    order = sorted(arrays, key=lambda name: -arrays[name].dtype.itemsize)
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name in order:
        a = arrays[name]
        header[name] = {"dtype": NAMES[a.dtype], "shape": list(a.shape), "data_offsets": [end, end + a.nbytes]}
        end += a.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(len(text) + 8) % ALIGNMENT)
    if len(text) > HEADER_LIMIT:
        raise SerializationError(f"save: the structure takes {len(text)} bytes, more than the format's {HEADER_LIMIT}: "
                                 "put large bytes objects and lists of numbers into tensors")
    yield struct.pack("<Q", len(text))
    yield text
    for name in order:
        a = np.ascontiguousarray(arrays[name])
        if a.nbytes:
            yield a.reshape(-1).view(np.uint8).data


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise SerializationError("load: the header names something twice")
    return result


def read_header(source: Source) -> tuple[dict[str, Entry], dict[str, Any]]:
    """(entries, metadata) of a file, all checked."""
    if source.size < 8:
        raise SerializationError(f"load: {source.name} is no safetensors file: it has {source.size} bytes, and the header's "
                                 "length alone takes 8")
    (length,) = struct.unpack("<Q", source.read(0, 8))
    if length > HEADER_LIMIT or length > source.size - 8:
        raise SerializationError(f"load: {source.name} is truncated or no safetensors file: a header of {length} bytes in "
                                 f"a file of {source.size}")
    try:
        header = json.loads(source.read(8, length).decode(), object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise SerializationError(f"load: {source.name} has a header that is no JSON: {error}") from None
    if not isinstance(header, dict):
        raise SerializationError(f"load: {source.name} has a header that is no JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        raise SerializationError(f"load: {source.name} has metadata that is no JSON object")
    start, room = 8 + length, source.size - 8 - length
    entries = {name: _entry(source.name, name, value, start, room) for name, value in header.items()}
    _check_places(source.name, entries, start, room)
    return entries, metadata


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _entry(file: str, name: str, value: Any, start: int, room: int) -> Entry:
    """A checked entry of a header."""
    where = f"load: {file}, tensor {name!r}: "
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise SerializationError(where + "an entry has dtype, shape and data_offsets")
    dtype, shape, offsets = DTYPES.get(str(value["dtype"])), value["shape"], value["data_offsets"]
    if dtype is None:
        raise SerializationError(where + f"dtype {value['dtype']!r} is not supported; supported are {', '.join(DTYPES)}")
    if not isinstance(shape, list) or len(shape) > RANK_LIMIT or not all(map(_is_size, shape)):
        raise SerializationError(where + f"{shape!r} is no shape")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_size, offsets)) or offsets[0] > offsets[1]:
        raise SerializationError(where + f"{offsets!r} is no pair of offsets")
    nbytes = offsets[1] - offsets[0]
    if offsets[1] > room:
        raise SerializationError(where + f"it ends at byte {offsets[1]} of {room}: the file is truncated")
    if math.prod(shape) * dtype.itemsize != nbytes:
        raise SerializationError(where + f"shape {shape} of {value['dtype']} takes {math.prod(shape) * dtype.itemsize} "
                                 f"bytes, the entry has {nbytes}")
    return Entry(dtype, tuple(shape), start + offsets[0], nbytes)


def _check_places(file: str, entries: dict[str, Entry], start: int, room: int) -> None:
    """Raise unless the tensors fill the file without gaps and without overlap."""
    position = start
    for entry in sorted(entries.values(), key=lambda e: (e.start, e.nbytes)):
        if entry.start != position:
            raise SerializationError(f"load: {file}: tensors {'overlap' if entry.start < position else 'leave a gap'} at "
                                     f"byte {min(entry.start, position)}")
        position += entry.nbytes
    if position != start + room:
        raise SerializationError(f"load: {file} has {start + room - position} bytes that belong to no tensor")
