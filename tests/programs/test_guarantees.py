"""What users may rely on while programs run: nothing leaks, nothing is compiled twice, errors and interrupts lose nothing."""
from __future__ import annotations

import gc
import os
import signal
import threading

import numpy as np
import pytest

import torsh as torch
from torsh.backend.cpu import jit
from torsh.backend.cpu.memory import POOL, memory_stats
from torsh.graph import window


def training_step():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(20, 32), torch.nn.ReLU(), torch.nn.Linear(32, 5))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    x, y = torch.randn(16, 20), torch.randint(0, 5, (16,))

    def step():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()
    return step


@pytest.fixture
def without_gc():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_a_thousand_steps_leave_nothing_behind(without_gc):
    step = training_step()
    first = step()
    step()
    compiled = jit.statistics["compiled"], jit.statistics["loaded"]
    for _ in range(20):
        step()
    objects, used = len(gc.get_objects()), POOL.in_use
    for _ in range(1000):
        last = step()
    assert len(gc.get_objects()) - objects <= 0
    assert POOL.in_use == used
    assert (jit.statistics["compiled"], jit.statistics["loaded"]) == compiled
    assert last < first


def test_changing_numbers_compile_nothing(without_gc):
    x = torch.randn(100)
    torch.synchronize()
    (x * 0.5 + 1.5).sum().item()
    before = dict(jit.statistics)
    for k in range(20):
        (x * (0.5 + k) + 1.5 / (k + 1)).sum().item()
    assert jit.statistics == before


