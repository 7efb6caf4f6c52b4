"""Draw Vega-Lite specifications as SVG, as a file or inside a page, and as PNG.

vl-convert runs Vega without a browser and without network. The SVG is then edited: it gets a title and a description,
native tooltips, unique ids and shorter numbers.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import vl_convert

from bench_core.report import theme

NAMESPACE = "http://www.w3.org/2000/svg"
_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_REFERENCE = re.compile(r"url\(#([\w-]+)\)")
_SVG = f"{{{NAMESPACE}}}"
CHARACTER = 6.4  # mean width in px of a character at 12 px, for the layout of legends
COLUMNS, GAP, MARGIN = 2, 16.0, 16.0  # of a grid, in pixels
PAGE = 2**0.5  # height over width of a page, as of A4
HEAD = 150.0  # pixels that a page keeps for the heading and the legend


@dataclass(frozen=True, slots=True)
class Drawing:
    """A chart as SVG: its title, its root element, and its size in pixels."""

    title: str
    root: ET.Element
    width: float
    height: float


def draw(spec: Mapping[str, Any], name: str, title: str, about: str) -> Drawing:
    """Draw a Vega-Lite specification. `name` makes its ids unique within a page.

    `title` and `about` are read by screen readers.
    """
    ET.register_namespace("", NAMESPACE)
    text = vl_convert.vegalite_to_svg(dict(spec), allowed_base_urls=[])
    drawn = ET.fromstring(text)  # noqa: S314 - the output of vl-convert, not a foreign file
    width, height = float(drawn.attrib["width"]), float(drawn.attrib["height"])
    for background in drawn.findall(f"{_SVG}rect"):
        drawn.remove(background)
    for element in drawn.iter():
        _tidy(element, name)
    box = {"viewBox": f"0 0 {width:g} {height:g}", "width": f"{width:g}", "height": f"{height:g}"}
    root = ET.Element(f"{_SVG}svg", {**box, "role": "img"})
    root.set("aria-labelledby", f"{name}-title {name}-about")
    for tag, words in (("title", title), ("desc", about)):
        part = ET.SubElement(root, f"{_SVG}{tag}", {"id": f"{name}-{'title' if tag == 'title' else 'about'}"})
        part.text = words
    if any(element.get("fill") == f"url(#{name}-hatch)" for element in drawn.iter()):
        root.append(hatch(f"{name}-hatch"))
    root.extend(drawn)
    return Drawing(title, root, width, height)


def _tidy(element: ET.Element, name: str) -> None:
    """Replace Vega's accessibility attributes by a native tooltip, prefix ids with `name`, and shorten numbers."""
    attributes = element.attrib
    label = attributes.pop("aria-label", "")
    for attribute in ("role", "aria-roledescription", "aria-hidden", "class"):
        attributes.pop(attribute, None)
    if "id" in attributes:
        attributes["id"] = f"{name}-{attributes['id']}"
    for key, text in list(attributes.items()):
        shorter = _NUMBER.sub(lambda match: f"{float(match[0]):.2f}", text)
        attributes[key] = _REFERENCE.sub(rf"url(#{name}-\1)", shorter)
    if element.tag == f"{_SVG}text" and "stroke" in attributes:  # a halo, which lies below its letters
        attributes |= {"paint-order": "stroke", "stroke-linejoin": "round"}
    if label and element.tag in {f"{_SVG}path", f"{_SVG}text", f"{_SVG}line"}:
        tip = ET.Element(f"{_SVG}title")
        tip.text = label
        element.insert(0, tip)


