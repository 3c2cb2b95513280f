"""How samples become batches."""
from __future__ import annotations

import copy
from collections.abc import Mapping, MutableMapping, MutableSequence, Sequence
from typing import Any, Final

import numpy as np

import torsh
from torsh.core.errors import ArgumentTypeError, ShapeMismatchError
from torsh.tensor.joining import joined_at_once
from torsh.tensor.tensor import Tensor

__all__ = ["collate", "default_collate", "default_collate_fn_map", "default_convert"]

_MESSAGE: Final = "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found {}"


def stack_tensors(batch: Sequence[Any], *, collate_fn_map: Any = None) -> Any:
    """One tensor with a new first dimension; copied at once where the values are at hand, otherwise recorded."""
    copied = joined_at_once(batch, 0, np.stack)
    return torsh.stack(list(batch), 0) if copied is None else copied


def stack_arrays(batch: Sequence[Any], *, collate_fn_map: Any = None) -> Any:
    """One tensor from NumPy arrays."""
    if batch[0].dtype.kind in "SUOV":
        raise ArgumentTypeError(_MESSAGE.format(batch[0].dtype))
    return collate([torsh.as_tensor(b) for b in batch], collate_fn_map=collate_fn_map)


def stack_numbers(batch: Sequence[Any], *, collate_fn_map: Any = None) -> Any:
    """One tensor from numbers."""
    if isinstance(batch[0], float) and not isinstance(batch[0], np.floating):
        return torsh.as_tensor(list(batch), dtype=torsh.float64)
    if isinstance(batch[0], np.generic):
        return torsh.as_tensor(np.asarray(batch))
    return torsh.as_tensor(list(batch))


def keep(batch: Any, *, collate_fn_map: Any = None) -> Any:
    """The batch as it is (text)."""
    return batch


default_collate_fn_map: dict[Any, Any] = {
    Tensor: stack_tensors, np.ndarray: stack_arrays, (np.bool_, np.number, np.object_): stack_numbers,
    float: stack_numbers, int: stack_numbers, str: keep, bytes: keep}


def collate(batch: Any, *, collate_fn_map: dict[Any, Any] | None = None) -> Any:
    """Join a list of samples, structure by structure, with the functions of ``collate_fn_map`` for the leaves."""
    sample = batch[0]
    kind = type(sample)
    if collate_fn_map is not None:
        function = collate_fn_map.get(kind)
        if function is None:
            function = next((f for t, f in collate_fn_map.items() if isinstance(sample, t)), None)
        if function is not None:
            return function(batch, collate_fn_map=collate_fn_map)
    if isinstance(sample, Mapping):
        joined = {key: collate([d[key] for d in batch], collate_fn_map=collate_fn_map) for key in sample}
        return _rebuilt_mapping(sample, joined)
    if isinstance(sample, tuple) and hasattr(sample, "_fields"):
        return kind(*(collate(values, collate_fn_map=collate_fn_map) for values in zip(*batch, strict=False)))
    if isinstance(sample, Sequence):
        if any(len(s) != len(sample) for s in batch):
            raise ShapeMismatchError("each element in list of batch should be of equal size")
        columns = [collate(values, collate_fn_map=collate_fn_map) for values in zip(*batch, strict=True)]
        return columns if isinstance(sample, tuple) else _rebuilt_sequence(sample, columns)
    raise ArgumentTypeError(_MESSAGE.format(kind))


def _rebuilt_mapping(sample: Any, values: dict[Any, Any]) -> Any:
    """``values`` in a mapping of the sample's type, where that can be made."""
    if type(sample) is dict:
        return values
    try:
        if isinstance(sample, MutableMapping):
            clone = copy.copy(sample)
            clone.update(values)
            return clone
        return type(sample)(values)
    except TypeError:
        return values


def _rebuilt_sequence(sample: Any, values: list[Any]) -> Any:
    """``values`` in a sequence of the sample's type, where that can be made."""
    if type(sample) is list:
        return values
    try:
        if isinstance(sample, MutableSequence):
            clone = copy.copy(sample)
            for i, value in enumerate(values):
                clone[i] = value
            return clone
        return type(sample)(values)
    except TypeError:
        return values


def default_collate(batch: Any) -> Any:
    """A batch from a list of samples: tensors and arrays are stacked, numbers become tensors, containers are kept.

    Raises TypeError for other things, RuntimeError for lists of different lengths.
    """
    return collate(batch, collate_fn_map=default_collate_fn_map)


def default_convert(data: Any) -> Any:
    """The sample with its NumPy arrays and numbers as tensors."""
    if isinstance(data, Tensor):
        return data
    if isinstance(data, (np.ndarray, np.generic)):
        return data if data.dtype.kind in "SUOV" else torsh.as_tensor(data)
    if isinstance(data, Mapping):
        return _rebuilt_mapping(data, {key: default_convert(value) for key, value in data.items()})
    if isinstance(data, tuple):
        values = [default_convert(value) for value in data]
        return type(data)(*values) if hasattr(data, "_fields") else values
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        return _rebuilt_sequence(data, [default_convert(value) for value in data])
    return data
