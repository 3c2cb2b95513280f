"""Settings of cuDNN, which ToRSh does not use. All algorithms of ToRSh are deterministic."""
from __future__ import annotations

enabled: bool = True
benchmark: bool = False
benchmark_limit: int | None = None
deterministic: bool = False
allow_tf32: bool = True


def is_available() -> bool:
    """Is cuDNN there?"""
    return False


def version() -> int | None:
    """cuDNN's version: None."""
    return None
