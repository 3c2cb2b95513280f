"""Optimizers inside of steps that are compiled as a whole."""
from __future__ import annotations

import numpy as np
import pytest

import torsh
from torsh.optim import ASGD, SGD, Adam, NAdam, RAdam, lr_scheduler


@pytest.mark.parametrize(("cls", "options"), [
    (SGD, dict(lr=0.1)), (SGD, dict(lr=0.1, momentum=0.9, nesterov=True)), (Adam, dict(lr=0.1)), (NAdam, dict(lr=0.1)),
    (RAdam, dict(lr=0.1, betas=(0.9, 0.99))), (ASGD, dict(lr=0.1, t0=2))])
def test_compiled_steps_equal_recorded_ones(cls, options):
    paths = []
    for compiled in (False, True):
        p = torsh.tensor([1.0, -2.0, 3.0], requires_grad=True)
        optimizer = cls([p], **options)
        schedule = lr_scheduler.ExponentialLR(optimizer, 0.9)

        def step(x, p=p, optimizer=optimizer):
            optimizer.zero_grad()
            loss = ((p - x) * (p - x)).sum()
            loss.backward()
            optimizer.step()
            return loss

        run = torsh.compile(step) if compiled else step
        path = []
        for n in range(10):
            loss = run(torsh.full((3,), float(n)))
            schedule.step()
            path.append([float(loss), *p.detach().tolist()])
        paths.append(path)
    np.testing.assert_allclose(paths[0], paths[1], 1e-5)
