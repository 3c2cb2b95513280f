"""Tensor types by dtype: FloatTensor, LongTensor, …"""
from __future__ import annotations

import numpy as np
import pytest

import torsh


def test_sizes_and_data() -> None:
    """PyTorch's forms of the call."""
    assert torsh.FloatTensor(2, 3).shape == torsh.FloatTensor(torsh.Size([2, 3])).shape == (2, 3)
    assert torsh.LongTensor(3).dtype is torsh.int64 and torsh.DoubleTensor().shape == (0,)
    assert torsh.FloatTensor([1, 2]).tolist() == [1.0, 2.0] and torsh.FloatTensor((2, 3)).tolist() == [2.0, 3.0]
    assert torsh.LongTensor([1.7, 2]).tolist() == [1, 2]
    assert torsh.FloatTensor(np.ones(2) * 1.5).dtype is torsh.float32
    t = torsh.ones(2)
    assert torsh.FloatTensor(t).data_ptr() == t.data_ptr()


def test_types() -> None:
    """isinstance and Tensor.type."""
    t = torsh.ones(2)
    assert isinstance(t, torsh.FloatTensor) and not isinstance(t.long(), torsh.FloatTensor)
    assert t.type(torsh.LongTensor).type() == "torsh.LongTensor" == t.type("torch.LongTensor").type()
    assert t.type(torsh.float64).dtype is torsh.DoubleTensor.dtype


def test_errors() -> None:
    """A number that is no size, a tensor of another dtype, a type that does not exist."""
    with pytest.raises(TypeError, match="data must be a sequence"):
        torsh.FloatTensor(3.5)
    with pytest.raises(TypeError, match="dtype"):
        torsh.FloatTensor(torsh.ones(2).long())
    with pytest.raises(ValueError, match="invalid type"):
        torsh.ones(2).type("torch.NoTensor")
