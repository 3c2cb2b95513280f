"""Reading PyTorch's checkpoints (zip files with a pickle inside) without executing anything in them.

A pickle is a program that can call any function that it can name. Here each name is looked up in a list of inert stand-ins;
any other name ends the loading with an error that says which it was. Tensors are first only descriptions, checked against
the sizes of the file's records, and made when everything has been read.
"""
from __future__ import annotations

import io
import math
import pickle
import struct
import zipfile
from collections import Counter, OrderedDict
from typing import Any, Final, NoReturn

import numpy as np

import torsh
from torsh.core.device import device as Device
from torsh.core.dtype import DType, dtype_by_name
from torsh.core.errors import SerializationError
from torsh.core.size import Size
from torsh.serialization.container import Source
from torsh.serialization.structure import DEPTH_LIMIT, tensor_over

_LEGACY_MAGIC: Final = 0x1950A86A20F9469CFC6C
_LEGACY_START: Final = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."      # the pickled magic number
_DTYPE_NAMES: Final = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64",
                       "complex64", "complex128")
_STORAGES: Final = {
    "FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8",
    "BoolStorage": "bool", "ComplexFloatStorage": "complex64", "ComplexDoubleStorage": "complex128", "UntypedStorage": None}


class _Inert:
    """Part of a file's contents that can neither be called nor changed by it."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> NoReturn:
        raise SerializationError(f"the pickle tries to change a {type(self).__name__.strip('_')}")


class _StorageType(_Inert):
    __slots__ = ("dtype",)
    dtype: str | None

    def __init__(self, dtype: str | None) -> None:
        object.__setattr__(self, "dtype", dtype)


class _Storage(_Inert):
    """Memory of tensors: the record ``key``, of elements of ``dtype`` (None: bytes)."""

    __slots__ = ("key", "dtype", "count")

    def __init__(self, key: str, dtype: str | None, count: int) -> None:
        self.key, self.dtype, self.count = key, dtype, count


class _TensorPart(_Inert):
    """Description of a tensor."""

    __slots__ = ("storage", "dtype", "offset", "shape", "strides", "requires_grad", "parameter")

    def __init__(self, storage: Any, offset: Any, shape: Any, strides: Any, requires_grad: Any, dtype: Any = None) -> None:
        name = dtype.name if isinstance(dtype, DType) else storage.dtype if isinstance(storage, _Storage) else None
        if not isinstance(storage, _Storage) or name is None:
            raise SerializationError("a tensor without a storage or without a dtype")
        sizes = (offset, *shape, *strides)
        if len(shape) != len(strides) or not all(type(n) is int and 0 <= n < 2**62 for n in sizes):
            raise SerializationError(f"a tensor with shape {shape!r}, strides {strides!r} and offset {offset!r}")
        self.storage, self.dtype, self.offset = storage, name, offset
        self.shape, self.strides = tuple(shape), tuple(strides)
        self.requires_grad, self.parameter = requires_grad is True, False


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, requires_grad: Any = False, hooks: Any = None,
                    metadata: Any = None) -> _TensorPart:
    return _TensorPart(storage, offset, shape, strides, requires_grad)


def _rebuild_tensor_v3(storage: Any, offset: Any, shape: Any, strides: Any, requires_grad: Any, hooks: Any, dtype: Any,
                       metadata: Any = None) -> _TensorPart:
    return _TensorPart(storage, offset, shape, strides, requires_grad, dtype)


def _rebuild_parameter(data: Any, requires_grad: Any = True, hooks: Any = None, state: Any = None) -> _TensorPart:
    if not isinstance(data, _TensorPart):
        raise SerializationError("a parameter that is no tensor")
    part = _TensorPart(data.storage, data.offset, data.shape, data.strides, requires_grad, dtype_by_name(data.dtype))
    part.parameter = True
    return part


def _encode_text(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "utf-8"):
        raise SerializationError("bytes in an unknown encoding")
    return text.encode(encoding)


_BUILDERS: Final[dict[tuple[str, str], Any]] = {
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _rebuild_tensor_v3,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _rebuild_parameter,
    ("collections", "OrderedDict"): lambda pairs=(): OrderedDict(pairs),
    ("collections", "Counter"): lambda counts=(): Counter(dict(counts)),
    ("torch", "Size"): lambda sizes=(): Size([int(n) for n in sizes]),
    ("torch", "device"): lambda kind, index=None: Device(str(kind), index),
    ("_codecs", "encode"): _encode_text,
    **{(m, "set"): lambda items=(): set(items) for m in ("builtins", "__builtin__")},
    **{(m, "frozenset"): lambda items=(): frozenset(items) for m in ("builtins", "__builtin__")},
    **{(m, "complex"): lambda real=0.0, imaginary=0.0: complex(real, imaginary) for m in ("builtins", "__builtin__")}}


class _Builder(_Inert):
    """Stands for an allowed function; nothing of it can be reached or changed from inside of a pickle."""

    __slots__ = ("function",)
    function: Any

    def __init__(self, function: Any) -> None:
        object.__setattr__(self, "function", function)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise SerializationError("the pickle tries to change a function")

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)


class _Reader(pickle.Unpickler):
    """Interprets a pickle with the allow-list."""

    def __init__(self, file: Any) -> None:
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in of an allowed name; raises for all others."""
        builder = _BUILDERS.get((module, name))
        if builder is not None:
            return _Builder(builder)
        if module == "torch" and name in _DTYPE_NAMES:
            return dtype_by_name(name)
        if module in ("torch", "torch.storage") and name in _STORAGES:
            return _StorageType(_STORAGES[name])
        raise SerializationError(f"the file refers to {module}.{name}, which is not on the list of things that can be "
                                 "loaded without executing code; save tensors and plain containers (a state_dict) only")

    def persistent_load(self, pid: Any) -> Any:
        """The storage that a persistent id ``("storage", type, key, location, count, ...)`` names."""
        if not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] in ("storage", b"storage")
                and isinstance(pid[1], _StorageType) and type(pid[4]) is int and pid[4] >= 0):
            raise SerializationError("a persistent id that is no storage")
        if len(pid) > 5 and pid[5] is not None:
            raise SerializationError("views between storages (a format of PyTorch before 0.4) are not supported")
        key = str(pid[2])
        known = self.storages.get(key)
        storage = _Storage(key, pid[1].dtype, pid[4])
        if known is None:
            self.storages[key] = known = storage
        elif (known.dtype, known.count) != (storage.dtype, storage.count):
            raise SerializationError(f"storage {key} is described twice, differently")
        return known


