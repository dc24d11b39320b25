"""The pages in a real browser: silent, offline, sortable and filterable by mouse and keyboard, readable in both schemes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.reports.cohort import write_cohort_report
from dnagrinder.reports.distribution import write_distribution
from dnagrinder.reports.sample import write_sample_report
from tests.reports.conftest import Cohort
from tests.reports.devtools import CHROMIUM, Browser

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH (Debian package chromium)"),
]
HEADS = 'Array.from(document.querySelectorAll("#snvs thead th"))'
CONTRAST = """
(() => {
  const channel = c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = text => {
    const [r, g, b] = text.match(/[\\d.]+/g).map(Number);
    return 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  };
  const behind = one => {
    for (; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if (!/, 0\\)$/.test(colour)) return colour;
    }
  };
  const written = "p, li, td, th, dd, dt, a, h1, h2, h3, button, summary, svg text, output";
  const ratios = Array.from(document.querySelectorAll(written)).map(one => {
    const style = getComputedStyle(one);
    const pair = [light(one.closest("svg") ? style.fill : style.color), light(behind(one))].sort((a, b) => b - a);
    return (pair[0] + 0.05) / (pair[1] + 0.05);
  });
  return Math.min(...ratios);
})()
"""


@pytest.fixture(scope="module")
def pages(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory, card: dict[str, Any]) -> dict[str, Path]:
    """The child's page and the cohort's."""
    out = tmp_path_factory.mktemp("pages")
    write_distribution(cohort.folders, out / "distribution.json")
    with ReferenceGenome.open(cohort.reference) as genome:
        write_sample_report(
            cohort.folders[0],
            out / "sample.html",
            card=card,
            annotated_vcf="scored.vcf.gz",
            distribution=out / "distribution.json",
            genome=genome,
        )
    write_cohort_report(cohort.folders, out / "cohort.html", scores=out / "scores.parquet", card=card)
    return {"sample": out / "sample.html", "cohort": out / "cohort.html"}


@pytest.fixture
def browser() -> Iterator[Browser]:
    """A fresh browser."""
    with Browser() as opened:
        yield opened


def column(name: str, shown_only: bool = True) -> str:
    """JavaScript for the texts of a column of the SNV table."""
    rows = "tr:not([hidden])" if shown_only else "tr"
    return f"""
    (() => {{
      const place = {HEADS}.findIndex(head => head.textContent.trim() === {name!r});
      return Array.from(document.querySelectorAll("#snvs tbody {rows}"), row => row.cells[place].textContent.trim());
    }})()
    """


def click(browser: Browser, name: str) -> None:
    """Click the header of a column of the SNV table where it is on the screen, as a mouse does."""
    place = browser.run(
        f"""
        (() => {{
          const button = {HEADS}.find(head => head.textContent.trim() === {name!r}).querySelector("button");
          button.scrollIntoView({{block: "center", behavior: "instant"}});
          const box = button.getBoundingClientRect();
          return [box.x + box.width / 2, box.y + box.height / 2];
        }})()
        """
    )
    for event in ("mousePressed", "mouseReleased"):
        browser.send("Input.dispatchMouseEvent", type=event, x=place[0], y=place[1], button="left", clickCount=1)


@pytest.mark.parametrize("name", ["sample", "cohort"])
def test_page_opens_offline_without_a_complaint(pages: dict[str, Path], browser: Browser, name: str) -> None:
    browser.send("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1)
    for scheme in ("light", "dark"):
        browser.scheme(scheme)
        browser.open(pages[name])
    assert browser.complaints == []
    assert browser.requests == [pages[name].as_uri()] * 2
    assert browser.run("document.querySelectorAll('table.sortable').length") >= 2
    assert browser.run("document.documentElement.scrollWidth") <= 1280


def test_the_browser_hears_complaints(tmp_path: Path, browser: Browser) -> None:
    page = tmp_path / "bad.html"
    page.write_text(
        "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; script-src 'unsafe-inline'\">"
        "<img src='https://example.invalid/x.png'><script>console.error('heard'); undefinedName()</script>"
    )
    browser.open(page)
    assert len(browser.complaints) == 3


def test_click_on_a_header_sorts_and_a_second_click_turns(pages: dict[str, Path], browser: Browser) -> None:
    browser.open(pages["sample"])
    assert browser.run(f"{HEADS}.map(head => head.getAttribute('aria-sort')).filter(Boolean)") == ["ascending"]
    names = browser.run(column("Consequence"))
    assert names != sorted(names)
    click(browser, "Consequence")
    assert browser.run(column("Consequence")) == sorted(names)
    click(browser, "Consequence")
    assert browser.run(column("Consequence")) == sorted(names, reverse=True)
    assert browser.run(f"{HEADS}.map(head => head.getAttribute('aria-sort')).filter(Boolean)") == ["descending"]
    assert browser.complaints == []


def test_numbers_sort_as_numbers(pages: dict[str, Path], browser: Browser) -> None:
    browser.open(pages["sample"])
    for name in ("Score", "Frequency", "± Spread", "Cosine dist."):
        click(browser, name)
        place = f"{HEADS}.findIndex(head => head.textContent.trim() === {name!r})"
        values = browser.run(
            f"Array.from(document.querySelectorAll('#snvs tbody tr'), row => Number(row.cells[{place}].dataset.value))"
        )
        assert len(values) == 50
        assert len(set(values)) > 10
        assert values == sorted(values, reverse=name == "Score"), name


def test_rows_without_a_value_stay_last(pages: dict[str, Path], browser: Browser) -> None:
    browser.open(pages["sample"])
    for _ in range(2):
        click(browser, "Clinical significance")
        names = browser.run(column("Clinical significance"))
        known = [name for name in names if name != "–"]
        assert 0 < len(known) < len(names)
        assert names[: len(known)] == known


def test_positions_sort_in_their_natural_order(pages: dict[str, Path], browser: Browser) -> None:
    browser.open(pages["sample"])
    click(browser, "Variant")
    positions = [int(text.split()[0].split(":")[1]) for text in browser.run(column("Variant"))]
    assert positions == sorted(positions)
    assert len({len(str(position)) for position in positions}) > 1, "otherwise text would sort alike"


def test_keyboard_sorts(pages: dict[str, Path], browser: Browser) -> None:
    browser.open(pages["sample"])
    browser.run("document.querySelector('#snvs-filter').focus()")
    browser.press("Tab", 9)
    if browser.run("document.activeElement.getAttribute('role')") == "region":
        browser.press("Tab", 9)
    assert browser.run("document.activeElement.closest('th')?.textContent.trim()") == "Variant"
    browser.press("Enter", 13, "\r")
    assert browser.run("document.activeElement.closest('th').getAttribute('aria-sort')") == "ascending"
    browser.press(" ", 32, " ")
    assert browser.run("document.activeElement.closest('th').getAttribute('aria-sort')") == "descending"


def test_filter_keeps_rows_with_all_words(pages: dict[str, Path], browser: Browser) -> None:
    browser.open(pages["sample"])
    everything = browser.run("Array.from(document.querySelectorAll('#snvs tbody tr'), row => row.textContent.toLowerCase())")
    browser.run("document.querySelector('#snvs-filter').focus()")
    browser.type("GENE2 missense")
    wanted = [text for text in everything if "gene2" in text and "missense" in text]
    shown = browser.run(
        "Array.from(document.querySelectorAll('#snvs tbody tr:not([hidden])'), row => row.textContent.toLowerCase())"
    )
    assert 0 < len(wanted) < len(everything)
    assert shown == wanted
    assert browser.run("document.querySelector('output[data-counts=snvs]').textContent") == f"{len(wanted)} of 50 rows"
    assert browser.run("document.querySelectorAll('#others tbody tr[hidden]').length") == 0, "the other table is left alone"
    browser.run(
        "(box => { box.value = ''; box.dispatchEvent(new Event('input')); })(document.querySelector('#snvs-filter'))"
    )
    assert browser.run("document.querySelectorAll('#snvs tbody tr[hidden]').length") == 0


def test_a_link_leads_to_its_plot(pages: dict[str, Path], browser: Browser) -> None:
    browser.open(pages["sample"])
    browser.run("document.querySelector('#snvs tbody a').click()")
    caption = browser.run("document.querySelector('figure:target figcaption').textContent.trim()")
    assert caption.startswith(browser.run("document.querySelector('#snvs tbody a').textContent.trim()"))


@pytest.mark.parametrize("name", ["sample", "cohort"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(pages: dict[str, Path], browser: Browser, name: str, scheme: str) -> None:
    browser.scheme(scheme)
    browser.open(pages[name])
    assert browser.run(CONTRAST) >= 4.5


def test_every_control_and_picture_has_a_name(pages: dict[str, Path], browser: Browser) -> None:
    for page in pages.values():
        browser.open(page)
        tree = browser.send("Accessibility.getFullAXTree")["nodes"]
        named = [
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in tree
            if not node["ignored"]
            and node.get("role", {}).get("value") in ("button", "searchbox", "image", "img", "link", "region")
        ]
        assert len(named) > 10
        assert [role for role, text in named if not text.strip()] == []


def test_print_leaves_out_the_controls(pages: dict[str, Path], browser: Browser) -> None:
    browser.scheme("dark", "print")
    browser.open(pages["sample"])
    assert browser.run("getComputedStyle(document.querySelector('.filter')).display") == "none"
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.run(CONTRAST) >= 4.5


def test_narrow_screens_do_not_scroll_sideways(pages: dict[str, Path]) -> None:
    with Browser(width=390, height=844) as browser:
        for page in pages.values():
            browser.open(page)
            assert browser.run("document.documentElement.scrollWidth") <= 390


STAGE = "document.getElementById('genome-browser')"
IGV_SAYS = "index file not specified.  The entire vcf file will be loaded"  # of any VCF in a data: address


def wait_for(browser: Browser, wanted: str) -> None:
    """Wait until a JavaScript expression is true."""
    until = time.monotonic() + 30
    while not browser.run(f"Boolean({wanted})"):
        assert time.monotonic() < until, wanted
        time.sleep(0.05)


def test_genome_browser_starts_by_keyboard_goes_to_a_place_and_asks_for_nothing(
    pages: dict[str, Path], browser: Browser
) -> None:
    browser.send("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1)
    browser.open(pages["sample"])
    assert browser.run(f"{STAGE}.hidden && !{STAGE}.shadowRoot && typeof igv === 'undefined'"), "nothing runs unasked"
    browser.run("document.getElementById('browser-open').focus()")
    browser.press("Enter", 13, "\r")
    box = f"{STAGE}.shadowRoot?.querySelector('.igv-search-input')?.value"
    first, other = browser.run("Array.from(document.getElementById('browser-place').options, one => one.value).slice(0, 2)")
    plain = f"({box} ?? '').replaceAll(',', '')"
    wait_for(browser, f"{plain} === {first!r}")
    assert browser.run("document.getElementById('browser-open').getAttribute('aria-expanded')") == "true"
    labels = f"Array.from({STAGE}.shadowRoot.querySelectorAll('.igv-track-label'), one => one.textContent)"
    wait_for(browser, f"{labels}.length >= 3")
    assert {"child", "Score", "P(reference base)"} <= set(browser.run(labels))
    browser.run("document.getElementById('browser-place').focus()")
    browser.press("ArrowDown", 40)
    wait_for(browser, f"{plain} === {other!r}")
    wait_for(browser, f"Array.from({STAGE}.shadowRoot.querySelectorAll('canvas')).some(one => one.width > 0)")
    browser.run("document.getElementById('browser-open').click()")
    assert browser.run(f"{STAGE}.hidden")
    assert [text for text in browser.complaints if IGV_SAYS not in text] == []
    assert browser.requests == [pages["sample"].as_uri()]


def test_genome_browser_fits_narrow_screens(pages: dict[str, Path]) -> None:
    with Browser(width=600, height=844) as browser:
        browser.open(pages["sample"])
        browser.run("document.getElementById('browser-open').click()")
        wait_for(browser, f"{STAGE}.shadowRoot?.querySelectorAll('.igv-track-label').length >= 3")
        icons = f"Array.from({STAGE}.shadowRoot.querySelectorAll('*'), one => getComputedStyle(one).backgroundImage)"
        wait_for(browser, f"{icons}.some(one => one.startsWith('url('))")
        assert [text for text in browser.complaints if IGV_SAYS not in text] == []
        asked = [address for address in browser.requests if not address.startswith("data:")]  # icons, held in the page
        assert asked == [pages["sample"].as_uri()]
        assert browser.run("document.documentElement.scrollWidth") <= 600


def test_genome_browser_is_not_printed(pages: dict[str, Path], browser: Browser) -> None:
    browser.scheme("light", "print")
    browser.open(pages["sample"])
    assert browser.run("getComputedStyle(document.querySelector('section.browser')).display") == "none"


def test_genome_browser_that_cannot_start_says_so(pages: dict[str, Path], browser: Browser) -> None:
    browser.open(pages["sample"])
    browser.run("delete globalThis.DecompressionStream")
    browser.run("document.getElementById('browser-open').click()")
    wait_for(browser, "document.getElementById('browser-state').textContent.includes('did not start')")
    assert browser.run(f"{STAGE}.hidden")
