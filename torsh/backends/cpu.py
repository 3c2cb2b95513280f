"""The CPU's instruction sets."""
from __future__ import annotations


def get_cpu_capability() -> str:
    """What code is generated for, in PyTorch's words: ``"AVX512"``, ``"AVX2"`` or ``"DEFAULT"``."""
    from torsh.codegen.llvm.target import host_target
    name = host_target().name
    return name.upper() if name.startswith("avx") else "DEFAULT"
