"""Programs as users write them: with another import, the same values. Once as they are, once with windows that run after every module."""
from __future__ import annotations

import copy
from collections import deque

import numpy as np
import pytest

import torsh

torch = pytest.importorskip("torch")
STEPS = 5


class Data:
    """The same numbers for both libraries."""

    def __init__(self, library):
        self.library, self.rng = library, np.random.default_rng(0)

    def normal(self, *shape):
        return self.library.from_numpy(self.rng.standard_normal(shape))

    def integers(self, n, *shape):
        return self.library.from_numpy(self.rng.integers(0, n, shape))

    def network(self, *layers):
        """The layers in order (one: itself) with weights of this data, in float64."""
        model = (layers[0] if len(layers) == 1 else self.library.nn.Sequential(*layers)).double()
        with self.library.no_grad():
            for p in model.parameters():
                p.copy_(self.normal(*p.shape) * 0.3)
        return model


def gradient_penalty(library, data):
    """WGAN-GP; the critic's value is read before its gradient is taken."""
    nn = library.nn
    critic = data.network(nn.Conv2d(2, 4, 4, 2, 1), nn.LeakyReLU(0.2), nn.InstanceNorm2d(4, affine=True), nn.Flatten(), nn.Linear(64, 1))
    optimizer = library.optim.Adam(critic.parameters(), 1e-3, betas=(0.0, 0.9))
    real, fake, mix = data.normal(3, 2, 8, 8), data.normal(3, 2, 8, 8), data.normal(3, 1, 1, 1)
    for _ in range(STEPS):
        between = (mix * real + (1 - mix) * fake).detach().requires_grad_()
        value = critic(between)
        yield value.mean().item()
        gradient, = library.autograd.grad(value, between, library.ones_like(value), create_graph=True)
        penalty = ((gradient.flatten(1).norm(2, dim=1) - 1) ** 2).mean()
        yield penalty.item()
        loss = critic(fake).mean() - critic(real).mean() + 10 * penalty
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()


