"""Functions of ``torsh.nn.functional`` against PyTorch's: values, gradients, and the types of errors."""
from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402

import torsh  # noqa: E402
from torsh.nn import functional as F  # noqa: E402

TF = torch.nn.functional
ROUGH = {"float32": 3e-5, "float64": 1e-10}
# A case: function of (F, library, *tensors), and the shapes of its floating-point arguments or arrays.
Case = tuple[str, Callable[..., Any], list[Any]]


@pytest.fixture(autouse=True)
def on_reference_backend() -> Iterator[None]:
    """What is recorded is compared, not how it is compiled."""
    from torsh.graph.window import backend
    before = backend().name
    torsh.use_backend("reference")
    yield
    torsh.use_backend(before)


def ints(high: int, *shape: int) -> Any:
    """Class numbers."""
    return np.random.default_rng([high, *shape]).integers(0, high, shape)


def unit(*shape: int) -> Any:
    """Numbers in (0, 1)."""
    return np.random.default_rng([3, *shape]).uniform(0.05, 0.95, shape)


def signs(*shape: int) -> Any:
    """-1 or 1."""
    return np.where(ints(2, *shape) == 0, -1.0, 1.0)


SHAPES: list[tuple[int, ...]] = [(2, 3, 4), (5,), (), (0, 3)]
UNARY: list[tuple[str, dict[str, Any]]] = [
    ("relu", {}), ("relu6", {}), ("hardtanh", {"min_val": -0.5, "max_val": 0.7}), ("leaky_relu", {"negative_slope": 0.2}),
    ("gelu", {}), ("gelu", {"approximate": "tanh"}), ("silu", {}), ("mish", {}), ("softplus", {"beta": 2.0, "threshold": 1.0}),
    ("elu", {"alpha": 0.7}), ("selu", {}), ("celu", {"alpha": 0.8}), ("hardswish", {}), ("hardsigmoid", {}),
    ("hardshrink", {"lambd": 0.3}), ("softshrink", {"lambd": 0.3}), ("tanhshrink", {}), ("softsign", {}), ("logsigmoid", {}),
    ("sigmoid", {}), ("tanh", {}), ("threshold", {"threshold": 0.1, "value": 2.0}), ("softmax", {"dim": -1}),
    ("log_softmax", {"dim": 0}), ("softmin", {"dim": -1}), ("dropout", {"p": 0.5, "training": False}),
    ("rrelu", {"training": False})]


