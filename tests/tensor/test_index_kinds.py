"""Indices of all kinds, the dtypes of what is assigned, and numbers that a dtype cannot hold."""
from __future__ import annotations

import pytest

import torsh


def test_tensors_of_no_dimensions_are_numbers():
    x = torsh.arange(24).reshape(2, 3, 4)
    assert tuple(x[torsh.tensor(0), :, torsh.tensor([1, 2])].shape) == (3, 2)
    assert tuple(x[[0], :, torsh.tensor(1, dtype=torsh.int32)].shape) == (1, 3)
    row = x[torsh.tensor(1)]
    row.zero_()
    assert x[1].sum().item() == 0
    with pytest.raises(IndexError):
        x[torsh.tensor(2)]


def test_short_lists_of_indices_are_tuples():
    x = torsh.arange(6.0).reshape(2, 3)
    assert x[[[0, 1], [1, 0]]].tolist() == [1.0, 3.0]
    assert x[[slice(0, 1)]].tolist() == [[0.0, 1.0, 2.0]]
    assert x[[0, 1]].tolist() == x.tolist()


def test_assigned_dtypes():
    x = torsh.zeros(3, 2)
    for index in (torsh.tensor([0, 1]), [0, 1], (0, [1]), torsh.tensor(True)):
        with pytest.raises(RuntimeError, match="source and destination dtypes match"):
            x[index] = torsh.tensor(1.0, dtype=torsh.float64)
    mask = torsh.tensor([True, False, True])
    x[mask] = torsh.tensor([1], dtype=torsh.int64)
    x[1:2] = torsh.tensor([2], dtype=torsh.int64)
    x[torsh.tensor(1)] = torsh.tensor([3], dtype=torsh.int64)
    assert x.tolist() == [[1.0, 1.0], [3.0, 3.0], [1.0, 1.0]]


def test_index_put_with_masks_and_numbers():
    x = torsh.zeros(2, 3)
    x.index_put_((torsh.tensor([[True, False, True], [False, True, False]]),), torsh.tensor(2.0))
    x.index_put_((torsh.tensor(1), torsh.tensor([0, 0])), torsh.tensor(1.0), accumulate=True)
    assert x.tolist() == [[2.0, 0.0, 2.0], [2.0, 2.0, 0.0]]


@pytest.mark.parametrize("dtype, value", [("int8", 300), ("int8", float("nan")), ("uint8", -1.0), ("int64", 1e30), ("float32", 1e39),
                                          ("float32", 1j)])
def test_numbers_that_do_not_fit(dtype, value):
    x = torsh.zeros(2, dtype=getattr(torsh, dtype))
    zero = torsh.tensor([0])
    calls = [lambda: x.__setitem__(slice(None), value), lambda: x.__setitem__(0, value), lambda: x.fill_(value),
             lambda: x.__setitem__(torsh.tensor([True, False]), value), lambda: x.masked_fill_(torsh.tensor(True), value),
             lambda: x.scatter_(0, zero, value), lambda: x.index_fill_(0, zero, value)]
    for call in calls:
        with pytest.raises(RuntimeError, match="without overflow"):
            call()
    assert x.tolist() == [0, 0]


def test_dtypes_of_reductions_and_ranges():
    x = torsh.tensor([100, 100], dtype=torsh.int8)
    assert x.sum(dtype=torsh.int8).dtype is torsh.int8 and x.sum(dtype=torsh.int8).item() == -56
    assert x.prod(dtype=torsh.int16).dtype is torsh.int16
    assert torsh.any(torsh.tensor([[0.0, 1.0]]), dim=[]).tolist() == [[False, True]]
    assert torsh.arange(-3, 0.5, dtype=torsh.int32).tolist() == [-3, -2, -1, 0]
    assert torsh.arange(-3, 0.5, dtype=torsh.int64).tolist() == [-3, -2, -1]
    assert torsh.linspace(-3, 5, 7, dtype=torsh.int8).tolist() == [-3, -1, 0, 1, 2, 3, 5]
    assert torsh.linspace(84, 34, 31, dtype=torsh.int64).tolist()[15:20] == [59, 57, 55, 54, 52]
    assert (64 >> torsh.tensor([1, 2])).tolist() == [32, 16] and (3 << torsh.tensor([1, 2])).tolist() == [6, 12]


def test_products_in_common_dtypes():
    x = torsh.zeros(2, dtype=torsh.float64)
    a = torsh.tensor([255, 16], dtype=torsh.uint8)
    assert x.addcmul(a, a).tolist() == [65025.0, 256.0]
    third = x.addcdiv(torsh.tensor([1, 2]), torsh.tensor([3.0, 3.0]))
    assert third.tolist() == [1 / 3, 2 / 3]


def test_numbers_beside_half_precision():
    x = torsh.tensor([0.0, 2.734375], dtype=torsh.bfloat16)
    assert (x * 1e5).tolist() == [0.0, 274432.0] and (x * torsh.tensor(1e5)).tolist() == [0.0, 274432.0]
    assert (torsh.tensor([0.0], dtype=torsh.float16) * 123456).tolist() == [0.0]
    assert x.mul(257).dtype is torsh.bfloat16


def test_unique_and_searchsorted_of_bfloat16_with_nan():
    x = torsh.tensor([0.0, float("nan"), -3.0, 0.5], dtype=torsh.bfloat16)
    assert torsh.unique(x).tolist()[:3] == [-3.0, 0.0, 0.5]
    assert torsh.searchsorted(torsh.tensor([-3.0, 0.0], dtype=torsh.bfloat16), x).tolist() == [1, 2, 0, 2]


def test_texts_of_special_numbers():
    assert repr(torsh.tensor([1.0, float("inf")])) == "tensor([1., inf])"
    assert repr(torsh.tensor([float("nan"), 2.0, 0.0])) == "tensor([nan, 2., 0.])"
