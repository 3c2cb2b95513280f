"""Autocast: where it begins and ends, what it refuses."""
from __future__ import annotations

import pytest

import torsh


def matrices():
    return torsh.ones(4, 6), torsh.ones(5, 6)


def test_regions_nest_and_end():
    x, w = matrices()
    with torsh.autocast("cpu"):
        assert torsh.is_autocast_enabled("cpu") and torsh.get_autocast_dtype("cpu") is torsh.bfloat16
        with torsh.autocast("cpu", enabled=False):
            assert (x @ w.t()).dtype is torsh.float32 and not torsh.is_autocast_enabled("cpu")
        with torsh.autocast("cpu", torsh.float16):
            assert (x @ w.t()).dtype is torsh.float16
        assert (x @ w.t()).dtype is torsh.bfloat16
    assert (x @ w.t()).dtype is torsh.float32 and not torsh.is_autocast_enabled("cpu")
    with pytest.raises(KeyError), torsh.autocast("cpu"):
        raise KeyError
    assert (x @ w.t()).dtype is torsh.float32

    @torsh.autocast("cpu")
    def product():
        return x @ w.t()
    assert product().dtype is torsh.bfloat16


def test_unsupported_dtypes_and_devices():
    x, w = matrices()
    with pytest.warns(UserWarning, match="target dtype is not supported"):
        region = torsh.autocast("cpu", torsh.float64)
    with region:
        assert (x @ w.t()).dtype is torsh.float32
    with pytest.raises(RuntimeError, match="at start of device string: foo"):
        torsh.autocast("foo")
    with pytest.warns(UserWarning, match="CUDA is not available. Disabling"):
        torsh.autocast("cuda")
    assert torsh.is_autocast_available("cpu")


def test_custom_functions():
    class Square(torsh.autograd.Function):
        @staticmethod
        @torsh.amp.custom_fwd(device_type="cpu", cast_inputs=torsh.float32)
        def forward(ctx, x):
            ctx.save_for_backward(x)
            assert x.dtype is torsh.float32 and not torsh.is_autocast_enabled("cpu")
            return x * x

        @staticmethod
        @torsh.amp.custom_bwd(device_type="cpu")
        def backward(ctx, g):
            x, = ctx.saved_tensors
            return 2 * x * g

    x = torsh.ones(3, requires_grad=True)
    with torsh.autocast("cpu"):
        y = Square.apply(x.bfloat16())
    y.sum().backward()
    assert x.grad.tolist() == [2, 2, 2]
