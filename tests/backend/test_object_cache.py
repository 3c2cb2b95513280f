"""The cache of compiled kernels: round trips, damage, eviction, unwritable places."""
from __future__ import annotations

import os

import pytest

from torsh.backend.cpu import object_cache


@pytest.fixture(autouse=True)
def own_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("TORSH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("TORSH_CACHE_SIZE", raising=False)


def test_round_trip_and_clear():
    key = object_cache.key_of("text", "cpu", "1")
    assert object_cache.load(key) is None
    object_cache.store(key, b"object")
    assert object_cache.load(key) == b"object"
    assert object_cache.usage()[0] == 1
    object_cache.clear()
    assert object_cache.load(key) is None and object_cache.usage() == (0, 0)


def test_keys_differ_by_everything():
    keys = {object_cache.key_of(a, b, c) for a in "xy" for b in "xy" for c in "xy"}
    assert len(keys) == 8


@pytest.mark.parametrize("damage", [lambda d: d[:-1], lambda d: d[:5], lambda d: b"", lambda d: d[:-1] + b"?"])
def test_damaged_files_count_as_missing(damage):
    key = object_cache.key_of("text", "cpu", "1")
    object_cache.store(key, b"object")
    path = object_cache.directory() / f"{key}.o"
    path.write_bytes(damage(path.read_bytes()))
    assert object_cache.load(key) is None
    assert not path.exists()
    object_cache.store(key, b"again")
    assert object_cache.load(key) == b"again"


def test_the_least_recently_used_go_first(monkeypatch):
    keys = [object_cache.key_of(str(i), "cpu", "1") for i in range(4)]
    for i, key in enumerate(keys[:3]):
        object_cache.store(key, bytes(1000))
        os.utime(object_cache.directory() / f"{key}.o", (i, i))
    object_cache.load(keys[0])
    monkeypatch.setenv("TORSH_CACHE_SIZE", "3200")
    object_cache.store(keys[3], bytes(1000))
    assert object_cache.load(keys[1]) is None
    assert object_cache.load(keys[0]) is not None and object_cache.load(keys[3]) is not None


def test_an_unusable_directory_is_no_error(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("TORSH_CACHE_DIR", str(blocked / "cache"))
    object_cache.store("0" * 64, b"object")
    assert object_cache.load("0" * 64) is None
