"""Evaluation of expressions with NumPy."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from torsh.backend.base import Storage, address_of
from torsh.backend.watch import overwrite
from torsh.core.dtype import dtype_by_name
from torsh.core.errors import DATA_ERRORS, CompileError
from torsh.ops.expr import CONSTANT_OP, LEAF_OP, SCALAR_OP, VARIABLE_OP, Expr, no_grad_recording

Array = np.ndarray[Any, Any]


def storage_of_array(array: Array) -> Storage:
    """A storage over the memory of a contiguous NumPy array."""
    return Storage(address_of(array), array.nbytes, array)


def array_over(storage: Storage, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """A NumPy array over a storage's memory; it keeps the storage alive."""
    if 0 in shape or not storage.nbytes:
        return np.empty(shape, dtype)
    return np.asarray(Memory(storage, shape, dtype)).view(dtype)


class Memory:
    """Gives NumPy the address of a storage, and keeps the storage alive."""

    __slots__ = ("__array_interface__", "storage")

    def __init__(self, storage: Storage, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.storage = storage
        self.__array_interface__ = {"version": 3, "shape": shape, "typestr": f"|V{dtype.itemsize}",
                                    "data": (storage.pointer, False)}


def successors(e: Expr) -> tuple[Expr, ...]:
    """What an expression's value is computed from: its arguments, or its decomposition if it has no reference."""
    if e.op.reference is not None or e.op.decompose is None:
        return e.args
    with no_grad_recording():
        return (e.op.decompose(e),)


def schedule(outputs: Sequence[Expr], known: Mapping[Expr, Any]) -> list[tuple[Expr, tuple[Expr, ...]]]:
    """(expression, what it is computed from) for all that is needed, in an order in which it can be computed."""
    order: list[tuple[Expr, tuple[Expr, ...]]] = []
    seen: set[Expr] = set(known)
    stack: list[tuple[Expr, tuple[Expr, ...] | None]] = [(e, None) for e in reversed(outputs)]
    while stack:
        e, sources = stack.pop()
        if sources is not None:
            order.append((e, sources))
            continue
        if e in seen:
            continue
        seen.add(e)
        sources = successors(e)
        stack.append((e, sources))
        stack.extend((s, None) for s in sources if s not in seen)
    return order


def compute(e: Expr, sources: tuple[Expr, ...], values: Mapping[Expr, Any], leaves: Sequence[Any],
            scalars: Sequence[Any]) -> Any:
    """The value of one expression whose sources are computed."""
    op = e.op
    if op is LEAF_OP:
        return leaves[e.attr]  # type: ignore[call-overload]
    if op is SCALAR_OP:
        return scalars[e.attr]  # type: ignore[call-overload]
    if op is CONSTANT_OP:
        attr: tuple[Any, str] = e.attr  # type: ignore[assignment]
        return np.asarray(attr[0]).astype(dtype_by_name(attr[1]).numpy)
    if op is VARIABLE_OP:
        return values[e.args[0]]
    if op.reference is None:
        if op.decompose is None:
            raise CompileError(f"{op.name} has neither a reference nor a decomposition: it cannot be evaluated with NumPy")
        return values[sources[0]]
    arrays = [values[s] for s in sources]
    with np.errstate(all="ignore"):
        result = np.asarray(op.reference(e.attr, *arrays))
    if result.shape != e.shape or result.dtype != e.dtype.numpy:
        raise CompileError(f"the reference of {op.name} gave {result.dtype}{list(result.shape)} where {e.dtype.name}"
                           f"{list(e.shape)} was inferred")
    return result


def evaluate(outputs: Sequence[Expr], leaves: Sequence[Any] = (), scalars: Sequence[Any] = (),
             known: Mapping[Expr, Any] | None = None) -> list[Array]:
    """Values of expressions.

    leaves: array of each leaf position. scalars: Python numbers. known: values of further expressions, used as they are.
    """
    values: dict[Expr, Any] = dict(known or {})
    order = schedule(outputs, values)
    last: dict[Expr, int] = {}
    for position, (_, sources) in enumerate(order):
        for s in sources:
            last[s] = position
    for e in outputs:
        last[e] = len(order)
    for position, (e, sources) in enumerate(order):
        values[e] = compute(e, sources, values, leaves, scalars)
        for s in sources:
            if last[s] == position:
                values.pop(s, None)
    # A Python number as an output becomes an array of its expression's dtype.
    return [np.asarray(values[e], e.dtype.numpy) for e in outputs]


def find_failure(outputs: Sequence[Expr], leaves: Sequence[Storage], scalars: Sequence[Any]) -> tuple[
        Expr, Exception] | None:
    """The first expression whose evaluation meets an index out of range or an unsuitable matrix, and the error."""
    values: dict[Expr, Any] = {}
    for e, sources in schedule(outputs, {}):
        if e.op is LEAF_OP:
            position: int = e.attr  # type: ignore[assignment]
            values[e] = array_over(leaves[position], e.shape, e.dtype.numpy)
            continue
        try:
            values[e] = compute(e, sources, values, (), scalars)
        except DATA_ERRORS as error:
            return e, error
    return None


class ReferenceProgram:
    """Outputs to be evaluated with NumPy."""

    def __init__(self, outputs: tuple[Expr, ...]) -> None:
        self.outputs = outputs
        self.inputs = self._leaves()

    def _leaves(self) -> dict[int, Expr]:
        return {e.attr: e for e, _ in schedule(self.outputs, {}) if e.op is LEAF_OP}  # type: ignore[misc]

    def run(self, leaves: Sequence[Storage], scalars: Sequence[Any], into: Sequence[Storage | None]) -> list[Storage]:
        """Compute all outputs; see :class:`torsh.backend.base.Executable`."""
        arrays: list[Any] = [None] * len(leaves)
        for position, e in self.inputs.items():
            arrays[position] = array_over(leaves[position], e.shape, e.dtype.numpy)
        results = evaluate(self.outputs, arrays, scalars)
        # Copies first: outputs may be views of leaves that another output is about to overwrite.
        owned = [np.array(r, order="C", copy=True) for r in results]
        storages = []
        for number, array in enumerate(owned):
            target = into[number] if number < len(into) else None
            if target is None:
                storages.append(storage_of_array(array))
                continue
            if array.nbytes:
                overwrite(target.pointer, address_of(array), array.nbytes)
            storages.append(target)
        return storages


    def bind(self, leaves: Sequence[int], into: Sequence[int]) -> Callable[[Sequence[Any]], None]:
        """See :meth:`torsh.backend.base.Executable.bind`."""
        sources = [Storage(address, 1, None) for address in leaves]
        targets = [Storage(address, 1, None) for address in into]

        def run(scalars: Sequence[Any]) -> None:
            self.run(sources, scalars, targets)
        return run


class ReferenceBackend:
    """A backend that compiles nothing: programs are evaluated with NumPy, on the calling thread."""

    name = "reference"

    def allocate(self, nbytes: int) -> Storage:
        """New memory, 64-byte aligned, contents undefined."""
        block = np.empty(nbytes + 64, np.uint8)
        start = -block.__array_interface__["data"][0] % 64
        return storage_of_array(block[start:start + nbytes])

    def compile(self, outputs: tuple[Expr, ...], in_place: tuple[tuple[int, int], ...]) -> ReferenceProgram:
        """The program that computes ``outputs``; in-place pairs need no preparation, because outputs are copied."""
        return ReferenceProgram(outputs)

    def set_num_threads(self, count: int) -> None:
        """Programs run on the calling thread."""

    def synchronize(self) -> None:
        """Nothing runs in the background."""
