"""The template of Fourier transforms as LLVM text (see ``compiler/fft.py``)."""
from __future__ import annotations

from typing import TYPE_CHECKING

from torsh.codegen.llvm.fft_common import PASSES, begin
from torsh.codegen.llvm.fft_lanes import write_lanes
from torsh.codegen.llvm.fft_rows import block_bytes, work_bytes, write_rows
from torsh.codegen.llvm.libraries import declare_libraries
from torsh.codegen.llvm.numeric import numeric
from torsh.codegen.llvm.template_builder import ENTRY, Builder, Module
from torsh.compiler.kernel import TemplateKernel

if TYPE_CHECKING:
    from torsh.codegen.llvm.target import Target


def fourier_libraries(dtype_name: str, *_: object) -> dict[str, TemplateKernel]:
    """The passes."""
    return {PASSES: TemplateKernel("fourier_passes", (dtype_name,))}


def generate_fourier(dtype_name: str, kind: str, paired: bool, layout: str, part: str, form: str, target: Target,
                     symbol: str) -> str:
    """LLVM text of the template; the options are those of ``compiler/fft.py: fourier_call``."""
    number = numeric(dtype_name, True)
    module = Module()
    declare_libraries(module, fourier_libraries(dtype_name))
    b = Builder(module, symbol, ENTRY, internal=False)
    lanes = target.lanes(number.kind_bytes)
    size = block_bytes(lanes, number.kind_bytes)
    blocks = b.stack(size), b.stack(size)
    if layout == "rows":
        room = work_bytes(lanes, number.kind_bytes, form)
        work = b.stack(room), b.stack(room)
        spare = b.stack(6 * lanes * number.kind_bytes)
    else:
        work = b.stack(8 * lanes), b.stack(8 * lanes)
    t = begin(b, number, target, kind, paired)
    if layout == "rows":
        write_rows(t, part, form, blocks, work, spare)
    else:
        write_lanes(t, layout, form, blocks, work)
    b.finish()
    return module.render()
