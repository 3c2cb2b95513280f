"""Recurrent and attention layers in captured steps: the same losses as without capture."""
from __future__ import annotations

import pytest

import torsh
from torsh import nn


class Recurrent(nn.Module):
    """A recurrent layer and a projection."""

    def __init__(self, kind, **options):
        super().__init__()
        self.layer = getattr(nn, kind)(3, 4, **options)
        self.head = nn.Linear(8 if options.get("bidirectional") else 4, 1)

    def forward(self, x):
        return self.head(self.layer(x)[0])


def encoder():
    layer = nn.TransformerEncoderLayer(4, 2, 8, 0.0, batch_first=True)
    return nn.Sequential(nn.Linear(3, 4), nn.TransformerEncoder(layer, 2), nn.Linear(4, 1))


NETS = {"RNN": lambda: Recurrent("RNN"), "GRU": lambda: Recurrent("GRU", num_layers=2),
        "LSTM": lambda: Recurrent("LSTM", bidirectional=True, proj_size=0), "encoder": encoder,
        "normed": lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)), nn.Tanh(),
                                        nn.utils.parametrizations.spectral_norm(nn.Linear(4, 1)))}


def losses(make, captured):
    torsh.manual_seed(0)
    net = make()
    optimizer = torsh.optim.Adam(net.parameters(), lr=0.02)
    x = torsh.randn(5, 6, 3)

    def step(x):
        optimizer.zero_grad()
        loss = (net(x) - x.sum(-1, keepdim=True).tanh()).square().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        return loss
    run = torsh.compile(step) if captured else step
    return [run(x).item() for _ in range(6)]


@pytest.mark.parametrize("name", list(NETS))
def test_captured_steps(name):
    plain = losses(NETS[name], False)
    assert losses(NETS[name], True) == pytest.approx(plain, rel=1e-4)
    assert plain[-1] < plain[0]
