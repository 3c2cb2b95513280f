"""Nested containers of tensors as JSON and arrays, and back.

JSON values stand for themselves (None, bool, int, float, str, list); everything else is an object with the key ``$``, which
names its kind. A tensor is ``{"$": "tensor", "of": array name, ...}``: tensors that share memory name the same array, with
their place in it if they are views.
"""
from __future__ import annotations

import base64
import json
import math
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any, Final

import numpy as np

import torsh
from torsh.core.device import device as Device
from torsh.core.dtype import DType, dtype_by_name, from_numpy_dtype
from torsh.core.errors import SerializationError
from torsh.core.size import Size
from torsh.tensor.tensor import Tensor, contiguous_strides, from_storage

from torsh.backend.base import Storage, address_of  # isort: skip

DEPTH_LIMIT: Final = 200
_COMPLEX: Final[dict[str, np.dtype[Any]]] = {"complex64": np.dtype(np.float32), "complex128": np.dtype(np.float64)}


def encode(obj: Any) -> tuple[str, dict[str, np.ndarray[Any, Any]]]:
    """(JSON text, arrays by name) of a nested container."""
    encoder = _Encoder()
    encoder.count(obj, 0)
    tree = encoder.node(obj, ())
    return json.dumps(tree, separators=(",", ":"), allow_nan=False), encoder.arrays


def root_of(t: Any) -> Any:
    """The tensor that owns the memory."""
    return t if t._root is None else t._root


