"""The NumPy backend: every operation through its reference. The oracle that compiled programs are compared with."""
from __future__ import annotations

from torsh.backend.reference.evaluate import ReferenceBackend, ReferenceProgram, evaluate, storage_of_array

__all__ = ["ReferenceBackend", "ReferenceProgram", "evaluate", "storage_of_array"]
