"""The command line: ``torsh info``, ``torsh cache``, ``torsh bench``."""
from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Final

from torsh.version import __version__

DEPENDENCIES: Final = ("numpy", "llvmlite", "ml_dtypes", "safetensors")
# Instruction sets that decide how kernels are compiled.
FEATURES: Final = ("avx512f", "avx512vl", "avx512bf16", "amx-tile", "avx2", "fma", "f16c", "neon", "fp16", "bf16", "sve")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    parser = argparse.ArgumentParser(prog="torsh", description="ToRSh: PyTorch's API, recorded and compiled.")
    parser.add_argument("--version", action="version", version=f"torsh {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info", help="versions, devices, CPU features, cache, threads")
    cache = commands.add_parser("cache", help="the compiled kernels on disk")
    cache.add_argument("--clear", action="store_true", help="delete them all")
    cache.add_argument("--size", action="store_true", help="print their number and size (the default)")
    commands.add_parser("bench", help="compare with PyTorch; further arguments go to the benchmark suite", add_help=False)
    options, rest = parser.parse_known_args(arguments)
    if options.command == "bench":
        return bench(rest)
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if options.command == "info":
        print("\n".join(f"{name + ':':<14}{value}" for name, value in info()))
        return 0
    return clear_cache() if options.clear else print_cache_size()


def installed(name: str) -> str:
    """Version of a distribution, or that it is missing."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def info() -> Iterator[tuple[str, str]]:
    """What ``torsh info`` prints, as (name, value)."""
    import torsh
    from torsh.core.device import KNOWN_TYPES, Device

    yield "torsh", __version__
    yield "python", f"{platform.python_version()} ({platform.python_implementation()})"
    yield "system", f"{platform.system()} {platform.release()} {platform.machine()}"
    for name in DEPENDENCIES:
        yield name, installed(name)
    available = [d for d in KNOWN_TYPES if d != "meta" and Device(d).is_available()]
    yield "devices", ", ".join(available)
    yield "CPU", ", ".join(cpu())
    yield "threads", f"{torsh.get_num_threads()} of {os.cpu_count()} cores"
    yield "backend", os.environ.get("TORSH_BACKEND", "cpu")
    count, size = cache_contents()
    yield "kernel cache", f"{cache_directory()} ({count} files, {size / 2**20:.1f} MiB)"
    yield "BLAS", "not used: matrix products are ToRSh's own kernels"


def cpu() -> Iterator[str]:
    """Name of the processor as the compiler knows it, and its instruction sets."""
    try:
        import llvmlite.binding as llvm
    except ImportError:
        yield f"{platform.machine()} (llvmlite is not installed)"
        return
    yield llvm.get_host_cpu_name()
    features = llvm.get_host_cpu_features()
    yield from (name for name in FEATURES if features.get(name))


def cache_directory() -> Path:
    """Where compiled kernels are kept."""
    from torsh.backend.cpu import object_cache as cache
    return Path(cache.directory())


def cache_contents() -> tuple[int, int]:
    """(number of files, bytes) in the cache."""
    files = [f for f in cache_directory().rglob("*") if f.is_file()] if cache_directory().is_dir() else []
    return len(files), sum(f.stat().st_size for f in files)


def print_cache_size() -> int:
    """``torsh cache``"""
    count, size = cache_contents()
    print(f"{cache_directory()}: {count} files, {size / 2**20:.1f} MiB")
    return 0


def clear_cache() -> int:
    """``torsh cache --clear``"""
    from torsh.backend.cpu import object_cache as cache
    count, size = cache_contents()
    cache.clear()
    print(f"{cache_directory()}: {count} files, {size / 2**20:.1f} MiB deleted")
    return 0


def suite_directory() -> Path | None:
    """The directory that holds the benchmark suite (a package ``bench``)."""
    project = Path(__file__).resolve().parent.parent
    here = Path.cwd()
    places = [here, project, project / "benchmarks", *(p / "shared" for p in (here, here.parent, project.parent))]
    return next((p for p in places if (p / "bench" / "cli.py").is_file()), None)


def bench(arguments: list[str]) -> int:
    """``torsh bench``: run the suite if it and PyTorch are there, otherwise say what is missing."""
    suite = suite_directory()
    missing = []
    if importlib.util.find_spec("torch") is None:
        missing.append("PyTorch, to compare with (pip install torch)")
    if suite is None:
        missing.append("the benchmark suite (a directory 'bench' here, or in a directory 'shared' beside the project)")
    if missing or suite is None:
        print("torsh bench needs " + " and ".join(missing) + ".")
        return 1
    project = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join([project, *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.call([sys.executable, "-m", "bench", *(arguments or ["--quick"])], cwd=suite,
                           env={**os.environ, "PYTHONPATH": path})


if __name__ == "__main__":
    sys.exit(main())
