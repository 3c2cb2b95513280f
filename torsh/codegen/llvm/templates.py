"""LLVM text of template kernels, which are written as a whole (see ``compiler/templates.py`` for what they do)."""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torsh.codegen.llvm.attention import attention_libraries, generate_attention
from torsh.codegen.llvm.attention_backward import attention_backward_libraries, generate_attention_backward
from torsh.codegen.llvm.bags import generate_sum_of_bags
from torsh.codegen.llvm.convolution import convolution_libraries, generate_convolution
from torsh.codegen.llvm.convolution_weight import convolution_weight_libraries, generate_convolution_weight
from torsh.codegen.llvm.copy_templates import generate_copy, generate_fill, generate_transpose_copy
from torsh.codegen.llvm.depthwise import generate_depthwise
from torsh.codegen.llvm.depthwise_weight import generate_depthwise_weight
from torsh.codegen.llvm.fft import fourier_libraries, generate_fourier
from torsh.codegen.llvm.gemm import generate_matmul, matmul_libraries
from torsh.codegen.llvm.indexing_templates import generate_index_put, generate_scatter
from torsh.codegen.llvm.libraries import LIBRARIES
from torsh.codegen.llvm.scan import generate_scan
from torsh.codegen.llvm.selection import generate_selection
from torsh.codegen.llvm.winograd import generate_winograd, generate_winograd_weights, winograd_libraries
from torsh.codegen.llvm.winograd_gradient import generate_winograd_gradient
from torsh.compiler.kernel import TemplateKernel
from torsh.core.errors import CompileError

if TYPE_CHECKING:
    from torsh.codegen.llvm.target import Target

_GENERATORS: dict[str, Callable[..., str]] = {
    **LIBRARIES,
    "matmul": generate_matmul, "convolution": generate_convolution, "convolution_weight": generate_convolution_weight,
    "winograd": generate_winograd, "winograd_weights": generate_winograd_weights,
    "winograd_gradient": generate_winograd_gradient,
    "depthwise": generate_depthwise, "depthwise_weight": generate_depthwise_weight,
    "attention": generate_attention, "attention_backward": generate_attention_backward,
    "sum_of_bags": generate_sum_of_bags,
    "scan": generate_scan, "selection": generate_selection, "scatter": generate_scatter, "index_put": generate_index_put,
    "fourier": generate_fourier, "fill": generate_fill, "copy": generate_copy, "transpose_copy": generate_transpose_copy}

_LIBRARIES: dict[str, Callable[..., dict[str, TemplateKernel]]] = {
    "matmul": matmul_libraries, "convolution": convolution_libraries, "convolution_weight": convolution_weight_libraries,
    "winograd": winograd_libraries, "winograd_gradient": winograd_libraries,
    "attention": attention_libraries, "attention_backward": attention_backward_libraries,
    "fourier": fourier_libraries}


def template_libraries(kernel: TemplateKernel, target: Target) -> dict[str, TemplateKernel]:
    """The libraries that the module of a template wants, by the names that it calls them by."""
    found = _LIBRARIES.get(kernel.name)
    return found(*kernel.options, target) if found else {}


def generate_template(kernel: TemplateKernel, target: Target, symbol: str) -> str:
    """A complete LLVM module with one external function ``symbol`` of the signature in ``compiler/kernel.py``.

    Raises CompileError for a template that this code generator does not have.
    """
    generator: Callable[..., Any] | None = _GENERATORS.get(kernel.name)
    if generator is None:
        raise CompileError(f"the LLVM code generator has no template called {kernel.name!r}; it has "
                           f"{', '.join(sorted(_GENERATORS))}. Lower the operation to loop kernels instead.")
    return str(generator(*kernel.options, target, symbol))
