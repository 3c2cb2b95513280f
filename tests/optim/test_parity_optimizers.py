"""Every optimizer, step by step beside PyTorch's, with save and reload half-way."""
from __future__ import annotations

import copy

import numpy as np
import pytest

import torsh

torch = pytest.importorskip("torch")

CONFIGURATIONS = [
    ("SGD", {}), ("SGD", dict(lr=0.1, momentum=0.9)), ("SGD", dict(lr=0.1, momentum=0.9, dampening=0.5, weight_decay=0.1)),
    ("SGD", dict(lr=0.1, momentum=0.9, nesterov=True, maximize=True)), ("SGD", dict(lr=0.1, foreach=True)),
    ("Adam", {}), ("Adam", dict(lr=0.1, weight_decay=0.1, amsgrad=True)), ("Adam", dict(lr=0.1, maximize=True, fused=True)),
    ("AdamW", dict(lr=0.1)), ("AdamW", dict(lr=0.1, amsgrad=True, betas=(0.5, 0.7), eps=1e-4)),
    ("RMSprop", {}), ("RMSprop", dict(centered=True, momentum=0.5, weight_decay=0.1)), ("RMSprop", dict(maximize=True)),
    ("Adagrad", dict(lr=0.1)), ("Adagrad", dict(lr=0.1, lr_decay=0.1, initial_accumulator_value=0.5, weight_decay=0.1)),
    ("Adadelta", {}), ("Adadelta", dict(rho=0.5, weight_decay=0.1, maximize=True)),
    ("Adamax", {}), ("Adamax", dict(weight_decay=0.1, maximize=True)),
    ("NAdam", {}), ("NAdam", dict(lr=0.1, weight_decay=0.1, decoupled_weight_decay=True, momentum_decay=0.01)),
    ("NAdam", dict(weight_decay=0.1)), ("RAdam", {}), ("RAdam", dict(lr=0.1, betas=(0.8, 0.9), weight_decay=0.1)),
    ("RAdam", dict(decoupled_weight_decay=True, weight_decay=0.1, maximize=True)),
    ("ASGD", {}), ("ASGD", dict(lr=0.1, lambd=0.1, t0=3, weight_decay=0.1, maximize=True)),
    ("Rprop", {}), ("Rprop", dict(lr=0.1, etas=(0.3, 1.5), step_sizes=(1e-3, 1.0), maximize=True)),
    ("Adafactor", {}), ("Adafactor", dict(lr=0.1, weight_decay=0.1, d=1.5, maximize=True)),
    ("LBFGS", {}), ("LBFGS", dict(max_iter=3, history_size=2)), ("LBFGS", dict(line_search_fn="strong_wolfe"))]


class Side:
    """The same small problem with one of the frameworks."""

    def __init__(self, framework, name, options, dtype, grouped):
        self.framework, self.name, self.options, self.grouped = framework, name, options, grouped
        shapes = [(4, 3), (3,), (1,)]
        generator = np.random.default_rng(0)
        self.params = []
        for shape in shapes:
            p = framework.from_numpy(generator.standard_normal(shape).astype(dtype))
            self.params.append(p.requires_grad_())
        self.optimizer = self.make()

    def make(self):
        cls = getattr(self.framework.optim, self.name)
        if self.grouped:
            groups = [{"params": self.params[:1]}, {"params": self.params[1:], "lr": 0.005}]
            return cls(groups, **copy.deepcopy(self.options))
        return cls(self.params, **copy.deepcopy(self.options))

    def closure(self):
        loss = 0.0
        for i, p in enumerate(self.params):
            value = p.detach().numpy().astype(np.float64)
            loss += (i + 1) * ((value - 0.3) ** 2).sum() + 0.1 * np.sin(3 * value).sum()
            grad = 2 * (i + 1) * (value - 0.3) + 0.3 * np.cos(3 * value)
            p.grad = self.framework.from_numpy(grad.astype(p.detach().numpy().dtype))
        return self.framework.tensor(loss)

    def step(self):
        if self.name == "LBFGS":
            self.optimizer.step(self.closure)
        else:
            self.closure()
            self.optimizer.step()
        return [p.detach().numpy().copy() for p in self.params]

    def reload(self):
        state = self.optimizer.state_dict()
        self.optimizer = self.make()
        self.optimizer.load_state_dict(state)


@pytest.mark.parametrize(("name", "options", "dtype", "grouped"), [
    *[(n, o, "float64", False) for n, o in CONFIGURATIONS], *[(n, o, "float32", False) for n, o in CONFIGURATIONS[::3]
                                                                 if n != "LBFGS"],
    ("SGD", dict(momentum=0.9), "float64", True), ("Adam", {}, "float64", True), ("RAdam", {}, "float32", True)])
def test_trajectory(name, options, dtype, grouped):
    ours, theirs = (Side(f, name, options, dtype, grouped) for f in (torsh, torch))
    rtol, atol = (1e-6, 1e-8) if dtype == "float64" else (1e-4, 1e-5)
    for n in range(12):
        if n == 6:
            ours.reload()
            theirs.reload()
        for actual, expected in zip(ours.step(), theirs.step(), strict=True):
            np.testing.assert_allclose(actual, expected, rtol, atol, err_msg=f"step {n + 1}")
    a, b = ours.optimizer.state_dict(), theirs.optimizer.state_dict()
    assert {k: list(v) for k, v in a["state"].items()} == {k: list(v) for k, v in b["state"].items()}
    for own, other in zip(a["param_groups"], b["param_groups"], strict=True):
        assert set(own) == set(other) and own["params"] == other["params"]
    if name in ("LBFGS", "SGD"):
        return
    for index, state in b["state"].items():
        for key, value in state.items():
            np.testing.assert_allclose(a["state"][index][key].numpy(), value.numpy(), 1e-4, 1e-6, err_msg=key)


