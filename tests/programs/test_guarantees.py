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
    with pytest.raises(RuntimeError, match="KeyboardInterrupt"):
        a.numpy()


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


def test_memory_is_given_back():
    x = torch.ones(1 << 20)
    torch.synchronize()
    used = memory_stats()["in_use"]
    y = (x * 2).sum()
    y.item()
    del y
    assert memory_stats()["in_use"] == used
