"""Averages of parameters."""
from __future__ import annotations

import numpy as np
import pytest

import torsh
from torsh.optim import SGD, swa_utils


def model(value):
    m = torsh.nn.Linear(2, 1)
    with torsh.no_grad():
        for p in m.parameters():
            p.fill_(value)
    return m


def test_equal_average():
    averaged = swa_utils.AveragedModel(model(0.0))
    for value in (1.0, 2.0, 6.0):
        averaged.update_parameters(model(value))
    assert averaged.module.weight.tolist() == [[pytest.approx(3.0), pytest.approx(3.0)]]
    assert averaged.n_averaged.item() == 3
    assert set(averaged.state_dict()) == {"n_averaged", "module.weight", "module.bias"}


@pytest.mark.parametrize("options", [dict(multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.9)),
                                     dict(avg_fn=swa_utils.get_ema_avg_fn(0.9))])
def test_exponential_average(options):
    averaged = swa_utils.AveragedModel(model(0.0), **options)
    for value in (1.0, 2.0):
        averaged.update_parameters(model(value))
    assert averaged.module.bias.item() == pytest.approx(0.9 * 1.0 + 0.1 * 2.0)


def test_decay_is_checked():
    with pytest.raises(ValueError, match="Invalid decay value"):
        swa_utils.get_ema_multi_avg_fn(1.1)


def test_update_bn():
    m = torsh.nn.Sequential(torsh.nn.BatchNorm1d(2))
    m[0].running_mean.fill_(9.0)
    m.eval()
    x = np.random.default_rng(0).standard_normal((4, 8, 2)).astype(np.float32)
    swa_utils.update_bn([torsh.from_numpy(batch) for batch in x], m)
    np.testing.assert_allclose(m[0].running_mean.numpy(), x.reshape(-1, 2).mean(0), 1e-4, 1e-5)
    assert not m.training and m[0].momentum == 0.1


def test_swalr():
    optimizer = SGD([torsh.ones(1, requires_grad=True)], lr=1.0)
    scheduler = swa_utils.SWALR(optimizer, swa_lr=0.5, anneal_epochs=2, anneal_strategy="linear")
    rates = []
    for _ in range(3):
        optimizer.step()
        scheduler.step()
        rates.append(scheduler.get_last_lr()[0])
    assert rates == pytest.approx([0.75, 0.5, 0.5])
    assert scheduler.state_dict()["_anneal_strategy"] == "linear"
