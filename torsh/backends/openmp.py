"""OpenMP, which ToRSh does not use: it has its own threads (:func:`torsh.set_num_threads`)."""
from __future__ import annotations


def is_available() -> bool:
    """Is OpenMP there?"""
    return False
