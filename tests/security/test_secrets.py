"""Names, passwords and tokens of addresses: refused in settings, taken from netrc, told nowhere."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml

from dnagrinder.download import _request, download, main
from dnagrinder.errors import ConfigError, InputError, without_secrets
from dnagrinder.settings import load_settings

SECRET = "hunter2"  # noqa: S105
SHA256 = "0" * 64
ADDRESSES = [
    f"https://user:{SECRET}@example.org/genome.fa",
    f"https://{SECRET}@example.org/genome.fa",
    f"ftp://user:{SECRET}@example.org:21/genome.fa",
    f"https://user:a/{SECRET}@example.org/genome.fa",
    f"https://user:{SECRET}@[::1/genome.fa",
]
TOKENS = [f"https://example.org/genome.fa?X-Amz-Signature={SECRET}&x=1", f"file:///absent?token={SECRET}"]


@pytest.mark.parametrize("address", [*ADDRESSES, *TOKENS])
def test_messages_hold_none(address: str) -> None:
    text = without_secrets(f"error at {address}: and {address!r} again")
    assert SECRET not in text
    assert text.startswith("error at ")
    assert text.endswith(" again")
    assert SECRET not in str(InputError(address))
    assert SECRET not in str(ConfigError("x", [f"y {address}"]))
    assert SECRET not in ConfigError("x", [f"y {address}"]).problems[0]


PLAIN = ("https://example.org:8080/@scope/x.fa", "VCF a@b.vcf, line 3: 1?2", "a://b/c#d@e", "mail@example.org")


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_no_secret_stays(text: str) -> None:
    assert without_secrets(text) == text


@pytest.mark.parametrize("address", ADDRESSES)
def test_settings_refuse_them(tmp_path: Path, address: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings({"reference": {"url": address, "sha256": SHA256}, "checkpoint": "mini"}, tmp_path)
    assert "netrc" in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("address", [ADDRESSES[0].replace("https", "htps"), ADDRESSES[0].replace("https", "")])
def test_settings_tell_none_of_an_address_that_is_wrong_otherwise(tmp_path: Path, address: str) -> None:
    for reference in (address, {"url": address, "sha256": SHA256}):
        with pytest.raises(ConfigError) as caught:
            load_settings({"reference": reference, "checkpoint": "mini"}, tmp_path)
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize("address", [*ADDRESSES, TOKENS[1], f"http://127.0.0.1:9/x?{SECRET}"])
def test_a_download_tells_none(tmp_path: Path, capsys: pytest.CaptureFixture[str], address: str) -> None:
    assert main([address, SHA256, str(tmp_path / "out")]) == InputError.exit_code
    assert SECRET not in "".join(capsys.readouterr())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("checksum", [{}, {"sha256": ""}, {"sha256": None}])
def test_nothing_is_fetched_without_a_checksum(tmp_path: Path, checksum: dict[str, str | None]) -> None:
    reference = {"url": "http://example.org/x.fa"} | checksum
    with pytest.raises(ConfigError, match="sha256"):
        load_settings({"reference": reference, "checkpoint": "mini"}, tmp_path)


def test_a_server_named_in_netrc_gets_its_password_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine example.org login user password {SECRET}\ndefault login all password {SECRET}\n")
    monkeypatch.setenv("NETRC", str(netrc))
    asked = _request("https://example.org/genome.fa")
    assert asked.unredirected_hdrs["Authorization"].startswith("Basic ")
    assert asked.headers == {}
    for other in ("https://example.com/genome.fa", "http://example.org/genome.fa", "ftp://example.org/genome.fa"):
        assert _request(other).unredirected_hdrs == {}
    handler = urllib.request.HTTPRedirectHandler()
    for place in ("https://elsewhere.org/x", "https://example.org/y"):
        moved = handler.redirect_request(asked, None, 302, "Found", {}, place)  # type: ignore[arg-type]
        assert moved is not None
        assert not moved.has_header("Authorization")
    netrc.write_text(f"machine example.org login user password {SECRET} nonsense {SECRET}\n")
    with pytest.raises(InputError, match="netrc, line 1 cannot be read") as caught:
        download("https://example.org/genome.fa", SHA256, tmp_path / "out")
    assert SECRET not in str(caught.value)


def test_snakemake_shows_none(tmp_path: Path, repository: Path) -> None:
    (tmp_path / "config").mkdir()
    settings = {"reference": {"url": ADDRESSES[0], "sha256": SHA256}, "check_inputs": False}
    (tmp_path / "config" / "config.yaml").write_text(yaml.safe_dump(settings))
    (tmp_path / "config" / "samples.tsv").write_text("sample\tvcf\na\ta.vcf\n")
    command = [sys.executable, "-m", "snakemake", "-n", "-p", "-s", str(repository / "workflow" / "Snakefile")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "netrc" in done.stdout + done.stderr
    assert SECRET not in done.stdout + done.stderr
    kept = [path for path in (tmp_path / ".snakemake").rglob("*") if path.is_file()]
    assert not [path for path in kept if SECRET.encode() in path.read_bytes()]
