"""The style sheet's colours: readable on each ground, in the light and the dark scheme and on paper."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dnagrinder.reports import page

STYLE = (Path(page.__file__).parent / "templates" / "style.css").read_text()
SCHEMES = {
    "light": r"\A:root \{(.*?)\}",
    "dark": r"prefers-color-scheme: dark\) \{\s*:root \{(.*?)\}",
    "print": r"@media print \{\s*:root \{(.*?)\}",
}


def colours(scheme: str) -> dict[str, str]:
    """The scheme's colours by name."""
    found = re.search(SCHEMES[scheme], STYLE, re.DOTALL)
    assert found is not None
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", found[1]))


def contrast(one: str, other: str) -> float:
    """WCAG 2.2 contrast ratio of two colours ``#rrggbb``."""
    lights = []
    for colour in (one, other):
        channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(lights) + 0.05) / (min(lights) + 0.05)


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_and_marks_stand_out_from_every_ground(scheme: str) -> None:
    names = colours(scheme)
    assert set(names) == set(colours("light"))
    for ground in ("paper", "raised", "caution"):
        for ink in ("ink", "soft", "accent", "mark"):
            assert contrast(names[ink], names[ground]) >= 4.5, (ink, ground)
        assert contrast(names["second"], names[ground]) >= 3, ground


def test_outlines_stand_out_from_the_bars_they_cross() -> None:
    for scheme in SCHEMES:
        names = colours(scheme)
        for bars in ("accent", "second"):
            assert contrast(names["ink"], names[bars]) >= 1.5, scheme
