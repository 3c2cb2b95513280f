"""Modules that call one function with stored options: activations, poolings, paddings, dropouts and losses.

They are declared by tables: the class's options become its constructor's arguments, its attributes and its ``repr``.
"""
from __future__ import annotations

import inspect
from typing import Any

from torsh.nn import functional as F
from torsh.nn.modules.module import Module

# Options that PyTorch's repr leaves out when they have these values.
_HIDDEN: dict[str, Any] = {"inplace": False, "return_indices": False}
CLASSES: dict[str, type[Module]] = {}


def declare(name: str, function: Any, options: dict[str, Any], *, shown: tuple[str, ...] | None = None, inputs: int = 1,
            rename: dict[str, str] | None = None, required: tuple[str, ...] = (), bare: tuple[str, ...] = (),
            training: bool = False, text: str = "") -> None:
    """Declare a module class.

    options: {argument: default}, in order. shown: options in ``repr``. inputs: number of tensors forward takes. rename:
    {option: argument of the function}. required: options without default, put first. bare: shown without their names.
    """
    names = (*required, *options)
    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    parameters += [inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD,
                                     default=inspect.Parameter.empty if n in required else options[n]) for n in names]
    signature = inspect.Signature(parameters)
    keywords = {n: (rename or {}).get(n, n) for n in names if (rename or {}).get(n, n)}

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        Module.__init__(self)
        for n in names:
            value = bound.arguments[n]
            if n in ("weight", "pos_weight") and value is not None:
                self.register_buffer(n, value)
            else:
                setattr(self, n, value)

    def forward(self: Any, *tensors: Any) -> Any:
        given = {k: getattr(self, n) for n, k in keywords.items()}
        if training:
            given["training"] = self.training
        return function(*tensors, **given)

    def extra_repr(self: Any) -> str:
        parts = []
        for n in shown if shown is not None else names:
            value = getattr(self, n)
            if n in _HIDDEN and value == _HIDDEN[n]:
                continue
            parts.append(f"{value}" if n in bare else f"{n}={value}")
        return ", ".join(parts)
    __init__.__signature__ = signature  # type: ignore[attr-defined]
    cls = type(name, (Module,), {"__init__": __init__, "forward": forward, "extra_repr": extra_repr, "__module__": __name__,
                                 "__doc__": text or f"Module form of ``functional.{getattr(function, '__name__', name)}``."})
    CLASSES[name] = cls
    globals()[name] = cls


INPLACE = {"inplace": False}
declare("ReLU", F.relu, INPLACE)
declare("ReLU6", F.relu6, INPLACE)
declare("SELU", F.selu, INPLACE)
declare("SiLU", F.silu, INPLACE)
declare("Mish", F.mish, INPLACE)
declare("Hardswish", F.hardswish, INPLACE)
declare("Hardsigmoid", F.hardsigmoid, INPLACE)
declare("ELU", F.elu, {"alpha": 1.0, **INPLACE})
declare("CELU", F.celu, {"alpha": 1.0, **INPLACE})
declare("LeakyReLU", F.leaky_relu, {"negative_slope": 0.01, **INPLACE})
declare("Hardtanh", F.hardtanh, {"min_val": -1.0, "max_val": 1.0, **INPLACE})
declare("RReLU", F.rrelu, {"lower": 1.0 / 8, "upper": 1.0 / 3, **INPLACE}, training=True)
declare("Threshold", F.threshold, INPLACE, required=("threshold", "value"))
declare("GELU", F.gelu, {"approximate": "none"}, text="Gaussian error linear unit.")
declare("Sigmoid", F.sigmoid, {})
declare("Tanh", F.tanh, {})
declare("LogSigmoid", F.logsigmoid, {})
declare("Softsign", F.softsign, {})
declare("Tanhshrink", F.tanhshrink, {})
declare("Softplus", F.softplus, {"beta": 1.0, "threshold": 20.0})
declare("Softshrink", F.softshrink, {"lambd": 0.5}, bare=("lambd",))
declare("Hardshrink", F.hardshrink, {"lambd": 0.5}, bare=("lambd",))
declare("GLU", F.glu, {"dim": -1})
declare("Softmax", F.softmax, {"dim": None})
declare("LogSoftmax", F.log_softmax, {"dim": None})
declare("Softmin", F.softmin, {"dim": None})

for _n in (1, 2, 3):
    _max: dict[str, Any] = {"stride": None, "padding": 0, "dilation": 1, "return_indices": False, "ceil_mode": False}
    declare(f"MaxPool{_n}d", getattr(F, f"max_pool{_n}d"), _max, required=("kernel_size",),
            shown=("kernel_size", "stride", "padding", "dilation", "ceil_mode"))
    _avg: dict[str, Any] = {"stride": None, "padding": 0, "ceil_mode": False, "count_include_pad": True}
    declare(f"AvgPool{_n}d", getattr(F, f"avg_pool{_n}d"), _avg if _n == 1 else {**_avg, "divisor_override": None},
            required=("kernel_size",), shown=("kernel_size", "stride", "padding"))
    declare(f"AdaptiveAvgPool{_n}d", getattr(F, f"adaptive_avg_pool{_n}d"), {}, required=("output_size",))
    declare(f"AdaptiveMaxPool{_n}d", getattr(F, f"adaptive_max_pool{_n}d"), {"return_indices": False}, required=("output_size",))
    declare(f"LPPool{_n}d", getattr(F, f"lp_pool{_n}d"), {"stride": None, "ceil_mode": False},
            required=("norm_type", "kernel_size"))
    declare(f"MaxUnpool{_n}d", getattr(F, f"max_unpool{_n}d"), {"stride": None, "padding": 0}, required=("kernel_size",), inputs=2)
    declare(f"Dropout{_n}d", getattr(F, f"dropout{_n}d"), {"p": 0.5, "inplace": False}, training=True)

