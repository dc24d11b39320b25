"""Timing and reporting that all benchmarks share."""

from __future__ import annotations

import csv
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

RESULTS = Path(__file__).with_name("results.csv")
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


@dataclass(frozen=True)
class Timing:
    """Process CPU seconds of each repeat; with one thread they hardly notice other load on the machine."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median of the repeats."""
        return statistics.median(self.seconds)

    def quantile(self, share: float) -> float:
        """The repeat at a share of the sorted repeats."""
        ordered = sorted(self.seconds)
        return ordered[round(share * (len(ordered) - 1))]


def interleaved(functions: dict[str, Callable[[], object]], repeats: int) -> dict[str, Timing]:
    """Run the functions in turn, once for warm-up and ``repeats`` times for the clock."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for repeat in range(repeats + 1):
        for name, function in functions.items():
            started = time.process_time()
            function()
            if repeat:
                times[name].append(time.process_time() - started)
    return {name: Timing(tuple(values)) for name, values in times.items()}


def report(benchmark: str, setting: str, timings: dict[str, Timing], scale: dict[str, float], baseline: str) -> None:
    """Print medians and ratios to ``baseline``, and append one row a kind to results.csv.

    ``scale`` multiplies a kind's times where only a part of the work was run (1 elsewhere).
    """
    base = timings[baseline].median * scale[baseline]
    new = not RESULTS.exists()
    with RESULTS.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(COLUMNS)
        for kind, timing in timings.items():
            factor = scale[kind]
            median = timing.median * factor
            print(f"{benchmark} {setting}: {kind} {median:.4f} CPU s, {base / median:.1f} x {baseline}")
            writer.writerow(
                [
                    benchmark,
                    kind,
                    setting,
                    "CPU seconds",
                    *(f"{value * factor:.5f}" for value in (timing.median, timing.quantile(0.2), timing.quantile(0.8))),
                    len(timing.seconds),
                    torch.get_num_threads(),
                    _processor(),
                    torch.__version__,
                    platform.python_version(),
                ]
            )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    flags = next((line for line in lines if line.startswith("flags")), "")
    extras = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    return f"{names[0] if names else platform.processor()} ({' '.join(extras)})"
