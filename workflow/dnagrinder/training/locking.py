"""One training at a time in a folder."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dnagrinder.errors import ConfigError

LOCK = "lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The folder, made where absent, for this process alone; the system gives it back however the process ends.

    Raises:
        ConfigError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"training: another process is using {folder}; wait for it or stop it") from error
        yield