def _losses() -> list[Case]:
    cases: list[Case] = []
    for red in ("mean", "sum", "none"):
        cases += [
            (f"mse {red}", lambda f, t, x, y, r=red: f.mse_loss(x, y, reduction=r), [(3, 4), (3, 4)]),
            (f"mse weight {red}", lambda f, t, x, y, w, r=red: f.mse_loss(x, y, reduction=r, weight=w), [(3,), (3,), unit(3)]),
            (f"l1 {red}", lambda f, t, x, y, r=red: f.l1_loss(x, y, reduction=r), [(3, 4), (3, 4)]),
            (f"smooth l1 {red}", lambda f, t, x, y, r=red: f.smooth_l1_loss(x, y, reduction=r, beta=0.7), [(3, 4), (3, 4)]),
            (f"smooth l1 beta 0 {red}", lambda f, t, x, y, r=red: f.smooth_l1_loss(x, y, reduction=r, beta=0.0), [(4,), (4,)]),
            (f"huber {red}", lambda f, t, x, y, r=red: f.huber_loss(x, y, reduction=r, delta=0.6), [(3, 4), (3, 4)]),
            (f"bce {red}", lambda f, t, x, y, r=red: f.binary_cross_entropy(x, y, reduction=r), [unit(3, 4), unit(4, 3).T]),
            (f"bce logits {red}", lambda f, t, x, y, p, r=red: f.binary_cross_entropy_with_logits(x, y, pos_weight=p.detach(), reduction=r),
             [(3, 4), unit(3, 4), unit(4)]),
            (f"nll {red}", lambda f, t, x, y, w, r=red: f.nll_loss(x, y, w.detach(), ignore_index=1, reduction=r),
             [(4, 5), ints(5, 4), unit(5)]),
            (f"cross entropy {red}", lambda f, t, x, y, r=red: f.cross_entropy(x, y, reduction=r, label_smoothing=0.1),
             [(4, 5, 2), ints(5, 4, 2)]),
            (f"soft cross entropy {red}", lambda f, t, x, y, w, r=red: f.cross_entropy(x, y, w, reduction=r),
             [(4, 5), unit(4, 5), unit(5)]),
            (f"poisson {red}", lambda f, t, x, y, r=red: f.poisson_nll_loss(x, y, full=True, reduction=r), [(3, 4), unit(3, 4) * 5]),
            (f"gaussian {red}", lambda f, t, x, y, v, r=red: f.gaussian_nll_loss(x, y, v, full=True, reduction=r),
             [(3, 4), (3, 4), unit(3, 1)]),
            (f"hinge {red}", lambda f, t, x, y, r=red: f.hinge_embedding_loss(x, y.detach(), reduction=r), [(3, 4), signs(3, 4)]),
            (f"ranking {red}", lambda f, t, a, b, y, r=red: f.margin_ranking_loss(a, b, y.detach(), 0.2, reduction=r),
             [(5,), (5,), signs(5)]),
            (f"soft margin {red}", lambda f, t, x, y, r=red: f.soft_margin_loss(x, y.detach(), reduction=r), [(3, 4), signs(3, 4)]),
            (f"multilabel soft {red}", lambda f, t, x, y, w, r=red: f.multilabel_soft_margin_loss(x, y, w, reduction=r),
             [(3, 4), unit(3, 4), unit(4)]),
            (f"multi margin {red}", lambda f, t, x, y, r=red: f.multi_margin_loss(x, y, p=2, reduction=r), [(4, 5), ints(5, 4)]),
            (f"multilabel margin {red}", lambda f, t, x, y, r=red: f.multilabel_margin_loss(x, y, reduction=r),
             [(2, 4), np.array([[1, 2, -1, 0], [3, -1, 0, 0]])]),
            (f"cosine {red}", lambda f, t, a, b, y, r=red: f.cosine_embedding_loss(a, b, y.detach(), 0.1, reduction=r),
             [(4, 3), (4, 3), signs(4)]),
            (f"triplet {red}", lambda f, t, a, b, c, r=red: f.triplet_margin_loss(a, b, c, swap=True, reduction=r),
             [(4, 3), (4, 3), (4, 3)]),
            (f"triplet distance {red}", lambda f, t, a, b, c, r=red: f.triplet_margin_with_distance_loss(a, b, c, reduction=r),
             [(4, 3), (4, 3), (4, 3)]),
            (f"ctc {red}", lambda f, t, x, y, r=red: f.ctc_loss(x.log_softmax(-1), y, [6, 5], [2, 3], reduction=r),
             [(6, 2, 5), ints(4, 2, 3) + 1]),
        ]
    for red in ("batchmean", "sum", "none"):
        cases.append((f"kl {red}", lambda f, t, x, y, r=red: f.kl_div(x, y, reduction=r), [(3, 4), unit(3, 4)]))
    return cases


def _normalisations() -> list[Case]:
    return [
        ("layer_norm", lambda f, t, x, w, b: f.layer_norm(x, (3, 4), w, b), [(2, 3, 4), (3, 4), (3, 4)]),
        ("layer_norm plain", lambda f, t, x: f.layer_norm(x, (4,)), [(0, 4)]),
        ("rms_norm", lambda f, t, x, w: f.rms_norm(x, (4,), w), [(2, 4), (4,)]),
        ("batch_norm", lambda f, t, x, w, b: f.batch_norm(x, None, None, w, b, True), [(4, 3, 2), (3,), (3,)]),
        ("batch_norm eval", lambda f, t, x, m, v, w: f.batch_norm(x, m.detach(), v.detach(), w), [(4, 3), (3,), unit(3), (3,)]),
        ("instance_norm", lambda f, t, x, w, b: f.instance_norm(x, weight=w, bias=b), [(2, 3, 4), (3,), (3,)]),
        ("group_norm", lambda f, t, x, w, b: f.group_norm(x, 2, w, b), [(2, 4, 3), (4,), (4,)]),
        ("normalize", lambda f, t, x: f.normalize(x, dim=-1), [(3, 4)]),
        ("normalize 1", lambda f, t, x: f.normalize(x, 1.0, 0), [(3, 4)]),
        ("local_response_norm", lambda f, t, x: f.local_response_norm(x, 3), [(2, 5, 4)]),
    ]