def hatch(name: str) -> ET.Element:
    """Return the definition of the hatching for cells without a value."""
    definitions = ET.Element(f"{_SVG}defs")
    shape = {"width": "7", "height": "7", "patternUnits": "userSpaceOnUse", "patternTransform": "rotate(45)"}
    pattern = ET.SubElement(definitions, f"{_SVG}pattern", {"id": name, **shape})
    ET.SubElement(pattern, f"{_SVG}rect", {"width": "7", "height": "7", "fill": theme.LIGHT["faint"]})
    line = {"x1": "0", "y1": "0", "x2": "0", "y2": "7", "stroke": theme.LIGHT["hatch"], "stroke-width": "2"}
    ET.SubElement(pattern, f"{_SVG}line", line)
    return definitions


def inline(drawing: Drawing) -> str:
    """Return the drawing as markup for embedding in a page."""
    return markup(drawing.root)


def markup(element: ET.Element) -> str:
    """Return an element and what is in it as markup, in which no text is more than a text."""
    return ET.tostring(element, encoding="unicode")


@dataclass(frozen=True, slots=True)
class Swatch:
    """An entry of a legend: a text and a sample of the mark. strength: the opacity of a patch."""

    words: str
    color: str
    shape: str = "circle"
    hollow: bool = False
    line: str = ""  # "", "solid", "dashed", "dotted", or "patch" for a filled square
    strength: float = 1.0

    def element(self) -> ET.Element:
        """Return the sample, 28 x 14 pixels."""
        group = ET.Element(f"{_SVG}g")
        if self.line == "patch":
            look = {"fill": self.color} | ({"opacity": f"{self.strength:g}"} if self.strength < 1 else {})
            ET.SubElement(group, f"{_SVG}rect", {"width": "28", "height": "14", **look})
            return group
        if self.line:
            dash = {"dashed": "5 3", "dotted": "2 3"}.get(self.line, "none")
            line = {"x1": "0", "y1": "7", "x2": "28", "y2": "7", "stroke": self.color, "stroke-width": "1.8"}
            ET.SubElement(group, f"{_SVG}line", {**line, "stroke-dasharray": dash})
        if self.shape:
            fill = theme.LIGHT["surface"] if self.hollow else self.color
            mark = {"d": SHAPES[self.shape], "fill": fill, "stroke": self.color, "stroke-width": "1.5"}
            ET.SubElement(group, f"{_SVG}path", {**mark, "transform": "translate(14,7)"})
        return group


SHAPES = {
    "circle": "M-3.8,0A3.8,3.8 0 1 1 3.8,0A3.8,3.8 0 1 1 -3.8,0Z",
    "square": "M-3.5,-3.5H3.5V3.5H-3.5Z",
    "triangle-up": "M-4,3.5H4L0,-3.9Z",
    "triangle-down": "M-4,-3.5H4L0,3.9Z",
    "diamond": "M0,-4.6L4.2,0L0,4.6L-4.2,0Z",
    "cross": "M-4.2,-1.5H-1.5V-4.2H1.5V-1.5H4.2V1.5H1.5V4.2H-1.5V1.5H-4.2Z",
}


def swatch_markup(swatch: Swatch) -> str:
    """Return the sample of a legend entry as markup, without its text."""
    ET.register_namespace("", NAMESPACE)
    attributes = {"viewBox": "0 0 28 14", "width": "28", "height": "14", "aria-hidden": "true"}
    root = ET.Element(f"{_SVG}svg", attributes)
    if swatch.color == "url(#hatch)":
        root.append(hatch("legend-hatch"))
        swatch = Swatch(swatch.words, "url(#legend-hatch)", line="patch")
    root.append(swatch.element())
    return ET.tostring(root, encoding="unicode")


def pages(drawings: Sequence[Drawing], columns: int = COLUMNS) -> list[Sequence[Drawing]]:
    """Return the drawings in groups; `compose` makes of each a grid that fits a page. No drawing is cut."""
    rows = [drawings[start : start + columns] for start in range(0, len(drawings), columns)]
    most = PAGE * _width(drawings, columns) - HEAD
    found: list[Sequence[Drawing]] = []
    height = math.inf
    for row in rows:
        needed = max(d.height for d in row) + GAP
        height += needed
        if height > most:
            found.append(row)
            height = needed
        else:
            found[-1] = [*found[-1], *row]
    return found


