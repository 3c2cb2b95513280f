"""nn.utils beside PyTorch's: clipping, vectors, parametrizations, fusion, functional calls."""
from __future__ import annotations

import copy

import pytest

import torsh

torch = pytest.importorskip("torch")
from module_twins import check_twins, close, mine, pair  # noqa: E402

BOTH = (torsh, torch)


def copied(ours, theirs):
    """Give torsh's module the state of PyTorch's, under the same names."""
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(mine(dict(theirs.state_dict())))
    return ours, theirs


# ---- gradients and vectors -------------------------------------------------------------------------------------------


def with_gradients():
    torch.manual_seed(0)
    theirs = [torch.nn.Parameter(torch.randn(2, 3)), torch.nn.Parameter(torch.randn(4)), torch.nn.Parameter(torch.randn(1))]
    ours = [torsh.nn.Parameter(mine(p.detach())) for p in theirs]
    for p, q in zip(ours[:2], theirs[:2], strict=True):
        q.grad = torch.randn_like(q) * 3
        p.grad = mine(q.grad)
    return ours, theirs


@pytest.mark.parametrize("norm_type", [2.0, 1.0, float("inf"), 3])
@pytest.mark.parametrize("max_norm", [0.5, 1000.0])
def test_clip_grad_norm(norm_type, max_norm):
    ours, theirs = with_gradients()
    totals = [m.nn.utils.clip_grad_norm_(ps, max_norm, norm_type) for m, ps in zip(BOTH, (ours, theirs), strict=True)]
    close(totals[0], totals[1], "norm")
    for p, q in zip(ours[:2], theirs[:2], strict=True):
        close(p.grad, q.grad, "gradient")
    assert ours[2].grad is None


def test_clip_grad_value_and_total_norm():
    ours, theirs = with_gradients()
    for m, ps in zip(BOTH, (ours, theirs), strict=True):
        m.nn.utils.clip_grad_value_(ps, 0.7)
        m.nn.utils.clip_grads_with_norm_(ps, 0.5, m.nn.utils.get_total_norm([p.grad for p in ps[:2]]))
    for p, q in zip(ours[:2], theirs[:2], strict=True):
        close(p.grad, q.grad, "gradient")
    assert torsh.nn.utils.clip_grad_norm_([], 1.0).item() == 0


def test_old_names_warn():
    with pytest.warns(FutureWarning, match="clip_grad_norm_"):
        torsh.nn.utils.clip_grad_norm([], 1.0)
    with pytest.warns(UserWarning, match="empty generator"):
        torsh.nn.utils.clip_grad_norm_((p for p in ()), 1.0)


def test_vectors():
    a, b = pair("Linear", 3, 2)
    close(torsh.nn.utils.parameters_to_vector(a.parameters()), torch.nn.utils.parameters_to_vector(b.parameters()), "vector")
    new = torch.arange(8.0)
    torsh.nn.utils.vector_to_parameters(mine(new), a.parameters())
    torch.nn.utils.vector_to_parameters(new, b.parameters())
    close(a.weight, b.weight, "weight")
    close(a.bias, b.bias, "bias")


# ---- parametrizations ------------------------------------------------------------------------------------------------

LAYERS = [("Linear", (3, 4), (2, 3)), ("Conv2d", (3, 4, 2), (1, 3, 5, 5)), ("ConvTranspose1d", (3, 4, 2), (1, 3, 5))]


