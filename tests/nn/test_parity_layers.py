"""Every layer beside PyTorch's with the same weights: results, gradients, buffers, state_dict and repr."""
from __future__ import annotations

import pytest

import torsh

torch = pytest.importorskip("torch")
from module_twins import check_twins, close, mine, pair  # noqa: E402

M, L = (3, 5), (2, 4, 6)                    # a matrix; (batch, channels, length)
P2, P3 = (2, 4, 6, 7), (2, 4, 5, 6, 7)      # images and volumes
LAYERS = [
    ("Identity", (), {}, M), ("Linear", (5, 4), {}, M), ("Linear", (5, 4), {"bias": False}, (2, 3, 5)), ("Flatten", (), {}, P2),
    ("Unflatten", (1, (2, 2)), {}, L), ("Conv1d", (4, 6, 3), {"padding": 1}, L), ("Conv1d", (4, 6, 3), {"stride": 2, "bias": False}, L),
    ("Conv2d", (4, 6, 3), {"padding": "same", "dilation": 2}, P2), ("Conv2d", (4, 8, (3, 2)), {"groups": 4, "stride": (2, 1)}, P2),
    ("Conv2d", (4, 4, 3), {"padding": 1, "padding_mode": "reflect"}, P2),
    ("Conv2d", (4, 4, 3), {"padding": (1, 0), "padding_mode": "circular"},
                                                                          P2),
    ("Conv3d", (4, 2, 2), {"padding": 1, "padding_mode": "replicate"}, P3),
    ("ConvTranspose1d", (4, 3, 3), {"stride": 2, "output_padding": 1}, L),
    ("ConvTranspose2d", (4, 6, 3), {"stride": 2, "padding": 1, "groups": 2}, P2), ("ConvTranspose3d", (4, 2, 2), {"dilation": 2}, P3),
    ("AvgPool1d", (2,), {}, L), ("AvgPool2d", (3,), {"stride": 2, "padding": 1, "count_include_pad": False}, P2),
    ("AvgPool3d", (2,), {"ceil_mode": True}, P3), ("MaxPool1d", (2,), {"stride": 1}, L),
    ("MaxPool2d", (3,), {"padding": 1, "dilation": 2}, P2),
    ("MaxPool2d", (2,), {"return_indices": True, "ceil_mode": True}, P2), ("MaxPool3d", (2,), {}, P3), ("LPPool1d", (2, 3), {}, L),
    ("LPPool2d", (2, 2), {"stride": 1}, P2), ("LPPool3d", (3, 2), {}, P3), ("AdaptiveAvgPool1d", (4,), {}, L),
    ("AdaptiveAvgPool2d", ((3, None),), {}, P2), ("AdaptiveAvgPool3d", (2,), {}, P3), ("AdaptiveMaxPool1d", (4,), {}, L),
    ("AdaptiveMaxPool2d", (3,), {"return_indices": True}, P2), ("AdaptiveMaxPool3d", (2,), {}, P3),
    ("BatchNorm1d", (4,), {}, L), ("BatchNorm1d", (5,), {"momentum": None}, M), ("BatchNorm2d", (4,), {"affine": False}, P2),
    ("BatchNorm2d", (4,), {"track_running_stats": False}, P2), ("BatchNorm3d", (4,), {"eps": 1e-3, "momentum": 0.3}, P3),
    ("InstanceNorm1d", (4,), {}, L), ("InstanceNorm2d", (4,), {"affine": True, "track_running_stats": True}, P2),
    ("InstanceNorm3d", (4,), {}, P3), ("LayerNorm", (6,), {}, L), ("LayerNorm", ((4, 6),), {"bias": False}, L),
    ("LayerNorm", (6,), {"elementwise_affine": False}, L), ("GroupNorm", (2, 4), {}, P2), ("GroupNorm", (4, 4), {"affine": False}, L),
    ("RMSNorm", (6,), {}, L), ("RMSNorm", ((4, 6),), {"eps": 1e-3, "elementwise_affine": False}, L),
    ("LocalResponseNorm", (3,), {}, P2),
    *[(f"{kind}Pad{n}d", args, {}, (L, P2, P3)[n - 1]) for kind, args in (
        ("Constant", (2, 0.5)), ("Zero", (1,)), ("Reflection", (2,)), ("Replication", (1,)), ("Circular", (1,))) for n in (1, 2, 3)],
    ("PixelShuffle", (2,), {}, P2), ("PixelUnshuffle", (2,), {}, (2, 3, 4, 6)), ("ChannelShuffle", (2,), {}, P2),
    ("Upsample", (), {"scale_factor": 2}, L), ("Upsample", ((9, 5),), {"mode": "bilinear", "align_corners": True}, P2),
    ("Upsample", (), {"scale_factor": 1.5, "mode": "bicubic"}, P2), ("Upsample", (), {"size": 7, "mode": "trilinear"}, P3),
    ("UpsamplingNearest2d", (), {"scale_factor": 2}, P2), ("UpsamplingBilinear2d", ((4, 3),), {}, P2),
    ("Unfold", ((2, 3),), {"padding": 1, "stride": 2}, P2),
]
ACTIVATIONS = [
    ("CELU", (0.7,), {}), ("ELU", (0.7,), {}), ("GELU", (), {}), ("GELU", ("tanh",), {}), ("GLU", (1,), {}), ("Hardshrink", (0.3,), {}),
    ("Hardsigmoid", (), {}), ("Hardswish", (), {}), ("Hardtanh", (-0.5, 0.7), {}), ("LeakyReLU", (0.2,), {}), ("LogSigmoid", (), {}),
    ("LogSoftmax", (1,), {}), ("Mish", (), {}), ("PReLU", (4,), {}), ("PReLU", (), {"init": 0.1}), ("ReLU", (), {}), ("ReLU6", (), {}),
    ("SELU", (), {}), ("SiLU", (), {}), ("Sigmoid", (), {}), ("Softmax", (-1,), {}), ("Softmin", (1,), {}), ("Softplus", (2, 1.5), {}),
    ("Softshrink", (0.3,), {}), ("Softsign", (), {}), ("Tanh", (), {}), ("Tanhshrink", (), {}), ("Threshold", (0.1, 2.0), {}),
    ("ReLU", (), {"inplace": True}), ("Dropout", (0.0,), {}), ("RReLU", (0.2, 0.2), {})]
