"""What all tests share: every program that is compiled is checked by the compiler's verifier."""
from __future__ import annotations

from torsh.compiler import program

program.VERIFY[0] = True
