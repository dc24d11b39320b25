"""One HTML file from a template: no request leaves it, nothing in the data can run in it, same content gives same bytes."""

from __future__ import annotations

import base64
import gzip
import hashlib
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from dnagrinder.genome.files import written_aside

_TEMPLATES = Path(__file__).parent / "templates"
_LONG_ALLELE = 14
_DASH = "–"
#: igv.js adds two style sheets, allowed by hash after our own, sets style attributes, and has icons in data: addresses.
_IGV_STYLES = (
    "style-src {} 'sha256-ITHmamcImsZ/Je1xrdtDLZVvRSpj1Zokb6uHXORB824=' "
    "'sha256-NTwDUA6nIvRRpI2lIBtHJqkV0TlTj4HVmI6vI81fIfM='; style-src-attr 'unsafe-inline'; img-src data:"
)


def write_page(template: str, destination: Path, content: Mapping[str, Any]) -> None:
    """Render ``template`` with ``content`` to ``destination``, written aside first.

    Style and scripts stand in the page; its content security policy names them by hash and forbids everything else. A page
    with a ``view`` (of :func:`dnagrinder.reports.loci.browser_view`) holds igv.js too, packed until the reader opens it.
    """
    style, scripts, igv = _own("style.css"), [_own("tables.js")], None
    styles, allowed = f"style-src {_hash(style)}", scripts
    if content.get("view"):
        scripts, igv = [*scripts, _own("browser.js")], _own("vendor/igv.min.js.gz.b64")
        styles, allowed = _IGV_STYLES.format(_hash(style)), [*scripts, gzip.decompress(base64.b64decode(igv)).decode()]
    policy = f"default-src 'none'; {styles}; script-src {' '.join(map(_hash, allowed))}; base-uri 'none'; form-action 'none'"
    page = (
        _environment()
        .get_template(template)
        .render(
            content,
            policy=policy,
            style=Markup(style),  # noqa: S704  (our own file)
            scripts=[Markup(script) for script in scripts],  # noqa: S704
            igv=igv and Markup(igv),  # noqa: S704
        )
    )
    with written_aside(destination) as aside:
        aside.write_text(page, encoding="utf-8", newline="\n")


def count(value: int | None) -> str:
    """``1234567`` -> ``1,234,567``."""
    return _DASH if value is None else f"{value:,}"


def number(value: float | None, digits: int = 2) -> str:
    """Fixed digits with a true minus sign; a dash where there is no number."""
    if value is None or not math.isfinite(value):
        return _DASH
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def significant(value: float | None, digits: int = 2) -> str:
    """A frequency or distance with ``digits`` significant digits: ``0.00019968`` -> ``0.0002``."""
    if value is None or not math.isfinite(value):
        return _DASH
    if value == 0 or abs(value) >= 10**digits:
        return f"{value:,.0f}".replace("-", "−")
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{value:.{decimals}f}".replace("-", "−") if decimals <= 7 else f"{value:.{digits - 1}e}".replace("-", "−")


def share(part: float | None, whole: float | None) -> str:
    """``part`` of ``whole`` in percent; never 0 % or 100 % for what is not exactly that."""
    if part is None or not whole:
        return _DASH
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return "< 0.1 %"
    return "> 99.9 %" if 99.9 < percent < 100 else f"{percent:.1f} %"


def bases(text: str) -> str:
    """A long allele cut to its first bases and its length."""
    return text if len(text) <= _LONG_ALLELE else f"{text[: _LONG_ALLELE - 4]}…({len(text)} bp)"


def words(text: str | None) -> str:
    """Annotation terms as words: ``intron_variant&NMD_variant`` -> ``intron variant, NMD variant``."""
    return _DASH if not text else text.replace("&", ", ").replace("_", " ").replace("|", ", ")


def _own(name: str) -> str:
    """A file of the templates' folder."""
    return (_TEMPLATES / name).read_text(encoding="utf-8")


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        count=count, number=number, significant=significant, bases=bases, words=words, href=lambda path: quote(path)
    )
    environment.globals.update(share=share)
    return environment


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
