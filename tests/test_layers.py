"""Imports go downwards only: each layer knows the ones below it."""
from __future__ import annotations

import ast
from pathlib import Path

import torsh

ROOT = Path(torsh.__file__).parent
LAYERS = ["core", "ops", "graph", "autograd", "tensor", "linalg", "functional", "nn"]
# What knows expressions and kernels, never tensors.
BELOW_TENSORS = ["compiler", "codegen", "backend"]


def imported(node: ast.AST) -> list[str]:
    """The modules that a statement imports."""
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return [a.name for a in node.names] if isinstance(node, ast.Import) else []


def imports_at_import_time(path: Path) -> set[str]:
    """Subpackages of torsh that a module imports when it is loaded (imports inside of functions are late on purpose)."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        names = imported(node)
        found |= {n.split(".")[1] for n in names if n and n.startswith("torsh.")}
    return found


def modules(package: str) -> list[Path]:
    """The files of a subpackage."""
    return sorted((ROOT / package).rglob("*.py"))


def test_layers_import_downwards():
    for level, package in enumerate(LAYERS):
        forbidden = set(LAYERS[level + 1:])
        for path in modules(package):
            upwards = imports_at_import_time(path) & forbidden
            assert not upwards, f"{path.relative_to(ROOT)} imports {sorted(upwards)} from above"


def test_compiler_and_backends_know_no_tensors():
    for package in BELOW_TENSORS:
        for path in modules(package):
            upwards = imports_at_import_time(path) & {"tensor", "functional", "nn", "autograd", "optim", "data"}
            assert not upwards, f"{path.relative_to(ROOT)} imports {sorted(upwards)}"


def test_every_file_belongs_to_a_known_package():
    assert {p.name for p in ROOT.iterdir() if p.is_dir() and p.name != "__pycache__"} >= set(LAYERS + BELOW_TENSORS)


def test_torsh_never_imports_torch():
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not any(n == "torch" or n.startswith("torch.") for n in imported(node)), path
