"""The processes that load data."""
from __future__ import annotations

import queue
import random
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

from torsh.core.errors import TorshError
from torsh.data.dataset import items_of
from torsh.data.transfer import send

END: Final = "end"              # kinds of messages: an iterable dataset has nothing more,
ERROR: Final = "error"          # an exception was raised,
BATCH: Final = "batch"          # a batch


class WorkerError(TorshError, RuntimeError):
    """A failure in a process that loads data."""


class WorkerInfo:
    """What a worker knows of itself: ``id``, ``num_workers``, ``seed`` and its copy of the ``dataset``."""

    def __init__(self, id: int, num_workers: int, seed: int, dataset: Any) -> None:
        self.id = id
        self.num_workers = num_workers
        self.seed = seed
        self.dataset = dataset

    def __repr__(self) -> str:
        return f"WorkerInfo(id={self.id}, num_workers={self.num_workers}, seed={self.seed})"


_info: list[WorkerInfo | None] = [None]


def get_worker_info() -> WorkerInfo | None:
    """In a worker of a DataLoader: which one it is. None in the main process."""
    return _info[0]


class MapFetcher:
    """Gets batches of a dataset with indices."""

    def __init__(self, dataset: Any, collate: bool, collate_fn: Callable[[Any], Any]) -> None:
        self.dataset = dataset
        self.collate = collate
        self.collate_fn = collate_fn

    def fetch(self, index: Any) -> Any:
        """The batch of a list of indices, or the sample of one."""
        return self.collate_fn(items_of(self.dataset, index) if self.collate else self.dataset[index])


class IterableFetcher:
    """Gets batches of a stream."""

    def __init__(self, dataset: Any, collate: bool, collate_fn: Callable[[Any], Any], drop_last: bool) -> None:
        self.iterator: Iterator[Any] = iter(dataset)
        self.collate = collate
        self.collate_fn = collate_fn
        self.drop_last = drop_last
        self.ended = False

    def fetch(self, index: Any) -> Any:
        """The next ``len(index)`` samples as a batch; raises StopIteration at the end."""
        if self.ended:
            raise StopIteration
        if not self.collate:
            return self.collate_fn(next(self.iterator))
        batch = []
        for _ in index:
            try:
                batch.append(next(self.iterator))
            except StopIteration:
                self.ended = True
                break
        if not batch or (self.drop_last and len(batch) < len(index)):
            raise StopIteration
        return self.collate_fn(batch)


class WorkerSettings:
    """What a worker process needs."""

    def __init__(self, number: int, count: int, dataset: Any, make_fetcher: Callable[[], Any],
                 init_fn: Callable[[int], None] | None, directory: str | None) -> None:
        self.number = number
        self.count = count
        self.dataset = dataset
        self.make_fetcher = make_fetcher
        self.init_fn = init_fn
        self.directory = directory


def describe_error(where: str) -> tuple[Any, ...]:
    """The exception being handled, as something that can be sent."""
    import sys
    kind, value, _ = sys.exc_info()
    return kind.__module__, kind.__qualname__, f"Caught {kind.__name__} {where}.\nOriginal {traceback.format_exc()}"  # type: ignore[union-attr]


class _Verbatim(str):
    """Text whose repr is the text."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def raise_error(description: tuple[str, str, str]) -> None:
    """Raise a worker's exception here: of the same class if that can be made from a message."""
    import importlib
    module, name, message = description
    try:
        cls: Any = importlib.import_module(module)
        for part in name.split("."):
            cls = getattr(cls, part)
        # KeyError shows the repr of its argument, which would put the whole traceback on one line.
        error = cls(_Verbatim(message)) if cls is KeyError else cls(message)
    except Exception:
        raise WorkerError(message) from None
    raise error


def start_seeds(seed: int) -> None:
    """Seed all generators that a dataset may use."""
    import torsh
    torsh.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)


def run_worker(settings: WorkerSettings, connection: Any, others: list[Any]) -> None:
    """Main function of a worker process: answer tasks until the other end is closed."""
    for c in others:                # the parent's ends, inherited by fork
        c.close()
    import torsh
    torsh.set_num_threads(1)
    tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    # Tasks are taken in at once, so that the parent never waits to hand one over while this process waits to hand a batch
    # over.
    threading.Thread(target=_read_tasks, args=(connection, tasks), daemon=True).start()
    fetcher: Any = None
    failure: Any = None
    count = 0
    while (task := tasks.get()) is not None:
        kind, number, content = task
        try:
            if kind == "start":
                seed = content + settings.number
                start_seeds(seed)
                _info[0] = WorkerInfo(settings.number, settings.count, seed, settings.dataset)
                first, failure = fetcher is None, None
                fetcher = ()
                if first and settings.init_fn is not None:
                    settings.init_fn(settings.number)
                fetcher = settings.make_fetcher()
                continue
            answer = (ERROR, number, failure) if failure else (BATCH, number, fetcher.fetch(content))
        except StopIteration:
            answer = (END, number, None)
        except Exception:
            error = describe_error(f"in DataLoader worker process {settings.number}")
            if kind == "start":
                failure = error
                continue
            answer = (ERROR, number, error)
        count += 1
        try:
            try:
                send(connection, answer, settings.directory, f"{settings.number}-{count}")
            except (BrokenPipeError, ConnectionResetError):
                return
            except Exception:           # something in the batch can't be sent
                send(connection, (ERROR, number, describe_error(f"in DataLoader worker process "
                                                                f"{settings.number}")), None, "")
        except (BrokenPipeError, ConnectionResetError):
            return


def _read_tasks(connection: Any, tasks: queue.SimpleQueue[Any]) -> None:
    """Move tasks from the connection to a queue."""
    try:
        while True:
            tasks.put(connection.recv())
    except (EOFError, OSError):
        tasks.put(None)
