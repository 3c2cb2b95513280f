"""LLVM text of template kernels, which are written as a whole (see ``compiler/templates.py`` for what they do)."""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torsh.codegen.llvm.attention import generate_attention
from torsh.codegen.llvm.attention_backward import generate_attention_backward
from torsh.codegen.llvm.convolution import generate_convolution
from torsh.codegen.llvm.convolution_weight import generate_convolution_weight
from torsh.codegen.llvm.depthwise import generate_depthwise
from torsh.codegen.llvm.depthwise_weight import generate_depthwise_weight
from torsh.codegen.llvm.gemm import generate_matmul
from torsh.codegen.llvm.indexing_templates import (
    generate_copy,
    generate_fill,
    generate_index_put,
    generate_scatter,
    generate_transpose_copy,
)
from torsh.codegen.llvm.scan import generate_scan
from torsh.compiler.kernel import TemplateKernel
from torsh.core.errors import CompileError

if TYPE_CHECKING:
    from torsh.codegen.llvm.target import Target

_GENERATORS: dict[str, Callable[..., str]] = {
    "matmul": generate_matmul, "convolution": generate_convolution, "convolution_weight": generate_convolution_weight,
    "depthwise": generate_depthwise, "depthwise_weight": generate_depthwise_weight,
    "attention": generate_attention, "attention_backward": generate_attention_backward,
    "scan": generate_scan, "scatter": generate_scatter, "index_put": generate_index_put,
    "fill": generate_fill, "copy": generate_copy, "transpose_copy": generate_transpose_copy}


def generate_template(kernel: TemplateKernel, target: Target, symbol: str) -> str:
    """A complete LLVM module with one external function ``symbol`` of the signature in ``compiler/kernel.py``.

    Raises CompileError for a template that this code generator does not have.
    """
    generator: Callable[..., Any] | None = _GENERATORS.get(kernel.name)
    if generator is None:
        raise CompileError(f"the LLVM code generator has no template called {kernel.name!r}; it has "
                           f"{', '.join(sorted(_GENERATORS))}. Lower the operation to loop kernels instead.")
    return str(generator(*kernel.options, target, symbol))
