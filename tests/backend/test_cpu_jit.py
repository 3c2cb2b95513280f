"""From kernels to addresses: once per process, and on disk."""
from __future__ import annotations

import ast
import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import torsh
from torsh.backend.cpu import jit, object_cache
from torsh.codegen.llvm import imports_of
from torsh.codegen.llvm.target import host_target, target_by_name
from torsh.compiler import templates
from torsh.compiler.kernel import Access, BufferRef, LoopKernel, Stage, TemplateKernel, Value
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


MATMUL = TemplateKernel("matmul", ("float32",) * 3)


@pytest.fixture
def fresh(own_directory, monkeypatch):
    """As in a process that has loaded nothing yet."""
    monkeypatch.setattr(jit, "_addresses", {})
    return own_directory


def test_libraries_are_compiled_and_loaded_once(fresh):
    before = dict(jit.statistics)
    wanted = imports_of(MATMUL, host_target())
    assert wanted
    jit.addresses_of([MATMUL])
    assert jit.statistics["loaded"] - before["loaded"] == 1 + len(set(wanted.values()))
    assert set(wanted.values()) <= set(jit._addresses)
    other = TemplateKernel("convolution", ("float32",))
    shared = set(imports_of(other, host_target()).values()) & set(wanted.values())
    assert shared
    before = dict(jit.statistics)
    jit.addresses_of([other])
    added = 1 + len(set(imports_of(other, host_target()).values()) - shared)
    assert {name: jit.statistics[name] - before[name] for name in before} == {"compiled": added, "loaded": added}


def test_a_damaged_library_is_compiled_again(fresh, monkeypatch):
    jit.addresses_of([MATMUL])
    library = imports_of(MATMUL, host_target())["tiles"]
    symbol = jit.image_of(library, host_target())[0]
    [path] = fresh.glob(f"{symbol.removeprefix('torsh_')}*.o")
    whole = path.read_bytes()
    for damaged in (whole[:-7], whole[:100] + bytes([whole[100] ^ 1]) + whole[101:], b""):
        path.write_bytes(damaged)
        monkeypatch.setattr(jit, "_addresses", {})
        before = jit.statistics["compiled"]
        jit.addresses_of([MATMUL])
        assert jit.statistics["compiled"] == before + 1
        assert path.read_bytes() == whole


def test_libraries_depend_on_target_and_generator(own_directory, monkeypatch):
    targets = [target_by_name("avx512"), target_by_name("avx2")]
    names = {jit.image_of(library, target)[0] for target in targets for library in imports_of(MATMUL, target).values()}
    monkeypatch.setattr(jit, "generator_version", lambda: "another")
    others = {jit.image_of(library, target)[0] for target in targets for library in imports_of(MATMUL, target).values()}
    assert not names & others
    assert jit.image_of(MATMUL, targets[0])[0] != jit.image_of(MATMUL, targets[1])[0]


def test_libraries_stay_as_long_as_kernels(fresh):
    a, b = np.arange(900, dtype=np.float32).reshape(30, 30) % 7, np.ones((30, 30), np.float32)
    program = torsh.tensor(a) @ torsh.tensor(b)
    np.testing.assert_array_equal(program.numpy(), a @ b)
    held = len(jit._loaded)
    gc.collect()
    assert len(jit._loaded) == held
    np.testing.assert_array_equal((torsh.tensor(b) @ torsh.tensor(a)).numpy(), b @ a)


def test_what_the_generator_imports_is_part_of_its_version():
    package = Path(torsh.__file__).parent
    found = {"backend/cpu/jit.py"}
    for path in (package / "codegen").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("torsh."):
                found |= {f"{module.replace('.', '/')}.py" for module in (
                    node.module[6:], *(f"{node.module[6:]}.{name.name}" for name in node.names))}
    found = {name for name in found if (package / name).is_file() and not name.startswith("codegen/")}
    assert found - {"core/errors.py"} == set(jit.GENERATOR_SOURCES)


def test_processes_fill_one_cache_at_the_same_time(tmp_path):
    code = ("import torsh; x = torsh.arange(2500.0).reshape(50, 50) % 11; print((x @ x.t()).sum().item());"
            "from torsh.backend.cpu import jit; print(jit.statistics['compiled'])")
    env = {**os.environ, "TORSH_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(Path(torsh.__file__).parents[1])}
    env.pop("TORSH_BACKEND", None)
    for number in range(2):
        running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=env) for _ in range(3)]
        lines = [process.communicate()[0].split() for process in running]
        assert [process.returncode for process in running] == [0] * 3
        assert len({total for total, _ in lines}) == 1
        assert number == 0 or all(compiled == "0" for _, compiled in lines)
    assert not list(tmp_path.glob("*.tmp"))


def test_targets_can_be_chosen():
    code = "from torsh.codegen.llvm.target import host_target; print(host_target().name)"
    env = {**os.environ, "PYTHONPATH": str(Path(torsh.__file__).parents[1]), "TORSH_CPU_TARGET": "avx2"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.strip() == "avx2"
    env["TORSH_CPU_TARGET"] = "abacus"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env)
    assert done.returncode and "unknown target 'abacus'" in done.stderr
