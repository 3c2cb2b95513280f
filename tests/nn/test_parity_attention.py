"""Attention and transformers beside PyTorch's."""
from __future__ import annotations

import itertools
import warnings

import pytest

import torsh

torch = pytest.importorskip("torch")
from module_twins import check_twins, close, mine, pair  # noqa: E402


def causal(n):
    return torch.triu(torch.ones(n, n, dtype=torch.bool), 1)


def padding(batch, n):
    mask = torch.zeros(batch, n, dtype=torch.bool)
    mask[0, n - 1] = mask[1, n - 2:] = True
    return mask


ATTENTION = [{}, {"bias": False}, {"batch_first": True}, {"add_bias_kv": True}, {"add_zero_attn": True}, {"kdim": 3, "vdim": 5},
             {"add_bias_kv": True, "add_zero_attn": True, "batch_first": True, "kdim": 4}]
CALLS = [{}, {"need_weights": False}, {"average_attn_weights": False}, {"attn_mask": "causal"}, {"attn_mask": "each"},
         {"key_padding_mask": True}, {"key_padding_mask": True, "attn_mask": "causal", "need_weights": False},
         {"attn_mask": "causal", "is_causal": True, "need_weights": False}, {"attn_mask": "float"}]


@pytest.mark.parametrize(("options", "call"), list(itertools.product(ATTENTION, CALLS)))
def test_attention(options, call):
    torch.manual_seed(0)
    a, b = pair("MultiheadAttention", 4, 2, **options)
    shape = (3, 5) if options.get("batch_first") else (5, 3)
    query, key, value = (torch.randn(*shape, n, requires_grad=True) for n in (4, options.get("kdim", 4), options.get("vdim", 4)))
    call = dict(call)
    kind = call.pop("attn_mask", None)
    if kind:
        call["attn_mask"] = {"causal": causal(5), "each": causal(5).expand(6, 5, 5).clone(), "float": torch.randn(5, 5)}[kind]
    if call.pop("key_padding_mask", None):
        call["key_padding_mask"] = padding(3, 5)
    check_twins(a, b, query, key, value, **call)


@pytest.mark.parametrize("options", [{}, {"batch_first": True}])
@pytest.mark.parametrize("call", CALLS[:3])
@pytest.mark.parametrize("shape", [(5, 3), (5,)])
def test_attention_to_itself(options, call, shape):
    torch.manual_seed(0)
    a, b = pair("MultiheadAttention", 4, 2, **options)
    x = torch.randn(*shape, 4, requires_grad=True)
    mx = mine(x)
    p, q = a(mx, mx, mx, **call), b(x, x, x, **call)
    p[0].square().sum().backward()
    q[0].square().sum().backward()
    close(p[0], q[0], "result")
    close(mx.grad, x.grad, "gradient")
    close(a.in_proj_weight.grad, b.in_proj_weight.grad, "gradient of the projections", 1e-4)
    assert (p[1] is None) == (q[1] is None)
    if q[1] is not None:
        close(p[1], q[1], "weights")


def test_attention_key_is_value():
    torch.manual_seed(0)
    a, b = pair("MultiheadAttention", 4, 2)
    x, memory = torch.randn(5, 3, 4), torch.randn(6, 3, 4)
    kept = mine(memory)
    close(a(mine(x), kept, kept)[0], b(x, memory, memory)[0], "result")


def test_static_keys_and_values():
    torch.manual_seed(0)
    b = torch.nn.MultiheadAttention(4, 2)
    x, static = torch.randn(5, 3, 4), torch.randn(6, 7, 2)
    args = (4, 2, b.in_proj_weight, b.in_proj_bias, None, None, False, 0.0, b.out_proj.weight, b.out_proj.bias)
    p = torsh.nn.functional.multi_head_attention_forward(*mine((x, x, x)), *mine(args), static_k=mine(static), static_v=mine(static))
    q = torch.nn.functional.multi_head_attention_forward(x, x, x, *args, static_k=static, static_v=static)
    close(p[0], q[0], "result")
    close(p[1], q[1], "weights")


