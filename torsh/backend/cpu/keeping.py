"""Programs without the calls whose results are kept: operands that were brought into another order once.

A weight is watched (:mod:`torsh.backend.watch`) from the first run on that prepares it. The next run that finds it unchanged makes
the prepared form in memory of its own, and from then on runs the program with the preparing call left out; the calls that read
its result find the kept memory in additional table words, behind the constants.
"""
from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Hashable, Sequence
from typing import Final, NamedTuple

from torsh.backend.base import Storage
from torsh.backend.cpu.memory import allocate
from torsh.backend.cpu.native import RECORD_WORDS
from torsh.backend.watch import Watched, watch
from torsh.compiler.kernel import Call
from torsh.compiler.preparations import Preparation

MOST_VERSIONS: Final = 8         # of one program: by which of its preparations are left out
_KEYS: Final[dict[Hashable, object]] = {}      # of preparations: an object that is looked up faster than their parameters
_PARAMS, _UNITS, _CHUNK = 1, 2, 3       # words of a record


class Kept(NamedTuple):
    """What one run goes without: the address of the records, more words for the table, and memory to hold on to."""

    records: int
    words: bytes
    memory: list[Storage | None]


class Version(NamedTuple):
    """Records of a program's calls, and the parameters that are other ones than the program's own."""

    records: array[int]
    params: array[int]


class Keeper:
    """The preparations of one program.

    records, calls: of the program. word: number of the first additional table word. prepare: runs a call with the addresses of
    its operand and its result; False if that failed.
    """

    __slots__ = ("preparations", "records", "calls", "word", "prepare", "pack", "versions")

    def __init__(self, preparations: list[Preparation], records: array[int], calls: Sequence[Call], word: int,
                 prepare: Callable[[Call, int, int], bool]) -> None:
        self.preparations = [(p, p.leaf, _KEYS.setdefault(p.key, object())) for p in preparations]
        self.records = records
        self.calls = calls
        self.word = word
        self.prepare = prepare
        self.pack = struct.Struct(f"={len(preparations)}q").pack
        self.versions: dict[int, Version] = {}      # nothing is ever removed: another thread may be running it

    def kept_for(self, leaves: Sequence[Storage]) -> Kept | None:
        """What a run with these leaves can go without; None: nothing."""
        left_out = 0
        memory: list[Storage | None] = []
        new: list[tuple[Watched, Hashable]] = []
        for number, (preparation, leaf, key) in enumerate(self.preparations):
            form: Storage | None = None
            watched = watch(leaves[leaf])
            if watched is not None:
                form = watched.forms.get(key)
                if form is None and key in watched.forms:
                    form = self.made(preparation, leaves[leaf])
                    if form is not None:
                        watched.forms[key] = form
                elif form is None:
                    new.append((watched, key))          # not at once: the same weight may be there several times
                if form is not None:
                    left_out |= 1 << number
            memory.append(form)
        for watched, key in new:
            watched.forms.setdefault(key, None)
        version = self.version(left_out) if left_out else None
        if version is None:
            return None
        return Kept(version.records.buffer_info()[0], self.pack(*[0 if s is None else s.pointer for s in memory]), memory)

    def made(self, preparation: Preparation, operand: Storage) -> Storage | None:
        """The prepared form of an operand; None if there is no memory for it."""
        try:
            result = allocate(preparation.nbytes)
        except MemoryError:
            return None
        return result if self.prepare(preparation.call, operand.pointer, result.pointer) else None

    def version(self, left_out: int) -> Version | None:
        """The program without some of the preparations, by their bits; None if there are too many such versions."""
        found = self.versions.get(left_out)
        if found is None and len(self.versions) < MOST_VERSIONS:
            found = self.versions.setdefault(left_out, self.without(left_out))
        return found

    def without(self, left_out: int) -> Version:
        """Records without units for what is left out, and with other parameters for what reads its results."""
        records = array("q", self.records)
        patched: dict[int, list[int]] = {}
        for number, (preparation, _, _) in enumerate(self.preparations):
            if left_out >> number & 1:
                at = RECORD_WORDS * preparation.number
                records[at + _UNITS] = records[at + _CHUNK] = 0
                for consumer, position in preparation.consumers:
                    words = patched.setdefault(consumer, list(self.calls[consumer].params))
                    words[position:position + 2] = (self.word + number, 0)
        params = array("q", [w for words in patched.values() for w in words])
        address = params.buffer_info()[0]
        for consumer, words in patched.items():
            records[RECORD_WORDS * consumer + _PARAMS] = address
            address += params.itemsize * len(words)
        return Version(records, params)
