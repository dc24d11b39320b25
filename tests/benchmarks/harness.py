"""Timing and reporting that all benchmarks share."""

from __future__ import annotations

import argparse
import csv
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

REPOSITORY = Path(__file__).resolve().parent.parent.parent
RESULTS = Path(__file__).with_name("results.csv")
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
LIMITS = ("DNAGRINDER_CPU", "ONEDNN_MAX_CPU_ISA")  # smaller instruction sets for our kernels and for torch's products
COLUMNS = (
    "benchmark",
    "kind",
    "setting",
    "metric",
    "median",
    "p20",
    "p80",
    "repeats",
    "threads",
    "processor",
    "torch",
    "python",
)


@dataclass
class Destination:
    """Where rows go; ``folder`` None keeps them on the screen."""

    folder: Path | None = RESULTS.parent

    def file(self, name: str) -> Path | None:
        """A file of that name beside the results, or None where nothing is to be written."""
        return self.folder / name if self.folder else None


DESTINATION = Destination()


@dataclass(frozen=True)
class Timing:
    """Seconds of each repeat, of the process's CPU unless another clock was given.

    With one thread CPU seconds hardly notice other load on the machine.
    """

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median of the repeats."""
        return statistics.median(self.seconds)

    def quantile(self, share: float) -> float:
        """The repeat at a share of the sorted repeats."""
        ordered = sorted(self.seconds)
        return ordered[round(share * (len(ordered) - 1))]


def option_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser that shows the script's docstring as it stands and knows the options of all benchmarks."""
    parser = argparse.ArgumentParser(description=description, formatter_class=_Formatter)
    parser.add_argument("--no-csv", action="store_true", help="print only, write no rows")
    return parser


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    pass


def start(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the command line, go down to one thread, and remember whether rows are to be written."""
    arguments = parser.parse_args()
    if arguments.no_csv:
        DESTINATION.folder = None
    torch.set_num_threads(1)
    return arguments


def interleaved(
    functions: Mapping[str, Callable[[], object]],
    repeats: int,
    *,
    warm_up: bool = True,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, Timing]:
    """Run the functions in turn, once for warm-up (unless told not to) and ``repeats`` times for the clock."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for repeat in range(0 if warm_up else 1, repeats + 1):
        for name, function in functions.items():
            started = clock()
            function()
            if repeat:
                times[name].append(clock() - started)
    return {name: Timing(tuple(values)) for name, values in times.items()}


def repeated(function: Callable[[], object], calls: int) -> Callable[[], None]:
    """The function ``calls`` times over: what is too short for the clock."""

    def run() -> None:
        for _ in range(calls):
            function()

    return run


def report(benchmark: str, setting: str, timings: dict[str, Timing], scale: dict[str, float], baseline: str) -> None:
    """Print medians and ratios to ``baseline``, and append one row a kind to results.csv.

    ``scale`` multiplies a kind's times where only a part of the work was run (1 elsewhere).
    """
    base = timings[baseline].median * scale[baseline]
    for kind, timing in timings.items():
        median = timing.median * scale[kind]
        print(f"{benchmark} {setting}: {kind} {median:.4g} CPU s, {base / median:.2f} x {baseline}", flush=True)
        record(benchmark, kind, setting, "CPU seconds", [seconds * scale[kind] for seconds in timing.seconds])


def record(
    benchmark: str, kind: str, setting: str, metric: str, values: Sequence[float], *, threads: int | None = None
) -> None:
    """Append one row to results.csv: median, 20th and 80th percentile of the values. ``threads`` None: torch's number."""
    path = DESTINATION.file(RESULTS.name)
    if path is None:
        return
    found = Timing(tuple(values))
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(COLUMNS)
        writer.writerow(
            [
                benchmark,
                kind,
                setting,
                metric,
                *(f"{value:.5g}" for value in (found.median, found.quantile(0.2), found.quantile(0.8))),
                len(values),
                threads or torch.get_num_threads(),
                processor(),
                torch.__version__,
                platform.python_version(),
            ]
        )


def judge(what: str, value: float, goal: float, *, at_least: bool = True) -> bool:
    """Print a value beside its goal, whether it was met, and return that."""
    met = value >= goal if at_least else value <= goal
    print(f"  {what}: {value:.3g} (goal {'>=' if at_least else '<='} {goal:g}: {'met' if met else 'missed'})", flush=True)
    return met


def dtype_name(dtype: torch.dtype) -> str:
    """``bfloat16`` for torch.bfloat16."""
    return str(dtype).removeprefix("torch.")


def shared_data() -> Path | None:
    """Folder with the real genomes and call sets (DNAGRINDER_DATA, or shared/data beside the checkout), if it is there."""
    folder = Path(os.environ.get("DNAGRINDER_DATA", REPOSITORY.parent / "shared" / "data"))
    return folder if (folder / "PROVENANCE.md").is_file() else None


@lru_cache(maxsize=1)
def processor() -> str:
    """Model of the processor and the instruction sets that matter here, and what the environment forbids of them."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    flags = next((line for line in lines if line.startswith("flags")), "")
    extras = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    extras += [f"{name}={os.environ[name]}" for name in LIMITS if name in os.environ]
    return f"{names[0] if names else platform.processor()} ({' '.join(extras)})"