@pytest.mark.parametrize("options", [{}, dict(adjust_lr_fn="match_rms_adamw", nesterov=False, weight_decay=0.0)])
def test_muon(options):
    start = np.random.default_rng(1).standard_normal((6, 4)).astype(np.float32)
    paths = []
    for f in (torsh, torch):
        p = f.from_numpy(start.copy()).requires_grad_()
        optimizer = f.optim.Muon([p], lr=0.1, **options)
        for _ in range(3):
            p.grad = f.from_numpy(2 * p.detach().numpy().copy())
            optimizer.step()
        paths.append(p.detach().numpy())
    np.testing.assert_allclose(paths[0], paths[1], 2e-2, 2e-2)      # the iterations run in bfloat16


def test_parameters_that_get_gradients_at_different_times():
    paths = []
    for f in (torsh, torch):
        params = [f.ones(3, dtype=f.float64).requires_grad_() for _ in range(3)]
        optimizer = f.optim.Adam(params, lr=0.1)
        for n in range(8):
            for i, p in enumerate(params):
                p.grad = f.full((3,), 1.0 + n, dtype=f.float64) if (n + i) % 3 or n > 5 else None
            optimizer.step()
        paths.append([p.detach().numpy().copy() for p in params])
        assert [float(optimizer.state[p]["step"]) for p in params] == [6.0, 6.0, 6.0]
    np.testing.assert_allclose(paths[0], paths[1], 1e-9)


def test_half_precision_is_as_close_to_float64_as_pytorch():
    start = np.random.default_rng(2).standard_normal(50)
    grads = np.random.default_rng(3).standard_normal((5, 50))

    def run(f, dtype):
        p = f.from_numpy(start).to(dtype).requires_grad_()
        optimizer = f.optim.Adam([p], lr=0.05)
        for g in grads:
            p.grad = f.from_numpy(g).to(dtype)
            optimizer.step()
        return p.detach().double().numpy()

    exact = run(torch, torch.float64)
    ours, theirs = np.abs(run(torsh, torsh.bfloat16) - exact), np.abs(run(torch, torch.bfloat16) - exact)
    assert ours.mean() <= 1.1 * theirs.mean()


@pytest.mark.parametrize(("name", "options"), [
    ("SGD", dict(lr=-1)), ("SGD", dict(momentum=-1)), ("SGD", dict(nesterov=True)), ("SGD", dict(weight_decay=-1)),
    ("Adam", dict(lr=-1)), ("Adam", dict(eps=-1)), ("Adam", dict(betas=(1.0, 0.9))), ("Adam", dict(betas=(0.9, -0.1))),
    ("Adam", dict(weight_decay=-1)), ("Adam", dict(betas=(1, 0.9))), ("Adam", dict(fused=True, foreach=True)),
    ("Adam", dict(fused=True, differentiable=True)), ("AdamW", dict(betas=(0.9, 1.0))),
    ("RMSprop", dict(alpha=-1)), ("RMSprop", dict(momentum=-1)), ("Adagrad", dict(lr_decay=-1)),
    ("Adagrad", dict(initial_accumulator_value=-1)), ("Adadelta", dict(rho=1.1)), ("Adamax", dict(eps=-1)),
    ("NAdam", dict(momentum_decay=-1)), ("RAdam", dict(weight_decay=-0.5)), ("ASGD", dict(weight_decay=-0.5)),
    ("Rprop", dict(etas=(1.0, 0.5))), ("Adafactor", dict(beta2_decay=0.8)), ("Adafactor", dict(d=0.0)),
    ("Adafactor", dict(eps=(-1, 1))), ("Muon", {}), ("Muon", dict(adjust_lr_fn="x")), ("SparseAdam", dict(lr=0.0)),
    ("LBFGS", dict(lr=-1))])
def test_arguments_are_checked_as_in_pytorch(name, options):
    def error(f):
        with pytest.raises((ValueError, RuntimeError)) as caught:
            getattr(f.optim, name)([f.ones(2).requires_grad_()], **options)
        return caught.value
    ours, theirs = error(torsh), error(torch)
    assert isinstance(ours, type(theirs))
    assert str(ours).replace("torsh", "torch") == str(theirs)


def test_repr_and_signatures():
    import inspect
    a, b = (f.optim.Adam([f.ones(2).requires_grad_()], lr=0.5) for f in (torsh, torch))
    assert repr(a) == repr(b)
    for name in torsh.optim.__all__:
        cls = getattr(torsh.optim, name)
        if isinstance(cls, type) and name != "Optimizer":
            ours, theirs = (inspect.signature(getattr(f.optim, name)) for f in (torsh, torch))
            assert [(p.name, p.kind, p.default) for p in ours.parameters.values()] == \
                [(p.name, p.kind, p.default) for p in theirs.parameters.values()], name
