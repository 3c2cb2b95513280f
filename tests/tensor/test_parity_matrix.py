"""Products of matrices of bytes against PyTorch: values and errors."""
from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402

import torsh  # noqa: E402


@pytest.mark.parametrize("shape", [(2, 3, 4), (33, 70, 40), (17, 32, 8), (0, 3, 4), (2, 0, 3), (1, 1, 1)])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_int_mm(shape: tuple[int, int, int], dtype: Any) -> None:
    m, k, n = shape
    rng = np.random.default_rng(sum(shape))
    a, b = rng.integers(-128, 128, (m, k)).astype(dtype), rng.integers(-128, 128, (k, n)).astype(np.int8)
    want = torch.from_numpy(a).int() @ torch.from_numpy(b).int()
    got = torsh._int_mm(torsh.from_numpy(a), torsh.from_numpy(b))
    assert str(got.dtype) == "torsh.int32"
    np.testing.assert_array_equal(got.numpy(), want.numpy())
    if dtype is np.int8 and m and k:
        np.testing.assert_array_equal(got.numpy(), torch._int_mm(torch.from_numpy(a), torch.from_numpy(b)).numpy())


@pytest.mark.parametrize(("shapes", "dtypes"), [
    (((2, 3), (4, 2)), ("int8", "int8")), (((2,), (2, 3)), ("int8", "int8")), (((2, 2), (2, 2, 1)), ("int8", "int8")),
    (((2, 2), (2, 2)), ("float32", "int8")), (((2, 2), (2, 2)), ("int8", "uint8")), (((2, 2), (2, 2)), ("int64", "int32"))])
def test_errors_of_int_mm(shapes: Any, dtypes: Any) -> None:
    messages = []
    for module in (torch, torsh):
        operands = [module.ones(shape, dtype=getattr(module, name)) for shape, name in zip(shapes, dtypes, strict=True)]
        with pytest.raises(RuntimeError) as error:
            module._int_mm(*operands)
        messages.append(str(error.value).split("\n")[0])
    assert messages[0] == messages[1]