def _convolutions() -> list[Case]:
    return [
        ("linear", lambda f, t, x, w, b: f.linear(x, w, b), [(2, 3, 4), (5, 4), (5,)]),
        ("linear vector", lambda f, t, x, w: f.linear(x, w), [(4,), (5, 4)]),
        ("linear weight vector", lambda f, t, x, w: f.linear(x, w), [(3, 4), (4,)]),
        ("linear empty", lambda f, t, x, w, b: f.linear(x, w, b), [(0, 4), (5, 4), (5,)]),
        ("bilinear", lambda f, t, x, y, w, b: f.bilinear(x, y, w, b), [(2, 3), (2, 4), (5, 3, 4), (5,)]),
        ("conv1d", lambda f, t, x, w, b: f.conv1d(x, w, b, 2, 1), [(2, 4, 7), (6, 4, 3), (6,)]),
        ("conv1d groups", lambda f, t, x, w: f.conv1d(x, w, groups=2, dilation=2), [(2, 4, 9), (6, 2, 3)]),
        ("conv2d", lambda f, t, x, w, b: f.conv2d(x, w, b, (2, 1), (1, 0)), [(2, 3, 6, 5), (4, 3, 3, 2), (4,)]),
        ("conv2d same", lambda f, t, x, w: f.conv2d(x, w, padding="same"), [(3, 6, 5), (4, 3, 3, 5)]),
        ("conv3d", lambda f, t, x, w: f.conv3d(x, w, padding=1), [(1, 2, 3, 4, 3), (2, 2, 2, 3, 2)]),
        ("conv_transpose1d", lambda f, t, x, w, b: f.conv_transpose1d(x, w, b, 2, 1, 1), [(2, 4, 5), (4, 3, 3), (3,)]),
        ("conv_transpose2d", lambda f, t, x, w: f.conv_transpose2d(x, w, groups=2, dilation=2), [(1, 4, 3, 4), (4, 2, 2, 3)]),
        ("conv_tbc", lambda f, t, x, w, b: f.conv_tbc(x, w, b, 1), [(5, 2, 3), (3, 3, 4), (4,)]),
        ("unfold", lambda f, t, x: f.unfold(x, (2, 3), padding=1, stride=2), [(2, 3, 5, 6)]),
        ("fold", lambda f, t, x: f.fold(x, (4, 5), 2), [(2, 12, 12)]),
        ("embedding", lambda f, t, i, w: f.embedding(i, w, padding_idx=1), [ints(5, 2, 3), (5, 4)]),
        ("embedding frequency", lambda f, t, i, w: f.embedding(i, w, scale_grad_by_freq=True), [ints(3, 6), (3, 4)]),
        ("embedding_bag", lambda f, t, i, w: f.embedding_bag(i, w, padding_idx=0), [ints(5, 2, 3), (5, 4)]),
        ("embedding_bag offsets", lambda f, t, i, w, o, s: f.embedding_bag(i, w, o, mode="sum", per_sample_weights=s),
         [ints(5, 6), (5, 4), np.array([0, 2, 2]), (6,)]),
        ("embedding_bag max", lambda f, t, i, w, o: f.embedding_bag(i, w, o, mode="max"), [ints(5, 6), (5, 4), np.array([0, 4, 6])]),
        ("one_hot", lambda f, t, i: f.one_hot(i, 6), [ints(5, 2, 3)]),
        ("glu", lambda f, t, x: f.glu(x, 1), [(2, 4, 3)]),
        ("prelu", lambda f, t, x, w: f.prelu(x, w), [(2, 3, 4), (3,)]),
        ("prelu scalar", lambda f, t, x, w: f.prelu(x, w), [(), (1,)]),
        ("attention", lambda f, t, q, k, v: f.scaled_dot_product_attention(q, k, v, is_causal=True), [(2, 3, 4), (2, 3, 4), (2, 3, 5)]),
        ("attention mask", lambda f, t, q, k, m: f.scaled_dot_product_attention(q, k, k, m > 0), [(2, 3, 4), (2, 6, 4), (3, 6)]),
        ("attention gqa", lambda f, t, q, k: f.scaled_dot_product_attention(q, k, k, scale=0.3, enable_gqa=True),
         [(2, 4, 3, 5), (2, 2, 6, 5)]),
        ("cosine_similarity", lambda f, t, x, y: f.cosine_similarity(x, y, -1), [(2, 3, 4), (3, 4)]),
        ("pairwise_distance", lambda f, t, x, y: f.pairwise_distance(x, y, 3.0), [(3, 4), (3, 4)]),
        ("pdist", lambda f, t, x: f.pdist(x), [(4, 3)]),
    ]


