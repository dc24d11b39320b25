"""The compiled kernels: cache, lock, choice of the instruction set, and what happens without a compiler."""

import os
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from dnagrinder_kernels.cpu import build, native

needs_compiler = pytest.mark.skipif(native.library() is None, reason="no C++ compiler or no x86-64 processor with AVX2")
PROGRAM = """
import sys, torch
from dnagrinder_kernels import alibi_attention, alibi_slopes, attention_kind
q = torch.randn(50, 2, 32, generator=torch.Generator().manual_seed(0))
out = alibi_attention(q, q, q, cu_seqlens=torch.tensor([0, 50]), max_seqlen=50, slopes=alibi_slopes(2))
print(attention_kind(q), f"{out.double().sum():.4f}")
"""


def run_program(tmp_path, **environment):
    """A fresh process with its own cache; its standard output and error."""
    paths = os.pathsep.join(p for p in sys.path if p)
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("DNAGRINDER_") and k != "CXX"}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**inherited, "PYTHONPATH": paths, "DNAGRINDER_CACHE": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@needs_compiler
def test_processes_that_start_together_share_one_build(tmp_path):
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda _: run_program(tmp_path), range(3)))
    assert [d.stdout for d in done] == [done[0].stdout] * 3, done[0].stderr
    assert done[0].stdout.startswith("cpp")
    assert len(list(tmp_path.glob("*.so"))) == 1
    assert not [p for p in tmp_path.iterdir() if p.suffix not in (".so", ".lock")]
    before = next(tmp_path.glob("*.so")).stat().st_mtime_ns
    run_program(tmp_path)
    assert next(tmp_path.glob("*.so")).stat().st_mtime_ns == before


def test_without_a_compiler_pytorch_serves_and_says_so_once(tmp_path):
    done = run_program(tmp_path, PATH="/nonexistent")
    assert done.stdout.startswith("blocked")
    assert done.stderr.count("RuntimeWarning") == 1
    assert "no C++ compiler" in done.stderr


def test_a_compiler_that_fails_is_named(tmp_path):
    broken = tmp_path / "broken-compiler"
    broken.write_text("#!/bin/sh\necho 'error: I cannot' >&2\nexit 1\n")
    broken.chmod(0o755)
    done = run_program(tmp_path / "cache", CXX=str(broken))
    assert done.stdout.startswith("blocked")
    assert "broken-compiler could not compile the kernels: error: I cannot" in done.stderr


@needs_compiler
def test_a_cache_that_cannot_be_written_gives_way(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")  # a folder of this name cannot be made
    fallback = tmp_path / "fallback"
    monkeypatch.setattr(build, "_cache_folders", lambda: [blocked / "cache", fallback])
    build.load_library.cache_clear()
    try:
        build.load_library("avx2")
    finally:
        build.load_library.cache_clear()
    assert list(fallback.glob("*.so"))
    monkeypatch.setattr(build, "_cache_folders", lambda: [blocked / "cache"])
    try:
        with pytest.raises(build.BuildError, match="no folder for the compiled kernels"):
            build.load_library("avx2")
    finally:
        build.load_library.cache_clear()


def test_folders_of_another_user_are_not_trusted(tmp_path, monkeypatch):
    monkeypatch.setenv("DNAGRINDER_CACHE", str(tmp_path))
    assert build._cache_folders() == [tmp_path]
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    assert build._cache_folders() == []


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ((), []),
        (("avx2", "fma"), ["avx2"]),
        (("avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl"), ["avx2", "avx512"]),
        (("avx2", "fma", "avx512_bf16"), ["avx2"]),  # each set needs those below it
    ],
)
def test_the_processor_decides_the_instruction_set(flags, expected, monkeypatch):
    monkeypatch.delenv("DNAGRINDER_CPU", raising=False)
    monkeypatch.setattr(build, "processor_flags", lambda: frozenset(flags))
    assert build.supported_instruction_sets() == expected
    if expected:
        assert build.chosen_instruction_set() == expected[-1]
    else:
        with pytest.raises(build.BuildError, match="x86-64"):
            build.chosen_instruction_set()


def test_an_instruction_set_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setenv("DNAGRINDER_CPU", "neon")
    with pytest.raises(ValueError, match="DNAGRINDER_CPU is one of"):
        build.chosen_instruction_set()


def test_sources_travel_with_the_package():
    folder = Path(build.__file__).with_name("csrc")
    assert {p.name for p in folder.iterdir()} >= set(build.UNITS)


@needs_compiler
def test_small_work_stays_on_one_thread_and_large_work_uses_all():
    assert native._threads(native.PARALLEL_ELEMENTS - 1) == 1
    assert native._threads(native.PARALLEL_ELEMENTS) == torch.get_num_threads()


def test_the_warning_is_not_raised_where_the_kernels_are_there():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        native.library()
