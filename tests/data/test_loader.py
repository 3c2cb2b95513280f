"""DataLoader: order, batches, workers, errors, resuming."""
from __future__ import annotations

import os
import time

import numpy as np
import pytest

import torsh
from torsh.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset, get_worker_info


def table(n=10):
    return TensorDataset(torsh.arange(n * 3).reshape(n, 3), torsh.arange(n))


def labels(loader):
    return [batch[1].tolist() for batch in loader]


class Rows(Dataset):
    """Each sample tells which worker made it."""

    def __init__(self, n, size=4):
        self.n, self.size = n, size

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        info = get_worker_info()
        return torsh.from_numpy(np.full(self.size, i, np.float32)), -1 if info is None else info.id


class Failing(Rows):
    def __getitem__(self, i):
        if i == 3:
            raise KeyError("no sample 3")
        return super().__getitem__(i)


class Dying(Rows):
    def __getitem__(self, i):
        os._exit(7)


class Slow(Rows):
    def __getitem__(self, i):
        time.sleep(30)


class Unsendable(Rows):
    def __getitem__(self, i):
        return lambda: None


class Stream(IterableDataset):
    def __init__(self, n):
        self.n = n

    def __iter__(self):
        info = get_worker_info()
        start, step = (0, 1) if info is None else (info.id, info.num_workers)
        return iter(range(start, self.n, step))


def test_sequential_batches_are_rows():
    batches = list(DataLoader(table(), batch_size=4))
    assert [len(b[1]) for b in batches] == [4, 4, 2]
    np.testing.assert_array_equal(batches[1][0].numpy(), np.arange(30).reshape(10, 3)[4:8])
    assert isinstance(batches[0], list)
    assert len(DataLoader(table(), batch_size=4)) == 3
    assert len(DataLoader(table(), batch_size=4, drop_last=True)) == 2
    assert labels(DataLoader(table(), batch_size=4, drop_last=True)) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_batches_do_not_alias_the_dataset():
    d = table()
    batch = next(iter(DataLoader(d, batch_size=4)))
    batch[0].zero_()
    assert d.tensors[0].sum().item() == sum(range(30))


def test_shuffle_is_a_permutation_and_repeatable():
    d = table(100)
    first = labels(DataLoader(d, batch_size=7, shuffle=True, generator=torsh.Generator().manual_seed(5)))
    again = labels(DataLoader(d, batch_size=7, shuffle=True, generator=torsh.Generator().manual_seed(5)))
    assert first == again
    assert sorted(sum(first, [])) == list(range(100)) and sum(first, []) != list(range(100))
    loader = DataLoader(d, batch_size=7, shuffle=True)
    torsh.manual_seed(1)
    a, b = labels(loader), labels(loader)
    torsh.manual_seed(1)
    assert labels(loader) == a and a != b


def test_vectorised_fetch_equals_sample_by_sample():
    d = Subset(Subset(table(20), list(range(19, 0, -2))), [3, 1, 4])
    fast = list(DataLoader(d, batch_size=2))
    slow = list(DataLoader(d, batch_size=2, collate_fn=lambda batch: torsh.utils.data.default_collate(batch)))
    for x, y in zip(fast, slow, strict=True):
        for u, v in zip(x, y, strict=True):
            assert u.dtype == v.dtype
            np.testing.assert_array_equal(u.numpy(), v.numpy())


def test_index_out_of_range_raises():
    with pytest.raises(IndexError):
        list(DataLoader(table(), batch_size=2, sampler=[0, 10]))


def test_batch_size_none_gives_samples():
    samples = list(DataLoader(table(3), batch_size=None))
    assert samples[2][1].item() == 2 and samples[2][0].shape == (3,)


def test_custom_batch_sampler_and_sampler():
    assert labels(DataLoader(table(), batch_sampler=[[1, 2], [9]])) == [[1, 2], [9]]
    assert labels(DataLoader(table(), batch_size=2, sampler=[5, 4, 3])) == [[5, 4], [3]]


def test_iterable_dataset():
    assert [b.tolist() for b in DataLoader(Stream(5), batch_size=2)] == [[0, 1], [2, 3], [4]]
    assert [b.tolist() for b in DataLoader(Stream(5), batch_size=2, drop_last=True)] == [[0, 1], [2, 3]]
    with pytest.raises(ValueError, match="shuffle"):
        DataLoader(Stream(5), shuffle=True)


@pytest.mark.parametrize(("options", "message"), [
    (dict(num_workers=-1), "non-negative"), (dict(timeout=-1), "timeout"), (dict(prefetch_factor=2), "prefetch_factor"),
    (dict(persistent_workers=True), "persistent_workers"), (dict(sampler=[0], shuffle=True), "mutually exclusive"),
    (dict(batch_sampler=[[0]], drop_last=True), "mutually exclusive"), (dict(batch_size=None, drop_last=True), "disables"),
    (dict(batch_size=0), "batch_size"), (dict(multiprocessing_context="fork"), "multi-process loading")])
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        DataLoader(table(), **options)


