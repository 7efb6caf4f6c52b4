"""The report as a reader meets it, in headless Chromium: no error, no request, charts, sorting, hostile texts.

`tox run -e browser` fetches axe-core, sets BENCH_CORE_AXE to its script, and also checks the pages of all committed
results.
"""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import diagnoses, over_time, synthetic, tables
from tests.support.hostile import PAGE_TEXTS

pytest.importorskip("vl_convert", reason="charts need the extra `report`")
pytest.importorskip("selenium.webdriver", reason="the browser is driven by selenium")

from selenium import webdriver
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from bench_core.compare import read
from bench_core.report import fleet, page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed")

AXE = os.environ.get("BENCH_CORE_AXE", "")
needs_axe = pytest.mark.skipif(not AXE, reason="axe-core is not here: tox run -e browser")
RESULTS = Path(__file__).parents[2] / "results"
H100, EPYC = RESULTS / "nvidia-h100-80gb-hbm3_intel-xeon-16c", RESULTS / "amd-epyc-2c"
COMMITTED = {"h100": [H100], "epyc": [EPYC], "both": [H100, EPYC]}

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Addresses of reports: on two machines, on many runs, on a fleet, and of nothing but hostile texts."""
    folder = tmp_path_factory.mktemp("pages")
    reading = synthetic.readings("machine-b")[0]
    hostile = [
        replace(row, **dict.fromkeys(("machine", "device_name", "reason", "workload", "size", "flags"), text))
        for text in PAGE_TEXTS
        for row in reading.rows[:30]
    ]
    texts = {
        "good": page.render(synthetic.readings("machine-a", "machine-b")),
        "history": page.render(over_time.runs(24, cases=over_time.CASES[3:5])),
        "fleet": page_of_fleet(),
        "hostile": page.render([replace(reading, rows=tuple(hostile))], title=PAGE_TEXTS[1]),
    }
    addresses = {}
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
        addresses[name] = (folder / f"{name}.html").as_uri()
    return addresses


def page_of_fleet():
    """Return a report on five machines whose section on nodes is that of twenty imaginary ones."""
    runs = [
        tables.reading([tables.measured([0.001] * 3)], f"m{i}", run_id=f"r{i}-{k}") for i in range(5) for k in range(3)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fleet, "_diagnose", lambda _: diagnoses.diagnosis(notes=("node-21 is left out.",)))
        return page.render(runs)


@pytest.fixture(scope="module")
def committed(tmp_path_factory):
    """Return a function: the address of a report on committed results, a key of COMMITTED."""
    folder, addresses = tmp_path_factory.mktemp("committed"), {}

    def address(name):
        if name not in addresses:
            path = folder / f"{name}.html"
            path.write_text(page.render(read(list(map(str, COMMITTED[name])))), encoding="utf-8")
            addresses[name] = path.as_uri()
        return addresses[name]

    return address


@pytest.fixture(params=["good", "history", "fleet", "hostile"])
def opened(browser, pages, request):
    """The browser with a page freshly opened, and its address."""
    emulate(browser)
    browser.get_log("performance")
    browser.get_log("browser")
    browser.get(pages[request.param])
    return browser, pages[request.param]


@pytest.fixture
def history(browser, pages):
    emulate(browser)
    browser.get(pages["history"])
    return browser


@pytest.fixture
def good(browser, pages):
    emulate(browser)
    browser.get(pages["good"])
    return browser


def emulate(browser, media="", scheme="light", width=1280):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def column(browser, number):
    script = (
        "return [...document.querySelectorAll(`#full-table tbody:nth-of-type(1) td:nth-child(${arguments[0]})`)]"
        ".map(c => c.textContent)"
    )
    return browser.execute_script(script, number)


def header(browser, title):
    """Return the header of a column of the full table, and its number; the script makes the table after the page."""

    def named(_):
        headers = browser.find_elements("css selector", "#full-table thead th")
        titles = [next(iter(h.text.split()), "") for h in headers]
        return title in titles and (headers[titles.index(title)], titles.index(title) + 1)

    return WebDriverWait(browser, 10).until(named)


def test_it_opens_without_a_console_message_and_without_a_request(opened):
    browser, address = opened
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith("data:")] == [address]


def test_the_policy_would_refuse_a_request(good):
    """This validates the test above: a request would be detected, and refused."""
    script = "const i = new Image(); i.src = 'http://192.0.2.1/x.png'; document.body.append(i); return 1"
    good.execute_script(script)
    messages = " ".join(entry["message"] for entry in good.get_log("browser"))
    assert "Content Security Policy" in messages


def test_charts_are_drawn_and_inside_their_boxes(good):
    script = """
        return [...document.querySelectorAll('.chart svg')].filter(e => e.checkVisibility()).map(svg => {
          const box = svg.getBoundingClientRect();
          const drawn = [...svg.querySelectorAll('path[fill], path[stroke], line, text')]
            .map(e => e.getBoundingClientRect()).filter(b => b.width + b.height > 0);
          const outside = drawn.filter(b => b.left < box.left - 2 || b.right > box.right + 2
            || b.top < box.top - 2 || b.bottom > box.bottom + 2);
          return [box.width, box.height, drawn.length, outside.length];
        })"""
    charts = good.execute_script(script)
    assert len(charts) >= 15
    for width, height, drawn, outside in charts:
        assert width > 200
        assert height > 40
        assert drawn > 10
        assert outside == 0


def test_texts_of_a_chart_do_not_overlap(good):
    script = """
        return [...document.querySelectorAll('.chart svg')].filter(e => e.checkVisibility()).map(svg => {
          const boxes = [...svg.querySelectorAll('text')].filter(t => t.textContent.trim())
            .map(t => [t.textContent, t.getBoundingClientRect()]);
          return boxes.flatMap(([one, a], i) => boxes.slice(i + 1).filter(([, b]) =>
            Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2
            && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4).map(([two]) => `${one} | ${two}`));
        })"""
    assert [pair for chart in good.execute_script(script) for pair in chart] == []


CROSSINGS = """
    // For every text of a chart: the first line, bar or point whose outline passes through its box. Grid lines are not
    // counted: texts have a halo against them.
    const grid = getComputedStyle(document.documentElement).getPropertyValue('--grid').trim();
    const seen = colour => colour && !['none', 'transparent', grid].includes(colour);
    return [...document.querySelectorAll('.chart svg')].filter(e => e.checkVisibility()).flatMap(svg => {
      const dots = [...svg.querySelectorAll('path, line')].flatMap(e => {
        if (e.closest('defs') || !(seen(e.getAttribute('stroke')) || seen(e.getAttribute('fill')))) return [];
        const length = e.getTotalLength(), matrix = e.getScreenCTM();
        return Array.from({length: Math.ceil(length / 2) + 1}, (_, i) =>
          [e.getPointAtLength(Math.min(2 * i, length)).matrixTransform(matrix), e]);
      });
      return [...svg.querySelectorAll('text')].filter(t => t.textContent.trim()).flatMap(text => {
        const box = text.getBoundingClientRect();
        const hit = dots.find(([p]) =>
          p.x > box.left + 1 && p.x < box.right - 1 && p.y > box.top + 2 && p.y < box.bottom - 2);
        return hit ? [`${svg.querySelector('title').textContent}: ${text.textContent} | ${hit[1].outerHTML}`] : [];
      });
    })"""


def test_no_label_of_a_chart_lies_over_a_line_or_a_point(good):
    assert good.execute_script(CROSSINGS) == []
    good.execute_script(
        """const text = document.querySelector('.chart svg text'), box = text.getBBox();
        const line = document.createElementNS(text.namespaceURI, 'path');
        line.setAttribute('d', `M${box.x},${box.y + box.height / 2}h${box.width}`);
        line.setAttribute('transform', text.getAttribute('transform'));
        line.setAttribute('stroke', '#000000');
        text.after(line);"""
    )
    assert good.execute_script(CROSSINGS) != []  # the search finds a line that is there


@pytest.mark.parametrize("name", ["h100", *(pytest.param(name, marks=needs_axe) for name in ("epyc", "both"))])
def test_on_committed_results_labels_are_clear_and_the_status_is_on_the_screen(browser, committed, name):
    emulate(browser, width=1400)
    browser.get(committed(name))
    assert browser.execute_script(CROSSINGS) == []
    lines = """
        const range = document.createRange();
        return Math.max(...[...document.querySelectorAll('#full-table td[data-column=Metric]')].map(cell => {
          range.selectNodeContents(cell);
          return new Set([...range.getClientRects()].map(box => box.top)).size;
        }))"""
    assert browser.execute_script(lines) == 1  # names break on paper alone
    status, _ = header(browser, "Status")
    assert status.rect["x"] + status.rect["width"] < 1400
    assert "" not in column(browser, header(browser, "Value")[1])


@needs_axe
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 390)])
@pytest.mark.parametrize("name", ["good", "history", "series", "fleet", *COMMITTED])
def test_axe_finds_nothing_serious(browser, pages, committed, name, scheme, width):
    emulate(browser, scheme=scheme, width=width)
    browser.get(committed(name) if name in COMMITTED else pages.get(name, pages["history"]))
    if name == "series":
        browser.get(browser.find_element("css selector", ".who a").get_attribute("href"))
    browser.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    browser.execute_script(Path(AXE).read_text(encoding="utf-8"))
    browser.set_script_timeout(120)
    found = browser.execute_async_script("axe.run({resultTypes: ['violations']}).then(arguments[0])")["violations"]
    assert [(v["id"], v["impact"], v["nodes"][0]["html"]) for v in found] == []


def test_every_mark_has_a_native_tooltip_with_units(good):
    titles = good.execute_script(
        "return [...document.querySelectorAll('#scaling path > title')].map(t => t.textContent)"
    )
    assert any("GFLOP/s" in title and "torch" in title for title in titles)


def test_sorting_by_value_and_back_says_so_to_a_screen_reader(good):
    heading, number = header(good, "Size")
    heading.find_element("tag name", "button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert column(good, number)[0] == "128"
    heading.find_element("tag name", "button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    first = column(good, number)[0]
    assert first != "128"
    assert len(good.find_elements("css selector", "#full-table th[aria-sort]")) == 1


def test_sorting_works_from_the_keyboard_and_puts_empty_cells_last(good):
    heading, number = header(good, "Value")
    button = heading.find_element("tag name", "button")
    good.execute_script("arguments[0].focus()", button)
    for direction in ("ascending", "descending"):
        button.send_keys("\n")
        assert heading.get_attribute("aria-sort") == direction
        assert "" not in column(good, number)


def number(text):
    return int(text.replace(",", ""))


def test_the_filter_and_the_pages_count_what_they_show(good):
    shown = good.find_element("id", "shown")
    total = number(shown.text.split()[5])
    good.find_element("id", "next").click()
    assert shown.text.startswith("Rows 101 to 200 of")
    good.find_element("id", "search").send_keys("triad cuda bandwidth")
    matching = number(shown.text.split()[5])
    assert 0 < matching < total
    assert shown.text == f"Rows 1 to {matching} of {matching} with a value that match, of {total:,}"
    assert set(column(good, header(good, "Workload")[1])) == {"triad"}
    good.find_element("id", "search").send_keys(" nonsense")
    assert shown.text == "No row with a value matches"


def test_rows_without_a_value_stand_below_by_reason_and_open(good):
    _, place = header(good, "Value")
    assert len(column(good, place)) == 100
    assert "" not in column(good, place)
    groups = good.find_elements("css selector", "#full-table td button")
    counts = [number(group.text.split()[0]) for group in groups]
    assert counts == sorted(counts, reverse=True)
    assert good.find_element("id", "shown").text.endswith(f"; below them {sum(counts):,} without one, by reason")
    group = groups[0]
    for opened, rows in (("true", counts[0]), ("false", 0)):
        group.send_keys("\n")
        assert group.get_attribute("aria-expanded") == opened
        assert len(good.find_elements("css selector", "#full-table tbody:nth-of-type(2) tr")) == 1 + rows
        assert good.switch_to.active_element == group
    good.find_element("id", "search").send_keys("skipped")
    assert good.find_element("id", "shown").text.startswith("No row with a value matches; below them")
    assert all(" skipped" in group.text for group in good.find_elements("css selector", "#full-table td button"))


def test_everything_is_reached_by_the_keyboard_and_shows_where_the_focus_is(good):
    reached = []
    for _ in range(150):
        good.switch_to.active_element.send_keys(Keys.TAB)
        element = good.switch_to.active_element
        if element.tag_name == "body" or (reached and element == reached[0]):
            break
        assert element.value_of_css_property("outline-style") == "solid"
        reached.append(element)
    clickable = "a, summary, button:not(:disabled), input"
    assert {*good.find_elements("css selector", clickable)} <= {*reached}
    assert reached[0].get_attribute("textContent") == "Skip to the answers"


def test_hostile_texts_run_nothing_and_are_shown(browser, pages):
    emulate(browser)
    browser.get(pages["hostile"])
    assert browser.execute_script("return typeof window.pwned") == "undefined"
    assert browser.execute_script("return document.images.length") == 0
    assert browser.execute_script("return document.scripts.length") == 2
    assert (
        browser.execute_script("return document.querySelectorAll('[onload], [onerror], [style], iframe').length") == 0
    )
    browser.find_element("id", "search").send_keys("window.pwned")
    assert set(column(browser, 1)) <= set(PAGE_TEXTS[:4])
    assert browser.find_element("tag name", "h1").text == PAGE_TEXTS[1]


def test_dark_pages_recolour_their_charts_and_paper_stays_light(good):
    script = """
        const fill = document.querySelector('#models path[fill="#d55e00"], #models path[fill="#0072b2"]');
        return [getComputedStyle(document.body).backgroundColor, getComputedStyle(fill).fill]"""
    light = good.execute_script(script)
    emulate(good, scheme="dark")
    dark = good.execute_script(script)
    emulate(good, media="print", scheme="dark")
    paper = good.execute_script(script)
    assert light[0] != dark[0]
    assert light[1] != dark[1]
    assert paper == light


@pytest.mark.parametrize(("media", "width"), [("", 390), ("", 1280), ("print", 720)])
def test_nothing_sticks_out_of_the_page(good, media, width):
    emulate(good, media=media, width=width)
    assert good.execute_script("return document.documentElement.scrollWidth") <= width


def test_on_a_phone_charts_keep_their_size_and_say_that_they_scroll(good):
    """Texts of 11 px stay 11 px. A box that scrolls has a line above it that says so, and can be focused."""
    emulate(good, width=390)
    script = """
        return [...document.querySelectorAll('.chart')].filter(e => e.checkVisibility()).map(chart => {
          const svg = chart.querySelector('svg'), box = chart.closest('.scroll');
          return [svg.getBoundingClientRect().width / svg.viewBox.baseVal.width, box.scrollWidth > box.clientWidth + 1,
            getComputedStyle(box, '::before').content.includes('Scroll sideways'), box.tabIndex === 0];
        })"""

    def told_apart(browser):
        found = browser.execute_script(script)
        return all(scrolls == says == focusable for _, scrolls, says, focusable in found) and found

    charts = WebDriverWait(good, 10).until(told_apart)  # boxes are marked some frames after their size changed
    assert {scale for scale, *_ in charts} == {1}
    assert sum(scrolls for _, scrolls, *_ in charts) >= 5
    script = """
        const charts = [...document.querySelectorAll(':is(#speedup, #models) .chart')].filter(e => e.checkVisibility());
        return charts.map(chart => [chart.closest('.scroll').classList.contains('wider'),
          Math.max(...[...chart.querySelectorAll('text')].map(t => t.getBoundingClientRect().right))]);"""
    for wider, right in good.execute_script(script):
        assert not wider
        assert right <= 390
    assert good.execute_script(CROSSINGS) == []


@pytest.mark.parametrize(("media", "width"), [("", 390), ("print", 720)])
def test_no_header_of_a_table_breaks_inside_a_word(good, media, width):
    emulate(good, media=media, width=width)
    good.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    script = """
        const split = [];
        const shown = [...document.querySelectorAll('th')].filter(e => e.checkVisibility());
        shown.forEach(th => {
          const walker = document.createTreeWalker(th, NodeFilter.SHOW_TEXT);
          for (let text; (text = walker.nextNode());)
            for (const word of text.data.matchAll(/[^\\s-]+/g)) {
              const range = document.createRange();
              range.setStart(text, word.index);
              range.setEnd(text, word.index + word[0].length);
              if (range.getClientRects().length !== 1) split.push(word[0]);
            }
        });
        return [split, shown.length];"""
    split, headers = good.execute_script(script)
    assert split == []
    assert headers > 100
    good.execute_script(
        """document.querySelectorAll('table, th').forEach(e => {
          e.style = 'width: 1em; white-space: normal; overflow-wrap: anywhere';
        });"""
    )
    assert good.execute_script(script)[0] != []  # the search finds a word that is split


def test_paper_shows_what_is_folded_and_no_chart_is_taller_than_a_page(good):
    emulate(good, media="print", width=720)
    script = """
        const seen = e => e.checkVisibility({contentVisibilityAuto: true});
        return [[...document.querySelectorAll('details td')].every(seen),
          Math.max(...[...document.querySelectorAll('.chart svg')].map(e => e.getBoundingClientRect().height)),
          [...document.querySelectorAll('summary, nav, #search, .pager')].some(seen)]"""
    unfolded, tallest, controls = good.execute_script(script)
    assert unfolded
    assert tallest < (297 - 2 * 14) / 25.4 * 96
    assert not controls


def test_without_scripts_everything_but_the_full_table_is_there(browser, pages):
    emulate(browser)
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(pages["good"])
        assert len(browser.find_elements("css selector", ".chart svg")) >= 15
        assert "need JavaScript" in browser.find_element("tag name", "noscript").text
        assert not browser.find_element("id", "table-tools").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


SEEN = """
    return [...document.querySelectorAll('main > section, nav')].filter(e => e.checkVisibility()).map(e => e.id)"""


def test_the_page_of_a_series_fills_the_page_until_the_way_back_and_works_by_keyboard_without_scripts(history):
    every = history.execute_script(SEEN)
    assert "over-time" in every
    assert not [name for name in every if name.startswith("series-")]
    link = history.find_element("css selector", "li:has(.events .worse) .who a")
    place = link.get_attribute("href").partition("#")[2]
    history.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        link.send_keys(Keys.ENTER)
        assert [s.get_attribute("id") for s in shown(history)] == [place]
        chart = history.find_element("css selector", f"#{place} .chart svg")
        assert chart.size["width"] > 600
        history.find_element("link text", "Back to all series").send_keys(Keys.ENTER)
        assert [s.get_attribute("id") for s in shown(history)] == [name for name in every if name]
    finally:
        history.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def shown(browser):
    return [s for s in browser.find_elements("css selector", "main > section") if s.is_displayed()]


@pytest.mark.parametrize(
    ("media", "width", "scheme"), [("", 390, "light"), ("", 1280, "dark"), ("print", 720, "light")]
)
def test_a_series_sticks_out_of_no_page_and_its_texts_do_not_overlap(history, media, width, scheme):
    emulate(history, media=media, width=width, scheme=scheme)
    assert (
        history.execute_script(
            """return Math.max(...[...document.querySelectorAll('#over-time *')].filter(e => e.checkVisibility())
          .map(e => e.getBoundingClientRect().right))"""
        )
        <= width
    )
    history.get(history.find_element("css selector", "li:has(.events .worse) .who a").get_attribute("href"))
    assert history.execute_script("return document.documentElement.scrollWidth") <= width
    assert history.execute_script(
        "return getComputedStyle(document.querySelector('.of-series:target .worse')).fill"
    ) == ("rgb(255, 138, 61)" if scheme == "dark" else "rgb(213, 94, 0)")
    texts = """
        const boxes = [...document.querySelectorAll('.of-series:target text')].map(t => t.getBoundingClientRect());
        return [boxes.length, boxes.flatMap((a, i) => boxes.slice(i + 1).filter(b =>
          Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2
          && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4)).length]"""
    count, overlaps = history.execute_script(texts)
    assert count > 10
    assert overlaps == 0


@pytest.mark.parametrize(
    ("media", "width", "scheme"), [("", 390, "light"), ("", 1280, "dark"), ("print", 720, "light")]
)
def test_a_map_of_nodes_sticks_out_of_no_page_and_its_header_stays_in_sight(browser, pages, media, width, scheme):
    emulate(browser, media=media, width=width, scheme=scheme)
    browser.get(pages["fleet"])
    browser.execute_script("document.querySelectorAll('#fleet details').forEach(d => { d.open = true; })")

    def fits(_):
        return browser.execute_script("return document.documentElement.scrollWidth") <= width

    assert WebDriverWait(browser, 10).until(fits)  # boxes are marked some frames after their size changed
    cells = """
        return [...document.querySelectorAll('#fleet td[title][class]')].map(e =>
          [e.className, e.textContent, getComputedStyle(e, '::before').content, getComputedStyle(e).backgroundColor])"""
    found = browser.execute_script(cells)
    marks = {look.split()[0]: {mark[:2] for other, _, mark, _ in found if other == look} for look, *_ in found}
    assert marks["slow"] == {'"▲'}
    assert marks["fast"] == {'"▼'}
    assert all(text for _, text, *_ in found)
    assert len({colour for look, _, _, colour in found if look in {"slow clear", "fast clear", "few"}}) == 3
    if media == "print":
        return
    box = browser.find_element("css selector", "#fleet .scroll.map")
    scroll = """
        const box = arguments[0], wider = box.classList.contains('wider');
        if (wider) box.style.maxHeight = '200px';  // as if it had more rows than the screen
        box.querySelector('tbody tr:nth-child(12)').scrollIntoView({block: 'start'});
        if (wider) box.scrollLeft = 100;
        const [head, node, edge] = [...['thead', 'tbody th'].map(e => box.querySelector(e)), box]
          .map(e => e.getBoundingClientRect());
        return [wider, head.top - (wider ? edge.top : 0), node.left - edge.left, edge.top]"""
    wider, above, left, top = browser.execute_script(scroll, box)
    assert wider == (width < 500)
    assert abs(above) < 2
    assert abs(left) < 3
    assert wider or top < -100
    link = browser.find_element("link text", "node-07")
    link.send_keys(Keys.ENTER)
    assert browser.execute_script("return document.querySelector(':target h4').textContent").startswith("node-07")
