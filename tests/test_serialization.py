"""Saving and loading: round trips, safetensors, and files that are wrong."""
from __future__ import annotations

import io
import json
import os
import struct
from collections import Counter, OrderedDict

import numpy as np
import pytest

import torsh
from torsh import SerializationError

DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "complex64", "complex128"]


def round_trip(obj, **options):
    buffer = io.BytesIO()
    torsh.save(obj, buffer)
    buffer.seek(0)
    return torsh.load(buffer, **options)


@pytest.mark.parametrize("name", DTYPES)
def test_dtypes(name):
    array = (np.arange(6).reshape(2, 3) % 4).astype(name)
    if name.startswith("complex"):
        array = array * (1 + 2j)
    t = torsh.from_numpy(array.astype(name))
    back = round_trip({"a": t, "scalar": t[0, 1], "empty": t[:0]})
    assert back["a"].dtype == getattr(torsh, name)
    np.testing.assert_array_equal(back["a"].numpy(), array)
    assert back["scalar"].shape == () and back["scalar"].item() == array[0, 1]
    assert tuple(back["empty"].shape) == (0, 3)


def test_bfloat16():
    t = torsh.tensor([1.0, 2.5, -3.0]).bfloat16()
    back = round_trip(t)
    assert back.dtype == torsh.bfloat16
    assert back.float().tolist() == [1.0, 2.5, -3.0]


def test_nested_containers():
    obj = {"list": [1, 2.5, None, True, "text", [torsh.ones(2)]], "tuple": (1, (torsh.zeros(1),)), 3: "int key",
           "nan": float("nan"), "inf": -float("inf"), "bytes": b"\x00\xff", "complex": 1 - 2j, "dtype": torsh.float16,
           "device": torsh.device("cpu"), "size": torsh.Size([2, 3]), "ordered": OrderedDict(b=1, a=2), "set": {1, 2},
           "counter": Counter("aab"), "array": np.arange(3), "number": np.float32(1.5), "big": 10**30, "empty": {},
           (1, 2): "tuple key"}
    back = round_trip(obj)
    assert back["list"][:5] == [1, 2.5, None, True, "text"] and back["list"][5][0].tolist() == [1.0, 1.0]
    assert back["tuple"][0] == 1 and isinstance(back["tuple"][1], tuple)
    assert back[3] == "int key" and np.isnan(back["nan"]) and back["inf"] == -float("inf")
    for key in ("bytes", "complex", "dtype", "device", "size", "ordered", "set", "counter", "big", "empty", (1, 2)):
        assert back[key] == obj[key] and type(back[key]) is type(obj[key]), key
    np.testing.assert_array_equal(back["array"], np.arange(3))
    assert back["number"] == np.float32(1.5)


def test_path_and_permissions(tmp_path):
    path = tmp_path / "x.pt"
    torsh.save({"a": torsh.ones(3)}, path)
    torsh.save({"a": torsh.zeros(3)}, str(path))
    assert torsh.load(path)["a"].tolist() == [0.0] * 3
    assert os.listdir(tmp_path) == ["x.pt"]
    assert os.stat(path).st_mode & 0o077 == 0o066 & ~_umask()
    with pytest.raises(FileNotFoundError):
        torsh.load(tmp_path / "missing.pt")
    with pytest.raises(SerializationError, match="can't write"):
        torsh.save(1, tmp_path / "no" / "directory.pt")


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.pt"
    torsh.save({"a": torsh.ones(3)}, path)
    with pytest.raises(SerializationError, match="object.*executing code"):
        torsh.save({"a": torsh.zeros(3), "b": object()}, path)
    assert torsh.load(path)["a"].tolist() == [1.0] * 3
    assert os.listdir(tmp_path) == ["x.pt"]