LAYER = [{}, {"norm_first": True}, {"batch_first": True, "activation": "gelu"}, {"bias": False, "layer_norm_eps": 1e-3}]


@pytest.mark.parametrize("options", LAYER)
@pytest.mark.parametrize("masked", [False, True])
def test_encoder_layer(options, masked):
    torch.manual_seed(0)
    a, b = pair("TransformerEncoderLayer", 4, 2, 8, dropout=0.0, **options)
    x = torch.randn(*((3, 5) if options.get("batch_first") else (5, 3)), 4, requires_grad=True)
    check_twins(a, b, x, **({"src_mask": causal(5), "src_key_padding_mask": padding(3, 5)} if masked else {}))


@pytest.mark.parametrize("options", LAYER)
@pytest.mark.parametrize("masked", [False, True])
def test_decoder_layer(options, masked):
    torch.manual_seed(0)
    a, b = pair("TransformerDecoderLayer", 4, 2, 8, dropout=0.0, **options)
    first = options.get("batch_first")
    x = torch.randn(*((3, 5) if first else (5, 3)), 4, requires_grad=True)
    memory = torch.randn(*((3, 6) if first else (6, 3)), 4, requires_grad=True)
    masks = {"tgt_mask": causal(5), "tgt_key_padding_mask": padding(3, 5), "memory_key_padding_mask": padding(3, 6),
             "memory_mask": torch.zeros(5, 6, dtype=torch.bool)}
    check_twins(a, b, x, memory, **(masks if masked else {}))


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("aligned", [False, True])
def test_encoder_in_evaluation(norm, aligned):
    """Padding at the end is left out: zeros at its positions."""
    torch.manual_seed(0)
    layers = [m.nn.TransformerEncoderLayer(4, 2, 8, batch_first=True) for m in (torsh, torch)]
    a, b = (m.nn.TransformerEncoder(layer, 2, m.nn.LayerNorm(4) if norm else None).eval()
            for m, layer in zip((torsh, torch), layers, strict=True))
    a.load_state_dict(mine(dict(b.state_dict())))
    x, mask = torch.randn(3, 5, 4), padding(3, 5)
    if not aligned:
        mask = mask.flip(1)
    with torsh.no_grad(), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")         # PyTorch's nested tensors are a prototype
        close(a(mine(x), src_key_padding_mask=mine(mask)), b(x, src_key_padding_mask=mask), "result")
        close(a(mine(x)), b(x), "result without mask")


@pytest.mark.parametrize("options", [{}, {"batch_first": True, "norm_first": True}, {"bias": False, "activation": "gelu"}])
def test_transformer(options):
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")         # both warn that padding is not left out
        a, b = pair("Transformer", 4, 2, 2, 1, 8, dropout=0.0, **options)
    first = options.get("batch_first")
    src, tgt = (torch.randn(*((3, n) if first else (n, 3)), 4, requires_grad=True) for n in (6, 5))
    mask = torch.nn.Transformer.generate_square_subsequent_mask(5)
    close(torsh.nn.Transformer.generate_square_subsequent_mask(5), mask, "mask")
    check_twins(a, b, src, tgt, tgt_mask=mask, src_key_padding_mask=padding(3, 6).float(), tgt_is_causal=True, rough=1e-4)


def test_encoder_warns_when_padding_is_kept():
    with pytest.warns(UserWarning, match="enable_nested_tensor is True"):
        torsh.nn.TransformerEncoder(torsh.nn.TransformerEncoderLayer(4, 2, 8), 1)
    encoder = torsh.nn.TransformerEncoder(torsh.nn.TransformerEncoderLayer(4, 2, 8), 2, enable_nested_tensor=False)
    assert encoder.layers[0] is not encoder.layers[1]
    assert torsh.equal(encoder.layers[0].linear1.weight, encoder.layers[1].linear1.weight)


def test_dropout_of_weights_only_in_training():
    layer = torsh.nn.MultiheadAttention(4, 2, dropout=0.5)
    x = torsh.randn(5, 3, 4)
    assert torsh.equal(layer.eval()(x, x, x)[0], layer(x, x, x)[0])
    assert not torsh.equal(layer.train()(x, x, x)[0], layer(x, x, x)[0])