def _pools() -> list[Case]:
    return [
        ("max_pool1d", lambda f, t, x: f.max_pool1d(x, 3, 2, 1, ceil_mode=True), [(2, 3, 8)]),
        ("max_pool2d", lambda f, t, x: f.max_pool2d(x, 2, return_indices=True), [(2, 3, 6, 5)]),
        ("max_pool2d overlapping", lambda f, t, x: f.max_pool2d(x, (3, 2), (1, 2), (1, 0), (1, 2)), [(3, 6, 7)]),
        ("max_pool3d", lambda f, t, x: f.max_pool3d(x, 2, 1), [(1, 2, 3, 4, 3)]),
        ("max_unpool2d", lambda f, t, x: f.max_unpool2d(*f.max_pool2d(x, 2, return_indices=True), 2), [(2, 3, 6, 4)]),
        ("avg_pool1d", lambda f, t, x: f.avg_pool1d(x, 3, 2, 1, count_include_pad=False), [(2, 3, 8)]),
        ("avg_pool2d", lambda f, t, x: f.avg_pool2d(x, 3, 2, 1, True, False), [(2, 3, 6, 5)]),
        ("avg_pool2d divisor", lambda f, t, x: f.avg_pool2d(x, 2, divisor_override=3), [(3, 6, 5)]),
        ("avg_pool3d", lambda f, t, x: f.avg_pool3d(x, 2), [(1, 2, 4, 4, 2)]),
        ("lp_pool2d", lambda f, t, x: f.lp_pool2d(x, 2.0, 2), [unit(2, 3, 6, 4)]),
        ("adaptive_avg_pool1d", lambda f, t, x: f.adaptive_avg_pool1d(x, 3), [(2, 3, 7)]),
        ("adaptive_avg_pool2d", lambda f, t, x: f.adaptive_avg_pool2d(x, (None, 2)), [(2, 3, 6, 5)]),
        ("adaptive_max_pool2d", lambda f, t, x: f.adaptive_max_pool2d(x, (3, 2), True), [(2, 3, 7, 5)]),
        ("fractional", lambda f, t, x, u: f.fractional_max_pool2d(x, 2, (3, 2), _random_samples=u.detach()),
         [(2, 3, 7, 5), unit(2, 3, 2)]),
        ("fractional 3d", lambda f, t, x, u: f.fractional_max_pool3d(x, 2, (3, 2, 2), _random_samples=u.detach()),
         [(2, 3, 7, 5, 6), unit(2, 3, 3)]),
        ("pad circular one", lambda f, t, x: f.pad(x, (1, 2), "circular"), [(3, 4)]),
        ("pad circular negative", lambda f, t, x: f.pad(x, (-1, 1, -2, 1), "circular"), [(1, 3, 4, 4)]),
        ("pad", lambda f, t, x: f.pad(x, (1, 2, -1, 1), value=2.5), [(2, 4, 3)]),
        ("pad reflect", lambda f, t, x: f.pad(x, (1, 2), "reflect"), [(2, 3, 4)]),
        ("pad replicate", lambda f, t, x: f.pad(x, (1, 2, 3, 0), "replicate"), [(2, 3, 4, 3)]),
        ("pad circular", lambda f, t, x: f.pad(x, (1, 2), "circular"), [(2, 3, 4)]),
        ("pixel_shuffle", lambda f, t, x: f.pixel_shuffle(x, 2), [(2, 8, 3, 2)]),
        ("pixel_unshuffle", lambda f, t, x: f.pixel_unshuffle(x, 2), [(2, 3, 4, 6)]),
        ("channel_shuffle", lambda f, t, x: f.channel_shuffle(x, 3), [(2, 6, 4, 2)]),
        ("grid_sample", lambda f, t, x, g: f.grid_sample(x, g, padding_mode="reflection", align_corners=False),
         [(2, 3, 4, 5), (2, 3, 2, 2)]),
        ("affine_grid", lambda f, t, x: f.affine_grid(x, (2, 3, 4, 5), align_corners=True), [(2, 2, 3)]),
        *[(f"interpolate {o}", lambda f, t, x, o=o: f.interpolate(x, **o), [(1, 2, 5, 4)]) for o in (
            {"size": (3, 7)}, {"scale_factor": 1.7, "mode": "nearest-exact"}, {"scale_factor": 2, "mode": "bilinear"},
            {"size": 7, "mode": "bilinear", "align_corners": True}, {"scale_factor": 0.6, "mode": "bicubic"},
            {"size": 3, "mode": "area"}, {"size": 2, "mode": "bilinear", "antialias": True},
            {"size": 3, "mode": "lanczos", "antialias": True})],
    ]


