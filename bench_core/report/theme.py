"""Colours by name, for light and dark pages.

Charts are drawn in the light colours. On a dark page or a dark README the rules of `dark_rules` replace each colour by
its dark counterpart. So every colour of a chart must be listed here, and no light colour may occur twice.

The series colours follow the palette of Okabe and Ito for all kinds of colour vision (Color Universal
Design, 2008), with the lightness adjusted to a contrast of 3 : 1 or more on both backgrounds.
"""

from __future__ import annotations

LIGHT = {
    "ink": "#1f2328",
    "muted": "#57606a",
    "axis": "#8c959f",
    "grid": "#e4e7eb",
    "surface": "#fefefe",
    "faint": "#f6f8fa",
    "hatch": "#b8bfc6",
    "series0": "#0072b2",
    "series1": "#d55e00",
    "series2": "#00815e",
    "series3": "#b3568f",
    "series4": "#8d6e00",
    "series5": "#4a5fc1",
    "heat0": "#eef4fa",
    "heat1": "#c9dff0",
    "heat2": "#8fbfe0",
    "heat3": "#2a74aa",
    "heat4": "#0b4a7d",
    "heat_ink": "#1f2329",
    "heat_paper": "#fffffe",
}
DARK = {
    "ink": "#e6edf3",
    "muted": "#9ea7b1",
    "axis": "#6e7781",
    "grid": "#2b3138",
    "surface": "#14181d",
    "faint": "#1b2026",
    "hatch": "#4a525b",
    "series0": "#56b4e9",
    "series1": "#ff8a3d",
    "series2": "#35c79a",
    "series3": "#e695c4",
    "series4": "#dfc04a",
    "series5": "#a3b4ff",
    "heat0": "#1c2530",
    "heat1": "#1f3a52",
    "heat2": "#245b85",
    "heat3": "#5aa9dc",
    "heat4": "#a9d8f7",
    "heat_ink": "#e6edf4",
    "heat_paper": "#0d1116",
}
SERIES = tuple(LIGHT[name] for name in LIGHT if name.startswith("series"))
HEAT = tuple(LIGHT[f"heat{i}"] for i in range(5))
# Fonts with equal character widths: vl-convert lays out labels in Liberation Sans, which has the widths of Arial and
# Helvetica. A font with other widths would make labels overlap.
FONT = "'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', sans-serif"


def variables(colors: dict[str, str]) -> str:
    """Return the colours as CSS variables."""
    return " ".join(f"--{name.replace('_', '-')}: {value};" for name, value in colors.items())


def dark_rules(within: str) -> str:
    """Return CSS rules that recolour charts drawn in LIGHT; `within` is a selector."""
    return "\n".join(
        f'{within} [{attribute}="{light}"] {{ {attribute}: {DARK[name]} }}'
        for name, light in LIGHT.items()
        for attribute in ("fill", "stroke")
    )
