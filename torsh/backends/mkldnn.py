"""oneDNN, which ToRSh does not use."""
from __future__ import annotations

enabled: bool = False


def is_available() -> bool:
    """Is oneDNN there?"""
    return False
