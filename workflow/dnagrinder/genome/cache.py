"""What is remembered about references that lie where nothing can be written: their indices and digests.

A note is named after the file's path, size, times and inode, so one about another file is never taken. The time of the
content alone would not do: ``cp -p`` puts a masked copy of equal size in a file's place and keeps it. Where a file system
makes up times of change or inodes, a note is not found again and the file is read once more.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from dnagrinder.errors import OutputError
from dnagrinder.genome.files import written_aside


def cache_folders() -> list[Path]:
    """Where notes may lie, best first: the user's cache, then a folder of this user's among the temporary files."""
    folders = []
    with suppress(RuntimeError):  # a user without a home
        folders.append(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dnagrinder")
    passing = Path(tempfile.gettempdir()) / f"dnagrinder-{os.getuid()}"
    if _is_own(passing):
        folders.append(passing)
    return [folder / "reference" for folder in folders]


def _is_own(folder: Path) -> bool:
    """Whether a folder with a name that anybody could take is this user's alone; made where absent."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        facts = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid() and not facts.st_mode & 0o022


def cache_name(path: Path, ending: str) -> str:
    """What the cache calls something about this very file (path, size, times and inode)."""
    facts = path.stat()
    named = (path.resolve(), facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino)
    key = hashlib.sha256("\n".join(map(str, named)).encode()).hexdigest()[:16]
    return f"{path.name}.{key}.{ending}"


def remembered(path: Path) -> str | None:
    """The digest of a file that was kept earlier."""
    for folder in cache_folders():
        try:
            return str(json.loads((folder / cache_name(path, "digest.json")).read_text())["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def remember(path: Path, sha256: str) -> None:
    """Keep a digest for next time; where no cache can be written it is computed again."""
    for folder in cache_folders():
        try:
            with written_aside(folder / cache_name(path, "digest.json")) as aside:
                aside.write_text(json.dumps({"sha256": sha256}) + "\n")
        except (OSError, OutputError):
            continue
        return