CASES: list[Case] = [*_losses(), *_normalisations(), *_convolutions(), *_pools()]


def compare(case: Callable[..., Any], specs: list[Any], dtype: str, rough: float = 0.0) -> None:
    """Equal results and equal gradients."""
    rng = np.random.default_rng(len(specs))
    mine, theirs = [], []
    for spec in specs:
        array = np.asarray(rng.standard_normal(spec)) if isinstance(spec, tuple) else np.ascontiguousarray(spec)
        array = array.astype(dtype) if array.dtype.kind == "f" else array
        grad = array.dtype.kind == "f"
        mine.append(torsh.tensor(array, requires_grad=grad))
        theirs.append(torch.tensor(array, requires_grad=grad))
    found, expected = case(F, torsh, *mine), case(TF, torch, *theirs)
    pairs = list(zip(found, expected, strict=True)) if isinstance(expected, tuple) else [(found, expected)]
    for a, b in pairs:
        close(a.detach(), b.detach(), dtype, rough)
    a, b = pairs[0]
    assert a.requires_grad == b.requires_grad
    if not b.requires_grad:
        return
    seed = np.asarray(rng.standard_normal(tuple(b.shape))).astype(dtype)
    a.backward(torsh.tensor(seed))
    b.backward(torch.tensor(seed))
    for x, y in zip(mine, theirs, strict=True):
        if y.grad is not None:
            close(x.grad if x.grad is not None else torsh.zeros_like(x), y.grad, dtype, rough)


def close(a: Any, b: Any, dtype: str, rough: float = 0.0) -> None:
    """Same shape, dtype and values up to rounding."""
    left, right = a.numpy(), b.numpy()
    assert left.shape == right.shape and left.dtype == right.dtype
    rough = max(ROUGH[dtype], rough)
    scale = float(np.abs(right).max()) if right.size and np.isfinite(right).all() else 1.0
    np.testing.assert_allclose(left, right, rtol=rough, atol=rough * max(scale, 1e-3))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "options"), UNARY)
