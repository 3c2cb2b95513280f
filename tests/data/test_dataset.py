"""Datasets, samplers and collation."""
from __future__ import annotations

from collections import OrderedDict, namedtuple

import numpy as np
import pytest

import torsh
from torsh import data
from torsh.utils import data as utils_data


class Squares(data.Dataset):
    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        if not 0 <= i < self.n:
            raise IndexError(i)
        return i * i


def test_utils_data_holds_the_same_objects():
    assert utils_data.DataLoader is data.DataLoader
    assert utils_data.dataset.TensorDataset is data.TensorDataset
    assert utils_data.distributed.DistributedSampler is data.DistributedSampler


def test_tensor_dataset():
    x = torsh.arange(12).reshape(4, 3)
    d = data.TensorDataset(x, torsh.arange(4))
    assert len(d) == 4
    row, label = d[2]
    np.testing.assert_array_equal(row.numpy(), [6, 7, 8])
    assert int(label) == 2
    with pytest.raises(AssertionError, match="Size mismatch"):
        data.TensorDataset(x, torsh.arange(3))


def test_concat_chain_stack_subset():
    both = Squares(3) + Squares(2)
    assert [both[i] for i in range(5)] == [0, 1, 4, 0, 1]
    assert both[-1] == 1
    with pytest.raises(ValueError, match="absolute value of index"):
        both[-6]
    stacked = data.StackDataset(a=Squares(3), b=both.datasets[0])
    assert stacked[2] == {"a": 4, "b": 4}
    assert stacked.__getitems__([0, 2]) == [{"a": 0, "b": 0}, {"a": 4, "b": 4}]
    with pytest.raises(ValueError, match="Size mismatch"):
        data.StackDataset(Squares(3), Squares(2))
    assert data.Subset(Squares(9), [8, 1])[0] == 64

    class Stream(data.IterableDataset):
        def __iter__(self):
            return iter([1, 2])

    assert list(Stream() + Stream()) == [1, 2, 1, 2]
    with pytest.raises(AssertionError, match="IterableDataset"):
        data.ConcatDataset([Stream()])


def test_subset_subclass_has_to_override_both():
    class Half(data.Subset):
        def __getitem__(self, i):
            return self.dataset[i]

    with pytest.raises(NotImplementedError, match="__getitems__"):
        Half(Squares(3), [0])


def test_random_split():
    a, b = data.random_split(Squares(10), [0.75, 0.25], generator=torsh.Generator().manual_seed(1))
    assert (len(a), len(b)) == (8, 2)
    assert sorted([*a.indices, *b.indices]) == list(range(10))
    again = data.random_split(Squares(10), [8, 2], generator=torsh.Generator().manual_seed(1))
    assert again[0].indices == a.indices
    with pytest.raises(ValueError, match="Sum of input lengths"):
        data.random_split(Squares(10), [3, 3])
    with pytest.warns(UserWarning, match="Length of split at index 1 is 0"):
        data.random_split(Squares(2), [0.9, 0.1])


def test_samplers():
    assert list(data.SequentialSampler(range(4))) == [0, 1, 2, 3]
    generator = torsh.Generator().manual_seed(3)
    order = list(data.RandomSampler(range(50), generator=generator))
    assert sorted(order) == list(range(50)) and order != list(range(50))
    assert list(data.RandomSampler(range(50), generator=torsh.Generator().manual_seed(3))) == order
    drawn = list(data.RandomSampler(range(5), replacement=True, num_samples=40))
    assert len(drawn) == 40 and set(drawn) <= set(range(5))
    assert len(list(data.RandomSampler(range(5), num_samples=12))) == 12
    assert sorted(data.SubsetRandomSampler([3, 5, 9])) == [3, 5, 9]
    with pytest.raises(ValueError, match="num_samples"):
        data.RandomSampler([])
    with pytest.raises(TypeError, match="replacement"):
        data.RandomSampler(range(3), replacement=1)


def test_weighted_sampler():
    weights = [0.0, 3.0, 1.0]
    drawn = list(data.WeightedRandomSampler(weights, 2000))
    counts = np.bincount(drawn, minlength=3)
    assert counts[0] == 0 and 2.0 < counts[1] / counts[2] < 4.5
    assert sorted(data.WeightedRandomSampler([1.0, 1.0, 1.0], 3, replacement=False)) == [0, 1, 2]
    with pytest.raises(ValueError, match="1d sequence"):
        data.WeightedRandomSampler([[1.0]], 1)


def test_batch_sampler():
    assert list(data.BatchSampler(range(5), 2, False)) == [[0, 1], [2, 3], [4]]
    assert list(data.BatchSampler(range(5), 2, True)) == [[0, 1], [2, 3]]
    assert len(data.BatchSampler(range(5), 2, False)) == 3
    for bad in (0, -1, True, 1.5):
        with pytest.raises(ValueError, match="batch_size"):
            data.BatchSampler(range(5), bad, False)


@pytest.mark.parametrize("drop_last", [False, True])
def test_distributed_sampler(drop_last):
    parts = [data.DistributedSampler(range(10), 4, rank, drop_last=drop_last) for rank in range(4)]
    lists = [list(p) for p in parts]
    assert {len(p) for p in lists} == {2 if drop_last else 3}
    if not drop_last:
        assert set(sum(lists, [])) == set(range(10))
    parts[0].set_epoch(1)
    assert list(parts[0]) != lists[0]
    with pytest.raises(ValueError, match="Invalid rank"):
        data.DistributedSampler(range(10), 4, 4)


def test_collate():
    Point = namedtuple("Point", "x y")
    batch = data.default_collate([{"a": torsh.tensor([1.0]), "b": 2, "c": "s", "d": (1.5, np.float32(2))},
                                  {"a": torsh.tensor([3.0]), "b": 4, "c": "t", "d": (2.5, np.float32(3))}])
    np.testing.assert_array_equal(batch["a"].numpy(), [[1.0], [3.0]])
    assert batch["b"].tolist() == [2, 4] and batch["b"].dtype == torsh.int64
    assert batch["c"] == ["s", "t"]
    assert batch["d"][0].dtype == torsh.float64 and batch["d"][1].dtype == torsh.float32
    points = data.default_collate([Point(1, 2), Point(3, 4)])
    assert isinstance(points, Point) and points.y.tolist() == [2, 4]
    assert isinstance(data.default_collate([OrderedDict(a=1)]), OrderedDict)
    assert data.default_collate([np.ones(2), np.zeros(2)]).shape == (2, 2)
    with pytest.raises(RuntimeError, match="equal size"):
        data.default_collate([[1], [1, 2]])
    with pytest.raises(TypeError, match="default_collate"):
        data.default_collate([object()])


def test_convert():
    result = data.default_convert({"a": np.arange(2), "b": [np.float64(1.5), "s"]})
    assert result["a"].tolist() == [0, 1]
    assert result["b"][0].item() == 1.5 and result["b"][1] == "s"
