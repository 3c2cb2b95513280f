"""The Philox4x32-10 counter-based generator (Salmon et al., 2011), on int64 operands that hold 32 bits each."""
from __future__ import annotations

from torsh.codegen.llvm.writer import Operand, Writer

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_WORD = 0xFFFFFFFF
_ROUNDS = 10


def philox(m: Writer, word: int, seed: Operand, offset: Operand, counter: Operand) -> Operand:
    """Word ``word`` (0 ... 3) of the block with key ``seed`` and counter (counter, offset): an int64 in [0, 2 ** 32)."""
    lanes = max(v.lanes for v in (seed, offset, counter))
    keys = [seed & _WORD, seed >> 32]
    state = [m.splat(v, lanes) for v in (counter & _WORD, counter >> 32, offset & _WORD, offset >> 32)]
    for round_number in range(_ROUNDS):
        first, second = state[0] * _MULTIPLIERS[0], state[2] * _MULTIPLIERS[1]
        state = [(second >> 32) ^ state[1] ^ keys[0], second & _WORD, (first >> 32) ^ state[3] ^ keys[1], first & _WORD]
        if round_number < _ROUNDS - 1:
            keys = [(key + step) & _WORD for key, step in zip(keys, _KEY_STEPS, strict=True)]
    return state[word]
