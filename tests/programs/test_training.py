"""Whole programs: they train, and a compiled step does what the recorded one does."""
from __future__ import annotations

import numpy as np
import pytest

import torsh
from torsh.nn import functional as F


def network(seed):
    torsh.manual_seed(seed)
    return torsh.nn.Sequential(torsh.nn.Conv2d(1, 4, 3, padding=1), torsh.nn.BatchNorm2d(4), torsh.nn.ReLU(), torsh.nn.MaxPool2d(2),
                               torsh.nn.Flatten(), torsh.nn.Linear(4 * 16, 3))


def data():
    rng = np.random.default_rng(0)
    return torsh.from_numpy(rng.standard_normal((12, 1, 8, 8)).astype("float32")), torsh.from_numpy(rng.integers(0, 3, 12))


@pytest.mark.parametrize("make", [lambda p: torsh.optim.SGD(p, lr=0.1, momentum=0.9), lambda p: torsh.optim.Adam(p, lr=0.01)])
def test_a_network_learns_its_data(make):
    model, (x, y) = network(0), data()
    optimizer = make(model.parameters())
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    model.eval()
    assert (model(x).argmax(1) == y).float().mean().item() == 1.0


def test_a_compiled_step_does_the_same():
    x, y = data()
    results = []
    for compiled in (False, True):
        model = network(1)
        optimizer = torsh.optim.Adam(model.parameters(), lr=0.01)

        def step(x, y, model=model, optimizer=optimizer):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        run = torsh.compile(step) if compiled else step
        results.append([run(x, y).item() for _ in range(6)])
    assert np.allclose(*results, rtol=1e-5)


def test_reading_a_value_inside_of_a_compiled_step_is_an_error():
    run = torsh.compile(lambda x: x * x.sum().item())
    with pytest.raises(torsh.CompileError, match="value of a tensor was needed"):
        run(torsh.ones(3))


def test_state_dict_round_trip(tmp_path):
    model, other = network(2), network(3)
    torsh.save(model.state_dict(), tmp_path / "model.pt")
    other.load_state_dict(torsh.load(tmp_path / "model.pt"))
    x, _ = data()
    model.eval()
    other.eval()
    assert torsh.equal(model(x), other(x))
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict({})


def test_gradients_go_on_behind_a_compiled_function():
    weight = torsh.tensor([1.0, 2.0], requires_grad=True)
    seen = {}

    def forward(x):
        seen["hidden"] = x * weight
        return seen["hidden"] * weight

    run = torsh.compile(forward)
    for scale in (1.0, 2.0, 3.0):
        x = torsh.tensor([scale, scale])
        weight.grad = None
        run(x).sum().backward()
        assert weight.grad.tolist() == [2 * scale, 4 * scale]
        assert seen["hidden"].tolist() == [scale, 2 * scale]
    with torsh.no_grad():
        outs = [run(torsh.full((2,), k)).tolist() for k in (1.0, 2.0)]
    assert outs == [[1.0, 4.0], [2.0, 8.0]]