class _Encoder:
    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray[Any, Any]] = {}
        self.names: dict[int, str] = {}                     # of arrays, by the root that they hold
        self.shapes: dict[int, set[Any]] = {}               # geometries of all tensors of a root
        self.numbers: dict[int, int] = {}                   # of tensor objects that were met
        self.keep: list[Any] = []

    def count(self, obj: Any, depth: int) -> None:
        """Note which tensors share memory."""
        if depth > DEPTH_LIMIT:
            raise SerializationError(f"save: containers are nested deeper than {DEPTH_LIMIT} (or contain themselves)")
        if isinstance(obj, Tensor):
            if getattr(obj, "is_sparse", False):
                raise SerializationError("save: sparse tensors can't be saved: convert with .to_dense()")
            self.shapes.setdefault(id(root_of(obj)), set()).add(obj._geometry())
        elif isinstance(obj, dict):
            for value in obj.values():
                self.count(value, depth + 1)
            self.count(getattr(obj, "_metadata", None), depth + 1)
        elif isinstance(obj, (list, tuple, set, frozenset)):
            for value in obj:
                self.count(value, depth + 1)

    def node(self, obj: Any, path: tuple[Any, ...]) -> Any:
        """The JSON value that stands for an object."""
        if obj is None or isinstance(obj, (bool, str)) or type(obj) is int:
            return obj
        if type(obj) is float:
            return obj if math.isfinite(obj) else {"$": "float", "v": repr(obj)}
        if isinstance(obj, Tensor):
            return self.tensor(obj, path)
        if isinstance(obj, list) and type(obj) is list:
            return [self.node(v, (*path, i)) for i, v in enumerate(obj)]
        if isinstance(obj, dict):
            return self.mapping(obj, path)
        for kind, name, encode_one in _PLAIN:
            if isinstance(obj, kind):
                return {"$": name, "v": encode_one(obj)}
        if type(obj) in (tuple, set, frozenset):
            return {"$": type(obj).__name__, "v": [self.node(v, (*path, i)) for i, v in enumerate(obj)]}
        if isinstance(obj, (np.ndarray, np.generic)):
            return self.numpy_value(obj, path)
        where = ".".join(map(str, path)) or "the object"
        advice = ("save its state_dict()" if hasattr(obj, "state_dict") else
                  "save tensors, numbers, text and containers of these")
        raise SerializationError(f"save: {where} is a {type(obj).__module__}.{type(obj).__qualname__}, which can't be saved "
                                 f"without executing code when it is loaded: {advice}")

    def mapping(self, obj: Any, path: tuple[Any, ...]) -> dict[str, Any]:
        """A dict: pairs of key and value, so that keys keep their types."""
        kind = "OrderedDict" if isinstance(obj, OrderedDict) else "Counter" if isinstance(obj, Counter) else "dict"
        node: dict[str, Any] = {"$": kind, "v": [[self.node(k, (*path, "key")), self.node(v, (*path, k))]
                                                 for k, v in obj.items()]}
        metadata = getattr(obj, "_metadata", None)
        if metadata:
            node["metadata"] = self.node(metadata, (*path, "_metadata"))
        return node

    def store(self, array: np.ndarray[Any, Any], path: tuple[Any, ...]) -> str:
        """Put an array into the file; its name tells where it was met."""
        name = base = ".".join(map(str, path)) or "tensor"
        n = 1
        while name in self.arrays or name == "__metadata__":
            n += 1
            name = f"{base}#{n}"
        self.arrays[name] = array
        return name

    def tensor(self, t: Any, path: tuple[Any, ...]) -> dict[str, Any]:
        """A tensor, stored with its root if it shares it, by itself otherwise."""
        known = self.numbers.get(id(t))
        if known is not None:
            return {"$": "same", "v": known}
        self.numbers[id(t)] = len(self.numbers)
        root, geometry = root_of(t), t._geometry()
        shared = len(self.shapes[id(root)]) > 1
        name = self.names.get(id(root))
        if name is None:
            array = (root if shared else t)._ndarray()
            part = _COMPLEX.get(t.dtype.name)
            if part is not None:            # the format has no complex numbers that all readers know
                array = np.ascontiguousarray(array).reshape(array.shape).view(part).reshape(*array.shape, 2)
            name = self.names[id(root)] = self.store(array, path)
            self.keep.append(root)
        node: dict[str, Any] = {"$": "tensor", "of": name}
        if t.dtype.is_complex:
            node["dtype"] = t.dtype.name
        if shared:
            node["view"] = [list(g) if isinstance(g, tuple) else g for g in geometry]
        if t.requires_grad:
            node["grad"] = True
        if type(t).__name__ == "Parameter":
            node["parameter"] = True
        return node

    def numpy_value(self, value: Any, path: tuple[Any, ...]) -> dict[str, Any]:
        """A NumPy array or scalar."""
        array = np.asarray(value)
        try:
            dtype = from_numpy_dtype(array.dtype)
        except TypeError as error:
            raise SerializationError(f"save: {'.'.join(map(str, path))} is an array of {array.dtype}: {error}") from None
        native = array.astype(dtype.numpy, copy=False)
        part = _COMPLEX.get(dtype.name)
        if part is not None:
            native = np.ascontiguousarray(native).reshape(native.shape).view(part).reshape(*native.shape, 2)
        return {"$": "scalar" if isinstance(value, np.generic) else "array", "of": self.store(native, path),
                "dtype": dtype.name}


# Values without tensors in them: (type, kind, how they are written).
_PLAIN: Final[tuple[tuple[Any, str, Callable[[Any], Any]], ...]] = (
    (bytes, "bytes", lambda v: base64.b64encode(v).decode()),
    (complex, "complex", lambda v: [repr(v.real), repr(v.imag)]),
    (DType, "dtype", lambda v: v.name),
    (Device, "device", str),
    (Size, "Size", list))
_READ: Final[dict[str, Callable[[Any], Any]]] = {
    "bytes": lambda v: base64.b64decode(v, validate=True),
    "complex": lambda v: complex(float(v[0]), float(v[1])),
    "dtype": lambda v: dtype_by_name(v),
    "device": lambda v: Device(v),
    "Size": lambda v: Size([int(n) for n in v]),
    "float": lambda v: float(v)}


