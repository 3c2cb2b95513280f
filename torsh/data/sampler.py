"""Samplers: in what order the samples of a dataset are taken."""
from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

import torsh
from torsh.core.errors import ArgumentTypeError, DistributedError, InvalidArgumentError

__all__ = ["BatchSampler", "DistributedSampler", "RandomSampler", "Sampler", "SequentialSampler", "SubsetRandomSampler",
           "WeightedRandomSampler"]

T_co = TypeVar("T_co", covariant=True)


def draw_seed(generator: Any = None) -> int:
    """A seed for something else, drawn from a generator (the default one if None)."""
    seed, offset = (torsh.default_generator if generator is None else generator).draw()
    # The finalizer of SplitMix64 spreads neighbouring offsets over all seeds.
    z = (seed * 0x9E3779B97F4A7C15 + (offset + 1) * 0xD1B54A32D192ED03) & 0xFFFFFFFFFFFFFFFF
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return (z ^ (z >> 31)) >> 1


def is_count(value: Any) -> bool:
    """Is the value a positive integer (and no bool)?"""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


class Sampler(Generic[T_co]):
    """Base of samplers: ``__iter__`` gives indices (or lists of indices), ``__len__`` their number."""

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError("a sampler defines __iter__()")


class SequentialSampler(Sampler[int]):
    """All samples in their order."""

    def __init__(self, data_source: Any) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler[int]):
    """All samples in random order; or ``num_samples`` of them, with or without replacement."""

    def __init__(self, data_source: Any, replacement: bool = False, num_samples: int | None = None,
                 generator: Any = None) -> None:
        self.data_source = data_source
        self.replacement = replacement
        self._num_samples = num_samples
        self.generator = generator
        if not isinstance(replacement, bool):
            raise ArgumentTypeError(f"replacement should be a boolean value, but got replacement={replacement}")
        if not isinstance(self.num_samples, int) or self.num_samples <= 0:
            raise InvalidArgumentError(f"num_samples should be a positive integer value, but got "
                                       f"num_samples={self.num_samples}")

    @property
    def num_samples(self) -> int:
        """Number of samples in a pass (the data source's may change)."""
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def index_array(self) -> np.ndarray[Any, Any]:
        """The indices of one pass."""
        n = len(self.data_source)
        generator = self.generator
        if generator is None:
            generator = torsh.Generator()
            generator.manual_seed(draw_seed())
        if self.replacement:
            return torsh.randint(0, n, (self.num_samples,), dtype=torsh.int64, generator=generator).numpy()
        passes = [torsh.randperm(n, generator=generator).numpy() for _ in range(-(-self.num_samples // n))]
        return passes[0] if self.num_samples == n else np.concatenate(passes)[:self.num_samples]

    def __iter__(self) -> Iterator[int]:
        yield from self.index_array().tolist()

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(Sampler[int]):
    """Given indices, in random order."""

    def __init__(self, indices: Sequence[int], generator: Any = None) -> None:
        self.indices = indices
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        for i in torsh.randperm(len(self.indices), generator=self.generator).tolist():
            yield self.indices[i]

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(Sampler[int]):
    """``num_samples`` indices drawn with probabilities in proportion to ``weights``."""

    def __init__(self, weights: Any, num_samples: int, replacement: bool = True, generator: Any = None) -> None:
        if not is_count(num_samples):
            raise InvalidArgumentError(f"num_samples should be a positive integer value, but got num_samples={num_samples}")
        if not isinstance(replacement, bool):
            raise InvalidArgumentError(f"replacement should be a boolean value, but got replacement={replacement}")
        self.weights = torsh.as_tensor(weights, dtype=torsh.float64)
        if len(self.weights.shape) != 1:
            raise InvalidArgumentError("weights should be a 1d sequence but given weights have shape "
                                       f"{tuple(self.weights.shape)}")
        self.num_samples = num_samples
        self.replacement = replacement
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        yield from torsh.multinomial(self.weights, self.num_samples, self.replacement, generator=self.generator).tolist()

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler[list[int]]):
    """Lists of ``batch_size`` indices of another sampler; the last may be shorter unless ``drop_last``."""

    def __init__(self, sampler: Sampler[int] | Iterable[int], batch_size: int, drop_last: bool) -> None:
        if not is_count(batch_size):
            raise InvalidArgumentError(f"batch_size should be a positive integer value, but got batch_size={batch_size}")
        if not isinstance(drop_last, bool):
            raise InvalidArgumentError(f"drop_last should be a boolean value, but got drop_last={drop_last}")
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last

    def __iter__(self) -> Iterator[list[int]]:
        indices = iter(self.sampler)
        while batch := list(itertools.islice(indices, self.batch_size)):
            if len(batch) < self.batch_size and self.drop_last:
                return
            yield batch

    def __len__(self) -> int:
        n = len(self.sampler)  # type: ignore[arg-type]
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)


class DistributedSampler(Sampler[int]):
    """The share of one of ``num_replicas`` processes; call :meth:`set_epoch` before each epoch to shuffle anew."""

    def __init__(self, dataset: Any, num_replicas: int | None = None, rank: int | None = None, shuffle: bool = True,
                 seed: int = 0, drop_last: bool = False) -> None:
        if num_replicas is None or rank is None:
            distributed = getattr(torsh, "distributed", None)
            if distributed is None or not distributed.is_available():
                raise DistributedError("Requires distributed package to be available: pass num_replicas and rank")
            num_replicas = distributed.get_world_size() if num_replicas is None else num_replicas
            rank = distributed.get_rank() if rank is None else rank
        if rank >= num_replicas or rank < 0:
            raise InvalidArgumentError(f"Invalid rank {rank}, rank should be in the interval [0, {num_replicas - 1}]")
        self.dataset = dataset
        self.num_replicas = num_replicas
        self.rank = rank
        self.epoch = 0
        self.drop_last = drop_last
        n = len(dataset)
        self.num_samples = math.ceil((n - num_replicas if drop_last and n % num_replicas else n) / num_replicas)
        self.total_size = self.num_samples * num_replicas
        self.shuffle = shuffle
        self.seed = seed

    def __iter__(self) -> Iterator[int]:
        n = len(self.dataset)
        if self.shuffle:
            generator = torsh.Generator()
            generator.manual_seed(self.seed + self.epoch)
            order = torsh.randperm(n, generator=generator).tolist()
        else:
            order = list(range(n))
        if not self.drop_last and self.total_size > n:
            order = (order * math.ceil(self.total_size / n))[:self.total_size]
        return iter(order[self.rank:self.total_size:self.num_replicas])

    def __len__(self) -> int:
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next: the order depends on it."""
        self.epoch = epoch