def test_activations(name: str, options: dict[str, Any], dtype: str) -> None:
    """Functions of one tensor, also without dimensions and without elements."""
    for shape in SHAPES:
        # PyTorch computes these two with factors that are rounded to float32.
        rough = 1e-7 if name in ("celu", "hardsigmoid") else 0.0
        compare(lambda f, t, x: getattr(f, name)(x, **options), [shape], dtype, rough)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_parity(case: Case) -> None:
    """All other functions."""
    for dtype in ("float32", "float64"):
        compare(case[1], case[2], dtype)


ERRORS: list[Callable[..., Any]] = [
    lambda f, t: f.linear(t.ones(2, 3), t.ones(4, 5)),
    lambda f, t: f.linear(t.ones(2, 3), 5),
    lambda f, t: f.linear(t.ones(2, 3), t.ones(4, 3, dtype=t.float64)),
    lambda f, t: f.relu(t.ones(2, dtype=t.bool)),
    lambda f, t: f.gelu(t.ones(2), approximate="other"),
    lambda f, t: f.glu(t.ones(3)),
    lambda f, t: f.prelu(t.ones(2, 3), t.ones(2)),
    lambda f, t: f.hardtanh(t.ones(2), 1.0, -1.0),
    lambda f, t: f.softmax(t.ones(2, 3), 5),
    lambda f, t: f.layer_norm(t.ones(2, 3), (4,)),
    lambda f, t: f.layer_norm(t.ones(2, 3), ()),
    lambda f, t: f.batch_norm(t.ones(1, 3), None, None, training=True),
    lambda f, t: f.batch_norm(t.ones(2, 3), None, None),
    lambda f, t: f.instance_norm(t.ones(2, 3, 1)),
    lambda f, t: f.group_norm(t.ones(2, 3, 4), 2),
    lambda f, t: f.cross_entropy(t.ones(2, 3), t.tensor([0, 1, 2])),
    lambda f, t: f.cross_entropy(t.ones(2, 3), t.tensor([0.0, 1.0])),
    lambda f, t: f.cross_entropy(t.ones(2, 3), t.tensor([0, 1]), label_smoothing=2.0),
    lambda f, t: f.cross_entropy(t.ones(2, 3), t.tensor([0, 1]), t.ones(2)),
    lambda f, t: f.nll_loss(t.ones(()), t.tensor(0)),
    lambda f, t: f.nll_loss(t.ones(2, 3, 4), t.zeros(2, 5, dtype=t.int64)),
    lambda f, t: f.nll_loss(t.ones(2, 3), t.tensor([0, 1]), t.ones(3, dtype=t.float64)),
    lambda f, t: f.batch_norm(t.ones(2, 3), None, None, training=True, eps=0.0),
    lambda f, t: f.nll_loss(t.ones(2, 3), t.tensor([0, 1]), reduction="other"),
    lambda f, t: f.mse_loss(t.ones(2, dtype=t.int64), t.ones(2, dtype=t.int64)),
    lambda f, t: f.mse_loss(t.ones(2), t.ones(2), weight=t.ones(3)),
    lambda f, t: f.smooth_l1_loss(t.ones(2), t.ones(2), beta=-1.0),
    lambda f, t: f.huber_loss(t.ones(2), t.ones(2), delta=0.0),
    lambda f, t: f.binary_cross_entropy(t.ones(2), t.ones(3)),
    lambda f, t: f.binary_cross_entropy_with_logits(t.ones(2), t.ones(3)),
    lambda f, t: f.margin_ranking_loss(t.ones(2), t.ones(2, 1), t.ones(2)),
    lambda f, t: f.cosine_embedding_loss(t.ones(2, 3), t.ones(2, 3), t.ones(2, 3)),
    lambda f, t: f.triplet_margin_loss(t.ones(2, 3), t.ones(2, 3), t.ones(2, 3), margin=-1.0),
    lambda f, t: f.multi_margin_loss(t.ones(2, 3), t.tensor([0, 1]), p=3),
    lambda f, t: f.gaussian_nll_loss(t.ones(2, 3), t.ones(2, 3), t.ones(4)),
    lambda f, t: f.conv2d(t.ones(1, 3, 4, 4), t.ones(2, 2, 3, 3)),
    lambda f, t: f.conv2d(t.ones(1, 3, 4, 4), t.ones(2, 3, 5, 5)),
    lambda f, t: f.conv2d(t.ones(1, 3, 4, 4), t.ones(2, 3, 3, 3), stride=0),
    lambda f, t: f.conv2d(t.ones(1, 3, 4, 4), t.ones(2, 3, 3, 3), padding=-1),
    lambda f, t: f.conv2d(t.ones(1, 3, 4, 4), t.ones(2, 3, 3, 3), padding="other"),
    lambda f, t: f.conv2d(t.ones(1, 3, 4, 4), t.ones(2, 3, 3, 3), stride=2, padding="same"),
    lambda f, t: f.conv2d(t.ones(3, 4), t.ones(2, 3, 3, 3)),
    lambda f, t: f.conv_transpose1d(t.ones(1, 2, 3), t.ones(2, 2, 3), output_padding=3),
    lambda f, t: f.max_pool2d(t.ones(1, 1, 2, 2), 3),
    lambda f, t: f.max_pool2d(t.ones(1, 1, 4, 4), 2, padding=2),
    lambda f, t: f.avg_pool2d(t.ones(1, 1, 4, 4), 2, divisor_override=0),
    lambda f, t: f.adaptive_avg_pool2d(t.ones(3, 4), (2, 2)),
    lambda f, t: f.max_unpool2d(t.ones(1, 1, 2, 2), t.zeros(1, 1, 2, 2, dtype=t.int64), 2, output_size=(9, 9)),
    lambda f, t: f.fractional_max_pool2d(t.ones(1, 1, 4, 4), 2),
    lambda f, t: f.pad(t.ones(2, 3), (1, 2, 3)),
    lambda f, t: f.pad(t.ones(2, 3), (1, 1), "other"),
    lambda f, t: f.pad(t.ones(1, 2, 3), (3, 0), "reflect"),
    lambda f, t: f.pad(t.ones(1, 2, 3), (1, 0), "reflect", 2.0),
    lambda f, t: f.interpolate(t.ones(1, 1, 3)),
    lambda f, t: f.interpolate(t.ones(1, 1, 3), size=2, scale_factor=2.0),
    lambda f, t: f.interpolate(t.ones(1, 1, 3), size=2, mode="bilinear"),
    lambda f, t: f.interpolate(t.ones(1, 1, 3), size=2, align_corners=True),
    lambda f, t: f.interpolate(t.ones(1, 1, 3), size=(2, 2)),
    lambda f, t: f.pixel_shuffle(t.ones(1, 3, 2, 2), 2),
    lambda f, t: f.channel_shuffle(t.ones(1, 3, 2, 2), 2),
    lambda f, t: f.embedding(t.tensor([0]), t.ones(3, 2), padding_idx=5),
    lambda f, t: f.embedding(t.tensor([0.0]), t.ones(3, 2)),
    lambda f, t: f.embedding_bag(t.tensor([0, 1]), t.ones(3, 2)),
    lambda f, t: f.embedding_bag(t.tensor([[0, 1]]), t.ones(3, 2), mode="other"),
    lambda f, t: f.one_hot(t.tensor([0, 4]), 3),
    lambda f, t: f.one_hot(t.tensor([0.5])),
    lambda f, t: f.dropout(t.ones(2), 1.5),
    lambda f, t: f.dropout1d(t.ones(2)),
    lambda f, t: f.unfold(t.ones(2, 3, 4, 5, 6), 2),
    lambda f, t: f.fold(t.ones(1, 5, 4), (3, 3), 2),
    lambda f, t: f.scaled_dot_product_attention(t.ones(2, 3, 4), t.ones(2, 3, 5), t.ones(2, 3, 4)),
    lambda f, t: f.scaled_dot_product_attention(t.ones(2, 3), t.ones(2, 3), t.ones(2, 3), t.ones(2, 2), is_causal=True),
    lambda f, t: f.grid_sample(t.ones(1, 1, 3, 3), t.ones(1, 2, 2, 2), mode="other", align_corners=True),
    lambda f, t: f.affine_grid(t.ones(1, 3, 3), (1, 1, 2, 2), align_corners=True),
    lambda f, t: f.cosine_similarity(t.ones(2, 3, dtype=t.int64), t.ones(2, 3, dtype=t.int64)),
    lambda f, t: f.local_response_norm(t.ones(2, 3), 2),
]


