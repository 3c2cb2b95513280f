"""Modules that hold other modules or parameters."""
from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from torsh.core.errors import ArgumentTypeError, IndexOutOfRangeError, InvalidArgumentError, TorshError
from torsh.graph.capture import Structure
from torsh.graph.handle import Handle
from torsh.nn.modules.module import Module, indented
from torsh.nn.parameter import Parameter


class MissingKeyError(TorshError, KeyError):
    """A key that a container does not hold."""


class NotCallableError(TorshError, RuntimeError):
    """A container that only holds parameters was called."""


def position(index: Any, length: int) -> int:
    """A list position, negative ones from the end."""
    i = operator.index(index)
    if not -length <= i < length:
        raise IndexOutOfRangeError(f"index {i} is out of range")
    return i % length


class Container(Module):
    """Old name of a module whose children are given by keyword."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__()
        for name, module in kwargs.items():
            self.add_module(name, module)


class Sequential(Module):
    """Modules called one after the other; built from modules or an OrderedDict of them.

    Example::

        >>> import torsh
        >>> from torsh import nn
        >>> nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))(torsh.ones(3, 4)).shape
        torsh.Size([3, 2])
    """

    def __init__(self, *args: Any) -> None:
        super().__init__()
        named = len(args) == 1 and isinstance(args[0], OrderedDict)
        for name, module in args[0].items() if named else ((str(i), m) for i, m in enumerate(args)):
            self.add_module(name, module)

    def forward(self, input: Any) -> Any:
        """The input passed through all modules."""
        for module in self._modules.values():
            input = module(input)
        return input

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)(OrderedDict(list(self._modules.items())[index]))
        return list(self._modules.values())[position(index, len(self))]

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, list(self._modules)[position(index, len(self))], module)

    def __delitem__(self, index: Any) -> None:
        names = list(self._modules)
        for name in names[index] if isinstance(index, slice) else [names[position(index, len(self))]]:
            delattr(self, name)
        self._renumber(list(self._modules.values()))

    def _renumber(self, modules: Iterable[Any]) -> None:
        self.__dict__["_modules"] = {str(i): m for i, m in enumerate(modules)}
        Structure.changed()

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def __add__(self, other: Any) -> Sequential:
        if not isinstance(other, Sequential):
            raise InvalidArgumentError(f"add operator supports only objects of Sequential class, but {str(type(other))} is given.")
        return Sequential(*self, *other)

    def __iadd__(self, other: Any) -> Sequential:
        if not isinstance(other, Sequential):
            raise InvalidArgumentError(f"add operator supports only objects of Sequential class, but {str(type(other))} is given.")
        return self.extend(list(other))

    def __mul__(self, other: Any) -> Sequential:
        _check_count(other)
        return Sequential(*(m for _ in range(other) for m in self))

    __rmul__ = __mul__

    def __imul__(self, other: Any) -> Sequential:
        _check_count(other)
        return self.extend([m for _ in range(other - 1) for m in list(self)])

    def append(self, module: Module) -> Sequential:
        """Add a module at the end."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, sequential: Iterable[Module]) -> Sequential:
        """Add modules at the end."""
        for m in sequential:
            self.append(m)
        return self

    def insert(self, index: int, module: Module) -> Sequential:
        """Put a module before position ``index``."""
        if not isinstance(module, Module):
            raise AssertionError(f"module should be of type: {Module}")
        if not -len(self) <= index <= len(self):
            raise IndexOutOfRangeError(f"Index out of range: {index}")
        modules = list(self._modules.values())
        modules.insert(index, module)
        self._renumber(modules)
        return self

    def pop(self, key: Any) -> Module:
        """Remove and return a module."""
        module = self[key]
        del self[key]
        return module  # type: ignore[no-any-return]


def _check_count(count: Any) -> None:
    if not isinstance(count, int):
        raise ArgumentTypeError(f"unsupported operand type(s) for *: {Sequential} and {type(count)}")
    if count <= 0:
        raise InvalidArgumentError(f"Non-positive multiplication factor {count} for {Sequential}")


