"""Functions that remember their results."""
from __future__ import annotations

import pytest

import torsh
from torsh.graph.window import statistics


def test_results_are_tensors_of_their_own():
    x = torsh.arange(6.0).reshape(2, 3)
    first, second = x.sum(1), x.sum(1)
    first.add_(1)
    assert first is not second and second.tolist() == [3.0, 12.0]


def test_options_are_part_of_what_is_looked_up():
    x = torsh.arange(6.0).reshape(2, 3)
    for _ in range(2):
        assert x.sum().item() == 15
        assert x.sum(0).tolist() == [3, 5, 7]
        assert x.sum(dim=1, keepdim=True).shape == (2, 1)
        assert x.max(1).indices.tolist() == [2, 2]
        assert torsh.max(x, 0)[0].tolist() == [3, 4, 5]
        assert torsh.max(x, x * 2).shape == (2, 3)
        assert torsh.sum(x, [0, 1]).item() == 15


def test_new_values_and_writes_are_seen():
    x = torsh.ones(3)
    assert x.sum().item() == 3
    x += 1
    assert x.sum().item() == 6
    view = x[:2]
    assert view.sum().item() == 4
    x.mul_(2)
    assert view.sum().item() == 8


def test_grad_modes_are_kept_apart():
    w = torsh.ones(3, requires_grad=True)
    with torsh.no_grad():
        assert not w.sum().requires_grad
    assert w.sum().requires_grad
    assert torsh.zeros(3, requires_grad=True).is_leaf and not torsh.zeros(3).requires_grad


def test_errors_are_raised_again():
    x = torsh.ones(3)
    for _ in range(2):
        with pytest.raises(IndexError):
            x.sum(4)
        with pytest.raises(TypeError):
            torsh.sum("x")


def test_in_place_activations_write():
    x = torsh.tensor([-1.0, 2.0])
    assert torsh.nn.functional.relu(x, inplace=True) is x and x.tolist() == [0, 2]
    x.sub_(1)
    assert torsh.nn.functional.relu(x, True) is x and x.tolist() == [0, 1]


def test_a_new_default_dtype_is_noticed():
    x = torsh.arange(3)
    assert torsh.sqrt(x).dtype is torsh.float32 and torsh.zeros(2).dtype is torsh.float32
    torsh.set_default_dtype(torsh.float64)
    try:
        assert torsh.sqrt(x).dtype is torsh.float64 and torsh.zeros(2).dtype is torsh.float64
    finally:
        torsh.set_default_dtype(torsh.float32)
    assert torsh.sqrt(x).dtype is torsh.float32 and torsh.zeros(2).dtype is torsh.float32


def test_many_calls_run_in_windows_of_bounded_size():
    x = torsh.ones(2)
    torsh.synchronize()
    before = statistics["flushes"]
    kept = [x.sum() for _ in range(10_000)]
    assert statistics["flushes"] > before and all(k.item() == 2 for k in kept[::1000])


def layouts() -> list[torsh.Tensor]:
    x = torsh.arange(24.0).reshape(2, 3, 4)
    return [x, x.transpose(0, 2), x.permute(1, 2, 0), x[:, 1:], x[:, ::2], x.expand(2, 3, 4), torsh.arange(24.0).view(2, 3, 4)]


VIEWS = [lambda t: t.transpose(0, 1), lambda t: t.unsqueeze(1), lambda t: t[0].unsqueeze(-1).squeeze(-1), lambda t: t.split(1, 1),
         lambda t: t.chunk(2, dim=-1), lambda t: t.unbind(0), lambda t: t.narrow(0, 0, 1), lambda t: t.reshape(-1),
         lambda t: t.flatten(1), lambda t: t.permute(2, 0, 1), lambda t: t.movedim(0, 2), lambda t: t.diagonal(0, 0, 1)]


@pytest.mark.parametrize("number", range(len(VIEWS)))
def test_views_of_different_layouts_are_kept_apart(number):
    for _ in range(2):
        for t in layouts():
            results, expected = VIEWS[number](t), VIEWS[number](t.clone())
            several = isinstance(results, tuple)
            for r, e in zip(results if several else [results], expected if several else [expected], strict=True):
                assert r.shape == e.shape and r.tolist() == e.tolist()


def test_views_that_need_copies_are_found_out_each_time():
    x = torsh.arange(6.0).reshape(2, 3)
    for _ in range(2):
        assert x.view(3, 2).tolist() == [[0, 1], [2, 3], [4, 5]]
        with pytest.raises(RuntimeError, match="view size is not compatible"):
            x.t().view(6)
        copy = x.t().reshape(6)
        copy[0] = 9.0
        assert x[0, 0].item() == 0
    assert x.view(torsh.float32).dtype is torsh.float32
    assert torsh.ones(2, 3, dtype=torsh.int32).view(torsh.float32).dtype is torsh.float32


def test_views_with_and_without_gradients():
    w = torsh.ones(2, 3, requires_grad=True)
    for _ in range(2):
        with torsh.no_grad():
            assert not w.transpose(0, 1).requires_grad
        v = (w * 2).transpose(0, 1)
        assert v.requires_grad
        first, second = v.split([1, 2])
        (first.sum() + 3 * second.sum()).backward()
        assert w.grad.tolist() == [[2, 6, 6], [2, 6, 6]]
        w.grad = None