def _width(drawings: Sequence[Drawing], columns: int) -> float:
    columns = min(columns, len(drawings))
    return max(d.width for d in drawings) * columns + GAP * (columns - 1) + 2 * MARGIN


def compose(
    heading: str, about: str, legend: Sequence[Swatch], drawings: Sequence[Drawing], columns: int = COLUMNS
) -> str:
    """Return an SVG file with a heading, a legend and the drawings in up to this many columns.

    Without a heading, the file has the title of its first drawing. Its style sheet switches to the dark colours if the
    reader prefers a dark colour scheme.
    """
    widest = max(d.width for d in drawings)
    texts = [len(heading) * 9 + 2 * MARGIN, *(34 + len(s.words) * CHARACTER + 2 * MARGIN for s in legend)]
    width = max(_width(drawings, columns), *texts)
    entries, top = _legend(legend, width, 58.0 if heading else 28.0)
    body = ET.Element(f"{_SVG}g")
    for start in range(0, len(drawings), columns):
        row = drawings[start : start + columns]
        for i, drawing in enumerate(row):
            place = {"x": f"{MARGIN + i * (widest + GAP):g}", "y": f"{top:g}"}
            panel = ET.SubElement(body, f"{_SVG}svg", {**drawing.root.attrib, **place})
            panel.extend(drawing.root)
        top += max(d.height for d in row) + GAP
    size = {"width": f"{math.ceil(width)}", "height": f"{math.ceil(top)}"}
    root = ET.Element(f"{_SVG}svg", {**size, "viewBox": f"0 0 {size['width']} {size['height']}", "role": "img"})
    for tag, words in (("title", heading or drawings[0].title), ("desc", about)):
        ET.SubElement(root, f"{_SVG}{tag}").text = words
    style = ET.SubElement(root, f"{_SVG}style")
    style.text = f"@media screen and (prefers-color-scheme: dark) {{\n{theme.dark_rules('svg')}\n}}"
    if any(swatch.color == "url(#hatch)" for swatch in legend):
        root.append(hatch("hatch"))
    ET.SubElement(root, f"{_SVG}rect", {"width": "100%", "height": "100%", "fill": theme.LIGHT["surface"]})
    if heading:
        root.append(_text(heading, MARGIN, 28, 16, "ink", weight="600"))
    root.extend([*entries, body])
    return ET.tostring(root, encoding="unicode") + "\n"


def _legend(legend: Sequence[Swatch], width: float, top: float) -> tuple[list[ET.Element], float]:
    """Lay out the legend in lines. Return its entries and the y coordinate at which the panels begin."""
    entries: list[ET.Element] = []
    left = 16.0
    for swatch in legend:
        room = 34 + len(swatch.words) * CHARACTER + 22
        if left > 16 and left + room > width:
            left, top = 16.0, top + 22
        group = ET.Element(f"{_SVG}g", {"transform": f"translate({left:g},{top - 10:g})"})
        group.append(swatch.element())
        group.append(_text(swatch.words, 34, 11, 12, "muted"))
        entries.append(group)
        left += room
    return entries, top + 18 if legend else top - 12


def _text(words: str, x: float, y: float, size: float, color: str, weight: str = "400") -> ET.Element:
    font = {"font-family": theme.FONT, "font-size": f"{size}px", "font-weight": weight, "fill": theme.LIGHT[color]}
    element = ET.Element(f"{_SVG}text", {"x": f"{x:g}", "y": f"{y:g}", **font})
    element.text = words
    return element


def png(markup: str, scale: float = 2.0) -> bytes:
    """Return an SVG file as PNG, with `scale` pixels per SVG unit."""
    drawn: bytes = vl_convert.svg_to_png(markup, scale=scale)
    return drawn
