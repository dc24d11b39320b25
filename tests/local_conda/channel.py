"""Write a conda channel from what this machine has: its Python, installed distributions, stand-ins for programs.

    python channel.py FOLDER REQUEST.json

FOLDER/conda-forge becomes a channel that a conda solver reads. The request holds ``distributions`` (Python packages; what
they require comes along), ``programs`` (package to its version and the program of this machine that it stands for) and
``meta`` (package to its version and what it depends on). Needs py-rattler and zstandard.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import zstandard
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from rattler.index import index_fs

CONDA_NAMES = {"torch": "pytorch"}
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
LEFT_OUT = {"test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3", "site-packages", "__pycache__"}
PIPS_OWN = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}
Content = Path | bytes | str  # a file or link of this machine, what a program's text is, where a new link points


def packed(files: dict[str, Content]) -> bytes:
    """A .tar.zst of the files by their names in it; bytes become executable files, a str a symbolic link."""
    out = io.BytesIO()
    with (
        zstandard.ZstdCompressor(level=1).stream_writer(out, closefd=False) as stream,
        tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.mode = 0o755
            if isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
                archive.addfile(entry)
            elif isinstance(content, bytes):
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
            else:
                entry.size, entry.mode = content.stat().st_size, content.stat().st_mode & 0o777
                with content.open("rb") as opened:
                    archive.addfile(entry, opened)
    return out.getvalue()


def path_entry(name: str, content: Content) -> dict[str, str | int]:
    """The file as a package's paths.json names it."""
    if isinstance(content, str):
        return {"_path": name, "path_type": "softlink", "sha256": hashlib.sha256(b"").hexdigest(), "size_in_bytes": 0}
    if isinstance(content, bytes):
        digest, size = hashlib.sha256(content).hexdigest(), len(content)
    else:
        with content.open("rb") as opened:
            digest, size = hashlib.file_digest(opened, "sha256").hexdigest(), content.stat().st_size
    return {"_path": name, "path_type": "hardlink", "sha256": digest, "size_in_bytes": size}


def write_package(
    channel: Path,
    name: str,
    version: str,
    depends: Iterable[str],
    files: dict[str, Content],
    scripts: list[str] | None = None,
) -> None:
    """One .conda file; with ``scripts`` (console entry points) a `noarch: python` package, else one for linux-64."""
    subdir = "linux-64" if scripts is None else "noarch"
    index = {"name": name, "version": version, "build": "0", "build_number": 0, "depends": sorted(depends), "subdir": subdir}
    info: dict[str, Content] = {}
    if scripts is not None:
        index["noarch"] = "python"
        link = {"noarch": {"type": "python", "entry_points": scripts}, "package_metadata_version": 1}
        info["info/link.json"] = json.dumps(link).encode()
    entries = [path_entry(path, content) for path, content in files.items()]
    info["info/index.json"] = json.dumps(index).encode()
    info["info/paths.json"] = json.dumps({"paths": entries, "paths_version": 1}).encode()
    info["info/files"] = "".join(f"{path}\n" for path in files).encode()
    (channel / subdir).mkdir(parents=True, exist_ok=True)
    stem = f"{name}-{version}-0"
    with zipfile.ZipFile(channel / subdir / f"{stem}.conda", "w", zipfile.ZIP_STORED) as package:
        package.writestr("metadata.json", json.dumps({"conda_pkg_format_version": 2}))
        package.writestr(f"pkg-{stem}.tar.zst", packed(files))
        package.writestr(f"info-{stem}.tar.zst", packed(info))


def pack_python(channel: Path) -> None:
    """This interpreter and its standard library; a shared libpython stays where it is."""
    base = Path(sys.base_prefix)
    files: dict[str, Content] = {f"bin/python{PYTHON}": (base / "bin" / f"python{PYTHON}").resolve()}
    files |= {f"bin/{name}": f"python{PYTHON}" for name in ("python", "python3")}
    library = base / "lib" / f"python{PYTHON}"
    for folder, folders, names in os.walk(library):
        folders[:] = [name for name in folders if name not in LEFT_OUT and not name.startswith("config-")]
        files |= {str((Path(folder) / name).relative_to(base)): Path(folder) / name for name in names}
    write_package(channel, "python", sys.version.split()[0], [], files)


def with_requirements(names: Iterable[str]) -> dict[str, metadata.Distribution]:
    """The installed distributions of these names and all that they require here."""
    found: dict[str, metadata.Distribution] = {}
    waiting = [str(canonicalize_name(name)) for name in names]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = metadata.distribution(name)
            waiting += requirements(found[name])
    return found


def requirements(distribution: metadata.Distribution) -> list[str]:
    """Names of what a distribution requires on this machine, without its extras."""
    wanted = [Requirement(text) for text in distribution.requires or []]
    return [
        str(canonicalize_name(each.name)) for each in wanted if each.marker is None or each.marker.evaluate({"extra": ""})
    ]


def pack_distribution(channel: Path, name: str, distribution: metadata.Distribution) -> None:
    """An installed distribution's files below site-packages; its commands are made again from the entry points."""
    site = Path(str(distribution.locate_file("")))
    files: dict[str, Content] = {}
    for listed in distribution.files or []:
        path = Path(str(distribution.locate_file(listed)))
        inside = os.path.relpath(path, site)
        if path.is_file() and not inside.startswith("..") and "__pycache__" not in path.parts and path.name not in PIPS_OWN:
            files[f"site-packages/{inside}"] = path
    depends = [f"python >={PYTHON},<{PYTHON}.99", *(CONDA_NAMES.get(need, need) for need in requirements(distribution))]
    scripts = [f"{each.name} = {each.value}" for each in distribution.entry_points if each.group == "console_scripts"]
    write_package(channel, CONDA_NAMES.get(name, name), distribution.version.split("+")[0], depends, files, scripts)


def pack_program(channel: Path, name: str, version: str, program: str) -> None:
    """A program of this machine, called through a two-line script."""
    place = shutil.which(program)
    if place is None:
        sys.exit(f"the package {name} stands for the program {program}, which this machine does not have")
    write_package(channel, name, version, [], {f"bin/{program}": f'#!/bin/sh\nexec {place} "$@"\n'.encode()})


def main(folder: Path, request: Path) -> None:
    """Write the packages and the channel's index."""
    channel, wanted = folder / "conda-forge", json.loads(request.read_text())
    pack_python(channel)
    for name, distribution in with_requirements(wanted["distributions"]).items():
        pack_distribution(channel, name, distribution)
    for name, (version, program) in wanted["programs"].items():
        pack_program(channel, name, version, program)
    for name, (version, depends) in wanted["meta"].items():
        write_package(channel, name, version, depends, {})
    for each in (channel, folder / "bioconda"):
        for subdir in ("noarch", "linux-64"):
            (each / subdir).mkdir(parents=True, exist_ok=True)
        asyncio.run(index_fs(each, write_zst=False, write_shards=False, force=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
    sys.stdout.flush()
    os._exit(0)  # the solver library's threads now and then crash the interpreter's own end
