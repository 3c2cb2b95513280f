"""MKL, which ToRSh does not use."""
from __future__ import annotations


def is_available() -> bool:
    """Is MKL there?"""
    return False
