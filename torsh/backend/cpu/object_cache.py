"""Compiled kernels on disk.

One file per kernel, named by a digest of everything that decides its contents. A file holds a checksum and the object; it is
written under a temporary name and renamed, so processes may share a cache. A file that is damaged is deleted and counts as
missing. Without a writable directory everything works, only nothing is kept.
"""
from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Final

FORMAT: Final = b"torsh-object-1\n"
DEFAULT_LIMIT: Final = 1 << 30        # bytes; TORSH_CACHE_SIZE sets another

_totals: Final[dict[Path, int]] = {}    # bytes in a folder, as far as this process knows


def directory() -> Path:
    """Where objects are kept: ``TORSH_CACHE_DIR``, else ``torsh`` in the user's cache directory."""
    own = os.environ.get("TORSH_CACHE_DIR")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "torsh"


def limit() -> int:
    """Largest size of the cache in bytes."""
    return int(os.environ.get("TORSH_CACHE_SIZE", DEFAULT_LIMIT))


def key_of(text: str, target: str, compiler: str) -> str:
    """The name of an object: a digest of its source text, the target and the compiler's version."""
    parts = "\0".join((text, target, compiler))
    return hashlib.sha256(FORMAT + parts.encode()).hexdigest()


def load(key: str) -> bytes | None:
    """The object of a key, or None if it is not there (any more)."""
    path = directory() / f"{key}.o"
    try:
        data = path.read_bytes()
    except OSError:
        return None
    start = len(FORMAT) + 32
    body = data[start:]
    if data[:len(FORMAT)] != FORMAT or hashlib.sha256(body).digest() != data[len(FORMAT):start]:
        with contextlib.suppress(OSError):
            path.unlink()
        return None
    with contextlib.suppress(OSError):
        os.utime(path)                 # recently used files are evicted last
    return body


def store(key: str, body: bytes) -> None:
    """Keep an object; failures to write are no error."""
    folder = directory()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(FORMAT + hashlib.sha256(body).digest() + body)
            os.replace(name, folder / f"{key}.o")
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(name)
            return
    except OSError:
        return
    # Looking at all files takes long: it is done once, and when what this process has added may exceed the limit.
    total = _totals.get(folder)
    total = usage()[1] if total is None else total + len(body)
    _totals[folder] = total
    if total > limit():
        evict()


def entries() -> list[tuple[float, int, Path]]:
    """(time of last use, size, path) of all objects."""
    found = []
    with contextlib.suppress(OSError):
        for path in directory().glob("*.o"):
            with contextlib.suppress(OSError):
                stat = path.stat()
                found.append((stat.st_mtime, stat.st_size, path))
    return found


def usage() -> tuple[int, int]:
    """(number of objects, bytes)."""
    sizes = [size for _, size, _ in entries()]
    return len(sizes), sum(sizes)


def evict() -> None:
    """Delete the objects used longest ago until the cache is within its limit."""
    found = sorted(entries())
    total = sum(size for _, size, _ in found)
    for _, size, path in found:
        if total <= limit():
            break
        with contextlib.suppress(OSError):
            path.unlink()
        total -= size
    _totals[directory()] = total


def clear() -> None:
    """Delete all objects."""
    for _, _, path in entries():
        with contextlib.suppress(OSError):
            path.unlink()
