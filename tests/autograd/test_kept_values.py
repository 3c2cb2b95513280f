"""What backward keeps across windows: memory that is there already is not copied, and never changes under it."""
from __future__ import annotations

import numpy as np

import torsh as torch
from torsh.backend.cpu.memory import POOL
from torsh.ops.expr import recording


def prepared():
    w = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    x = torch.tensor([4.0, 5.0, 6.0])
    torch.synchronize()
    return w, x, (w * x).sum()


def test_leaves_are_kept_without_a_copy():
    w, x = torch.ones(1 << 18, requires_grad=True), torch.ones(1 << 18)
    torch.synchronize()
    used = POOL.in_use
    loss = (w * x).sum()
    loss.item()
    assert POOL.in_use - used < 1 << 12
    loss.backward()
    assert w.grad.sum().item() == 1 << 18


def test_an_in_place_change_after_the_forward_pass_does_not_reach_backward():
    w, x, loss = prepared()
    loss.item()
    x.mul_(100)
    torch.synchronize()
    loss.backward()
    assert w.grad.tolist() == [4.0, 5.0, 6.0] and x.tolist() == [400.0, 500.0, 600.0]


def test_sharing_with_numpy_after_the_forward_pass():
    w, x, loss = prepared()
    loss.item()
    array = x.numpy()
    array[:] = 0
    x.add_(1)
    torch.synchronize()
    assert array.tolist() == [1.0, 1.0, 1.0]
    loss.backward()
    assert w.grad.tolist() == [4.0, 5.0, 6.0]


def test_sharing_with_numpy_before_the_forward_pass():
    w = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    array = np.array([4.0, 5.0, 6.0], np.float32)
    x = torch.from_numpy(array)
    loss = (w * x).sum()
    loss.item()
    x.zero_()
    torch.synchronize()
    assert array.tolist() == [0.0, 0.0, 0.0]
    loss.backward()
    assert w.grad.tolist() == [4.0, 5.0, 6.0]


def test_a_parameter_that_changes_in_the_same_window():
    w = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    v = torch.tensor([2.0, 2.0, 2.0], requires_grad=True)
    torch.synchronize()
    loss = (w * v).sum()
    with torch.no_grad():
        v.mul_(10)
    loss.item()
    loss.backward()
    assert w.grad.tolist() == [2.0, 2.0, 2.0] and v.tolist() == [20.0, 20.0, 20.0]


def test_training_that_reads_the_loss_before_backward():
    torch.manual_seed(0)
    results = []
    for read in (False, True):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        x, y = torch.randn(10, 6), torch.randn(10, 2)
        for _ in range(5):
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(model(x), y)
            if read:
                loss.item()
            loss.backward()
            if read:
                torch.synchronize()
            optimizer.step()
        results.append(model[0].weight.detach().numpy().copy())
    np.testing.assert_allclose(results[0], results[1], rtol=1e-6, atol=1e-7)


def test_gradients_of_views_whose_window_has_run():
    x = torch.arange(6.0).requires_grad_()
    r = x * 2
    y = r.view(2, 3)
    z = (y * y).sum() + r.sum()
    torch.synchronize()
    by_view, by_root, by_leaf = torch.autograd.grad(z, (y, r, x), retain_graph=True)
    assert by_view.tolist() == [[0, 4, 8], [12, 16, 20]]
    assert by_root.tolist() == [1, 5, 9, 13, 17, 21] and by_leaf.tolist() == [2, 10, 18, 26, 34, 42]
    later = (y * 3).sum() + z
    assert torch.autograd.grad(later, x)[0].tolist() == [8, 16, 24, 32, 40, 48]


def test_a_view_is_walked_once_between_windows():
    x = torch.ones(4, requires_grad=True)
    first = (x * 3).reshape(2, 2)
    torch.synchronize()
    second = first.t() * 2
    torch.synchronize()
    (second * first).sum().backward()
    assert x.grad.tolist() == [36, 36, 36, 36]


def test_views_that_nobody_keeps_are_forgotten():
    w = torch.ones(4, requires_grad=True)
    for _ in range(20_000):
        w[0]
    assert len(recording.window.views) < 10_000
    torch.synchronize()