def decode(text: Any, arrays: dict[str, np.ndarray[Any, Any]], file: str) -> Any:
    """The nested container; without a structure (files of other programs) a dict of tensors."""
    if text is None:
        return {name: tensor_over(a) for name, a in arrays.items()}
    try:
        return _Decoder(arrays).value(json.loads(text))
    except SerializationError as error:
        raise SerializationError(f"load: {file}: {error}") from None
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, OverflowError) as error:
        raise SerializationError(f"load: {file} has a damaged structure ({type(error).__name__}: {error})") from None


def tensor_over(array: np.ndarray[Any, Any]) -> Tensor:
    """A tensor that takes over an array's memory."""
    storage = Storage(address_of(array), array.nbytes, array)
    return from_storage(storage, array.shape, from_numpy_dtype(array.dtype))


class _Decoder:
    def __init__(self, arrays: dict[str, np.ndarray[Any, Any]]) -> None:
        self.arrays = arrays
        self.roots: dict[str, Tensor] = {}
        self.tensors: list[Any] = []

    def value(self, node: Any) -> Any:
        """The object that a JSON value stands for."""
        if isinstance(node, list):
            return [self.value(v) for v in node]
        if not isinstance(node, dict):
            return node
        kind = node["$"]
        if kind == "tensor":
            return self.tensor(node)
        if kind == "same":
            return self.tensors[node["v"]]
        if kind in ("dict", "OrderedDict", "Counter"):
            return self.mapping(node, kind)
        if kind in ("tuple", "set", "frozenset"):
            make: Any = {"tuple": tuple, "set": set, "frozenset": frozenset}[kind]
            return make([self.value(v) for v in node["v"]])
        if kind in ("array", "scalar"):
            array = self.array(node)
            return array if kind == "array" else array[()]
        if kind not in _READ:
            raise SerializationError(f"unknown kind {kind!r}: was the file written by a newer version?")
        return _READ[kind](node["v"])

    def mapping(self, node: Any, kind: str) -> Any:
        """A dict."""
        result: Any = {"dict": dict, "OrderedDict": OrderedDict, "Counter": Counter}[kind]()
        for key, value in node["v"]:
            result[self.value(key)] = self.value(value)
        if "metadata" in node and kind == "OrderedDict":
            result._metadata = self.value(node["metadata"])
        return result

    def array(self, node: Any) -> np.ndarray[Any, Any]:
        """A stored array, complex if the node says so."""
        array = self.arrays[node["of"]]
        name = node.get("dtype")
        if name in _COMPLEX:
            if array.dtype != _COMPLEX[name] or array.ndim == 0 or array.shape[-1] != 2:
                raise SerializationError(f"{node['of']!r} does not hold pairs of {_COMPLEX[name]}, as {name} needs")
            array = array.view(dtype_by_name(name).numpy).reshape(array.shape[:-1])
        return array

    def tensor(self, node: Any) -> Any:
        """A tensor, or a view of one that others share."""
        name = node["of"]
        if name not in self.roots:
            self.roots[name] = tensor_over(self.array(node))
            t: Any = self.roots[name]
        else:
            t = self.roots[name].detach()
        if "view" in node:
            t = self.view(self.roots[name], node["view"])
        if node.get("parameter"):
            t = torsh.nn.Parameter(t, requires_grad=bool(node.get("grad", False)))
        elif node.get("grad"):
            t = t.detach().requires_grad_()
        self.tensors.append(t)
        return t

    @staticmethod
    def view(root: Any, geometry: Any) -> Any:
        """A checked view into shared memory."""
        shape, strides, offset = geometry
        shape, strides = tuple(int(n) for n in shape), tuple(int(n) for n in strides)
        reach = [(n - 1) * s for n, s in zip(shape, strides, strict=True) if n > 0]
        lowest, highest = offset + sum(r for r in reach if r < 0), offset + sum(r for r in reach if r > 0)
        if any(n < 0 for n in shape) or lowest < 0 or (0 not in shape and highest >= root.numel()):
            raise SerializationError(f"a view of shape {list(shape)} reaches outside of its tensor")
        if shape == tuple(root.shape) and strides == contiguous_strides(shape) and offset == 0:
            return root.detach()
        return torsh.as_strided(root, shape, strides, offset)
