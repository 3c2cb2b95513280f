"""Bad input raises PyTorch's exception type at the line of the operation, with a message that names what was wrong."""
from __future__ import annotations

import numpy as np
import pytest

import torsh
from torsh.nn import functional as F

CASES = [
    (lambda: torsh.ones(2, 3) + torsh.ones(4), RuntimeError, "size of tensor a"),
    (lambda: torsh.ones(2, 3) @ torsh.ones(2, 3), RuntimeError, "2x3"),
    (lambda: torsh.ones(2, 3).view(4), RuntimeError, "invalid for input of size 6"),
    (lambda: torsh.ones(2, 3).reshape(-1, -1), RuntimeError, "only one dimension"),
    (lambda: torsh.ones(2)[2], IndexError, "out of bounds"),
    (lambda: torsh.ones(2)[0, 0], IndexError, "too many indices"),
    (lambda: torsh.ones(2).sum(3), IndexError, "Dimension out of range"),
    (lambda: torsh.cat([]), ValueError, "non-empty"),
    (lambda: torsh.stack([torsh.ones(2), torsh.ones(3)]), RuntimeError, "equal size"),
    (lambda: torsh.ones(2, device="cuda"), RuntimeError, "not available"),
    (lambda: torsh.device("nonsense"), RuntimeError, "device string"),
    (lambda: torsh.ones(2, dtype=torsh.int64).mean(), RuntimeError, "floating point"),
    (lambda: -torsh.tensor([True]), RuntimeError, "bool"),
    (lambda: torsh.tensor([[1, 2], [3]]), ValueError, "expected sequence"),
    (lambda: torsh.tensor("text"), TypeError, "invalid data type"),
    (lambda: torsh.tensor([300, -5], dtype=torsh.uint8), RuntimeError, "without overflow"),
    (lambda: torsh.tensor([0.5, float("nan")], dtype=torsh.int64), RuntimeError, "without overflow"),
    (lambda: torsh.tensor([1j], dtype=torsh.float32), TypeError, "must be real number"),
    (lambda: torsh.full((2,), 1e30, dtype=torsh.int64), RuntimeError, "without overflow"),
    (lambda: torsh.ones(2, dtype=torsh.int8).fill_(200), RuntimeError, "without overflow"),
    (lambda: torsh.from_numpy([1]), TypeError, "np.ndarray"),
    (lambda: torsh.ones(3).item(), RuntimeError, "cannot be converted to Scalar"),
    (lambda: bool(torsh.ones(3)), RuntimeError, "ambiguous"),
    (lambda: torsh.ones(2, requires_grad=True).numpy(), RuntimeError, "requires grad"),
    (lambda: torsh.ones(2).backward(), RuntimeError, "does not require grad"),
    (lambda: torsh.ones(2, dtype=torsh.int64).requires_grad_(), RuntimeError, "floating point"),
    (lambda: torsh.ones(2, dtype=torsh.int64).add_(0.5), RuntimeError, "can't be cast"),
    (lambda: torsh.ones(2).add_(torsh.ones(3, 2)), RuntimeError, "broadcast shape"),
    (lambda: torsh.ones(1, 3).expand(2, 3).add_(1), RuntimeError, "single memory location"),
    (lambda: F.linear(torsh.ones(2, 3), torsh.ones(4, 5)), RuntimeError, "linear"),
    (lambda: F.conv2d(torsh.ones(1, 3, 8, 8), torsh.ones(4, 2, 3, 3)), RuntimeError, "channels"),
    (lambda: F.dropout(torsh.ones(2), 1.5), ValueError, "between 0 and 1"),
    (lambda: F.cross_entropy(torsh.ones(2, 3), torsh.tensor([0, 1, 2])), ValueError, "batch_size"),
    (lambda: torsh.nn.Linear(2, 3)(torsh.ones(2, 3)), RuntimeError, "cannot be multiplied"),
    (lambda: torsh.from_numpy(np.array(["a"])), TypeError, "can't convert"),
]


@pytest.mark.parametrize(("call", "error", "words"), CASES, ids=[str(i) for i in range(len(CASES))])
def test_error(call, error, words):
    with pytest.raises(error, match=words) as caught:
        call()
    assert isinstance(caught.value, torsh.TorshError)


@pytest.mark.parametrize("call", [
    lambda: F.embedding(torsh.tensor([5]), torsh.ones(3, 2)),
    lambda: torsh.ones(3)[torsh.tensor([7])],
    lambda: torsh.ones(3).gather(0, torsh.tensor([3])),
    lambda: torsh.zeros(3).scatter(0, torsh.tensor([-1]), torsh.ones(1)),
    lambda: torsh.ones(3).index_select(0, torsh.tensor([4])),
])
def test_indices_from_data_are_checked_when_the_window_runs(call):
    with pytest.raises(IndexError, match="out of bounds|out of range"):
        call().tolist()
    assert (torsh.ones(2) + 1).tolist() == [2.0, 2.0]


def test_printing():
    assert repr(torsh.tensor([1.0, 2.5])) == "tensor([1.0000, 2.5000])"
    assert repr(torsh.tensor([[1, 2], [3, 4]])) == "tensor([[1, 2],\n        [3, 4]])"
    assert repr(torsh.tensor([], dtype=torsh.int64)) == "tensor([], dtype=torsh.int64)"
