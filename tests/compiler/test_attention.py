"""Attention and its gradients, compiled in blocks, beside its decomposition evaluated with NumPy."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from comparison import close, compiled, reference

import torsh
from torsh.autograd.engine import GradientRecording, propagate
from torsh.backend.cpu.native import native_runtime
from torsh.core.dtype import bool_, dtype_by_name, int64
from torsh.ops.attention import attention_expr, in_blocks
from torsh.ops.common import number, permute
from torsh.ops.expr import leaf, scalar

TOLERANCES = {"float64": 1e-11, "float32": 3e-5, "float16": 2e-2, "bfloat16": 1e-1}


class Case:
    """A random attention: leaves, their values, and the options."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.arrays: list[Any] = []
        self.dtype = str(rng.choice(["float32", "float32", "float32", "float64", "bfloat16", "float16"]))
        lead = [int(n) for n in rng.integers(1, 4, int(rng.integers(0, 4)))]
        queries, keys = (int(n) for n in rng.integers(8, 70, 2))
        size, width = (int(n) for n in rng.integers(1, 40, 2))
        self.gqa = len(lead) > 0 and rng.random() < 0.4
        key_lead = list(lead)
        if self.gqa:
            lead[-1], key_lead[-1] = (4, 2) if rng.random() < 0.5 else (3, 1)
        elif lead and rng.random() < 0.3:
            key_lead = [1] * int(rng.integers(0, len(lead) + 1))
        self.query = self.tensor((*lead, queries, size))
        self.key, self.value = self.tensor((*key_lead, keys, size)), self.tensor((*key_lead, keys, width))
        kind = rng.choice(["none", "causal", "bool", "float"])
        self.causal, self.mask = kind == "causal", None
        if kind in ("bool", "float"):
            shape = [1 if rng.random() < 0.3 else n for n in (*lead, queries, keys)][int(rng.integers(0, len(lead) + 1)):]
            if kind == "bool":
                self.arrays.append(rng.random(shape) < 0.7)
                self.mask = leaf(len(self.arrays) - 1, tuple(shape), bool_, False)
            else:
                self.mask = self.tensor(tuple(shape), rng.random() < 0.2)
        chance = float(rng.random())
        self.dropout = None
        if rng.random() < 0.3:
            self.dropout = scalar(0, 2), number(int(rng.integers(1 << 50)), int64), number(7, int64)
        self.scalars = [chance]

    def tensor(self, shape: tuple[int, ...], grad: bool = True) -> Any:
        """A leaf, or a view of one."""
        axes = list(self.rng.permutation(len(shape))) if self.rng.random() < 0.4 else list(range(len(shape)))
        dtype = dtype_by_name(self.dtype)
        stored = tuple([shape[a] for a in axes])
        kind = ml_dtypes.bfloat16 if self.dtype == "bfloat16" else self.dtype
        self.arrays.append(self.rng.standard_normal(stored).astype(kind))
        return permute(leaf(len(self.arrays) - 1, stored, dtype, grad), tuple(int(a) for a in np.argsort(axes)))

    def outputs(self) -> list[Any]:
        """The result and the gradients of the leaves."""
        out = attention_expr(self.query, self.key, self.value, self.mask, self.causal, None, self.gqa, self.dropout)
        g = self.tensor(out.shape, False)
        with GradientRecording(False):
            return [out, *[gradient for _, gradient in propagate([(out, g)])]]


def check_seeds(first: int, count: int) -> None:
    """Cases of consecutive seeds; every other one with all calls shared among threads."""
    met = 0
    for seed in range(first, first + count):
        case = Case(np.random.default_rng(seed))
        outputs = case.outputs()
        met += in_blocks(outputs[0].attr, *outputs[0].args)
        expected = reference(outputs, case.arrays, case.scalars)
        got = compiled(outputs, case.arrays, case.scalars, (), 0 if seed % 2 else None)
        for n, (a, b) in enumerate(zip(got, expected, strict=True)):
            scale = max(1.0, float(np.nanmax(np.abs(b.astype(np.float64)), initial=0)))
            problem = close(a, b, TOLERANCES[case.dtype] * scale)
            assert not problem, f"seed {seed}, output {n}, {outputs[0].attr}, {[x.shape for x in outputs[0].args]}: {problem}"
    assert met > count // 3


@pytest.mark.parametrize("threads", [1, 2])
def test_random_attention(threads: int) -> None:
    runtime = native_runtime()
    before = runtime.threads
    runtime.resize(threads)
    try:
        check_seeds(1000 * threads, 60)
    finally:
        runtime.resize(before)


@pytest.mark.parametrize("target", ["avx2"])
def test_other_targets(target: str) -> None:
    from torsh.codegen.llvm.target import host_target
    if host_target().name not in ("avx512", "avx2"):
        pytest.skip("this machine cannot run the target's code")
    paths = [str(Path(torsh.__file__).parents[1]), str(Path(__file__).parent)]
    done = subprocess.run([sys.executable, "-c", "import test_attention; test_attention.check_seeds(5000, 40)"], capture_output=True,
                          text=True, check=False, env={**os.environ, "TORSH_CPU_TARGET": target, "PYTHONPATH": os.pathsep.join(paths)})
    assert done.returncode == 0, done.stderr[-3000:]


def test_results_of_the_same_arguments_are_one_call() -> None:
    q, k, v = (torsh.randn(2, 2, 40, 8, requires_grad=True) for _ in range(3))

    def step() -> Any:
        torsh.nn.functional.scaled_dot_product_attention(q, k, v).backward(torsh.ones(2, 2, 40, 8))
        return q.grad, k.grad, v.grad
    names = [kernel.name for kernel in torsh.explain(step).kernels]
    assert names.count("attention") == 1 and names.count("attention_backward") == 1