@pytest.mark.parametrize(("name", "args", "shape"), LAYERS)
@pytest.mark.parametrize("dim", [0, 1, None])
def test_weight_norm(name, args, shape, dim):
    torch.manual_seed(0)
    a, b = (m.nn.utils.parametrizations.weight_norm(getattr(m.nn, name)(*args), dim=dim) for m in BOTH)
    copied(a, b)
    x = torch.randn(*shape, requires_grad=True)
    p, q = a(mine(x)), b(x)
    close(p, q, "result")
    p.square().sum().backward()
    q.square().sum().backward()
    for (key, g), (_, h) in zip(a.named_parameters(), b.named_parameters(), strict=True):
        close(g.grad, h.grad, key, 1e-4)
    assert type(a).__name__ == type(b).__name__


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:`torsh.nn.utils.weight_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize("dim", [0, None])
def test_weight_norm_by_hook(dim):
    torch.manual_seed(0)
    a, b = copied(*(m.nn.utils.weight_norm(m.nn.Linear(3, 4), dim=dim) for m in BOTH))
    check_twins(a, b, torch.randn(2, 3, requires_grad=True))
    with pytest.raises(RuntimeError, match="two weight_norm hooks"):
        torsh.nn.utils.weight_norm(a)
    newer = torsh.nn.utils.parametrizations.weight_norm(torsh.nn.Linear(3, 4), dim=dim)
    newer.load_state_dict(a.state_dict())               # the newer form reads the names of the older one
    x = torsh.randn(2, 3)
    assert torsh.allclose(newer(x), a(x), atol=1e-6)
    for m, layer in zip(BOTH, (a, b), strict=True):
        m.nn.utils.remove_weight_norm(layer)
    copied(a, b)
    assert sorted(dict(a.named_parameters())) == ["bias", "weight"] and torsh.allclose(newer(x), a(x), atol=1e-6)


@pytest.mark.parametrize(("name", "args", "shape"), LAYERS)
def test_spectral_norm(name, args, shape):
    torch.manual_seed(0)
    a, b = copied(*(m.nn.utils.parametrizations.spectral_norm(getattr(m.nn, name)(*args), n_power_iterations=2) for m in BOTH))
    check_spectral(a, b, shape)


@pytest.mark.parametrize(("name", "args", "shape"), LAYERS)
def test_spectral_norm_by_hook(name, args, shape):
    torch.manual_seed(0)
    a, b = copied(*(m.nn.utils.spectral_norm(getattr(m.nn, name)(*args)) for m in BOTH))
    check_spectral(a, b, shape)
    x = torch.randn(*shape)
    before = a(mine(x))
    assert torsh.nn.utils.remove_spectral_norm(a) is a and "weight" in a._parameters
    torch.nn.utils.remove_spectral_norm(b)
    assert sorted(a.state_dict()) == sorted(b.state_dict()) and torsh.allclose(a(mine(x)), before, atol=1e-6)


def check_spectral(a, b, shape):
    """Training moves the estimates, evaluation does not."""
    for train in (True, True, False):
        x = torch.randn(*shape, requires_grad=True)
        p, q = a.train(train)(mine(x)), b.train(train)(x)
        close(p, q, "result", 1e-4)
        (grad,) = torch.autograd.grad(q.square().sum(), [next(b.parameters())])
        close(torsh.autograd.grad(p.square().sum(), [next(a.parameters())])[0], grad, "gradient", 1e-4)
    for (key, u), (_, v) in zip(a.named_buffers(), b.named_buffers(), strict=True):
        close(u, v, key, 1e-4)


@pytest.mark.parametrize("shape", [(3, 3), (4, 3), (2, 5), (2, 4, 3)])
@pytest.mark.parametrize("orthogonal_map", [None, "matrix_exp", "cayley", "householder"])
def test_orthogonal(shape, orthogonal_map):
    torch.manual_seed(0)
    start, move = torch.randn(*shape), 0.1 * torch.randn(*shape)
    layers = []
    for m in BOTH:
        layer = m.nn.Module()
        layer.weight = m.nn.Parameter(start.clone() if m is torch else mine(start))
        layers.append(m.nn.utils.parametrizations.orthogonal(layer, orthogonal_map=orthogonal_map))
    a, b = layers
    copied(a, b)
    with torch.no_grad(), torsh.no_grad():              # away from the point where the map is the identity
        b.parametrizations.weight.original.add_(move.tril(-1))
        a.parametrizations.weight.original.add_(mine(move.tril(-1)))
    close(a.weight, b.weight, "weight")
    a.weight.sin().sum().backward()
    b.weight.sin().sum().backward()
    close(a.parametrizations.weight.original.grad, b.parametrizations.weight.original.grad, "gradient")
    inner = a.weight.mT @ a.weight if shape[-2] >= shape[-1] else a.weight @ a.weight.mT
    assert torsh.allclose(inner, torsh.eye(min(shape[-2:])).expand_as(inner), atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 3), (4, 3), (2, 5)])
def test_orthogonal_without_trivialization(shape):
    torch.manual_seed(0)
    wanted = torch.nn.init.orthogonal_(torch.empty(*shape))
    layers = [m.nn.utils.parametrizations.orthogonal(m.nn.Linear(shape[1], shape[0]), orthogonal_map="householder",
                                                     use_trivialization=False) for m in BOTH]
    copied(*layers)
    close(layers[0].weight, layers[1].weight, "weight")
    layers[0].weight = mine(wanted)
    layers[1].weight = wanted
    close(layers[0].weight, wanted, "assigned weight")
    close(layers[0].parametrizations.weight.original, layers[1].parametrizations.weight.original, "original")
    with pytest.raises(NotImplementedError, match="not possible to assign"):
        torsh.nn.utils.parametrizations.orthogonal(torsh.nn.Linear(3, 3), orthogonal_map="cayley", use_trivialization=False).weight = \
            torsh.eye(3)


def twice(m):
    class Twice(m.nn.Module):
        def forward(self, x):
            return 2 * x

        def right_inverse(self, x):
            return x / 2
    return Twice()


def test_parametrize():
    steps = {}
    for m in BOTH:
        layer, tools = m.nn.Linear(2, 2), m.nn.utils.parametrize
        layer.weight.data.fill_(1)
        tools.register_parametrization(layer, "weight", twice(m))
        assert layer.weight[0, 0].item() == 1 and layer.parametrizations.weight.original[0, 0].item() == 0.5
        tools.register_parametrization(layer, "weight", twice(m))
        assert layer.weight[0, 0].item() == 2
        layer.weight = m.full((2, 2), 8.0)
        assert layer.parametrizations.weight.original[0, 0].item() == 2
        twin = copy.deepcopy(layer)
        assert type(twin).__name__ == "ParametrizedLinear" and tools.is_parametrized(twin, "weight")
        assert tools.type_before_parametrizations(layer) is m.nn.Linear
        with tools.cached():
            assert layer.weight is layer.weight
        steps[m] = (repr(layer), list(layer.state_dict()))
        with pytest.raises(RuntimeError, match=r"only supported through state_dict\(\)"):
            layer.__getstate__()
        tools.remove_parametrizations(layer, "weight", leave_parametrized=True)
        assert type(layer) is m.nn.Linear and layer.weight[0, 0].item() == 8 and "weight" in layer._parameters
        if m is torsh:                  # PyTorch's copies share their class with the original
            tools.remove_parametrizations(twin, "weight", leave_parametrized=False)
            assert twin.weight[0, 0].item() == 2
    assert steps[torsh] == steps[torch]


def test_transfer_of_parametrizations():
    for m in BOTH:
        source, target, tools = m.nn.Linear(2, 2), m.nn.Linear(2, 2), m.nn.utils.parametrize
        tools.register_parametrization(source, "weight", twice(m))
        tools.transfer_parametrizations_and_params(source, target)
        assert m.equal(source.weight, target.weight)
        assert target.parametrizations.weight.original is source.parametrizations.weight.original


def test_parametrized_buffer_and_training():
    layer = torsh.nn.utils.parametrize.register_parametrization(torsh.nn.BatchNorm1d(2), "running_mean", twice(torsh))
    assert "parametrizations.running_mean.original" in dict(layer.named_buffers())
    torsh.manual_seed(0)
    layer = torsh.nn.utils.parametrizations.weight_norm(torsh.nn.Linear(2, 1))
    optimizer = torsh.optim.SGD(layer.parameters(), lr=0.1)
    x, losses = torsh.randn(16, 2), []
    for _ in range(200):
        optimizer.zero_grad()
        loss = (layer(x) - x.sum(1, keepdim=True)).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


# ---- fusion, functional calls, others --------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "args", "norm", "shape"), [("Conv2d", (3, 4, 2), "BatchNorm2d", (2, 3, 5, 5)),
                                                             ("ConvTranspose2d", (3, 4, 2), "BatchNorm2d", (2, 3, 5, 5)),
                                                             ("Linear", (3, 4), "BatchNorm1d", (5, 3))])
@pytest.mark.parametrize("bias", [True, False])
def test_fusion(name, args, norm, shape, bias):
    torch.manual_seed(0)
    (layer, b), (bn, d) = pair(name, *args, bias=bias), pair(norm, 4)
    x = torch.randn(*shape)
    bn(layer(mine(x)))
    d(b(x))
    options = {"transpose": True} if name == "ConvTranspose2d" else {}
    kind = "linear" if name == "Linear" else "conv"
    fused, theirs = (getattr(m.nn.utils, f"fuse_{kind}_bn_eval")(p.eval(), q.eval(), **options)
                     for m, p, q in zip(BOTH, (layer, b), (bn, d), strict=True))
    assert list(fused.state_dict()) == list(theirs.state_dict())
    close(fused.weight, theirs.weight, "weight")
    close(fused.bias, theirs.bias, "bias")
    assert torsh.allclose(fused(mine(x)), bn(layer(mine(x))), atol=1e-5)


@pytest.mark.filterwarnings("ignore:`tor.h.nn.utils.stateless.functional_call` is deprecated:FutureWarning")
def test_functional_call():
    torch.manual_seed(0)
    results = []
    for m in BOTH:
        net = m.nn.Sequential(m.nn.Linear(2, 2), m.nn.BatchNorm1d(2))
        given = {"0.weight": m.ones(2, 2, requires_grad=True), "0.bias": m.zeros(2), "1.running_mean": m.zeros(2)}
        call = m.nn.utils.stateless.functional_call
        kept = net[0].weight
        out = call(net, given, (m.tensor([[1.0, 2.0], [3.0, 5.0]]),))
        out[0, 0].backward()
        results.append((out.tolist(), given["1.running_mean"].tolist(), net[1].running_mean.tolist()))
        assert net[0].weight is kept and kept.grad is None and given["0.weight"].grad is not None
        with pytest.raises(RuntimeError, match="Missing key"):
            call(net, given, m.ones(2, 2), strict=True)
        tied = m.nn.Sequential(m.nn.Linear(2, 2, bias=False), m.nn.Linear(2, 2, bias=False))
        tied[1].weight = tied[0].weight
        assert call(tied, {"0.weight": m.ones(2, 2)}, m.ones(1, 2)).tolist() == [[4.0, 4.0]]
        with pytest.raises(ValueError, match="multiple values"):
            call(tied, {"0.weight": m.ones(2, 2), "1.weight": m.zeros(2, 2)}, m.ones(1, 2))
    for p, q in zip(*results, strict=True):
        close(torsh.tensor(p), torch.tensor(q), "result")


def test_skip_init():
    torsh.manual_seed(3)
    layer = torsh.nn.utils.skip_init(torsh.nn.LSTM, 2, 3, num_layers=2)
    after = torsh.rand(2)
    torsh.manual_seed(3)
    assert torsh.equal(torsh.rand(2), after)            # nothing was drawn
    assert [tuple(p.shape) for p in layer.parameters()] == [tuple(p.shape) for p in torch.nn.LSTM(2, 3, num_layers=2).parameters()]


def test_memory_format():
    net = torsh.nn.Sequential(torsh.nn.Conv2d(3, 4, 2), torsh.nn.Linear(1, 1))
    before = net[0].weight.tolist()
    assert torsh.nn.utils.convert_conv2d_weight_memory_format(net, torsh.channels_last) is net
    assert net[0].weight.tolist() == before
