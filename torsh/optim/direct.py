"""Updates of parameters that are all in memory: run at once, without recording anything.

When nothing is recorded at the time of ``optimizer.step()`` (the loss has been read, or gradients were set by hand), the
update of a bucket is always the same program on mostly the same memory. It is compiled once, bound to addresses, and from then
on a step checks the addresses and runs it.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from sys import getrefcount
from typing import Any

from torsh.backend.base import Executable
from torsh.core.errors import InvalidArgumentError
from torsh.graph.handle import renew
from torsh.graph.window import backend
from torsh.ops.expr import Expr, leaf, no_grad_recording, recording, scalar

Build = Callable[[list[Expr], list[Expr]], list[Expr]]

_storage = attrgetter("_storage")
_pointer = attrgetter("pointer")
_version = attrgetter("_version")
# What refers to a storage here that only its tensor knows: the tensor, the list, getrefcount's argument.
_OWN_REFERENCES = 3


class DirectUpdate:
    """The program of one bucket; see the module's docstring."""

    __slots__ = ("programs", "key", "addresses", "bound")

    def __init__(self) -> None:
        self.programs: dict[Any, Executable] = {}
        self.key: Any = None
        self.addresses: list[int] = []
        self.bound: Callable[[Sequence[Any]], None] | None = None

    def run(self, key: Any, build: Build, targets: Sequence[Any], grads: Sequence[Any], numbers: Sequence[float]) -> bool:
        """Update ``targets`` in place; False if that has to be recorded.

        key: what the program depends on besides shapes and dtypes. build: the new values from expressions of targets and
        gradients, and of the numbers.
        """
        storages = list(map(_storage, targets))
        sources = list(map(_storage, grads))
        if None in storages or None in sources:
            return False
        if max(map(getrefcount, storages)) > _OWN_REFERENCES and not _only_shared(storages):
            return False
        addresses = [*map(_pointer, storages), *map(_pointer, sources)]
        if self.bound is None or addresses != self.addresses or key != self.key:
            self.bind(key, build, targets, grads, len(numbers), addresses)
        assert self.bound is not None
        self.bound(numbers)
        if any(map(_version, targets)):
            for t in targets:
                if t._version:
                    t._version += 1
            renew(recording.window)
        return True

    def bind(self, key: Any, build: Build, targets: Sequence[Any], grads: Sequence[Any], numbers: int,
             addresses: list[int]) -> None:
        """Compile the program if it is new, and bind it to these addresses."""
        kinds = tuple([(t._expr.shape, t._expr.dtype) for t in (*targets, *grads)])
        engine = backend()
        full_key = (engine, key, kinds)
        program = self.programs.get(full_key)
        if program is None:
            with no_grad_recording():
                inputs = [leaf(i, shape, dtype, False) for i, (shape, dtype) in enumerate(kinds)]
                outputs = build(inputs, [scalar(i, 2) for i in range(numbers)])
            if len(outputs) != len(targets):
                raise InvalidArgumentError("an update gives one new value for each parameter and state")
            program = engine.compile(tuple(outputs), tuple([(i, i) for i in range(len(targets))]))
            if len(self.programs) > 8:
                self.programs.clear()
            self.programs[full_key] = program
        self.key, self.addresses = key, addresses
        self.bound = program.bind(addresses, addresses[:len(targets)])


def _only_shared(storages: Sequence[Any]) -> bool:
    """Is all memory that others refer to meant to be written in place?"""
    return all(s.shared or getrefcount(s) <= _OWN_REFERENCES + 1 for s in storages)
