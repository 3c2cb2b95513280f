"""Every schedule beside PyTorch's: learning rates, momenta, state, with save and reload half-way."""
from __future__ import annotations

import inspect
import warnings

import numpy as np
import pytest

import torsh

torch = pytest.importorskip("torch")


class Decay:
    """A schedule as an object with state of its own."""

    def __init__(self):
        self.rate = 0.9

    def __call__(self, n):
        return self.rate ** n


SCHEDULES = {
    "LambdaLR": [lambda s, o: s.LambdaLR(o, lambda n: 0.95 ** n),
                 lambda s, o: s.LambdaLR(o, [lambda n: 1 / (n + 1), Decay()])],
    "MultiplicativeLR": [lambda s, o: s.MultiplicativeLR(o, lambda n: 0.97 if n % 3 else 1.01)],
    "StepLR": [lambda s, o: s.StepLR(o, 3, gamma=0.7)],
    "MultiStepLR": [lambda s, o: s.MultiStepLR(o, [5, 5, 20, 33], gamma=0.3)],
    "ConstantLR": [lambda s, o: s.ConstantLR(o), lambda s, o: s.ConstantLR(o, factor=0.5, total_iters=12)],
    "LinearLR": [lambda s, o: s.LinearLR(o, 0.1, 0.8, total_iters=30)],
    "ExponentialLR": [lambda s, o: s.ExponentialLR(o, gamma=0.93)],
    "PolynomialLR": [lambda s, o: s.PolynomialLR(o, total_iters=30, power=2.5)],
    "CosineAnnealingLR": [lambda s, o: s.CosineAnnealingLR(o, T_max=10, eta_min=1e-3)],
    "CosineAnnealingWarmRestarts": [lambda s, o: s.CosineAnnealingWarmRestarts(o, 5, T_mult=2, eta_min=1e-4)],
    "CyclicLR": [lambda s, o: s.CyclicLR(o, 1e-3, 0.1, step_size_up=4, step_size_down=9, mode="triangular2"),
                 lambda s, o: s.CyclicLR(o, 1e-3, 0.1, step_size_up=5, mode="exp_range", gamma=0.98, cycle_momentum=False)],
    "OneCycleLR": [lambda s, o: s.OneCycleLR(o, max_lr=0.2, total_steps=60),
                   lambda s, o: s.OneCycleLR(o, [0.2, 0.4], epochs=5, steps_per_epoch=12, anneal_strategy="linear",
                                             three_phase=True, pct_start=0.4)],
    "ReduceLROnPlateau": [lambda s, o: s.ReduceLROnPlateau(o, patience=2, factor=0.5),
                          lambda s, o: s.ReduceLROnPlateau(o, mode="max", patience=1, cooldown=3, threshold_mode="abs",
                                                           min_lr=[1e-3, 1e-4])],
    "SequentialLR": [lambda s, o: s.SequentialLR(o, [s.LinearLR(o, 0.2, total_iters=6), s.CosineAnnealingLR(o, 15),
                                                     s.StepLR(o, 4)], milestones=[6, 25])],
    "ChainedScheduler": [lambda s, o: s.ChainedScheduler([s.ConstantLR(o, factor=0.1, total_iters=8),
                                                          s.ExponentialLR(o, 0.9)], optimizer=o)]}


def run(framework, build):
    metrics = np.random.default_rng(0).random(40)

    def make():
        first, second = (framework.zeros(2).requires_grad_() for _ in range(2))
        optimizer = framework.optim.SGD([{"params": [first]}, {"params": [second], "lr": 0.3}], lr=0.1, momentum=0.9)
        return optimizer, build(framework.optim.lr_scheduler, optimizer)

    optimizer, scheduler = make()
    rows = []
    for n in range(40):
        rows.append([g["lr"] for g in optimizer.param_groups] + [g["momentum"] for g in optimizer.param_groups])
        optimizer.step()
        scheduler.step(*([1.0 / (n + 1) + metrics[n]] if type(scheduler).__name__ == "ReduceLROnPlateau" else []))
        rows.append(scheduler.get_last_lr() * 2)
        if n == 20:
            state, optimizer_state = scheduler.state_dict(), optimizer.state_dict()
            keys = set(state)
            optimizer, scheduler = make()
            optimizer.load_state_dict(optimizer_state)
            scheduler.load_state_dict(state)
    return np.array(rows, dtype=float), keys


@pytest.mark.parametrize(("name", "number"), [(n, i) for n, builds in SCHEDULES.items() for i in range(len(builds))])
def test_schedule(name, number):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours, own_keys = run(torsh, SCHEDULES[name][number])
        theirs, their_keys = run(torch, SCHEDULES[name][number])
    np.testing.assert_allclose(ours, theirs, 1e-9, 1e-12)
    assert own_keys - {"_scale_fn_ref"} == their_keys - {"_scale_fn_ref"}


def test_signatures():
    for name in torch.optim.lr_scheduler.__all__:
        ours, theirs = (inspect.signature(getattr(f.optim.lr_scheduler, name)) for f in (torsh, torch))
        assert [(p.name, p.default) for p in ours.parameters.values()] == \
            [(p.name, p.default) for p in theirs.parameters.values()], name


def test_closed_forms():
    builders = [lambda s, o: s.StepLR(o, 3), lambda s, o: s.MultiStepLR(o, [2, 9]), lambda s, o: s.LinearLR(o),
                lambda s, o: s.ConstantLR(o), lambda s, o: s.ExponentialLR(o, 0.9), lambda s, o: s.PolynomialLR(o, 8),
                lambda s, o: s.CosineAnnealingLR(o, 7)]
    for build in builders:
        results = []
        for f in (torsh, torch):
            optimizer = f.optim.SGD([f.zeros(1).requires_grad_()], lr=0.1)
            scheduler = build(f.optim.lr_scheduler, optimizer)
            optimizer.step()
            with pytest.warns(UserWarning, match="epoch parameter"):
                scheduler.step(6)
            results.append(scheduler.get_last_lr()[0])
        assert results[0] == pytest.approx(results[1], rel=1e-12)