def replay_buffer(library, data):
    """Deep Q-learning: batches of samples that differ from step to step, a target network that follows slowly."""
    nn = library.nn
    network = data.network(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    follower = copy.deepcopy(network)
    optimizer = library.optim.AdamW(network.parameters(), 1e-2, amsgrad=True)
    memory = deque(maxlen=20)
    for step in range(4 * STEPS):
        state = data.normal(1, 4)
        with library.no_grad():
            action = network(state).max(1).indices.view(1, 1)
        memory.append((state, action, None if step % 5 == 4 else data.normal(1, 4), library.tensor([float(action.item())]).double()))
        batch = [memory[k] for k in data.rng.integers(0, len(memory), 6)]
        states, actions, following, rewards = zip(*batch, strict=True)
        going_on = library.tensor([s is not None for s in following])
        best = library.zeros(6, dtype=library.float64)
        if going_on.any():
            with library.no_grad():
                best[going_on] = follower(library.cat([s for s in following if s is not None])).max(1).values
        values = network(library.cat(states)).gather(1, library.cat(actions))
        loss = nn.functional.smooth_l1_loss(values, (best * 0.9 + library.cat(rewards)).unsqueeze(1))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_value_(network.parameters(), 1.0)
        optimizer.step()
        for p, q in zip(network.parameters(), follower.parameters(), strict=True):
            q.data.mul_(0.95).add_(p.data, alpha=0.05)
        yield loss.item()


def learning_to_learn(library, data):
    """MAML: second-order gradients through two inner steps, whose losses are read."""
    F = library.nn.functional
    weights = [(data.normal(*shape) * 0.5).requires_grad_() for shape in ((6, 1), (6,), (1, 6), (1,))]
    optimizer = library.optim.Adam(weights, 1e-2)
    tasks = [[data.normal(5, 1) for _ in range(4)] for _ in range(2)]

    def model(x, w):
        return F.linear(library.tanh(F.linear(x, w[0], w[1])), w[2], w[3])

    for _ in range(STEPS):
        total = 0.0
        for x, y, later_x, later_y in tasks:
            fast = weights
            for _ in range(2):
                inner = F.mse_loss(model(x, fast), y)
                yield inner.item()
                fast = [p - 0.1 * g for p, g in zip(fast, library.autograd.grad(inner, fast, create_graph=True), strict=True)]
            total = total + F.mse_loss(model(later_x, fast), later_y)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        yield total.item()


def equilibrium(library, data):
    """A fixed point whose backward is another fixed point: a hook that takes gradients, and reads values."""
    nn = library.nn
    inside, first, last = (data.network(nn.Linear(*sizes)) for sizes in ((4, 4), (3, 4), (4, 2)))
    optimizer = library.optim.SGD([p for m in (inside, first, last) for p in m.parameters()], 0.1, momentum=0.9)
    x, y = data.normal(6, 3), data.normal(6, 2)
    for _ in range(STEPS):
        with library.no_grad():
            z = library.zeros(6, 4, dtype=library.float64)
            for _ in range(6):
                z = library.tanh(inside(z) + first(x))
        z = library.tanh(inside(z) + first(x))
        start = z.clone().detach().requires_grad_()
        again = library.tanh(inside(start) + first(x).detach())

        def hook(gradient, start=start, again=again):
            total = gradient
            for _ in range(5):
                total = library.autograd.grad(again, start, total, retain_graph=True)[0] + gradient
                if total.norm().item() > 1e6:
                    break
            return total

        z.register_hook(hook)
        loss = (last(z) - y).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()


def graph_attention(library, data):
    """GAT: softmax over the edges of each node, by scatters."""
    nn = library.nn
    weight, last = data.network(nn.Linear(5, 6)), data.network(nn.Linear(6, 3))
    attention = nn.Parameter(data.normal(2, 2, 3))
    optimizer = library.optim.Adam([*weight.parameters(), *last.parameters(), attention], 1e-2)
    x, (source, to), y = data.normal(8, 5), data.integers(8, 2, 20), data.integers(3, 8)
    index = to[:, None].expand(-1, 2)
    for _ in range(STEPS):
        h = weight(x).view(-1, 2, 3)
        score = nn.functional.leaky_relu((h * attention[0]).sum(-1)[source] + (h * attention[1]).sum(-1)[to], 0.2)
        most = library.full((8, 2), -float("inf"), dtype=library.float64).scatter_reduce(0, index, score, "amax")
        score = (score - most[to]).exp()
        total = library.zeros(8, 2, dtype=library.float64).index_add_(0, to, score)
        share = (score / total[to]).unsqueeze(-1)
        mixed = library.zeros(8, 2, 3, dtype=library.float64).scatter_add(0, index.unsqueeze(-1).expand(-1, -1, 3), share * h[source])
        loss = nn.functional.cross_entropy(last(nn.functional.elu(mixed.flatten(1))), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()


def compiled_model(library, data):
    """torch.compile(model): its results are differentiated outside of it, with batches of two sizes."""
    nn = library.nn
    model = data.network(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
    call = library.compile(model) if library is torsh else model
    optimizer = library.optim.AdamW(model.parameters(), 1e-2)
    batches = [(data.normal(n, 5), data.integers(3, n)) for n in (6, 4)]
    for step in range(2 * STEPS):
        x, y = batches[step % 2]
        loss = nn.functional.cross_entropy(call(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with library.no_grad():
            yield loss.item() + call(x).sum().item()


PROGRAMS = [gradient_penalty, replay_buffer, learning_to_learn, equilibrium, graph_attention, compiled_model]


@pytest.mark.parametrize("reading", [False, True])
@pytest.mark.parametrize("program", PROGRAMS)
def test_parity_program(program, reading, monkeypatch):
    expected = list(program(torch, Data(torch)))
    call = torsh.nn.Module.__call__

    def call_and_run(self, *args, **kwargs):
        result = call(self, *args, **kwargs)
        if program is not compiled_model:           # what is compiled cannot be read inside
            torsh.synchronize()
        return result

    if reading:
        monkeypatch.setattr(torsh.nn.Module, "__call__", call_and_run)
    np.testing.assert_allclose(list(program(torsh, Data(torsh))), expected, rtol=1e-9)
