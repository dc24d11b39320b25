"""A reference fetched by its address is accepted only with the right checksum."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from dnagrinder.download import download, main
from dnagrinder.errors import InputError


def test_file_with_the_right_checksum_is_written(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b">1\nACGT\n")
    checksum = hashlib.sha256(b">1\nACGT\n").hexdigest()
    target = tmp_path / "new" / "target"
    assert main([(tmp_path / "source").as_uri(), checksum, str(target)]) == 0
    assert target.read_bytes() == b">1\nACGT\n"
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_wrong_checksum_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "source").write_bytes(b"x")
    assert main([(tmp_path / "source").as_uri(), "0" * 64, str(tmp_path / "new" / "target")]) == InputError.exit_code
    assert "expected 0000" in capsys.readouterr().err
    assert list((tmp_path / "new").iterdir()) == []


def test_address_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be fetched"):
        download((tmp_path / "absent").as_uri(), "0" * 64, tmp_path / "target")
    with pytest.raises(InputError, match="not an address"):
        download("gopher://x", "0" * 64, tmp_path / "target")


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err
