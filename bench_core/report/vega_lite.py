"""Layers of Vega-Lite specifications as plain dictionaries.

A library would validate each specification when it is built, and copy it with each method: this took most of the time
of a report. tests/report/test_vega_lite.py validates the specifications of all charts against Vega-Lite's schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Spec = dict[str, Any]
Channel = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Layer:
    """A mark over a named dataset, with the channels that its fields encode. filters: the data that it leaves in."""

    data: str
    encoding: Mapping[str, Channel] = field(default_factory=dict)
    filters: tuple[str, ...] = ()
    mark: Mapping[str, Any] = field(default_factory=dict)

    def where(self, expression: str) -> Layer:
        """Return the layer with only the data for which a Vega expression is true."""
        return replace(self, filters=(*self.filters, expression))

    def marked(self, kind: str, **look: Any) -> Layer:
        """Return the layer with this mark."""
        return replace(self, mark={"type": kind, **look})

    def encode(self, **channels: Channel) -> Layer:
        """Return the layer with these channels added."""
        return replace(self, encoding={**self.encoding, **channels})

    def spec(self) -> Spec:
        """Return the layer as a part of a specification."""
        transform = {"transform": [{"filter": expression} for expression in self.filters]} if self.filters else {}
        return {"data": {"name": self.data}, "mark": self.mark, "encoding": self.encoding, **transform}


def quantitative(name: str, **more: Any) -> Channel:
    """Return a channel of a field with numbers."""
    return {"field": name, "type": "quantitative", **more}


def nominal(name: str, **more: Any) -> Channel:
    """Return a channel of a field with words."""
    return {"field": name, "type": "nominal", **more}


def raw(name: str) -> Channel:
    """Return a channel of a field that holds what is drawn: a colour, a shape."""
    return nominal(name, scale=None, legend=None)


def end(name: str) -> Channel:
    """Return a channel of a field with the other end of a mark: x2, y2."""
    return {"field": name}


def constant(value: float) -> Channel:
    """Return a channel of a number of pixels."""
    return {"value": value}