def test_new_shapes_compile_nothing():
    layer = torch.nn.Linear(8, 4)

    def run(n):
        x = torch.ones(n, 8)
        return torch.softmax(layer(x), -1).mean(0).sum().item()
    for n in (70, 71):
        run(n)
    before = dict(jit.statistics)
    for n in range(72, 90):
        assert run(n) == pytest.approx(1.0, abs=1e-5)
    assert jit.statistics == before


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_an_interrupt_leaves_tensors_usable():
    def chain():
        a = torch.full((512, 512), 1 / 512)
        kept = torch.ones(3)
        kept.add_(1)
        torch.synchronize()
        kept.mul_(2)
        for _ in range(400):
            a = a @ a
        return a, kept
    chain()[0].sum().item()                 # compiled now: the signal comes while the program runs
    a, kept = chain()
    timer = threading.Timer(0.05, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        a.sum().item()
        timer.join()                        # a very fast machine: the signal comes now
    timer.join()
    assert kept.shape == (3,) and float(torch.ones(4).sum()) == 4.0
    assert kept.tolist() in ([2.0] * 3, [4.0] * 3)
    try:
        np.testing.assert_allclose(a.numpy(), 1 / 512, rtol=1e-3)      # nothing had been overwritten yet: it is run again
    except RuntimeError as error:
        assert "KeyboardInterrupt" in str(error)


def test_an_interrupt_before_the_program_runs_loses_nothing(monkeypatch):
    parameter = torch.nn.Parameter(torch.ones(3))
    torch.synchronize()
    loss = (parameter * 3).sum()
    loss.backward()
    fresh = torch.full((4,), 2.0) + 5
    with torch.no_grad():
        parameter.sub_(parameter.grad)
    with monkeypatch.context() as patch:
        patch.setattr(window, "build_program", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fresh.tolist()
        with pytest.raises(KeyboardInterrupt):
            parameter.tolist()
    assert fresh.tolist() == [7.0] * 4 and loss.item() == 9.0
    assert parameter.tolist() == [-2.0] * 3 and parameter.grad.tolist() == [3.0] * 3


def interrupted(*args, **kwargs):
    raise KeyboardInterrupt


@pytest.mark.parametrize("attempts", [1, 2])
def test_an_interrupt_while_a_window_ends_starts_a_new_one(monkeypatch, attempts):
    kept = torch.ones(3)
    part = kept[:2]
    torch.synchronize()
    kept.mul_(2)
    real, calls = window.token_of, []

    def token_of(of):
        calls.append(of)
        if len(calls) == attempts:
            raise KeyboardInterrupt
        return real(of)
    with monkeypatch.context() as patch:
        patch.setattr(window, "token_of", token_of)
        try:
            kept.tolist()
            (kept * 1).tolist()
        except KeyboardInterrupt:
            pass
    assert kept.tolist() == [2.0] * 3 and part.tolist() == [2.0] * 2
    assert (part + torch.ones(2)).tolist() == [3.0] * 2


def test_threads_write_to_what_another_thread_recorded():
    normalisations = [torch.nn.BatchNorm1d(4) for _ in range(6)]       # pending in this thread's window
    x = torch.arange(12.0).view(3, 4)
    results: list[int] = []

    def work(layer):
        for _ in range(3):
            layer(x).sum().item()
        results.append(int(layer.num_batches_tracked))
    workers = [threading.Thread(target=work, args=(layer,)) for layer in normalisations]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert results == [3] * 6
    expected = x.mean(0) * (1 - 0.9 ** 3)
    for layer in normalisations:
        np.testing.assert_allclose(layer.running_mean.numpy(), expected.numpy(), rtol=1e-5)


def test_a_bad_index_spoils_nothing_else():
    table, kept, changed = torch.randn(5, 3), torch.ones(4), torch.ones(4)
    torch.synchronize()
    changed.add_(1)
    picked = torch.nn.functional.embedding(torch.tensor([1, 7]), table)
    fresh = kept * 3
    with pytest.raises(IndexError, match="index out of range"):
        picked.sum().item()
    assert changed.tolist() == [2.0] * 4
    assert fresh.tolist() == [3.0] * 4
    with pytest.raises(RuntimeError, match="never computed"):
        picked.tolist()


def test_an_update_is_not_half_done_when_an_index_is_bad():
    layer = torch.nn.Embedding(5, 3)
    scale = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([*layer.parameters(), scale], lr=0.1)
    torch.synchronize()
    before = layer.weight.detach().numpy().copy(), scale.detach().numpy().copy()
    (layer(torch.tensor([0, 9])) * scale).sum().backward()
    with pytest.raises(IndexError):
        optimizer.step()
    np.testing.assert_array_equal(layer.weight.detach().numpy(), before[0])
    np.testing.assert_array_equal(scale.detach().numpy(), before[1])


def test_threads_train_independently():
    expected = [training_step()() for _ in range(1)]
    results: list[float] = []

    def work():
        step = training_step()
        for _ in range(30):
            value = step()
        results.append(value)
    lock = threading.Lock()

    def guarded():
        with lock:                          # the seed is common to all threads
            torch.manual_seed(0)
        work()
    workers = [threading.Thread(target=guarded) for _ in range(4)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert len(results) == 4 and all(np.isfinite(results)) and all(r < expected[0] * 1.5 for r in results)


def test_a_tensor_recorded_in_one_thread_is_read_in_another():
    a = torch.ones(1000) * 2
    seen: list[float] = []
    reader = threading.Thread(target=lambda: seen.append(a.sum().item()))
    reader.start()
    reader.join()
    assert seen == [2000.0] and (a + 1).sum().item() == 3000.0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_processes_have_memory_of_their_own_unless_it_is_shared():
    own, common = torch.arange(4.0), torch.arange(4.0)
    part = common[1:3]
    assert common.share_memory_() is common and common.is_shared() and part.is_shared() and not own.is_shared()
    torch.synchronize()
    child = os.fork()
    if not child:
        own.add_(10)
        common.add_(10)
        fresh = [torch.full((16,), 7.0) * 2 for _ in range(50)]
        done = own.tolist()[0] == 10 and all(t.sum().item() == 224.0 for t in fresh)
        common.sum().item()
        os._exit(0 if done else 1)
    fresh = [torch.full((16,), 1.0) * 2 for _ in range(50)]
    torch.synchronize()
    assert os.waitpid(child, 0)[1] == 0
    assert all(t.sum().item() == 32.0 for t in fresh)
    assert own.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert common.tolist() == [10.0, 11.0, 12.0, 13.0] and part.tolist() == [11.0, 12.0]


def test_memory_is_given_back():
    x = torch.ones(1 << 20)
    torch.synchronize()
    used = memory_stats()["in_use"]
    y = (x * 2).sum()
    y.item()
    del y
    assert memory_stats()["in_use"] == used


def test_views_that_nobody_has_keep_nothing():
    w = torch.randn(32, 32, requires_grad=True)
    torch.synchronize()
    known = set(window.PROGRAMS)
    a, b = (torch.ones(4, 32) @ w).split(16, dim=1)
    loss = (a.reshape(-1) * b.reshape(-1)).sum()
    loss.backward()
    del a, b
    torch.synchronize()
    program, = [window.PROGRAMS[key] for key in set(window.PROGRAMS) - known]
    assert sorted(program.executable.plan.output_bytes) == [4, 4 * 32 * 32]          # the loss and the gradient


def test_views_that_somebody_has_keep_their_root():
    w = torch.randn(4, 4, requires_grad=True)
    a, _ = (w * 2).split(2, dim=1)
    a.sum().backward()
    torch.synchronize()
    assert torch.equal(a, w[:, :2] * 2) and a.grad_fn is not None


def test_a_failing_program_leaves_memory_that_it_would_have_written_late():
    n = 512
    x, y = torch.zeros(n, n), torch.ones(n, n)
    index = torch.tensor([0, n])
    torch.synchronize()
    total = ((y @ y) @ y).sum()
    x.copy_((y * total) @ y * y[index].sum())
    with pytest.raises(IndexError):
        torch.synchronize()
    assert x.abs().max().item() == 0


def test_a_captured_step_leaves_what_backward_has_kept():
    w = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    loss = (w * w).sum()
    loss.item()

    @torch.compile
    def double():
        with torch.no_grad():
            w.data.mul_(2)
        return w.sum()
    assert [double().item() for _ in range(3)] == [12.0, 24.0, 48.0]
    loss.backward()
    assert w.tolist() == [8.0, 16.0, 24.0]
