"""From kernels to addresses: once per process, and on disk."""
from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import torsh
from torsh.backend.cpu import jit, object_cache
from torsh.codegen.llvm.target import host_target
from torsh.compiler import templates
from torsh.compiler.kernel import Access, BufferRef, LoopKernel, Stage, Value
from torsh.core.dtype import float32


def kernel(number: float) -> LoopKernel:
    """A kernel that adds a number."""
    return LoopKernel(1, 0, "grid", (float32, float32), 0b10, (Access(0, 1, 1), Access(1, 1, 1)), 0, (
        Value("load", float32, (), 0), Value("constant", float32, (), number), Value("add", float32, (0, 1)),
        Value("store", float32, (2,), 1)), (Stage(False, (0, 1, 2, 3)),))


@pytest.fixture
def own_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("TORSH_CACHE_DIR", str(tmp_path))
    return tmp_path


def test_equal_kernels_are_compiled_once(own_directory):
    before = dict(jit.statistics)
    first, second, third = jit.addresses_of([kernel(0.123), kernel(0.123), kernel(0.124)])
    assert first == second != third
    assert jit.statistics["compiled"] - before["compiled"] == 2
    assert jit.statistics["loaded"] - before["loaded"] == 2
    assert len(list(own_directory.glob("*.o"))) == 2


def test_objects_come_from_disk(own_directory):
    target = host_target()
    name, image = jit.image_of(kernel(0.125), target)
    compiled = jit.statistics["compiled"]
    assert jit.image_of(kernel(0.125), target) == (name, image)
    assert jit.statistics["compiled"] == compiled
    object_cache.clear()
    assert jit.image_of(kernel(0.125), target)[0] == name
    assert jit.statistics["compiled"] == compiled + 1


def test_names_depend_on_kernel_target_and_generator(own_directory, monkeypatch):
    target = host_target()
    names = {jit.image_of(kernel(0.126), target)[0], jit.image_of(kernel(0.127), target)[0],
             jit.image_of(templates.copy(4, BufferRef(1), BufferRef(2), 3).kernel, target)[0]}
    monkeypatch.setattr(jit, "generator_version", lambda: "another")
    names.add(jit.image_of(kernel(0.126), target)[0])
    assert len(names) == 4


def test_several_threads_want_the_same_kernel(own_directory):
    loaded, found = jit.statistics["loaded"], []
    threads = [threading.Thread(target=lambda: found.extend(jit.addresses_of([kernel(0.128)]))) for _ in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(set(found)) == 1 and len(found) == 6
    assert jit.statistics["loaded"] == loaded + 1


def test_a_second_process_compiles_nothing(tmp_path):
    code = ("import torsh; x = torsh.arange(9.0); print((x.softmax(0) @ x).item());"
            "from torsh.backend.cpu import jit; print(jit.statistics['compiled'])")
    env = {**os.environ, "TORSH_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(Path(torsh.__file__).parents[1])}
    env.pop("TORSH_BACKEND", None)
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env).stdout.split()
            for _ in range(2)]
    assert runs[0][0] == runs[1][0]
    assert int(runs[0][1]) > 0 and int(runs[1][1]) == 0


def test_targets_can_be_chosen():
    code = "from torsh.codegen.llvm.target import host_target; print(host_target().name)"
    env = {**os.environ, "PYTHONPATH": str(Path(torsh.__file__).parents[1]), "TORSH_CPU_TARGET": "avx2"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.strip() == "avx2"
    env["TORSH_CPU_TARGET"] = "abacus"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env)
    assert done.returncode and "unknown target 'abacus'" in done.stderr
