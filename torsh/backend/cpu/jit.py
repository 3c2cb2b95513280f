"""From kernels to machine code: generated once per machine, kept on disk, loaded into the process when first needed."""
from __future__ import annotations

import atexit
import hashlib
import itertools
import threading
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from torsh.backend.cpu import object_cache
from torsh.codegen.llvm.target import Target, host_target
from torsh.compiler.kernel import Kernel

_addresses: Final[dict[Kernel, int]] = {}
_lock = threading.RLock()
statistics: Final[dict[str, int]] = {"compiled": 0, "loaded": 0}


# Beside the code generator: what it imports, and this file.
GENERATOR_SOURCES: Final = ("backend/cpu/jit.py", "compiler/attention.py", "compiler/convolution.py", "compiler/cost.py",
                            "compiler/depthwise.py", "compiler/fft.py", "compiler/kernel.py", "compiler/templates.py",
                            "compiler/winograd.py", "core/dtype.py", "ops/convolution_primitives.py", "ops/depthwise_primitives.py",
                            "ops/fourier_primitives.py")


@lru_cache(maxsize=1)
def generator_version() -> str:
    """A digest of everything that decides what code a kernel becomes: the generator's sources and LLVM's version."""
    import llvmlite

    import torsh
    package = Path(torsh.__file__).parent
    digest = hashlib.sha256(llvmlite.__version__.encode())
    for path in [*sorted((package / "codegen" / "llvm").glob("*.py")), *[package / name for name in GENERATOR_SOURCES]]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


@lru_cache(maxsize=1)
def _compiler() -> Any:
    """The process's JIT compiler; it only links objects."""
    import llvmlite.binding as llvm
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.create_lljit_compiler()


def emit_object(text: str, triple: str, cpu: str = "", features: str = "", level: int = 1) -> bytes:
    """The position-independent object file of an LLVM module; ``level``: of the optimisation in code generation."""
    import llvmlite.binding as llvm
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, features=features, opt=level, reloc="pic",
                                                                    codemodel="small")
    with llvm.parse_assembly(text) as module:
        module.verify()
        return bytes(machine.emit_object(module))


def image_of(kernel: Kernel, target: Target) -> tuple[str, bytes]:
    """(name of the function, object) of a kernel: from disk, or generated and kept there."""
    key = object_cache.key_of(repr(kernel), target.key, generator_version())
    symbol = f"torsh_{key[:24]}"
    image = object_cache.load(key)
    if image is None:
        from torsh.codegen.llvm import generate
        image = emit_object(generate(kernel, target, symbol), target.triple, target.cpu, target.features)
        statistics["compiled"] += 1
        object_cache.store(key, image)
    return symbol, image


def addresses_of(kernels: Iterable[Kernel]) -> list[int]:
    """Addresses of the native functions of kernels."""
    result = []
    for kernel in kernels:
        address = _addresses.get(kernel)
        if address is None:
            with _lock:
                address = _addresses.get(kernel) or _load(kernel)
        result.append(address)
    return result


def _load(kernel: Kernel) -> int:
    from torsh.codegen.llvm import imports_of
    target = host_target()
    wanted = imports_of(kernel, target)
    imports = dict(zip(wanted, addresses_of(wanted.values()), strict=True))
    symbol, image = image_of(kernel, target)
    address = _addresses[kernel] = link(symbol, image, imports)
    statistics["loaded"] += 1
    return address


def link(symbol: str, image: bytes, imports: Mapping[str, int]) -> int:
    """Load an object into the process, for good: the address of its symbol. imports: addresses of symbols that it wants."""
    import llvmlite.binding as llvm
    builder = llvm.JITLibraryBuilder().add_object_img(image).add_current_process().export_symbol(symbol)
    for name, address in imports.items():
        builder.import_symbol(name, address)
    loaded = builder.link(_compiler(), f"{symbol}.{next(_numbers)}")
    _loaded.append(loaded)
    return int(loaded[symbol])


_numbers: Final = itertools.count()       # a name is used once, even if loading is interrupted
_loaded: Final[list[Any]] = []            # loaded code stays as long as the process


@atexit.register
def _keep_code() -> None:
    """Threads may still be in a kernel when the interpreter ends: its code is not unloaded."""
    for library in _loaded:
        library.detach()
    if _loaded:
        _compiler().detach()
