"""Shared by the tests of this folder."""

import json

import pytest

_drawings: dict[str, str] = {}  # by the specification of the chart and what else decides how it is drawn


@pytest.fixture(autouse=True, scope="module")
def each_chart_is_drawn_once():
    """The charts of a machine are on the pages of many tests, and drawing takes most of the time of a page."""
    try:
        import vl_convert
    except ImportError:
        yield
        return
    draw = vl_convert.vegalite_to_svg

    def drawn(spec, **options):
        key = json.dumps([spec, options])
        if key not in _drawings:
            _drawings[key] = draw(spec, **options)
        return _drawings[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vl_convert, "vegalite_to_svg", drawn)
        yield