SHAPES = {"Softmax2d": P2}
SAME_IN_EVALUATION = [("Dropout", L), ("Dropout1d", L), ("Dropout2d", P2), ("Dropout3d", P3), ("AlphaDropout", L),
        ("FeatureAlphaDropout", P2)]


@pytest.mark.parametrize(("name", "args", "options", "shape"), LAYERS)
@pytest.mark.parametrize("train", [True, False])
def test_layer(name, args, options, shape, train):
    torch.manual_seed(0)
    check_twins(*pair(name, *args, train=train, **options), torch.randn(*shape, requires_grad=True))


@pytest.mark.parametrize(("name", "args", "options"), [*ACTIVATIONS, ("Softmax2d", (), {})])
def test_activation(name, args, options):
    torch.manual_seed(0)
    check_twins(*pair(name, *args, **options), torch.randn(*SHAPES.get(name, L), requires_grad=not options.get("inplace")))


@pytest.mark.parametrize(("name", "shape"), SAME_IN_EVALUATION)
def test_dropout_in_evaluation(name, shape):
    check_twins(*pair(name, train=False), torch.randn(*shape, requires_grad=True))


@pytest.mark.parametrize(("name", "shape"), SAME_IN_EVALUATION)
def test_dropout_in_training(name, shape):
    torsh.manual_seed(0)
    x = torsh.ones(16, 16, *shape[2:])
    out = getattr(torsh.nn, name)(0.5)(x)
    changed = (out != x).reshape(16, 16, -1).float()
    assert 0.3 < changed.mean().item() <= 1.0
    if name not in ("Dropout", "AlphaDropout"):         # whole channels have one fate
        assert bool((out == out.reshape(16, 16, -1)[..., :1].reshape(16, 16, *(1,) * (len(shape) - 2))).all())


def log_probabilities(*shape):
    return torch.randn(*shape).log_softmax(1).detach().requires_grad_(True)


