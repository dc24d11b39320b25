"""One dnagrinder command in a process of its own: ``measured.py FACTS.json COMMAND [OPTIONS]``.

FACTS.json gets ``cpu``, the CPU seconds of the command without the imports, and ``memory``, the largest resident set of the
process in MiB, with ``imports``, what of it was there before the command began.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pyarrow as pa

from dnagrinder.cli import app


def resident() -> float:
    """Largest resident set so far, MiB. (ru_maxrss would do, were it not that of the parent where that was larger.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def main() -> None:
    """Run the command on one thread and write the facts."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    imports, started = resident(), time.process_time()
    app(sys.argv[2:], standalone_mode=False)
    facts = {"cpu": time.process_time() - started, "memory": resident(), "imports": imports}
    Path(sys.argv[1]).write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
