"""The main process's side of loading data in workers."""
from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import shutil
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from typing import Any

from torsh.data.transfer import receive, shared_directory
from torsh.data.worker import BATCH, END, ERROR, WorkerError, WorkerSettings, raise_error, run_worker
from torsh.graph.window import flush


class WorkerPool:
    """Processes that load data; tasks go to them in turn, and batches come back in order."""

    def __init__(self, dataset: Any, make_fetcher: Callable[[], Any], count: int, ahead: int,
                 init_fn: Callable[[int], None] | None, timeout: float, context: Any, persistent: bool) -> None:
        if context is None:
            methods = multiprocessing.get_all_start_methods()
            context = multiprocessing.get_context("fork" if "fork" in methods else None)
        self.timeout = timeout
        self.ahead = max(ahead, 1)
        self.persistent = persistent
        self.alive = True
        self.directory = shared_directory()
        flush()                             # workers find finished tensors, not recordings
        self.connections: list[Any] = []
        self.processes: list[Any] = []
        with warnings.catch_warnings():
            # A forked worker uses no threads of this process; the warning about them does not concern it.
            warnings.simplefilter("ignore", DeprecationWarning)
            for number in range(count):
                ours, theirs = context.Pipe()
                settings = WorkerSettings(number, count, dataset, make_fetcher, init_fn, self.directory)
                inherited = [*self.connections, ours] if context.get_start_method() == "fork" else []
                process = context.Process(target=run_worker, args=(settings, theirs, inherited), daemon=True)
                process.start()
                theirs.close()
                self.connections.append(ours)
                self.processes.append(process)
        self._finalizer = weakref.finalize(self, _shut_down, self.connections, self.processes, self.directory)

    def close(self) -> None:
        """End the processes."""
        self.alive = False
        self._finalizer()

    def run(self, indices: Iterator[Any], seed: int, in_order: bool) -> Iterator[Any]:
        """Hand out the first tasks; the batches come from the iterator that is returned."""
        epoch = _Epoch(self, indices, seed)
        return epoch.results(in_order)

    def send(self, number: int, task: Any) -> None:
        """Hand a task to a worker."""
        try:
            self.connections[number].send(task)
        except (BrokenPipeError, ConnectionResetError):
            self._fail(number)

    def _fail(self, number: int) -> None:
        process = self.processes[number]
        process.join(timeout=5)
        pid, code = process.pid, process.exitcode
        self.close()
        raise WorkerError(f"DataLoader worker (pid {pid}) exited unexpectedly with exit code {code}")

    def next_answer(self) -> tuple[int, Any]:
        """(worker, message) of the next one that answers."""
        deadline = time.monotonic() + self.timeout if self.timeout else None
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        ready = wait(self.connections, left)
        if not ready:
            self.close()
            raise WorkerError(f"DataLoader timed out after {self.timeout} seconds")
        number = next(i for i, c in enumerate(self.connections) if c in ready)
        try:
            return number, receive(self.connections[number])
        except (EOFError, ConnectionResetError):
            self._fail(number)
            raise


class _Epoch:
    """One pass over the data by a pool of workers."""

    _numbers = itertools.count()

    def __init__(self, pool: WorkerPool, indices: Iterator[Any], seed: int) -> None:
        self.pool = pool
        self.indices = indices
        self.identity = next(self._numbers)     # answers to an earlier epoch's tasks are thrown away
        self.handed_out = 0
        self.waiting: dict[int, int] = {}       # task -> worker
        self.answers: dict[int, Any] = {}
        self.active = [True] * len(pool.processes)
        self.turn = 0
        for number in range(len(self.active)):
            pool.send(number, ("start", (self.identity, -1), seed))
        for _ in range(pool.ahead * len(self.active)):
            self.hand_out()

    def hand_out(self) -> None:
        """Give the next worker one more task, if there is one. Turns are fixed, so that a batch's worker (and its random
        numbers) does not depend on who is quick."""
        if not any(self.active):
            return
        try:
            index = next(self.indices)
        except StopIteration:
            return
        while not self.active[self.turn]:
            self.turn = (self.turn + 1) % len(self.active)
        number, task = self.turn, self.handed_out
        self.turn = (number + 1) % len(self.active)
        self.handed_out += 1
        self.waiting[task] = number
        self.pool.send(number, (BATCH, (self.identity, task), index))

    def collect(self) -> int:
        """Wait for an answer to one of this epoch's tasks; the task's number."""
        while True:
            number, (kind, (identity, task), content) = self.pool.next_answer()
            if identity == self.identity:
                break
        del self.waiting[task]
        if kind == END:                     # an iterable dataset has ended in this worker
            self.active[number] = False
        self.answers[task] = (kind, content)
        return int(task)

    def results(self, in_order: bool) -> Iterator[Any]:
        """The batches."""
        try:
            expected = 0
            while self.waiting or self.answers:
                if in_order:
                    while expected not in self.answers:
                        self.collect()
                    kind, content = self.answers.pop(expected)
                    expected += 1
                else:
                    kind, content = self.answers.pop(self.collect())
                self.hand_out()
                if kind == ERROR:
                    raise_error(content)
                if kind == BATCH:
                    yield content
        finally:
            if not self.pool.persistent:
                self.pool.close()


def _shut_down(connections: list[Any], processes: list[Any], directory: str | None) -> None:
    """Close the connections (the workers end when they notice), wait a little, and end those that do not."""
    for c in connections:
        with contextlib.suppress(OSError):
            c.close()
    for process in processes:
        process.join(timeout=1)
        if process.is_alive():
            process.terminate()
            process.join(timeout=1)
    if directory is not None:
        shutil.rmtree(directory, ignore_errors=True)
