"""DataLoader: batches of a dataset, in this process or from workers."""
from __future__ import annotations

import multiprocessing
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.context import BaseContext
from typing import Any, Generic, TypeVar

import numpy as np

import torsh
from torsh.core.errors import ArgumentTypeError, InvalidArgumentError
from torsh.data.collate import default_collate, default_convert
from torsh.data.dataset import IterableDataset, Subset, TensorDataset
from torsh.data.pool import WorkerPool
from torsh.data.sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler, draw_seed
from torsh.data.worker import IterableFetcher, MapFetcher
from torsh.tensor.tensor import Tensor, from_array

T_co = TypeVar("T_co", covariant=True)
_FIXED = ("batch_size", "batch_sampler", "sampler", "drop_last", "dataset", "persistent_workers")


class _Endless(Sampler[None]):
    """Stands for the indices of an iterable dataset."""

    def __iter__(self) -> Iterator[None]:
        while True:
            yield None


class DataLoader(Generic[T_co]):
    """Iterates over a dataset in batches. Arguments and defaults are PyTorch's.

    - ``batch_size`` samples make a batch (None: samples are given one by one), in random order with ``shuffle``, in the
      order of ``sampler`` (indices) or ``batch_sampler`` (lists of indices) otherwise; ``drop_last`` leaves out an
      incomplete batch; ``collate_fn`` joins a list of samples (:func:`default_collate`).
    - ``num_workers`` processes load data, each ``prefetch_factor`` batches ahead; ``persistent_workers`` keeps them for the
      next epoch; ``timeout`` (seconds) limits the wait for a batch; ``worker_init_fn(number)`` runs in each at its start.
      Exceptions of workers are raised here, with their traceback.
    - ``generator`` decides the order and the workers' seeds. ``pin_memory`` is accepted; on the CPU there is nothing to pin.
    - :meth:`state_dict` and :meth:`load_state_dict` continue in the middle of an epoch.

    A :class:`TensorDataset` (or a :class:`Subset` of one) with the default collation is not taken apart: a batch is one
    indexing of each tensor.
    """

    _ready = False

    def __init__(self, dataset: Any, batch_size: int | None = 1, shuffle: bool | None = None, sampler: Any = None,
                 batch_sampler: Any = None, num_workers: int = 0, collate_fn: Callable[[Any], Any] | None = None,
                 pin_memory: bool = False, drop_last: bool = False, timeout: float = 0,
                 worker_init_fn: Callable[[int], None] | None = None, multiprocessing_context: Any = None,
                 generator: Any = None, *, prefetch_factor: int | None = None, persistent_workers: bool = False,
                 pin_memory_device: str = "", in_order: bool = True) -> None:
        _check_workers(num_workers, timeout, prefetch_factor, persistent_workers)
        self.dataset = dataset
        self.num_workers = num_workers
        self.prefetch_factor = 2 if num_workers > 0 and prefetch_factor is None else prefetch_factor
        self.pin_memory = pin_memory
        self.pin_memory_device = pin_memory_device
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.multiprocessing_context = multiprocessing_context
        self.in_order = in_order
        self._iterable = isinstance(dataset, IterableDataset)
        _check_order(self._iterable, batch_size, shuffle, sampler, batch_sampler, drop_last)
        if batch_sampler is not None:
            batch_size, drop_last = None, False
        if sampler is None:
            sampler = _Endless() if self._iterable else RandomSampler(dataset, generator=generator) if shuffle else \
                SequentialSampler(dataset)
        if batch_size is not None and batch_sampler is None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.sampler = sampler
        self.batch_sampler = batch_sampler
        self.generator = generator
        self.collate_fn = collate_fn or (default_collate if batch_sampler is not None else default_convert)
        self.persistent_workers = persistent_workers
        self._pool: WorkerPool | None = None
        self._progress: _Progress | None = None
        self._resume: dict[str, Any] | None = None
        self._ready = True
        self.check_worker_number_rationality()

    def __setattr__(self, name: str, value: Any) -> None:
        if self._ready and name in _FIXED:
            raise InvalidArgumentError(f"{name} attribute should not be set after {type(self).__name__} is initialized")
        super().__setattr__(name, value)

    @property
    def multiprocessing_context(self) -> Any:
        """How worker processes are started."""
        return self._context

    @multiprocessing_context.setter
    def multiprocessing_context(self, context: Any) -> None:
        if context is not None:
            if self.num_workers == 0:
                raise InvalidArgumentError("multiprocessing_context can only be used with multi-process loading "
                                           f"(num_workers > 0), but got num_workers={self.num_workers}")
            if isinstance(context, str):
                known = multiprocessing.get_all_start_methods()
                if context not in known:
                    raise InvalidArgumentError("multiprocessing_context option should specify a valid start method in "
                                               f"{known!r}, but got multiprocessing_context={context!r}")
                context = multiprocessing.get_context(context)
            if not isinstance(context, BaseContext):
                raise ArgumentTypeError("multiprocessing_context option should be a valid context object or a string "
                                        f"specifying the start method, but got multiprocessing_context={context}")
        self._context = context

    @property
    def _auto_collation(self) -> bool:
        return self.batch_sampler is not None

    @property
    def _index_sampler(self) -> Any:
        return self.batch_sampler if self._auto_collation else self.sampler

    def __len__(self) -> int:
        """Number of batches."""
        if not self._iterable:
            return len(self._index_sampler)
        n = len(self.dataset)
        if self.batch_size is None:
            return n
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def check_worker_number_rationality(self) -> None:
        """Warn if there are more workers than processor cores for this process."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if self.num_workers > cores:
            warnings.warn(f"This DataLoader will create {self.num_workers} worker processes in total. Our suggested max "
                          f"number of worker in current system is {cores}, which is smaller than what this DataLoader is "
                          "going to create. Please be aware that excessive worker creation might get DataLoader running "
                          "slow or even freeze, lower the worker number to avoid potential slowness/freeze if "
                          "necessary.", stacklevel=3)

    # ---- iteration ---------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Any]:
        source = self.generator if self.generator is not None else torsh.default_generator
        resume, self._resume = self._resume, None
        skip = 0
        outside = None
        if resume is not None:
            skip = resume["batches"]
            outside = source.get_state()
            source.set_state(resume["generator"])
        progress = self._progress = _Progress(source.get_state(), skip)
        batches = self._batches(skip)
        if outside is not None and self.generator is None:
            source.set_state(outside)       # the default generator is the program's, not the loader's
        return _Iterator(self, batches, progress)

    def _batches(self, skip: int) -> Iterator[Any]:
        """The batches of an epoch after the first ``skip``; everything random is drawn now."""
        columns = None if self.num_workers or self.collate_fn is not default_collate else _columns(self.dataset)
        if columns is not None and self._auto_collation:
            return _indexed(columns, self._index_batches(skip))
        indices = self._plain_indices(0 if self._iterable else skip)
        seed = draw_seed(self.generator)
        if self.num_workers:
            results = self._workers().run(indices, seed, self.in_order)
        else:
            fetcher = self._make_fetcher()
            results = _fetched(fetcher, indices)
        if self._iterable:
            for _ in range(skip):
                next(results, None)
        return results

    def _plain_indices(self, skip: int) -> Iterator[Any]:
        """Indices (lists of them) in the sampler's order; the sampler draws what it needs now."""
        sampler = self.batch_sampler if self._auto_collation else self.sampler
        if type(sampler) is BatchSampler and type(sampler.sampler) is RandomSampler:
            sampler = BatchSampler(sampler.sampler.index_array().tolist(), sampler.batch_size, sampler.drop_last)
        elif type(sampler) is RandomSampler:
            sampler = sampler.index_array().tolist()
        indices = iter(sampler)
        for _ in range(skip):
            next(indices, None)
        return indices

    def _index_batches(self, skip: int) -> Iterator[Any]:
        """Like :meth:`_plain_indices`, with arrays (or slices) in place of lists where the sampler is one of ours."""
        batches = self.batch_sampler
        if type(batches) is not BatchSampler or type(batches.sampler) not in (RandomSampler, SequentialSampler):
            return self._plain_indices(skip)
        order = batches.sampler.index_array() if isinstance(batches.sampler, RandomSampler) else None
        total, size = len(batches.sampler), batches.batch_size  # type: ignore[arg-type]
        if batches.drop_last:
            total -= total % size
        starts = range(skip * size, total, size)
        if order is None:
            return (slice(i, min(i + size, total)) for i in starts)
        return (order[i:min(i + size, total)] for i in starts)

    def _make_fetcher(self) -> Any:
        if self._iterable:
            return IterableFetcher(self.dataset, self._auto_collation, self.collate_fn, self.drop_last)
        return MapFetcher(self.dataset, self._auto_collation, self.collate_fn)

    def _workers(self) -> WorkerPool:
        if self._pool is not None and self._pool.alive:
            return self._pool
        pool = WorkerPool(self.dataset, self._make_fetcher, self.num_workers, self.prefetch_factor or 1, self.worker_init_fn,
                          self.timeout, self._context, self.persistent_workers)
        if self.persistent_workers:
            self._pool = pool
        return pool

    # ---- resuming ----------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Where the current epoch stands: batches given out, and the generator's state at its start."""
        progress = self._progress
        if progress is None or progress.finished:
            source = self.generator if self.generator is not None else torsh.default_generator
            return {"batches": 0, "generator": source.get_state(), "started": False}
        return {"batches": progress.batches, "generator": progress.generator_state, "started": True}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Let the next iteration continue where :meth:`state_dict` was taken, in the same order."""
        if state_dict["started"]:
            self._resume = dict(state_dict)
        elif self.generator is not None:
            self.generator.set_state(state_dict["generator"])


class _Progress:
    """How far an epoch has come."""

    def __init__(self, generator_state: Any, batches: int) -> None:
        self.generator_state = generator_state
        self.batches = batches
        self.finished = False


class _Iterator(Iterator[Any]):
    """The batches of one epoch."""

    def __init__(self, loader: DataLoader[Any], batches: Iterator[Any], progress: _Progress) -> None:
        self._loader = loader
        self._batches = batches
        self._progress = progress

    def __next__(self) -> Any:
        try:
            batch = next(self._batches)
        except StopIteration:
            self._progress.finished = True
            raise
        self._progress.batches += 1
        return batch

    def __len__(self) -> int:
        return len(self._loader)


def _check_workers(num_workers: int, timeout: float, prefetch_factor: int | None, persistent_workers: bool) -> None:
    if num_workers < 0:
        raise InvalidArgumentError("num_workers option should be non-negative; use num_workers=0 to disable "
                                   "multiprocessing.")
    if timeout < 0:
        raise InvalidArgumentError("timeout option should be non-negative")
    if num_workers == 0 and prefetch_factor is not None:
        raise InvalidArgumentError("prefetch_factor option could only be specified in multiprocessing. let num_workers > "
                                   "0 to enable multiprocessing, otherwise set prefetch_factor to None.")
    if prefetch_factor is not None and prefetch_factor < 0:
        raise InvalidArgumentError("prefetch_factor option should be non-negative")
    if persistent_workers and num_workers == 0:
        raise InvalidArgumentError("persistent_workers option needs num_workers > 0")


def _check_order(iterable: bool, batch_size: int | None, shuffle: bool | None, sampler: Any, batch_sampler: Any,
                 drop_last: bool) -> None:
    if iterable:
        for name, value in (("shuffle", shuffle or None), ("sampler", sampler), ("batch_sampler", batch_sampler)):
            if value is not None:
                raise InvalidArgumentError(f"DataLoader with IterableDataset: expected unspecified {name} option, but got "
                                           f"{name}={value}")
    if sampler is not None and shuffle:
        raise InvalidArgumentError("sampler option is mutually exclusive with shuffle")
    if batch_sampler is not None:
        if batch_size != 1 or shuffle or sampler is not None or drop_last:
            raise InvalidArgumentError("batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, and "
                                       "drop_last")
    elif batch_size is None and drop_last:
        raise InvalidArgumentError("batch_size=None option disables auto-batching and is mutually exclusive with drop_last")


def _columns(dataset: Any) -> tuple[tuple[Any, ...], np.ndarray[Any, Any] | None] | None:
    """(tensors, indices into them) of a TensorDataset or of subsets of one; None for other datasets."""
    chain = []
    while type(dataset) is Subset:
        chain.append(np.asarray(dataset.indices, dtype=np.int64).reshape(-1))
        dataset = dataset.dataset
    if type(dataset) is not TensorDataset or any(type(t) is not Tensor or t.requires_grad for t in dataset.tensors):
        return None
    chosen: np.ndarray[Any, Any] | None = None
    for indices in reversed(chain):
        chosen = indices if chosen is None else chosen[indices]
    return dataset.tensors, chosen


def _indexed(columns: tuple[tuple[Any, ...], np.ndarray[Any, Any] | None], batches: Iterable[Any]) -> Iterator[Any]:
    """Batches of rows of tensors."""
    tensors, chosen = columns
    for index in batches:
        if chosen is not None:
            index = chosen[index]
        elif isinstance(index, list):
            index = np.asarray(index, dtype=np.int64)
        if isinstance(index, slice):
            yield [from_array(t._ndarray()[index].copy(), t.dtype) for t in tensors]
        else:
            yield [from_array(t._ndarray().take(index, axis=0), t.dtype) for t in tensors]


def _fetched(fetcher: Any, indices: Iterable[Any]) -> Iterator[Any]:
    """Batches fetched in this process."""
    for index in indices:
        try:
            batch = fetcher.fetch(index)
        except StopIteration:
            return
        yield batch
