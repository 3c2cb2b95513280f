"""The native runtime of this process: runs the calls of a program, with a pool of threads (:mod:`.runtime_ir`).

It is compiled when it is first needed (and kept in the cache of objects), and stays loaded until the process ends: its
threads may be asleep in it at any time.
"""
from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from typing import Any, Final

from torsh.backend.cpu import object_cache
from torsh.backend.cpu.jit import emit_object
from torsh.backend.cpu.runtime_ir import EXPORTS, MAX_THREADS, runtime_text
from torsh.core import threads as thread_count

RECORD_WORDS: Final = 6      # of a call: kernel address, params address, units, chunk, two spare ones
HEAD_WORDS: Final = 5
_RUN_TABLE_TYPE: Final = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)
_RUN_TYPE: Final = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p,
                                    ctypes.c_void_p, ctypes.c_void_p)


class NativeRuntime:
    """The entry points of the runtime.

    ``run(records, begin, end, table, status, stop)``: runs calls ``begin`` ... ``end - 1`` in order and returns the number of
    the first call that is not done; arguments are addresses and the two numbers; the table may be a
    bytes object. A record has
    :data:`RECORD_WORDS` int64 words. ``chunk`` 0: the calling thread runs the whole call; ``chunk`` > 0: threads of the pool
    take part, ``chunk`` units at a time, and all units are done before the next call begins. After a call that has set
    ``status[0]``, ``status[3]`` is that call's number and so is the result; the three words before it are those of one
    thread. A nonzero int32 at ``stop`` ends the run after the current call. ``status[0]`` has to be 0 at the start.

    ``run_table(head)``: the same, with ``records, begin, end, status, stop`` as :data:`HEAD_WORDS` words in front of the table:
    one argument is converted faster than six.

    Any number of threads may call ``run``: one at a time uses the pool, the others run their calls alone. The interpreter's
    lock is released.
    """

    __slots__ = ("run", "run_table", "_resize", "_reset", "_threads")

    def __init__(self, addresses: dict[str, int]) -> None:
        self.run: Callable[[int, int, int, int | bytes, int, int], int] = _RUN_TYPE(addresses["torsh_run"])
        self.run_table: Callable[[bytes], int] = _RUN_TABLE_TYPE(addresses["torsh_run_table"])
        self._resize: Any = ctypes.CFUNCTYPE(None, ctypes.c_int64)(addresses["torsh_pool_resize"])
        self._reset: Any = ctypes.CFUNCTYPE(None)(addresses["torsh_pool_reset"])
        self._reset()
        self.resize(thread_count.get_num_threads())

    @property
    def threads(self) -> int:
        """Number of threads that a parallel call may use, with the calling one."""
        return self._threads

    def resize(self, threads: int) -> None:
        """Use ``threads`` threads, the calling one included, from the next parallel call on (1: no pool).

        At most :data:`MAX_THREADS` are used. New threads are started by the next parallel call; surplus ones end now, or with
        the next parallel call if the pool is in use. Never waits for running calls.
        """
        self._threads = max(1, min(threads, MAX_THREADS))
        self._resize(self._threads)

    def forget_workers(self) -> None:
        """The process has been forked: there are no workers (any more), nobody holds the pool; start new ones when needed."""
        self._reset()
        self._resize(self._threads)


def compile_runtime(condition_variables: bool = False) -> dict[str, int]:
    """Addresses of the runtime's functions, compiled for this machine and loaded for the rest of the process."""
    import llvmlite
    import llvmlite.binding as llvm
    triple = llvm.get_process_triple()
    cpu, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    text = runtime_text(triple, condition_variables)
    key = object_cache.key_of(text, f"{triple}/{cpu}/{features}", llvmlite.__version__)
    image = object_cache.load(key)
    if image is None:
        image = emit_object(text, triple, cpu, features, 2)
        object_cache.store(key, image)
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    compiler = llvm.create_lljit_compiler()
    builder = llvm.JITLibraryBuilder().add_object_img(image).add_current_process()
    for name in EXPORTS:
        builder.export_symbol(name)
    library = builder.link(compiler, "torsh_runtime")
    addresses = {name: library[name] for name in EXPORTS}
    # Never unloaded, not even when the interpreter ends: sleeping workers return into this code.
    library.detach()
    compiler.detach()
    return addresses


_lock = threading.Lock()
_runtime: list[NativeRuntime] = []


def native_runtime() -> NativeRuntime:
    """The runtime of this process."""
    if not _runtime:
        with _lock:
            if not _runtime:
                _runtime.append(NativeRuntime(compile_runtime()))
    return _runtime[0]


def _after_fork() -> None:
    """In a forked child there is one thread: nobody holds the lock, and no worker lives."""
    global _lock
    _lock = threading.Lock()
    for runtime in _runtime:
        runtime.forget_workers()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
