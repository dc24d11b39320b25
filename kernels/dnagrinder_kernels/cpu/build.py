"""Compiles the C++ kernels on first use, for the instruction set of this processor, into a per-user cache.

The cache key covers sources, compiler, flags and instruction set; the library is linked aside and renamed, under a file
lock, so that any number of processes may start at once. ``DNAGRINDER_CACHE`` names another cache folder, ``DNAGRINDER_CPU``
a smaller instruction set (for tests and comparisons), ``CXX`` another compiler.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

SOURCES = Path(__file__).with_name("csrc")
UNITS = ("attention.cpp", "linear.cpp", "rowwise.cpp")
COMMON_FLAGS = ("-O3", "-std=c++17", "-fopenmp", "-shared", "-fPIC", "-fno-math-errno")

# Instruction sets, smallest first: what /proc/cpuinfo must list, and the compiler's flags. Each includes those above it.
_AVX512 = ("avx512f", "avx512bw", "avx512dq", "avx512vl")
INSTRUCTION_SETS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "avx2": (("avx2", "fma"), ("-mavx2", "-mfma")),
    "avx512": (_AVX512, tuple(f"-m{flag}" for flag in _AVX512)),
    "avx512_bf16": (("avx512_bf16",), ("-mavx512bf16",)),
    "amx_bf16": (("amx_tile", "amx_bf16"), ("-mamx-tile", "-mamx-bf16")),
}


class BuildError(Exception):
    """The C++ kernels cannot be had here; the message says why. Callers fall back to PyTorch."""


@lru_cache(maxsize=1)
def processor_flags() -> frozenset[str]:
    """Features of this processor as Linux names them; empty elsewhere."""
    info = Path("/proc/cpuinfo")
    if platform.machine() not in ("x86_64", "AMD64") or not info.is_file():
        return frozenset()
    line = next((line for line in info.read_text().splitlines() if line.startswith("flags")), ":")
    return frozenset(line.split(":", 1)[1].split())


def supported_instruction_sets() -> list[str]:
    """Names in INSTRUCTION_SETS that this processor has, smallest first."""
    found = []
    for name, (needed, _) in INSTRUCTION_SETS.items():
        if not set(needed) <= processor_flags():
            break
        found.append(name)
    return found


def chosen_instruction_set() -> str:
    """The largest supported one, or what DNAGRINDER_CPU asks for.

    Raises:
        BuildError: the processor has none of them.
        ValueError: DNAGRINDER_CPU names none that it has.
    """
    supported = supported_instruction_sets()
    asked = os.environ.get("DNAGRINDER_CPU")
    if asked:
        if asked not in supported:
            raise ValueError(f"DNAGRINDER_CPU is one of {', '.join(supported) or 'none on this processor'}, got {asked!r}")
        return asked
    if not supported:
        raise BuildError(f"the C++ kernels are for x86-64 processors with AVX2, this is {platform.machine()}")
    return supported[-1]


@lru_cache(maxsize=len(INSTRUCTION_SETS))
def load_library(instruction_set: str) -> ctypes.CDLL:
    """The compiled kernels for an instruction set; compiled where the cache lacks them (2 to 5 seconds).

    Raises:
        BuildError: no compiler, or it failed.
    """
    compiler = shutil.which(os.environ.get("CXX", "c++")) or shutil.which("g++")
    if compiler is None:
        raise BuildError("no C++ compiler was found (install g++ or name one in CXX)")
    flags = [*COMMON_FLAGS, *_flags_up_to(instruction_set)]
    name = f"dnagrinder-{instruction_set}-{_digest(compiler, flags)}.so"
    errors = []
    for folder in _cache_folders():
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            path = folder / name
            if not path.is_file():
                _compile_locked(compiler, flags, path)
            library = ctypes.CDLL(str(path))
        except OSError as error:  # read-only, full or not executable: the next folder
            errors.append(f"{folder}: {error}")
        else:
            if library.dnagrinder_prepare():
                raise BuildError(f"the operating system does not grant the use of {instruction_set}")
            return library
    raise BuildError(f"no folder for the compiled kernels could be used ({'; '.join(errors)})")


def _cache_folders() -> list[Path]:
    """Where compiled kernels may lie, best first. Only folders of this user: a library found there is run."""
    if asked := os.environ.get("DNAGRINDER_CACHE"):
        return [folder for folder in [Path(asked)] if _is_own_or_absent(folder)]
    folders = [Path(tempfile.gettempdir()) / f"dnagrinder-{os.getuid()}"]
    with suppress(RuntimeError):  # a user without a home
        folders.insert(0, Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dnagrinder")
    return [folder for folder in folders if _is_own_or_absent(folder)]


def _is_own_or_absent(folder: Path) -> bool:
    try:
        return not folder.exists() or folder.stat().st_uid == os.getuid()
    except OSError:  # in a folder that may not be searched
        return False


def _flags_up_to(instruction_set: str) -> list[str]:
    flags: list[str] = []
    for name, (_, options) in INSTRUCTION_SETS.items():
        flags += options
        if name == instruction_set:
            return flags
    raise ValueError(f"instruction set is one of {', '.join(INSTRUCTION_SETS)}, got {instruction_set!r}")


def _digest(compiler: str, flags: list[str]) -> str:
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    digest = hashlib.sha256("\n".join([compiler, version, *flags]).encode())
    for path in sorted(SOURCES.iterdir()):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:20]


def _compile_locked(compiler: str, flags: list[str], path: Path) -> None:
    """Compile into ``path`` unless another process has done so by the time the lock is ours; the rename is atomic."""
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.is_file():
            return
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            built = Path(scratch) / "library.so"
            units = [str(SOURCES / unit) for unit in UNITS]
            done = subprocess.run([compiler, *flags, *units, "-o", str(built)], capture_output=True, text=True, check=False)  # noqa: S603
            if done.returncode:
                lines = (
                    [line for line in done.stderr.splitlines() if "error" in line]
                    or done.stderr.splitlines()
                    or ["no message"]
                )
                if os.strerror(errno.ENOSPC) in done.stderr:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                raise BuildError(f"{compiler} could not compile the kernels: {lines[0]}")
            built.replace(path)