class ModuleList(Module):
    """A list of modules.

    Example::

        >>> from torsh import nn
        >>> len(nn.ModuleList([nn.Linear(2, 2) for _ in range(3)]))
        3
    """

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        if modules is not None:
            self.extend(modules)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)(list(self._modules.values())[index])
        return self._modules[str(position(index, len(self)))]

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, str(position(index, len(self))), module)

    def __delitem__(self, index: Any) -> None:
        modules = list(self._modules.values())
        del modules[index if isinstance(index, slice) else position(index, len(self))]
        self._renumber(modules)

    def _renumber(self, modules: Iterable[Any]) -> None:
        self.__dict__["_modules"] = {str(i): m for i, m in enumerate(modules)}
        Structure.changed()

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return type(self)(list(chain(self, other)))

    def __iadd__(self, modules: Iterable[Module]) -> ModuleList:
        return self.extend(modules)

    def __repr__(self) -> str:
        """Neighbours that look the same are shown once."""
        groups: list[tuple[int, int, str]] = []
        for i, text in enumerate(repr(m) for m in self):
            if groups and groups[-1][2] == text:
                groups[-1] = (groups[-1][0], i, text)
            else:
                groups.append((i, i, text))
        if not groups:
            return f"{self._get_name()}()"
        lines = [f"({a}): {indented(text)}" if a == b else f"({a}-{b}): {b - a + 1} x {indented(text)}" for a, b, text in groups]
        return f"{self._get_name()}(\n  " + "\n  ".join(lines) + "\n)"

    def append(self, module: Module) -> ModuleList:
        """Add a module at the end."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> ModuleList:
        """Add modules at the end."""
        if not isinstance(modules, Iterable):
            raise ArgumentTypeError("ModuleList.extend should be called with an iterable, but got " + type(modules).__name__)
        for m in modules:
            self.append(m)
        return self

    def insert(self, index: int, module: Module) -> None:
        """Put a module before position ``index``."""
        modules = list(self._modules.values())
        modules.insert(index, module)
        self._renumber(modules)

    def pop(self, key: Any) -> Module:
        """Remove and return a module."""
        module = self[key]
        del self[key]
        return module  # type: ignore[no-any-return]


def _pairs(entries: Any, owner: str) -> Iterator[tuple[Any, Any]]:
    """(key, value) pairs from a mapping, a module dictionary or an iterable of pairs."""
    if not isinstance(entries, Iterable):
        raise ArgumentTypeError(f"{owner}.update should be called with an iterable of key/value pairs, but got "
                                + type(entries).__name__)
    if isinstance(entries, (Mapping, ModuleDict, ParameterDict)):
        items: Any = entries.items()
        yield from items
        return
    for number, pair in enumerate(entries):
        if not isinstance(pair, Iterable):
            raise ArgumentTypeError(f"{owner} update sequence element #{number} should be Iterable; is {type(pair).__name__}")
        pair = tuple(pair)
        if len(pair) != 2:
            raise InvalidArgumentError(f"{owner} update sequence element #{number} has length {len(pair)}; 2 is required")
        yield pair


class ModuleDict(Module):
    """A dictionary of modules, in the order of insertion.

    Example::

        >>> from torsh import nn
        >>> list(nn.ModuleDict({"conv": nn.Conv2d(1, 2, 3), "act": nn.ReLU()}))
        ['conv', 'act']
    """

    def __init__(self, modules: Any = None) -> None:
        super().__init__()
        if modules is not None:
            self.update(modules)

    def __getitem__(self, key: str) -> Any:
        return self._modules[key]

    def __setitem__(self, key: str, module: Any) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        del self._modules[key]
        Structure.changed()

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, key: object) -> bool:
        return key in self._modules

    def clear(self) -> None:
        """Remove everything."""
        self._modules.clear()
        Structure.changed()

    def pop(self, key: str) -> Any:
        """Remove and return a module."""
        module = self[key]
        del self[key]
        return module

    def keys(self) -> Any:
        """The names."""
        return self._modules.keys()

    def items(self) -> Any:
        """(name, module) pairs."""
        return self._modules.items()

    def values(self) -> Any:
        """The modules."""
        return self._modules.values()

    def update(self, modules: Any) -> None:
        """Add or replace modules, from a mapping or pairs."""
        for key, module in _pairs(modules, "ModuleDict"):
            self[key] = module


def _as_parameter(value: Any) -> Any:
    """Tensors become parameters; other values stay what they are."""
    return Parameter(value) if isinstance(value, Handle) and not isinstance(value, Parameter) else value


def _line(key: Any, value: Any, name: str) -> str:
    """One line of the ``repr`` of a container of parameters."""
    if not isinstance(value, Handle):
        return f"  ({key}): Object of type: {type(value).__name__}"
    size = "x".join(map(str, value.size()))
    kind = "Parameter" if isinstance(value, Parameter) else "Tensor"
    return f"  ({key}): {kind} containing: [{value.dtype if name == 'list' else 'torsh.' + _LEGACY.get(value.dtype.name, 'Tensor')} " \
           f"of size {size}]"


_LEGACY = {"float32": "FloatTensor", "float64": "DoubleTensor", "float16": "HalfTensor", "bfloat16": "BFloat16Tensor",
           "uint8": "ByteTensor", "int8": "CharTensor", "int16": "ShortTensor", "int32": "IntTensor", "int64": "LongTensor",
           "bool": "BoolTensor"}


class ParameterList(Module):
    """A list of parameters; tensors that are put in become parameters, other values stay what they are.

    Example::

        >>> import torsh
        >>> from torsh import nn
        >>> len(nn.ParameterList([torsh.ones(2), torsh.ones(3)]))
        2
    """

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        super().__init__()
        self._size = 0
        if values is not None:
            self.extend(values)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)(getattr(self, str(i)) for i in range(*index.indices(len(self))))
        return getattr(self, str(position(index, len(self))))

    def __setitem__(self, index: Any, value: Any) -> None:
        setattr(self, str(position(index, len(self))), _as_parameter(value))

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Any]:
        return iter([self[i] for i in range(len(self))])

    def __iadd__(self, values: Iterable[Any]) -> ParameterList:
        return self.extend(values)

    def append(self, value: Any) -> ParameterList:
        """Add a value at the end."""
        self._size += 1
        self[self._size - 1] = value
        return self

    def extend(self, values: Iterable[Any]) -> ParameterList:
        """Add values at the end."""
        if not isinstance(values, Iterable) or isinstance(values, Handle):
            raise ArgumentTypeError("ParameterList.extend should be called with an iterable, but got " + type(values).__name__)
        for v in values:
            self.append(v)
        return self

    def pop(self, index: int = -1) -> Any:
        """Remove and return a value."""
        values = list(self)
        value = values.pop(index)
        for i in range(len(values) + 1):
            delattr(self, str(i))
        self._size = 0
        self.extend(values)
        return value

    def extra_repr(self) -> str:
        """The values' types and sizes."""
        return "\n".join(_line(i, v, "list") for i, v in enumerate(self))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Raises RuntimeError: a list is no function."""
        raise NotCallableError("ParameterList should not be called.")


class ParameterDict(Module):
    """A dictionary of parameters; tensors that are put in become parameters, other values stay what they are.

    Example::

        >>> import torsh
        >>> from torsh import nn
        >>> sorted(nn.ParameterDict({"left": torsh.ones(2), "right": torsh.ones(3)}).keys())
        ['left', 'right']
    """

    def __init__(self, parameters: Any = None) -> None:
        super().__init__()
        self._keys: dict[str, None] = {}
        if parameters is not None:
            self.update(parameters)

    def _attribute(self, key: Any) -> str:
        if not isinstance(key, str):
            raise ArgumentTypeError(f"Index given to ParameterDict cannot be used as a key as it is not a string (type is "
                                    f"'{type(key).__name__}').")
        return key

    def __getitem__(self, key: str) -> Any:
        name = self._attribute(key)
        if name not in self._keys:
            raise MissingKeyError(key)
        return getattr(self, name)

    def __setitem__(self, key: str, value: Any) -> None:
        name = self._attribute(key)
        self._keys[name] = None
        setattr(self, name, _as_parameter(value))

    def __delitem__(self, key: str) -> None:
        del self._keys[key]
        delattr(self, self._attribute(key))

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __reversed__(self) -> Iterator[str]:
        return reversed(list(self._keys))

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __or__(self, other: Any) -> ParameterDict:
        joined = self.copy()
        joined.update(other)
        return joined

    def __ror__(self, other: Any) -> ParameterDict:
        joined = ParameterDict(other)
        joined.update(self)
        return joined

    def __ior__(self, other: Any) -> ParameterDict:
        self.update(other)
        return self

    def copy(self) -> ParameterDict:
        """A dictionary with the same values."""
        return ParameterDict(OrderedDict(self.items()))

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The value of a key; without one, ``default`` is put in."""
        if key not in self:
            self[key] = default
        return self[key]

    def clear(self) -> None:
        """Remove everything."""
        for key in list(self._keys):
            del self[key]

    def pop(self, key: str) -> Any:
        """Remove and return a value."""
        value = self[key]
        del self[key]
        return value

    def popitem(self) -> tuple[str, Any]:
        """Remove and return the pair that was inserted last."""
        if not self._keys:
            raise MissingKeyError("popitem(): dictionary is empty")
        key = next(reversed(list(self._keys)))
        return key, self.pop(key)

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key, or ``default``."""
        return self[key] if key in self else default

    def fromkeys(self, keys: Iterable[str], default: Any = None) -> ParameterDict:
        """A dictionary with these keys and one value."""
        return ParameterDict((k, default) for k in keys)

    def keys(self) -> Any:
        """The names."""
        return self._keys.keys()

    def items(self) -> Any:
        """(name, value) pairs."""
        return ((k, self[k]) for k in self._keys)

    def values(self) -> Any:
        """The values."""
        return (self[k] for k in self._keys)

    def update(self, parameters: Any) -> None:
        """Add or replace values, from a mapping or pairs."""
        pairs = list(_pairs(parameters, "ParameterDict"))
        if isinstance(parameters, Mapping) and not isinstance(parameters, OrderedDict):
            pairs.sort()                    # as in PyTorch: the order of parameters is part of an optimizer's state
        for key, value in pairs:
            self[key] = value

    def extra_repr(self) -> str:
        """The values' types and sizes."""
        return "\n".join(_line(k, v, "dict") for k, v in self.items())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Raises RuntimeError: a dictionary is no function."""
        raise NotCallableError("ParameterDict should not be called.")
