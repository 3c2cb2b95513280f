"""What explain() shows."""
from __future__ import annotations

import doctest

import pytest

import torsh
from torsh.graph import runtime, window


def test_the_example_in_the_documentation():
    examples = doctest.DocTestFinder().find(runtime.explain, globs={})
    runner = doctest.DocTestRunner()
    for example in examples:
        runner.run(example)
    assert runner.summarize(verbose=False) == (0, 5)


def test_a_tensor_is_explained_without_being_computed():
    x = torsh.ones(64, 32)
    torsh.synchronize()
    y = (x * 3).sum(1)
    before = window.statistics["flushes"]
    found = torsh.explain(y)
    assert window.statistics["flushes"] == before
    kernel, = found.kernels
    assert (kernel.name, kernel.kind) == ("mul+reduce", "loop")
    assert (kernel.bytes_read, kernel.bytes_written) == (64 * 32 * 4, 64 * 4)
    assert kernel.flops == 2 * 64 * 32
    assert found.programs[0].bytes_moved == 64 * 33 * 4
    assert y.sum().item() == 64 * 32 * 3


def test_nothing_to_explain():
    x = torsh.ones(3)
    torsh.synchronize()
    assert str(torsh.explain(x)) == "nothing to compute"
    assert torsh.explain(lambda: None).kernels == ()


def test_a_view_of_what_is_there():
    x = torsh.ones(8, 4)
    torsh.synchronize()
    kernel, = torsh.explain(x.t()).kernels
    assert kernel.name == "copy"


def test_a_function_is_explained_with_all_its_programs():
    x, w = torsh.randn(16, 24), torsh.randn(24, 8, requires_grad=True)
    torsh.synchronize()

    def step(x: torsh.Tensor) -> torsh.Tensor:
        loss = (x @ w).relu().mean()
        loss.backward()
        loss.item()
        w.grad.mul_(2)
        return loss
    found = torsh.explain(step, x)
    assert len(found.programs) == 2
    assert [k.name for k in found.kernels if k.kind == "template"] == ["matmul", "matmul"]
    assert found.programs[0].flops >= 2 * 2 * 16 * 24 * 8
    assert found.programs[0].scratch_bytes >= 16 * 8 * 4
    text = str(found)
    assert "program 1 of 2" in text and "m=16, n=8, k=24" in text and "maximum(" in text
    again = torsh.explain(step, x)              # known programs are shown too
    assert str(again).count("matmul") == text.count("matmul")


def test_a_compiled_step():
    x = torsh.ones(4, 4)
    torsh.synchronize()
    compiled = torsh.compile(lambda x: (x + 1).exp())
    assert compiled(x).sum().item() == pytest.approx(118.2249)
    kernel, = torsh.explain(compiled, x).kernels
    assert kernel.name == "add+exp"


def test_programs_known_before_stay_known():
    x = torsh.ones(5)
    (x + 2).sum().item()
    programs = window.statistics["programs"]
    torsh.explain(lambda: (torsh.ones(7) * 5).sum())
    (torsh.ones(5) + 2).sum().item()
    assert window.statistics["programs"] <= programs + 2
    assert window.backend().__class__.__name__ == "CpuBackend"


def test_the_backend_is_back_after_an_error():
    with pytest.raises(ZeroDivisionError):
        torsh.explain(lambda: 1 // 0)
    assert window.backend().__class__.__name__ == "CpuBackend"


def test_ir_is_readable():
    x = torsh.ones(6, 10)
    i = torsh.tensor([1, 0, 5])
    torsh.synchronize()
    text = torsh.explain(torsh.softmax, x, dim=1).kernels[0].ir
    assert text.splitlines()[0] == "for i0 < 6:" and "max over j0 of %0: float32" in text
    assert "out0[10*i0 + j0] = %" in text
    assert "in1[i1 + 10*%0]" in torsh.explain(x[i]).kernels[0].ir
    assert "argsort(" in str(torsh.explain(torsh.sort, x)) and "by NumPy" in str(torsh.explain(torsh.sort, x))
    assert "= i0: int64" in str(torsh.explain(torsh.arange(6)))


def test_few_rows_of_a_large_table():
    table, i = torsh.ones(5000, 16), torsh.tensor([3, 4])
    torsh.synchronize()
    kernel, = torsh.explain(table[i]).kernels
    assert kernel.bytes_read < 10_000 and kernel.bytes_written == 2 * 16 * 4
    found = torsh.explain(lambda: table.index_add_(0, i, torsh.ones(2, 16)))
    assert found.kernels[-1].bytes_written == 2 * 16 * 4


def test_a_backend_that_compiles_nothing():
    torsh.use_backend("reference")
    try:
        with pytest.raises(torsh.InvalidArgumentError, match="compiles nothing"):
            torsh.explain(torsh.ones(3) + 1)
    finally:
        torsh.use_backend("cpu")
