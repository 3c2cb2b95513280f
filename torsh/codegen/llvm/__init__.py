"""Code generation for CPUs: kernels as LLVM text."""
from __future__ import annotations

from typing import TYPE_CHECKING, Final

from torsh.compiler.kernel import Kernel, LoopKernel, TemplateKernel
from torsh.core.dtype import DType

if TYPE_CHECKING:
    from torsh.codegen.llvm.target import Target

_STRUCTURAL: Final = frozenset(("load", "store", "index_load", "constant", "iota", "reduce"))
_REDUCTIONS: Final = frozenset(("sum", "prod", "amax", "amin", "max", "min", "argmax", "argmin"))


def generate(kernel: Kernel, target: Target, symbol: str) -> str:
    """A complete LLVM module with one external function ``symbol`` of the signature in ``compiler/kernel.py``."""
    if isinstance(kernel, LoopKernel):
        from torsh.codegen.llvm.emitter import generate_loop

        return generate_loop(kernel, target, symbol)
    from torsh.codegen.llvm.templates import generate_template

    return generate_template(kernel, target, symbol)


def imports_of(kernel: Kernel, target: Target) -> dict[str, TemplateKernel]:
    """The other kernels whose symbols the kernel's module refers to, by the names under which it wants them."""
    if isinstance(kernel, LoopKernel):
        return {}
    from torsh.codegen.llvm.templates import template_libraries

    return template_libraries(kernel, target)


def supported(name: str, dtype: DType) -> bool:
    """Whether loop kernels can do the operation ``name`` on arguments of ``dtype`` (for ``cast``: from and to it).

    ``name`` is an elementwise primitive, a reduction, or a structural value of the kernel IR.
    """
    from torsh.codegen.llvm.elementwise import is_supported

    if dtype.is_complex:
        return False
    if name in _STRUCTURAL or name in _REDUCTIONS:
        return True
    if name == "scalar":
        return dtype.name in ("bool", "int64", "float64")
    return is_supported(name, dtype)


__all__ = ["generate", "imports_of", "supported"]