def losses():
    torch.manual_seed(0)
    x, y = torch.randn(4, 5, requires_grad=True), torch.randn(4, 5)
    classes, signs, bits = torch.tensor([0, 4, 2, 1]), torch.tensor([1.0, -1, 1, 1]), (torch.rand(4, 5) > 0.5).float()
    weight = torch.rand(5)
    probability = torch.rand(4, 5, requires_grad=True)
    many = torch.tensor([[3, 0, -1, 1, 1], [1, 2, 3, 4, 0], [-1, 0, 0, 0, 0], [4, -1, 2, 0, 0]])
    return [
        ("L1Loss", {}, x, y), ("MSELoss", {}, x, y), ("SmoothL1Loss", {"beta": 0.5}, x, y), ("HuberLoss", {"delta": 0.5}, x, y),
        ("NLLLoss", {"weight": weight, "ignore_index": 2}, log_probabilities(4, 5), classes), ("CrossEntropyLoss", {}, x, classes),
        ("CrossEntropyLoss", {"weight": weight, "label_smoothing": 0.1}, x, classes), ("CrossEntropyLoss", {}, x, y.softmax(1)),
        ("PoissonNLLLoss", {"full": True}, x, y.abs() * 3), ("PoissonNLLLoss", {"log_input": False}, probability, y.abs() * 3),
        ("GaussianNLLLoss", {"full": True}, x, y, torch.rand(4, 5)), ("KLDivLoss", {"log_target": True}, log_probabilities(4, 5),
                                                                    log_probabilities(4, 5).detach()),
        ("BCELoss", {"weight": weight}, probability, bits), ("BCEWithLogitsLoss", {"pos_weight": weight}, x, bits),
        ("HingeEmbeddingLoss", {"margin": 0.5}, x, bits * 2 - 1),
        ("MarginRankingLoss", {"margin": 0.1}, x[:, 0].detach().requires_grad_(), y[:, 0], signs),
        ("SoftMarginLoss", {}, x, bits * 2 - 1), ("MultiLabelMarginLoss", {}, x, many),
        ("MultiLabelSoftMarginLoss", {"weight": weight}, x, bits),
        ("MultiMarginLoss", {"p": 2, "weight": weight}, x, classes), ("CosineEmbeddingLoss", {"margin": 0.2}, x, y, signs),
        ("TripletMarginLoss", {"swap": True}, x, y, torch.randn(4, 5)),
        ("TripletMarginWithDistanceLoss", {"margin": 2.0}, x, y, torch.randn(4, 5))]


@pytest.mark.parametrize("case", range(len(losses())))
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_loss(case, reduction):
    name, options, *inputs = losses()[case]
    if name == "KLDivLoss" and reduction == "mean":
        reduction = "batchmean"
    check_twins(*pair(name, reduction=reduction, **options), *inputs)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_ctc_loss(reduction):
    torch.manual_seed(0)
    x = torch.randn(7, 2, 5).log_softmax(2).detach().requires_grad_(True)
    check_twins(*pair("CTCLoss", reduction=reduction), x, torch.randint(1, 5, (2, 3)), torch.tensor([7, 6]), torch.tensor([3, 2]))


@pytest.mark.parametrize("options", [{}, {"bias": True, "reduction": "sum"}, {"options": True}, {"out_features": (2,), "bias": True}])
def test_linear_cross_entropy_loss(options):
    torch.manual_seed(0)
    a, b = ([m.nn.LinearCrossEntropyLoss(5, 4, **{**options, **({"options": m.nn.LinearCrossEntropyOptions(batch_chunk_size=2)}
                                                                if "options" in options else {})})][0] for m in (torsh, torch))
    a.load_state_dict(mine(dict(b.state_dict())))
    x, target = torch.randn(3, 5), torch.randint(0, 4, (3, *options.get("out_features", ())))
    p, q = a(mine(x), mine(target)), b(x, target)
    close(p, q, "loss")
    p.backward()
    q.backward()
    close(a.linear.weight.grad, b.linear.weight.grad, "gradient")


@pytest.mark.parametrize("options", [{}, {"head_bias": True, "div_value": 2.0}])
def test_adaptive_log_softmax(options):
    torch.manual_seed(0)
    a, b = pair("AdaptiveLogSoftmaxWithLoss", 16, 20, [4, 10], **options)
    x = torch.randn(6, 16, requires_grad=True)
    check_twins(a, b, x, torch.tensor([0, 3, 5, 12, 19, 4]))
    close(a.log_prob(mine(x)), b.log_prob(x), "log_prob")
    close(a.predict(mine(x)), b.predict(x), "predict")
    check_twins(a, b, torch.randn(16), torch.tensor(11))