def test_attributes_are_fixed():
    with pytest.raises(ValueError, match="should not be set"):
        DataLoader(table()).batch_size = 3


def test_workers_keep_the_order():
    loader = DataLoader(Rows(11, size=20_000), batch_size=2, num_workers=2)       # large: through shared memory
    for _ in range(2):
        batches = list(loader)
        assert [int(b[0][0, 0]) for b in batches] == [0, 2, 4, 6, 8, 10]
        assert [b[1].tolist()[0] for b in batches] == [0, 1, 0, 1, 0, 1]
    batches[0][0].add_(1)
    assert batches[0][0].sum().item() == 20_000 * 3


def test_small_batches_and_tensor_dataset_through_workers():
    assert labels(DataLoader(table(), batch_size=4, num_workers=1)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_workers_compute_in_memory_of_their_own():
    class Computed(Rows):
        def __getitem__(self, i):
            parts = [torsh.full((8,), float(i)) * 2 for _ in range(50)]
            torsh.synchronize()
            return parts

    for batch in DataLoader(Computed(24), batch_size=None, num_workers=2):
        assert len({tuple(part.tolist()) for part in batch}) == 1
    values = [b[0][0].item() for b in DataLoader(Computed(24), batch_size=None, num_workers=2)]
    assert values == [2.0 * i for i in range(24)]


def test_iterable_dataset_with_workers():
    values = [v for b in DataLoader(Stream(9), batch_size=2, num_workers=2) for v in b.tolist()]
    assert sorted(values) == list(range(9))


def test_persistent_workers_and_init_function():
    def init(number):
        os.environ["TORSH_TEST_WORKER"] = str(number)

    class Environment(Rows):
        def __getitem__(self, i):
            return os.getpid(), int(os.environ["TORSH_TEST_WORKER"])

    loader = DataLoader(Environment(4), num_workers=2, persistent_workers=True, worker_init_fn=init)
    first, second = list(loader), list(loader)
    assert [b[1].item() for b in first] == [0, 1, 0, 1]
    assert [b[0].item() for b in first] == [b[0].item() for b in second]
    iterator = iter(loader)
    next(iterator)                                  # an epoch that is given up does not disturb the next one
    assert [b[1].item() for b in loader] == [0, 1, 0, 1]


def test_worker_seeds_differ_and_repeat():
    class Random(Rows):
        def __getitem__(self, i):
            return np.random.rand()

    torsh.manual_seed(0)
    a = [b.item() for b in DataLoader(Random(4), num_workers=2)]
    torsh.manual_seed(0)
    b = [b.item() for b in DataLoader(Random(4), num_workers=2)]
    assert a == b and len(set(a)) == 4


def test_worker_errors():
    with pytest.raises(KeyError) as caught:
        list(DataLoader(Failing(6), num_workers=1))
    assert "in DataLoader worker process 0" in str(caught.value) and "no sample 3" in str(caught.value)
    assert "test_loader.py" in str(caught.value)
    with pytest.raises(RuntimeError, match="exited unexpectedly with exit code 7"):
        list(DataLoader(Dying(4), num_workers=1))
    with pytest.raises(RuntimeError, match="timed out after 0.2 seconds"):
        list(DataLoader(Slow(4), num_workers=1, timeout=0.2))
    with pytest.raises((RuntimeError, AttributeError), match="worker process 0"):
        list(DataLoader(Unsendable(2), num_workers=1, collate_fn=lambda batch: batch))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("own_generator", [False, True])
def test_resume_in_the_middle(workers, own_generator):
    def make():
        generator = torsh.Generator().manual_seed(9) if own_generator else None
        return DataLoader(table(12), batch_size=2, shuffle=True, num_workers=workers, generator=generator)

    torsh.manual_seed(4)
    loader = make()
    iterator = iter(loader)
    done = [next(iterator)[1].tolist() for _ in range(2)]
    state = loader.state_dict()
    rest = labels(iterator)
    torsh.manual_seed(77)
    resumed = make()
    resumed.load_state_dict(state)
    assert labels(resumed) == rest
    assert sorted(sum(done + rest, [])) == list(range(12))


def test_resume_iterable():
    loader = DataLoader(Stream(6), batch_size=2)
    next(iter(loader))
    state = loader.state_dict()
    other = DataLoader(Stream(6), batch_size=2)
    other.load_state_dict(state)
    assert [b.tolist() for b in other] == [[2, 3], [4, 5]]