declare("Dropout", F.dropout, {"p": 0.5, "inplace": False}, training=True)
declare("AlphaDropout", F.alpha_dropout, {"p": 0.5, "inplace": False}, training=True)
declare("FeatureAlphaDropout", F.feature_alpha_dropout, {"p": 0.5, "inplace": False}, training=True)
declare("PixelShuffle", F.pixel_shuffle, {}, required=("upscale_factor",))
declare("PixelUnshuffle", F.pixel_unshuffle, {}, required=("downscale_factor",))
declare("ChannelShuffle", F.channel_shuffle, {}, required=("groups",))
declare("Upsample", F.interpolate, {"size": None, "scale_factor": None, "mode": "nearest", "align_corners": None,
                                    "recompute_scale_factor": None})
declare("Unfold", F.unfold, {"dilation": 1, "padding": 0, "stride": 1}, required=("kernel_size",))
declare("CosineSimilarity", F.cosine_similarity, {"dim": 1, "eps": 1e-8}, inputs=2)
declare("PairwiseDistance", F.pairwise_distance, {"p": 2.0, "eps": 1e-6, "keepdim": False}, inputs=2)
declare("LocalResponseNorm", F.local_response_norm, {"alpha": 1e-4, "beta": 0.75, "k": 1.0}, required=("size",), bare=("size",))

_LEGACY: dict[str, Any] = {"size_average": None, "reduce": None, "reduction": "mean"}


def _loss(name: str, function: Any, options: dict[str, Any] | None = None, inputs: int = 2) -> None:
    declare(name, function, options if options is not None else _LEGACY, shown=(), inputs=inputs)


_loss("L1Loss", F.l1_loss)
_loss("MSELoss", F.mse_loss)
_loss("SmoothL1Loss", F.smooth_l1_loss, {**_LEGACY, "beta": 1.0})
_loss("HuberLoss", F.huber_loss, {"reduction": "mean", "delta": 1.0})
_loss("KLDivLoss", F.kl_div, {**_LEGACY, "log_target": False})
_loss("NLLLoss", F.nll_loss, {"weight": None, "size_average": None, "ignore_index": -100, "reduce": None, "reduction": "mean"})
_loss("CrossEntropyLoss", F.cross_entropy, {"weight": None, "size_average": None, "ignore_index": -100, "reduce": None,
                                            "reduction": "mean", "label_smoothing": 0.0})
_loss("BCELoss", F.binary_cross_entropy, {"weight": None, **_LEGACY})
_loss("BCEWithLogitsLoss", F.binary_cross_entropy_with_logits, {"weight": None, **_LEGACY, "pos_weight": None})
_loss("PoissonNLLLoss", F.poisson_nll_loss, {"log_input": True, "full": False, "size_average": None, "eps": 1e-8,
                                             "reduce": None, "reduction": "mean"})
_loss("GaussianNLLLoss", F.gaussian_nll_loss, {"full": False, "eps": 1e-6, "reduction": "mean"}, 3)
_loss("HingeEmbeddingLoss", F.hinge_embedding_loss, {"margin": 1.0, **_LEGACY})
_loss("MarginRankingLoss", F.margin_ranking_loss, {"margin": 0.0, **_LEGACY}, 3)
_loss("SoftMarginLoss", F.soft_margin_loss)
_loss("MultiLabelSoftMarginLoss", F.multilabel_soft_margin_loss, {"weight": None, **_LEGACY})
_loss("MultiMarginLoss", F.multi_margin_loss, {"p": 1, "margin": 1.0, "weight": None, **_LEGACY})
_loss("CosineEmbeddingLoss", F.cosine_embedding_loss, {"margin": 0.0, **_LEGACY}, 3)
_loss("TripletMarginLoss", F.triplet_margin_loss, {"margin": 1.0, "p": 2.0, "eps": 1e-6, "swap": False, **_LEGACY}, 3)


def _pad(name: str, n: int, mode: str, value: bool) -> None:
    def function(input: Any, padding: Any, value: float = 0) -> Any:
        amounts = (padding,) * (2 * n) if isinstance(padding, int) else tuple(padding)
        return F.pad(input, amounts, mode, value if mode == "constant" else None)
    function.__name__ = "pad"
    declare(f"{name}{n}d", function, {}, required=("padding", "value") if value else ("padding",),
            bare=() if value else ("padding",), text=f"Padding of the last {n} dimensions.")


for _n in (1, 2, 3):
    _pad("ZeroPad", _n, "constant", False)
    _pad("ConstantPad", _n, "constant", True)
    _pad("ReflectionPad", _n, "reflect", False)
    _pad("ReplicationPad", _n, "replicate", False)
    _pad("CircularPad", _n, "circular", False)