@pytest.mark.parametrize("options", [{}, {"padding_idx": 1}, {"max_norm": 0.5}, {"scale_grad_by_freq": True}])
def test_embedding(options):
    torch.manual_seed(0)
    check_twins(*pair("Embedding", 6, 3, **options), torch.tensor([[1, 2, 2], [5, 0, 1]]))


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("options", [{}, {"padding_idx": 1}, {"include_last_offset": True}])
def test_embedding_bag(mode, options):
    torch.manual_seed(0)
    numbers, offsets = torch.tensor([1, 2, 2, 5, 0, 1]), torch.tensor([0, 2, 6] if "include_last_offset" in options else [0, 2])
    check_twins(*pair("EmbeddingBag", 6, 3, mode=mode, **options), numbers, offsets)
    if "include_last_offset" not in options:
        check_twins(*pair("EmbeddingBag", 6, 3, mode=mode, **options), numbers.view(2, 3))
    if mode == "sum":
        check_twins(*pair("EmbeddingBag", 6, 3, mode=mode, **options), numbers, offsets, torch.rand(6, requires_grad=True))


def test_layers_of_two_inputs():
    torch.manual_seed(0)
    x, y = torch.randn(4, 3, requires_grad=True), torch.randn(4, 5, requires_grad=True)
    check_twins(*pair("Bilinear", 3, 5, 2), x, y)
    z = torch.randn(4, 3)
    check_twins(*pair("CosineSimilarity", dim=1), x.detach().requires_grad_(), z)
    check_twins(*pair("PairwiseDistance", p=2.0, keepdim=True), x.detach().requires_grad_(), z)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_max_unpool(n):
    torch.manual_seed(0)
    x = torch.randn(2, 3, *(6,) * n)
    values, positions = getattr(torch.nn, f"MaxPool{n}d")(2, return_indices=True)(x)
    check_twins(*pair(f"MaxUnpool{n}d", 2), values.detach().requires_grad_(), positions)


def test_fold():
    torch.manual_seed(0)
    check_twins(*pair("Fold", (4, 5), (2, 2), padding=1), torch.randn(2, 12, 30, requires_grad=True))


def test_conv_transpose_output_size():
    a, b = pair("ConvTranspose2d", 4, 2, 3, stride=2)
    x = torch.randn(1, 4, 5, 5)
    close(a(mine(x), output_size=(12, 11)), b(x, output_size=(12, 11)), "result")


LAZY = [("LazyLinear", (4,), M), ("LazyConv1d", (3, 2), L), ("LazyConv2d", (4, 3), P2), ("LazyConv3d", (2, 2), P3),
        ("LazyBatchNorm1d", (), L),
        ("LazyConvTranspose1d", (3, 2), L), ("LazyConvTranspose2d", (3, 2), P2), ("LazyConvTranspose3d", (3, 2), P3),
        ("LazyBatchNorm2d", (), P2), ("LazyBatchNorm3d", (), P3), ("LazyInstanceNorm2d", (), P2)]


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature:UserWarning")
@pytest.mark.parametrize(("name", "args", "shape"), LAZY)
def test_lazy(name, args, shape):
    torch.manual_seed(0)
    theirs, ours = getattr(torch.nn, name)(*args), getattr(torsh.nn, name)(*args)
    assert repr(ours) == repr(theirs)
    x = torch.randn(*shape, requires_grad=True)
    theirs(x)
    ours.load_state_dict(mine(dict(theirs.state_dict())))
    theirs.zero_grad()
    x.grad = None
    check_twins(ours, theirs, x)
    assert type(ours).__name__ == type(theirs).__name__


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_dtype_argument(dtype):
    layer = torsh.nn.Sequential(torsh.nn.Linear(3, 4, dtype=getattr(torsh, dtype)), torsh.nn.ReLU())
    assert layer(torsh.ones(2, 3, dtype=getattr(torsh, dtype))).dtype is getattr(torsh, dtype)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_gradients_of_convolutions_as_functions(n):
    torch.manual_seed(0)
    x, weight = torch.randn(2, 4, *(6,) * n), torch.randn(4, 2, *(3,) * n)
    options = {"stride": 2, "padding": 1, "groups": 2}
    g = torch.randn_like(getattr(torch.nn.functional, f"conv{n}d")(x, weight, **options))
    for kind, args in (("input", (x.shape, weight, g)), ("weight", (x, weight.shape, g))):
        ours = getattr(torsh.nn.grad, f"conv{n}d_{kind}")(*[tuple(a) if isinstance(a, torch.Size) else mine(a) for a in args], **options)
        close(ours, getattr(torch.nn.grad, f"conv{n}d_{kind}")(*args, **options), kind)
