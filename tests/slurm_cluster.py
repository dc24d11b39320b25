"""A real SLURM of one node with two fake GPUs, for tests: munge, controller and node daemon in a folder of their own.

Memory is watched without cgroups: the resident size is read every second and a step above its request is killed.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol")
DAEMON_PATHS = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
SYSTEM = Path("/etc/slurm")  # the jobs' inner srun looks here: the plugin drops SLURM_CONF from their environment
FILES = ("slurm.conf", "gres.conf", "cgroup.conf")
CPUS, MEMORY_MB, GPUS = 4, 64_000, 2
CONFIGURATION = """\
ClusterName=dnagrindertests
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
MinJobAge=86400
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
KillWait=5
OverTimeLimit=0
SchedulerParameters=sched_interval=2,sched_min_interval=0,batch_sched_delay=0
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
GresTypes=gpu
AccountingStorageType=accounting_storage/none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:test:{gpus} State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=600 DefaultTime=10 State=UP
PartitionName=gpu Nodes={host} Default=NO MaxTime=600 DefaultTime=10 State=UP
"""


class UnavailableError(Exception):
    """Why this machine cannot run the cluster."""


@dataclass(frozen=True)
class Cluster:
    """A cluster that is up; its configuration, logs and process ids lie in ``folder``."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """Variables that SLURM's commands need."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def command(self, *words: str) -> str:
        """What one of SLURM's commands prints; raises CalledProcessError where it fails."""
        variables = {**os.environ, **self.environment}
        return subprocess.run(words, env=variables, capture_output=True, text=True, check=True, timeout=60).stdout

    def jobs(self) -> list[dict[str, str]]:
        """All jobs that the controller knows, oldest first, in scontrol's words; ``Comment`` names rule and wildcards."""
        lines = self.command("scontrol", "show", "jobs", "--oneliner", "--details").splitlines()
        jobs = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in lines if line.startswith("JobId=")]
        return sorted(jobs, key=lambda job: int(job["JobId"]))


def wait_until(what: str, holds: Callable[[], bool], seconds: float = 60) -> None:
    """Look ten times a second until ``holds``; raises TimeoutError that names ``what``."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(0.1)


@contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    """Start the cluster in an empty folder and stop it afterwards; others that test on this machine wait for their turn.

    Raises:
        UnavailableError: a program is not installed, this is not root, or the machine belongs to a SLURM of its own.
    """
    absent = [program for program in PROGRAMS if shutil.which(program, path=DAEMON_PATHS) is None]
    if absent:
        raise UnavailableError(f"{', '.join(absent)} not installed (Debian: slurm-wlm, munge)")
    if os.geteuid() != 0:
        raise UnavailableError("the daemons and their device files need root")
    with Path(tempfile.gettempdir(), "dnagrinder-tests-slurm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        foreign = [SYSTEM / name for name in FILES if not _is_ours(SYSTEM / name)]
        if foreign:
            raise UnavailableError(f"{foreign[0]} exists: this machine has a SLURM of its own")
        cluster = Cluster(folder)
        try:
            _configure(folder)
            _start(cluster)
            yield cluster
        finally:
            _stop(cluster)


def _is_ours(path: Path) -> bool:
    """Whether a file of the system's configuration is absent or a link that an earlier, killed test left behind."""
    if not path.exists():
        return True
    settings = path.resolve().with_name("slurm.conf")
    return path.is_symlink() and settings.is_file() and CONFIGURATION.splitlines()[0] in settings.read_text()


def _configure(folder: Path) -> None:
    """Write all files and link them to where SLURM looks by default."""
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(128))
    with socket.socket() as one, socket.socket() as other:
        for opened in (one, other):
            opened.bind(("127.0.0.1", 0))
        ports = [opened.getsockname()[1] for opened in (one, other)]
    host = socket.gethostname().split(".")[0]
    text = CONFIGURATION.format(host=host, folder=folder, ports=ports, cpus=CPUS, memory=MEMORY_MB, gpus=GPUS)
    (folder / "slurm.conf").write_text(text)
    lines = []
    for number in range(GPUS):
        device = folder / f"gpu{number}"
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))  # a second /dev/null: SLURM wants a character device
        lines.append(f"Name=gpu Type=test File={device} Flags=nvidia_gpu_env\n")
    (folder / "gres.conf").write_text("".join(lines))
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n")
    SYSTEM.mkdir(exist_ok=True)
    for name in FILES:
        (SYSTEM / name).unlink(missing_ok=True)
        (SYSTEM / name).symlink_to(folder / name)


def _start(cluster: Cluster) -> None:
    folder = cluster.folder
    variables = {**os.environ, **cluster.environment, "PATH": DAEMON_PATHS}

    def daemon(*words: str) -> None:
        with (folder / "daemons.log").open("a") as log:
            subprocess.run(words, env=variables, stdout=log, stderr=log, check=True, timeout=60)

    munge = {"key-file": "munge.key", "socket": "munge.sock", "pid-file": "munged.pid", "log-file": "munged.log"}
    places = [f"--{option}={folder / name}" for option, name in {**munge, "seed-file": "munge.seed"}.items()]
    daemon("munged", "--force", *places)
    wait_until("munged's socket", (folder / "munge.sock").exists)
    daemon("slurmctld")
    daemon("slurmd")

    def idle() -> bool:
        try:
            return "State=IDLE" in cluster.command("scontrol", "show", "node", "--oneliner")
        except subprocess.CalledProcessError:  # the controller does not answer yet
            return False

    wait_until("an idle node", idle)


def _stop(cluster: Cluster) -> None:
    """End jobs, then daemons, by the process ids that they wrote down themselves, and take the links away."""
    if (cluster.folder / "slurmctld.pid").exists():
        subprocess.run(
            ["scancel", "--full", "--user=root"], env={**os.environ, **cluster.environment}, check=False, timeout=60
        )
    for name in ("slurmd", "slurmctld", "munged"):
        written = cluster.folder / f"{name}.pid"
        if written.exists():
            _end(int(written.read_text()))
    for name in FILES:
        link = SYSTEM / name
        if link.is_symlink() and link.readlink() == cluster.folder / name:
            link.unlink()


def _end(pid: int) -> None:
    def gone() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    if gone():
        return
    os.kill(pid, signal.SIGTERM)
    try:
        wait_until("the daemon's end", gone, seconds=10)
    except TimeoutError:
        os.kill(pid, signal.SIGKILL)
