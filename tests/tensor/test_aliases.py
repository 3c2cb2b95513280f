"""Aliases of memory: views of another dtype, views in no_grad blocks, tensors that change their shape in place."""
from __future__ import annotations

import numpy as np
import pytest

import torsh


def test_views_of_other_dtypes_alias():
    x = torsh.zeros(2, 2)
    bits = x.view(torsh.int32)
    assert bits._base is x
    bits += 1
    assert x.tolist() == [[2.0 ** -149] * 2] * 2
    x[0] = 1.0
    assert bits.tolist() == [[0x3F800000] * 2, [1, 1]]
    pairs = x[1].view(torsh.float64)
    pairs.fill_(0)
    assert x.tolist() == [[1.0, 1.0], [0.0, 0.0]]
    assert x[1].view(torsh.uint8).storage_offset() == 8


def test_complex_parts_alias():
    z = torsh.tensor([1 + 2j, 3j])
    z.real.mul_(3)
    z.imag += 1
    assert z.tolist() == [3 + 3j, 4j]
    z.real, z.imag = 7.0, torsh.tensor([5.0, 6.0])
    assert z.tolist() == [7 + 5j, 7 + 6j]
    torsh.view_as_real(z)[..., 0] = 0
    assert z.tolist() == [5j, 6j]
    x = torsh.zeros(2, 2)
    torsh.view_as_complex(x)[0] = 1 + 2j
    assert x.tolist() == [[1.0, 2.0], [0.0, 0.0]]


def test_gradients_through_complex_parts():
    z = torsh.tensor([1 + 2j, 3j], requires_grad=True)
    w = z * 2
    torsh.view_as_real(w)[0, 1] = 5.0
    (w.real * 3 + w.imag).sum().backward()
    assert z.grad.tolist() == [6 + 0j, 6 + 2j]


def test_as_strided_over_another_dtype():
    x = torsh.arange(4.0)
    x.view(torsh.int32).as_strided((2,), (2,), 1).zero_()
    assert x.tolist() == [0.0, 0.0, 2.0, 0.0]


@pytest.mark.parametrize("make", [lambda: torsh.zeros(3, 4).T.view(torsh.float64), lambda: torsh.zeros(4)[1:3].view(torsh.float64),
                                  lambda: torsh.zeros(3, 3)[:, :2].view(torsh.float64), lambda: torsh.zeros(()).view(torsh.int16),
                                  lambda: torsh.view_as_complex(torsh.zeros(2, 2).T)])
def test_bytes_that_do_not_lie_side_by_side(make):
    with pytest.raises(RuntimeError):
        make()


def test_views_keep_their_history_in_no_grad_blocks():
    a = torsh.ones(2, 3, requires_grad=True)
    v = (a * 2)[0]
    assert v.tolist() == [2.0, 2.0, 2.0]
    w = a.T
    with torsh.no_grad():
        v.repeat(2)
        assert v.requires_grad and w.requires_grad
        (w == w).tolist()
    assert v.requires_grad and w.requires_grad
    (v.sum() + w.sum()).backward()
    assert a.grad.tolist() == [[3.0] * 3, [1.0] * 3]


def test_views_of_leaves_stay_in_the_graph_when_written_without_gradients():
    a = torsh.ones(2, 2, requires_grad=True)
    b = a.T
    with torsh.no_grad():
        b.mul_(3)
    assert b.requires_grad and a.tolist() == [[3.0, 3.0], [3.0, 3.0]]
    with pytest.raises(RuntimeError, match="view of a leaf"):
        b.sub_(1)
    assert a.tolist() == [[3.0, 3.0], [3.0, 3.0]]


def test_written_tensors_stay_in_the_graph():
    a = torsh.ones(3, requires_grad=True)
    b = a * 2
    b[...] = 4.0
    assert b.requires_grad
    c = a * 3
    c.eq_(a)
    assert c.requires_grad
    (b.sum() + c.sum()).backward()
    assert a.grad.tolist() == [0.0, 0.0, 0.0]


def test_values_written_without_gradients_have_none():
    p = torsh.tensor(2.0, requires_grad=True)
    z = torsh.zeros(())
    with torsh.no_grad():
        z[...] = p
    assert not z.requires_grad and z.item() == 2.0
    q = torsh.tensor(3.0, requires_grad=True)
    v = q.squeeze()
    with torsh.no_grad():
        v[...] = p
    (q + v + v.clone()).backward()
    assert q.grad.item() == 3.0 and p.grad is None


@pytest.mark.parametrize("read", [False, True])
def test_transposed_in_place_with_views(read):
    a = torsh.arange(6.0).reshape(2, 3).clone()
    row, spread = a[0], a.unsqueeze(1)
    if read:
        a.tolist()
    a.t_()
    spread.mul_(2)
    row.add_(1)
    assert a.tolist() == [[1.0, 6.0], [3.0, 8.0], [5.0, 10.0]]
    a[0] = 7
    assert row.tolist() == [7.0, 3.0, 5.0] and spread[:, 0, 0].tolist() == [7.0, 7.0]


def test_transposed_in_place_after_it_was_computed():
    a = torsh.tensor([[-0.5, 3.0]], requires_grad=True)
    b = a.clamp(-3, 0)
    b.tolist()
    b.t_()
    (b * torsh.tensor([[5.0], [7.0]])).sum().backward()
    assert a.grad.tolist() == [[5.0, 0.0]]


def test_numbers_written_to_tensors_of_no_dimensions():
    x = torsh.tensor(1.0, dtype=torsh.float64)
    x[...] = -1.0
    assert (torsh.tensor(1) + x).dtype is torsh.float64 and (x + torsh.tensor(1.0)).dtype is torsh.float64
    assert x.pow_(2147483647).item() == -1.0
    i = torsh.tensor(5)
    i[...] = 7
    assert (i + torsh.tensor(1, dtype=torsh.int8)).dtype is torsh.int64


def test_reading_changes_nothing():
    random = np.random.default_rng(0)
    values = random.standard_normal((3, 4)).astype(np.float32)
    results = []
    for reads in (0, 1, 3):
        a = torsh.tensor(values, requires_grad=True)
        b = a * 2
        v = b.T[1:]
        for step in range(4):
            if step < reads:
                repr(v), b.tolist(), v[0, 0].item()
            v += step
            b[step % 3] *= 0.5
        v.sum().backward()
        results.append((b.tolist(), a.grad.tolist()))
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("dtype", ["float64", "complex128", "float32", "int64"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_numbers_written_over_numbers(dtype, shape):
    """Both have the tensor's dtype, not that of Python numbers by themselves."""
    x = torsh.zeros(shape, dtype=getattr(torsh, dtype))
    first, second = (2 ** 40 + 1, 5) if dtype == "int64" else (0.1, 0.2)
    x.fill_(first)
    x.masked_fill_(torsh.zeros(shape, dtype=torsh.bool), second)
    assert x.tolist() == torsh.full(shape, first, dtype=x.dtype).tolist()
    x.masked_fill_(torsh.ones(shape, dtype=torsh.bool), second)
    assert x.tolist() == torsh.full(shape, second, dtype=x.dtype).tolist()