def test_mapped(tmp_path):
    path = tmp_path / "x.pt"
    torsh.save({"a": torsh.arange(1000), "b": torsh.tensor([True, False])}, path)
    loaded = torsh.load(path, mmap=True)
    loaded["a"].add_(1)
    assert loaded["a"][:3].tolist() == [1, 2, 3] and loaded["b"].tolist() == [True, False]
    assert torsh.load(path)["a"][:3].tolist() == [0, 1, 2]


def test_same_object_and_shared_memory():
    base = torsh.arange(12.0).reshape(3, 4)
    tied = torsh.ones(2)
    back = round_trip({"base": base, "row": base[1], "t": base.t(), "x": tied, "y": tied, "z": tied.detach()})
    assert back["x"] is back["y"]
    back["z"].fill_(7)
    assert back["x"].tolist() == [7.0, 7.0]
    back["base"].zero_()
    assert back["row"].sum().item() == 0 and tuple(back["t"].shape) == (4, 3)
    back["t"][2, 1] = 5.0
    assert back["row"].tolist() == [0.0, 0.0, 5.0, 0.0]


def test_lone_view_is_saved_without_its_base():
    buffer = io.BytesIO()
    torsh.save(torsh.zeros(100_000)[:3], buffer)
    assert len(buffer.getvalue()) < 1000


def test_parameters_and_requires_grad():
    p = torsh.nn.Parameter(torsh.ones(2))
    back = round_trip([p, torsh.ones(1, requires_grad=True), torsh.nn.Parameter(torsh.ones(1), requires_grad=False)])
    assert isinstance(back[0], torsh.nn.Parameter) and back[0].requires_grad and back[0].is_leaf
    assert back[1].requires_grad and not isinstance(back[1], torsh.nn.Parameter)
    assert isinstance(back[2], torsh.nn.Parameter) and not back[2].requires_grad