@pytest.mark.parametrize("number", range(len(ERRORS)))
def test_errors(number: int) -> None:
    """Bad arguments raise what they raise in PyTorch, with a text."""
    case = ERRORS[number]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(Exception) as theirs:  # noqa: B017
            case(TF, torch)
        with pytest.raises(Exception) as mine:  # noqa: B017
            case(F, torsh).detach().numpy()
    wanted = next(t for t in theirs.type.__mro__ if t.__module__ == "builtins")
    assert isinstance(mine.value, wanted), f"{mine.value!r} instead of {theirs.value!r}"
    assert str(mine.value)


def test_running_statistics() -> None:
    """batch_norm and instance_norm move the running statistics as PyTorch does."""
    x = np.random.default_rng(0).standard_normal((4, 3, 5)).astype("float32")
    for name in ("batch_norm", "instance_norm"):
        results = []
        for f, t in ((F, torsh), (TF, torch)):
            mean, variance = t.zeros(3), t.ones(3)
            last = {"training": True} if name == "batch_norm" else {"use_input_stats": True}
            getattr(f, name)(t.tensor(x), mean, variance, momentum=0.3, **last)
            results.append((mean, variance))
        for mine, theirs in zip(*results, strict=True):
            close(mine, theirs, "float32")


@pytest.mark.parametrize("name", ["dropout", "alpha_dropout", "feature_alpha_dropout", "dropout1d", "dropout2d", "dropout3d"])
def test_dropout(name: str) -> None:
    """Elements or whole channels are dropped at the rate asked for; the mean stays."""
    shape = {"dropout1d": (200, 50, 2), "dropout3d": (200, 50, 2, 1, 2)}.get(name, (200, 50, 2, 2))
    torsh.manual_seed(0)
    x = torsh.ones(shape, requires_grad=True)
    y = getattr(F, name)(x, 0.3, True)
    y.sum().backward()
    values = y.detach().numpy()
    assert abs((values == values.min()).mean() - 0.3) < 0.03
    assert np.array_equal(values == values.min(), x.grad.numpy() == 0)
    if name != "dropout" and name != "alpha_dropout":
        flat = values.reshape(200, 50, -1)
        assert (flat == flat[:, :, :1]).all()
    if "alpha" not in name:
        assert abs(values.mean() - 1) < 0.05


def test_random_activations() -> None:
    """Slopes of rrelu and samples of gumbel_softmax lie where they should."""
    torsh.manual_seed(0)
    slopes = -F.rrelu(-torsh.ones(1000), 0.2, 0.4, True).numpy()
    assert 0.2 <= slopes.min() < 0.22 and 0.38 < slopes.max() <= 0.4
    logits = torsh.tensor(np.log([[0.1, 0.2, 0.7]] * 4000), requires_grad=True)
    hard = F.gumbel_softmax(logits, hard=True)
    assert np.abs(hard.detach().numpy().mean(0) - [0.1, 0.2, 0.7]).max() < 0.03
    hard.sum().backward()
    assert np.abs(logits.grad.numpy()).max() < 1e-6


def test_recorded_once() -> None:
    """The same call on the same tensors is one expression; other options are another."""
    x, w = torsh.randn(2, 3, 5, 5), torsh.randn(4, 3, 3, 3)
    a, b, c = F.conv2d(x, w, padding=1), F.conv2d(x, w, padding=1), F.conv2d(x, w, padding=(0, 1))
    assert a._expr is b._expr and a._expr is not c._expr
    assert F.conv2d(x, w, padding=[0, 1])._expr is c._expr
