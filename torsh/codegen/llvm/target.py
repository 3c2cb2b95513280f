"""What code is generated for: instruction set, vector width and LLVM's names of them.

The host's target is found through llvmlite; ``TORSH_CPU_TARGET`` (``avx512``, ``avx2`` or ``aarch64``) overrides it, so that
narrower code can be tested on a wide machine and foreign code can be compiled.
"""
from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from torsh.core.errors import InvalidArgumentError

_NAMED: Final = {
    "avx512": ("x86-64", "skylake-avx512", "+avx512f,+avx512bw,+avx512dq,+avx512vl,+avx2,+fma,+f16c,-prefer-256-bit", 64),
    "avx2": ("x86-64", "haswell", "+avx2,+fma,+f16c", 32),
    "aarch64": ("aarch64", "generic", "+neon", 16),
}
_TRIPLES: Final = {"x86-64": "x86_64-unknown-linux-gnu", "aarch64": "aarch64-unknown-linux-gnu"}


@dataclass(frozen=True, slots=True)
class Target:
    """A target of code generation.

    Attributes: ``name`` (avx512, avx2, aarch64 or baseline), ``triple``, ``cpu`` and ``features`` in LLVM's words,
    ``vector_bytes`` (size of a vector register).
    """

    name: str
    triple: str
    cpu: str
    features: str
    vector_bytes: int

    @property
    def has_avx512(self) -> bool:
        """Are there 512-bit registers with masks?"""
        return self.name == "avx512"

    @property
    def has_fma(self) -> bool:
        """Is there a fused multiply-add instruction?"""
        return self.name in ("avx512", "avx2", "aarch64")

    @property
    def key(self) -> str:
        """What distinguishes this target in the cache of objects."""
        return f"{self.name}/{self.vector_bytes}/{self.triple}/{self.cpu}/{self.features}"

    def lanes(self, itemsize: int) -> int:
        """Elements of ``itemsize`` bytes in a vector register (at least one)."""
        return max(1, self.vector_bytes // itemsize)


def target_by_name(name: str) -> Target:
    """A target by name: ``"avx512"``, ``"avx2"`` or ``"aarch64"`` (also ``"neon"``)."""
    known = _NAMED.get("aarch64" if name == "neon" else name)
    if known is None:
        raise InvalidArgumentError(f"unknown target {name!r}: use one of {', '.join(_NAMED)}")
    family, cpu, features, width = known
    return Target("aarch64" if name == "neon" else name, _TRIPLES[family], cpu, features, width)


@lru_cache(maxsize=1)
def host_target() -> Target:
    """The machine that this process runs on (or the target that ``TORSH_CPU_TARGET`` names)."""
    override = os.environ.get("TORSH_CPU_TARGET")
    if override:
        return target_by_name(override)
    import llvmlite.binding as llvm
    triple = llvm.get_process_triple()
    found: Any = llvm.get_host_cpu_features()
    features = found.flatten()
    name, width = "baseline", 16
    if triple.startswith("aarch64"):
        name = "aarch64"
    elif all(found.get(f) for f in ("avx512f", "avx512bw", "avx512dq", "avx512vl")):
        # LLVM prefers 256-bit registers on some of these machines; the kernels are written for 512.
        name, width, features = "avx512", 64, features + ",-prefer-256-bit"
    elif found.get("avx2") and found.get("fma"):
        name, width = "avx2", 32
    return Target(name, triple, llvm.get_host_cpu_name(), features, width)