def test_state_dicts_round_trip():
    model = torsh.nn.Sequential(torsh.nn.Linear(3, 4), torsh.nn.BatchNorm1d(4))
    optimizer = torsh.optim.Adam(model.parameters(), lr=0.1)
    model(torsh.randn(5, 3)).sum().backward()
    optimizer.step()
    back = round_trip({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    assert list(back["model"]) == list(model.state_dict())
    assert back["model"]._metadata == model.state_dict()._metadata
    model.load_state_dict(back["model"])
    optimizer.load_state_dict(back["optimizer"])
    assert float(optimizer.state[model[0].weight]["step"]) == 1.0


def test_safetensors_library_reads_state_dicts(tmp_path):
    from safetensors.numpy import load_file, save_file
    state = {"layer.weight": torsh.arange(6.0).reshape(2, 3), "layer.bias": torsh.tensor([1, 2])}
    path = tmp_path / "m.safetensors"
    torsh.save(state, path)
    loaded = load_file(path)
    assert set(loaded) == set(state)
    np.testing.assert_array_equal(loaded["layer.weight"], state["layer.weight"].numpy())
    other = tmp_path / "other.safetensors"
    save_file({"x": np.float16([1, 2]), "y": np.zeros((0, 2), np.int8), "z": np.bool_([True])}, other)
    back = torsh.load(other)
    assert back["x"].dtype == torsh.float16 and tuple(back["y"].shape) == (0, 2) and back["z"].tolist() == [True]


def test_things_that_cannot_be_saved():
    loop: list = []
    loop.append(loop)
    for obj, message in ((lambda: 0, "function"), ({"m": torsh.nn.Linear(1, 1)}, "state_dict"), (loop, "nested deeper"),
                         (np.array(["a"]), "array")):
        with pytest.raises(SerializationError, match=message):
            torsh.save(obj, io.BytesIO())


# ---- files that are wrong ----------------------------------------------------------------------------------------------

def file_of(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize(("content", "message"), [
    (b"", "0 bytes"),
    (b"abc", "3 bytes"),
    (struct.pack("<Q", 2**63) + b"{}", "truncated"),
    (file_of({}, length=50), "truncated"),
    (file_of(b"{nonsense"), "no JSON"),
    (file_of(b"[" * 100_000), "no JSON"),
    (file_of(b"[]"), "no JSON object"),
    (file_of(b'{"a":{},"a":{}}'), "twice"),
    (file_of({"__metadata__": 3}), "metadata"),
    (file_of({"a": 3}), "dtype, shape and data_offsets"),
    (file_of({"a": entry()}, b"\0" * 7), "truncated"),
    (file_of({"a": entry()}, b"\0" * 9), "belong to no tensor"),
    (file_of({"a": entry(dtype="F33")}, b"\0" * 8), "not supported"),
    (file_of({"a": entry(shape=(3,))}, b"\0" * 8), "takes 12 bytes"),
    (file_of({"a": entry(shape=(-2,))}, b"\0" * 8), "no shape"),
    (file_of({"a": entry(shape=(2.0,))}, b"\0" * 8), "no shape"),
    (file_of({"a": entry(shape=(2**62, 2**62, 16))}, b"\0" * 8), "takes"),
    (file_of({"a": entry(shape=(1,) * 1000)}, b"\0" * 8), "no shape"),
    (file_of({"a": entry(offsets=(8, 0))}, b"\0" * 8), "offsets"),
    (file_of({"a": entry(offsets=(-8, 0))}, b"\0" * 8), "offsets"),
    (file_of({"a": entry(), "b": entry(offsets=(4, 12))}, b"\0" * 12), "overlap"),
    (file_of({"a": entry(), "b": entry(offsets=(12, 20))}, b"\0" * 20), "gap"),
    (file_of({"a": entry(dtype="BOOL")}, b"\0\2"), "."),
    (file_of({"a": entry(dtype="BOOL", offsets=(0, 2))}, b"\0\2"), "neither 0 nor 1"),
    (file_of({"__metadata__": {"torsh": "{"}}), "damaged structure"),
    (file_of({"__metadata__": {"torsh": '{"$":"tensor","of":"x"}'}}), "damaged structure"),
    (file_of({"__metadata__": {"torsh": '{"$":"eval","v":"1"}'}}), "unknown kind"),
    (file_of({"__metadata__": {"torsh": '{"$":"same","v":0}'}}), "damaged structure"),
    (file_of({"__metadata__": {"torsh": '{"$":"tensor","of":"a","view":[[3],[1],0]}'}, "a": entry()}, b"\0" * 8), "outside"),
    (file_of({"__metadata__": {"torsh": '{"$":"tensor","of":"a","view":[[2],[1],-1]}'}, "a": entry()}, b"\0" * 8),
     "outside"),
    (file_of({"__metadata__": {"torsh": '{"$":"tensor","of":"a","dtype":"complex128"}'}, "a": entry()}, b"\0" * 8), "pairs"),
])
def test_wrong_files(content, message, tmp_path):
    with pytest.raises(SerializationError, match=message):
        torsh.load(io.BytesIO(content))
    path = tmp_path / "wrong"
    path.write_bytes(content)
    for mapped in (False, True):
        with pytest.raises(SerializationError, match=message):
            torsh.load(path, mmap=mapped)


def test_every_truncation_raises():
    buffer = io.BytesIO()
    torsh.save({"a": torsh.ones(3), "b": [1, torsh.zeros(2)]}, buffer)
    content = buffer.getvalue()
    for n in range(len(content)):
        with pytest.raises(SerializationError):
            torsh.load(io.BytesIO(content[:n]))


def test_flipped_bytes_raise_nothing_else():
    buffer = io.BytesIO()
    torsh.save({"a": torsh.ones(3), "b": (1, torsh.zeros(2))}, buffer)
    content = buffer.getvalue()
    generator = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(content)
        damaged[generator.integers(len(content))] = generator.integers(256)
        try:
            torsh.load(io.BytesIO(bytes(damaged)))
        except SerializationError:
            pass
