"""The command line."""
from __future__ import annotations

import os
import subprocess
import sys

import pytest

from torsh import cli


def test_info_names_everything(capsys):
    assert cli.main(["info"]) == 0
    text = capsys.readouterr().out
    for word in ("torsh:", "python:", "numpy:", "llvmlite:", "devices:", "cpu", "CPU:", "threads:", "cache:", "BLAS:"):
        assert word in text


def test_cache_size_and_clear(tmp_path):
    env = {**os.environ, "TORSH_CACHE_DIR": str(tmp_path)}

    def run(*arguments):
        return subprocess.run([sys.executable, "-m", "torsh.cli", *arguments], env=env, capture_output=True, text=True,
                              check=True).stdout

    subprocess.run([sys.executable, "-c", "from torsh.backend.cpu import object_cache as c; c.store('0' * 64, b'object')"],
                   env=env, check=True, capture_output=True)
    assert str(tmp_path) in run("cache", "--size") and " 0 files" not in run("cache")
    assert "deleted" in run("cache", "--clear")
    assert " 0 files" in run("cache", "--size")


def test_bench_says_what_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(cli, "suite_directory", lambda: None)
    assert cli.main(["bench"]) == 1
    text = capsys.readouterr().out
    assert "PyTorch" in text and "benchmark suite" in text


def test_wrong_arguments(capsys):
    for arguments in ([], ["nonsense"], ["info", "--nonsense"]):
        with pytest.raises(SystemExit):
            cli.main(arguments)
