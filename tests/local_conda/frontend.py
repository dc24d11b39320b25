"""The parts of conda's command line that Snakemake calls. Solving and linking are real (py-rattler), the channel is local.

Variables: LOCAL_CONDA_ROOT is the installation's folder (bin/conda, bin/activate), LOCAL_CONDA_CHANNELS the folder with the
channels by their names. Every call is noted in LOCAL_CONDA_ROOT/calls.txt.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from itertools import pairwise
from pathlib import Path

ROOT = Path(os.environ["LOCAL_CONDA_ROOT"])
VERSION = "24.7.1"  # the oldest that Snakemake 9 takes


async def create(file: Path, prefix: Path) -> None:
    """Solve an environment file against the local channels and link the packages into a folder."""
    import rattler
    import yaml

    asked = yaml.safe_load(file.read_text())
    alias = rattler.ChannelConfig(channel_alias=f"file://{os.environ['LOCAL_CONDA_CHANNELS']}/")
    channels = [rattler.Channel(name, alias) for name in asked["channels"] if name != "nodefaults"]
    virtual = rattler.VirtualPackage.detect()
    solved = await rattler.solve(channels, asked["dependencies"], platforms=["linux-64", "noarch"], virtual_packages=virtual)
    await rattler.install(solved, prefix, cache_dir=ROOT / "pkgs", show_progress=False)


def main(arguments: list[str]) -> None:
    """Answer one call."""
    with (ROOT / "calls.txt").open("a") as calls:
        calls.write(" ".join(arguments) + "\n")
    if arguments == ["--version"]:
        print("conda", VERSION)
    elif arguments[:1] == ["info"]:
        print(json.dumps({"conda_prefix": str(ROOT), "platform": "linux-64"}))
    elif arguments[:2] == ["config", "--get"]:
        print(json.dumps({"get": {"channel_priority": "strict"}}))
    elif arguments[:2] == ["env", "create"]:
        option = dict(pairwise(arguments))
        asyncio.run(create(Path(option["--file"]), Path(option["--prefix"])))
    elif arguments[:1] != ["clean"]:
        sys.exit(f"not a call that Snakemake makes: conda {' '.join(arguments)}")


if __name__ == "__main__":
    main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(0)  # the solver library's threads now and then crash the interpreter's own end