def is_torch_file(source: Source) -> bool:
    """Does the file begin like one of PyTorch's?"""
    start = source.read(0, min(source.size, len(_LEGACY_START)))
    return start[:4] == b"PK\x03\x04" or start == _LEGACY_START


def load_torch(source: Source) -> Any:
    """The contents of a PyTorch checkpoint."""
    try:
        source.file.seek(source.origin)
        if source.read(0, 2) == b"PK":
            return _load_zip(source)
        return _load_legacy(source)
    except SerializationError as error:
        raise SerializationError(f"load: {source.name}: {error}") from None
    except FileNotFoundError:
        raise
    except Exception as error:      # pickle and zipfile raise many kinds for damaged files
        raise SerializationError(f"load: {source.name} is damaged ({type(error).__name__}: {error})") from None


def _load_zip(source: Source) -> Any:
    file: Any = source.file
    if source.origin:
        file = io.BytesIO(source.read(0, source.size))
    with zipfile.ZipFile(file) as archive:
        names = {info.filename: info for info in archive.infolist()}
        programs = [name for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(programs) != 1:
            is_program = any(n.endswith("constants.pkl") for n in names)
            raise SerializationError("no checkpoint of tensors: it "
                                     + ("is a TorchScript program" if is_program else "has no data.pkl"))
        prefix = programs[0][:-len("data.pkl")]
        if f"{prefix}byteorder" in names and archive.read(f"{prefix}byteorder") != b"little":
            raise SerializationError("written on a machine with the other byte order")

        def record(name: str) -> bytes:
            info = names.get(name)
            if info is None:
                raise SerializationError(f"record {name} is missing")
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > source.size:
                raise SerializationError(f"record {name} is compressed or larger than the file")
            return archive.read(info)

        reader = _Reader(io.BytesIO(record(programs[0])))
        contents = reader.load()
        memory = {key: record(f"{prefix}data/{key}") for key in reader.storages}
    return _finish(contents, reader.storages, memory)


def _load_legacy(source: Source) -> Any:
    """The format before PyTorch 1.6: pickles one after the other, then the storages."""
    file = source.file
    if _Reader(file).load() != _LEGACY_MAGIC or _Reader(file).load() != 1001:
        raise SerializationError("unknown version of the format")
    if _Reader(file).load().get("little_endian") is not True:
        raise SerializationError("written on a machine with the other byte order")
    reader = _Reader(file)
    contents = reader.load()
    keys = _Reader(file).load()
    if not isinstance(keys, list) or set(keys) != set(reader.storages):
        raise SerializationError("the list of storages does not fit the tensors")
    memory = {}
    for key in keys:
        storage = reader.storages[key]
        position = file.tell() - source.origin
        (count,) = struct.unpack("<q", source.read(position, 8))
        if count != storage.count:
            raise SerializationError(f"storage {key} has {count} elements, expected {storage.count}")
        size = count * (dtype_by_name(storage.dtype).itemsize if storage.dtype else 1)
        if size > source.size - position - 8:
            raise SerializationError(f"truncated in storage {key}")
        memory[key] = source.read(position + 8, size)
    return _finish(contents, reader.storages, memory)


def _finish(contents: Any, storages: dict[str, _Storage], memory: dict[str, bytes]) -> Any:
    """Make the tensors in what was read."""
    for key, storage in storages.items():
        expected = storage.count * (dtype_by_name(storage.dtype).itemsize if storage.dtype else 1)
        if len(memory[key]) < expected:
            raise SerializationError(f"storage {key} has {len(memory[key])} bytes, expected {expected}: "
                                     "the file is truncated")
    return _Maker(memory).value(contents, 0)


class _Maker:
    """Replaces descriptions of tensors by tensors; tensors of one storage share it."""

    def __init__(self, memory: dict[str, bytes]) -> None:
        self.memory = memory
        self.flat: dict[tuple[str, str], Any] = {}
        self.made: dict[int, Any] = {}

    def value(self, v: Any, depth: int) -> Any:
        """A container with its tensors made."""
        if depth > DEPTH_LIMIT:
            raise SerializationError(f"containers are nested deeper than {DEPTH_LIMIT} (or contain themselves)")
        if isinstance(v, _TensorPart):
            if id(v) not in self.made:
                self.made[id(v)] = self.tensor(v)
            return self.made[id(v)]
        if isinstance(v, _Inert):
            raise SerializationError(f"a {type(v).__name__.strip('_')} where a value is expected")
        if type(v) in (list, tuple, set, frozenset):
            return type(v)([self.value(x, depth + 1) for x in v])
        if isinstance(v, dict):
            items = {self.value(k, depth + 1): self.value(x, depth + 1) for k, x in v.items()}
            attributes = getattr(v, "__dict__", {})
            result: Any = type(v)(items)
            if "_metadata" in attributes and isinstance(v, OrderedDict):
                result._metadata = self.value(attributes["_metadata"], depth + 1)
            return result
        return v

    def tensor(self, part: _TensorPart) -> Any:
        """A tensor: a view of its storage's memory, or the memory itself where it covers it."""
        dtype = dtype_by_name(part.dtype)
        key = (part.storage.key, part.dtype)
        if key not in self.flat:
            data = self.memory[part.storage.key]
            data = data[:len(data) - len(data) % dtype.itemsize]
            self.flat[key] = tensor_over(np.frombuffer(bytearray(data), np.uint8).view(dtype.numpy))
        flat = self.flat[key]
        last = part.offset + sum((n - 1) * s for n, s in zip(part.shape, part.strides, strict=True))
        if 0 not in part.shape and last >= flat.numel():
            raise SerializationError(f"a tensor of shape {list(part.shape)} reaches outside of its storage")
        if math.prod(part.shape) == 0:
            t = tensor_over(np.zeros(part.shape, dtype.numpy))
        else:
            t = torsh.as_strided(flat, part.shape, part.strides, part.offset)
        if part.parameter:
            return torsh.nn.Parameter(t, requires_grad=part.requires_grad)
        return t.detach().requires_grad_() if part.requires_grad else t
