"""Reading PyTorch's own checkpoints, and refusing what could run code."""
from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

import torsh
from torsh import SerializationError

torch = pytest.importorskip("torch")


def saved(obj, **options):
    buffer = io.BytesIO()
    torch.save(obj, buffer, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoint(zipped):
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    obj = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3, "bf16": torch.ones(2).bfloat16(),
           "dtype": torch.float16, "size": torch.Size([1]), "p": model[0].weight, "bytes": b"\x00\xff", "set": {1},
           "half": torch.arange(3).half(), "flags": torch.tensor([True]), "complex": torch.tensor([1 + 2j])}
    back = torsh.load(io.BytesIO(saved(obj, _use_new_zipfile_serialization=zipped)))
    assert isinstance(back["model"], OrderedDict) and list(back["model"]) == list(obj["model"])
    for name, value in obj["model"].items():
        np.testing.assert_array_equal(back["model"][name].numpy(), value.numpy())
    state = obj["optimizer"]["state"][0]
    assert float(back["optimizer"]["state"][0]["step"]) == 1.0
    np.testing.assert_array_equal(back["optimizer"]["state"][0]["exp_avg"].numpy(), state["exp_avg"].numpy())
    assert back["bf16"].dtype == torsh.bfloat16 and back["dtype"] is torsh.float16 and back["size"] == torsh.Size([1])
    assert isinstance(back["p"], torsh.nn.Parameter) and back["p"].requires_grad
    assert back["bytes"] == b"\x00\xff" and back["set"] == {1} and back["epoch"] == 3
    assert back["half"].tolist() == [0, 1, 2] and back["flags"].tolist() == [True] and back["complex"].tolist() == [1 + 2j]
    own = torsh.nn.Sequential(torsh.nn.Linear(3, 4), torsh.nn.BatchNorm1d(4))
    own.load_state_dict(back["model"])


def test_views_share_memory(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    path = tmp_path / "views.pt"
    torch.save({"base": base, "column": base[:, 1], "transposed": base.t()}, path)
    back = torsh.load(path)
    assert back["column"].tolist() == [1.0, 5.0, 9.0] and back["transposed"][1].tolist() == [1.0, 5.0, 9.0]
    back["base"].zero_()
    assert back["column"].tolist() == [0.0] * 3


class Evil:
    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(("payload", "name"), [
    (Evil(os.system, "echo this must not run"), "system"), (Evil(eval, "1+1"), "eval"),
    (Evil(getattr, 1, "real"), "getattr"), (Evil(__import__, "os"), "__import__"), (Evil(bytearray, 10), "bytearray")])
def test_code_is_refused_by_name(payload, name):
    for zipped in (True, False):
        with pytest.raises(SerializationError, match=name):
            torsh.load(io.BytesIO(saved({"a": torch.ones(1), "evil": payload}, _use_new_zipfile_serialization=zipped)))


def test_modules_are_refused():
    with pytest.raises(SerializationError, match="torch.nn.modules.linear.Linear"):
        torsh.load(io.BytesIO(saved(torch.nn.Linear(1, 1))))


def rewritten(content, change):
    """The zip file with its records changed."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(result, "w") as new:
        for name in old.namelist():
            data = change(name, old.read(name))
            if data is not None:
                new.writestr(name, data)
    return result.getvalue()


def test_damaged_checkpoints():
    content = saved({"a": torch.ones(100)})
    for change in (lambda n, d: d[:50] if "/data/0" in n else d, lambda n, d: None if "/data/0" in n else d,
                   lambda n, d: d[:20] if n.endswith("data.pkl") else d, lambda n, d: None if n.endswith("data.pkl") else d,
                   lambda n, d: pickle.dumps(print) if n.endswith("data.pkl") else d,
                   lambda n, d: b"big" if n.endswith("byteorder") else d):
        with pytest.raises(SerializationError):
            torsh.load(io.BytesIO(rewritten(content, change)))
    for n in range(4, len(content), 97):
        with pytest.raises(SerializationError):
            torsh.load(io.BytesIO(content[:n]))


def test_shapes_outside_of_their_storage():
    content = saved({"a": torch.ones(100)})
    grown = rewritten(content, lambda n, d: d.replace(b"Kd\x85", b"Kz\x85") if n.endswith("data.pkl") else d)
    with pytest.raises(SerializationError, match="outside of its storage"):
        torsh.load(io.BytesIO(grown))
