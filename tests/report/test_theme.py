"""Colours have enough contrast on light and dark pages, and each has one meaning."""

import pytest

from bench_core.report import theme


def luminance(color):
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("colors", [theme.LIGHT, theme.DARK])
def test_colours_keep_the_contrast_that_wcag_asks_for(colors):
    """4.5 : 1 for texts, 3 : 1 for marks (WCAG 2.2, 1.4.3 and 1.4.11)."""
    for name in ("ink", "muted", "series0"):
        assert contrast(colors[name], colors["surface"]) >= 4.5
    for i in range(6):
        assert contrast(colors[f"series{i}"], colors["surface"]) >= 3
    for i in range(5):
        ink = colors["heat_paper" if i >= 3 else "heat_ink"]
        assert contrast(ink, colors[f"heat{i}"]) >= 4.5
    assert contrast(colors["ink"], colors["faint"]) >= 4.5


def test_every_colour_stands_once_so_that_dark_rules_cannot_clash():
    assert len(set(theme.LIGHT.values())) == len(theme.LIGHT)
    assert set(theme.LIGHT) == set(theme.DARK)
