"""Memory whose contents programs have derived something from that is worth keeping: operands in the order kernels want them.

A storage is *watched* from the first run that could have used such a form of it until it is written, shared with code outside,
or freed; what has been kept goes with the watching. Whoever writes to the memory of a storage that already has a value calls
:func:`changed` before and after (guarded by ``if WATCHED`` where time matters): programs that store into memory they are given,
bound programs, and the few copies made in Python (:func:`overwrite`). Afterwards, because another thread may have begun to watch
while it was written; before, because an interrupt may come in between.
"""
from __future__ import annotations

import ctypes
from collections.abc import Hashable, Iterable
from typing import Any, Final
from weakref import ref

from torsh.backend.base import Storage


class Watched(ref[Storage]):
    """A storage that has not been written since ``WATCHED`` holds this.

    ``forms``: by what it takes to make them, None for those that were wanted once and have not been made. They must only be
    added to an object that was in ``WATCHED`` before the storage's memory was read: if it has been written meanwhile, that object
    is not found any more.
    """

    __slots__ = ("pointer", "forms")

    def __init__(self, storage: Storage, callback: Any) -> None:
        super().__init__(storage, callback)  # type: ignore[call-arg]
        self.pointer = storage.pointer
        self.forms: dict[Hashable, Storage | None] = {}


WATCHED: Final[dict[int, Watched]] = {}         # by address


def _freed(gone: Any, watched: dict[int, Watched] = WATCHED) -> None:
    """The storage is no more; its address may be that of another one already."""
    address = gone.pointer
    if watched.get(address) is gone:
        watched.pop(address, None)


def watch(storage: Storage) -> Watched | None:
    """What is known about a storage, from now on if it was nothing before; None if code outside may write to it."""
    if storage.shared:
        return None
    found = WATCHED.get(storage.pointer)
    if found is None or found() is not storage:
        found = Watched(storage, _freed)
        WATCHED[storage.pointer] = found
    return found


def changed(addresses: Iterable[int]) -> None:
    """The memory of the storages at these addresses is written, or code outside may write to it from now on."""
    for address in addresses:
        WATCHED.pop(address, None)


def overwrite(address: int, source: int, nbytes: int) -> None:
    """Copy bytes from one address into the memory of the storage at another."""
    changed((address,))
    try:
        ctypes.memmove(address, source, nbytes)
    finally:
        changed((address,))


def share(storage: Storage) -> None:
    """From now on code outside may write to the storage's memory."""
    storage.shared = True               # first: whoever looks at it later does not begin to watch it again
    changed((storage.pointer,))


def forget_all() -> None:
    """Give back all memory that is kept; programs make the forms they use again."""
    WATCHED.clear()
