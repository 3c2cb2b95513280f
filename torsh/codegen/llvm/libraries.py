"""Libraries: functions that many templates call, each a module of its own, which is compiled, kept and loaded once for all of them.

A library is a kernel like others (:class:`~torsh.compiler.kernel.TemplateKernel`), only that its symbol is no kernel: it is a
function, or a table of functions. A template's ``libraries`` function says which ones its module wants and under which
names; the module declares these names, and whoever loads it gives them the addresses of the libraries' symbols.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from torsh.codegen.llvm.attention_product import PRODUCT, write_product
from torsh.codegen.llvm.convolution_lines import write_copy_lines
from torsh.codegen.llvm.convolution_tiles import most_rows, write_points
from torsh.codegen.llvm.convolution_windows import WINDOW_FUNCTIONS, write_windows
from torsh.codegen.llvm.fft_passes import write_passes
from torsh.codegen.llvm.gemm_pack import PACK, write_pack
from torsh.codegen.llvm.gemm_shape import Shape
from torsh.codegen.llvm.gemm_tiles import write_tiles
from torsh.codegen.llvm.gemm_turned import TURN, write_turn
from torsh.codegen.llvm.numeric import Numeric
from torsh.codegen.llvm.scratch import write_scratch
from torsh.codegen.llvm.template_builder import Module, Operand
from torsh.codegen.llvm.winograd_transforms import INPUT, write_input
from torsh.compiler.fft import RADICES
from torsh.compiler.kernel import TemplateKernel

if TYPE_CHECKING:
    from torsh.codegen.llvm.target import Target

_ARGUMENTS: Final[dict[str, Sequence[str]]] = {"packing": PACK, "product": PRODUCT, "turn": TURN,
                                             "winograd_input": INPUT}


def tiles_library(shape: Shape) -> TemplateKernel:
    """The register tiles of a blocking."""
    return TemplateKernel("register_tiles", (_common(shape, shape.rows),))


def packing_library(shape: Shape, number: Numeric | None = None, offset: bool = False) -> TemplateKernel:
    """The function ``pack`` of a blocking; number, offset: see :func:`write_pack`."""
    return TemplateKernel("packing", (_common(shape, 0), replace(number or shape.number, rounds=False), offset))


def product_library(shape: Shape, a_row: int, a_step: Operand) -> TemplateKernel:
    """Products of blocks; a_row, a_step: see :func:`write_tile`."""
    return TemplateKernel("product", (_common(shape, shape.rows), a_row, a_step))


def windows_library(shape: Shape, parameters: Sequence[str]) -> TemplateKernel:
    """The functions of windows of convolutions, for calls with these parameter words."""
    return TemplateKernel("windows", (_common(shape, 0), replace(shape.number, rounds=False), tuple(parameters)))


def turn_library(shape: Shape) -> TemplateKernel:
    """The function that turns sums of products with few columns."""
    return TemplateKernel("turn", (_common(replace(shape, paired=False, integers=None), 0),))


def points_library(shape: Shape) -> TemplateKernel:
    """The register tiles of convolutions that read lines in place."""
    return TemplateKernel("points", (_common(shape, shape.rows),))


def scratch_library(nbytes: int) -> TemplateKernel:
    """The functions that take and give back scratch memory of so many bytes."""
    return TemplateKernel("scratch", (nbytes,))


def winograd_input_library(shape: Shape) -> TemplateKernel:
    """Winograd's transform of the input."""
    return TemplateKernel("winograd_input", (_common(shape, 0),))


def _common(shape: Shape, rows: int) -> Shape:
    """A blocking without what libraries do not depend on, so that equal ones are one."""
    kind = shape.number.kind
    words = (shape.word, shape.word) if shape.word else None
    return Shape(Numeric(kind, kind, kind, shape.number.fused), shape.lanes, rows, shape.vectors, 0, 0, 0, 0, shape.masks, 0,
                 integers=words)


def declare_libraries(module: Module, libraries: Mapping[str, TemplateKernel]) -> None:
    """Declare what a module calls of libraries."""
    for name, library in libraries.items():
        if library.name == "register_tiles":
            rows = library.options[0].rows    # type: ignore[attr-defined]
            _declare_table(module, name, rows + 1)
        elif library.name == "points":
            shape = library.options[0]
            assert isinstance(shape, Shape)
            most = most_rows(shape)
            _declare_table(module, name, most + 1 + shape.masks)
            module.tables["turn_out"] = name, most + 1
        elif library.name == "fourier_passes":
            _declare_table(module, name, len(RADICES) + 1)
        elif library.name == "windows":
            _declare_table(module, name, len(WINDOW_FUNCTIONS))
            module.tables.update((function, (name, position)) for position, function in enumerate(WINDOW_FUNCTIONS))
        elif library.name == "scratch":
            _declare_table(module, name, 2)
            module.tables.update(take_scratch=(name, 0), give_scratch=(name, 1))
        else:
            kinds = ", ".join(argument.split()[0] for argument in _ARGUMENTS[library.name])
            module.declare(f"void @{name}({kinds}) nounwind")


def _declare_table(module: Module, name: str, entries: int) -> None:
    module.declarations[f"@{name} = external constant [{entries} x ptr]"] = None


def _module_of(write: Callable[..., None]) -> Callable[..., str]:
    def generate(*options: Any) -> str:
        module = Module()
        write(module, *options)
        return module.render()
    return generate


def _tiles(module: Module, shape: Shape, _: Target, symbol: str) -> None:
    write_tiles(module, shape, symbol)


def _packing(module: Module, shape: Shape, number: Numeric, offset: bool, _: Target, symbol: str) -> None:
    write_pack(module, shape, symbol, number, offset)


def _product(module: Module, shape: Shape, a_row: int, a_step: Operand, _: Target, symbol: str) -> None:
    write_product(module, shape, symbol, a_row, a_step)


def _turn(module: Module, shape: Shape, _: Target, symbol: str) -> None:
    write_turn(module, shape, symbol)


def _points(module: Module, shape: Shape, _: Target, symbol: str) -> None:
    write_points(module, shape, symbol)


def _winograd_input(module: Module, shape: Shape, _: Target, symbol: str) -> None:
    write_input(module, shape, symbol)


def _scratch(module: Module, nbytes: int, _: Target, symbol: str) -> None:
    write_scratch(module, symbol, nbytes)


def _windows(module: Module, shape: Shape, number: Numeric, parameters: Sequence[str], _: Target, symbol: str) -> None:
    shape = replace(shape, number=number)
    write_windows(module, shape, parameters)
    write_copy_lines(module, shape, parameters)
    table = ", ".join(f"ptr @{function}" for function in WINDOW_FUNCTIONS)
    module.functions.append(f"@{symbol} = constant [{len(WINDOW_FUNCTIONS)} x ptr] [{table}]")


LIBRARIES: Final = {"register_tiles": _module_of(_tiles), "packing": _module_of(_packing), "product": _module_of(_product),
                    "points": _module_of(_points), "turn": _module_of(_turn), "windows": _module_of(_windows),
                    "scratch": _module_of(_scratch), "winograd_input": _module_of(_winograd_input),
                    "fourier_passes": _module_of(write_passes)}
