"""The report's drawings are well-formed, complete and self-contained."""

import re
import xml.etree.ElementTree as ET

import pytest

from aibrixctl.report import page, svg

GRID = svg.Grid(["128", "512"], ["32", "64"])


def texts(drawing: str) -> list[str]:
    return [node.text or "" for node in ET.fromstring(drawing).iter("text")]


def test_heatmap_shows_every_label_and_shades_by_size() -> None:
    drawing = svg.heatmap("t", GRID, [[1.0, 10.0], [0.0, None]], [["1", "10"], ["0", "–"]])
    assert {"1", "10", "0", "–", "128", "512", "32", "64"} <= set(texts(drawing))
    fills = [node.get("fill") for node in ET.fromstring(drawing).iter("rect")]
    assert fills[0] != fills[1]
    assert fills[2] == fills[3] == "none"


def test_an_empty_heatmap_is_still_a_drawing() -> None:
    ET.fromstring(svg.heatmap("t", GRID, [[None, None]] * 2, [["–", "–"]] * 2))


def test_shares_divide_a_cell_by_width() -> None:
    drawing = svg.shares(
        "t", GRID, {(0, 0): {"a": 0.75, "b": 0.25}}, {(0, 0): 5.0}, {"a": "#111", "b": "#222"}
    )
    widths = {
        node.get("fill"): float(node.get("width", "0"))
        for node in ET.fromstring(drawing).iter("rect")
    }
    assert widths["#111"] == pytest.approx(3 * widths["#222"], rel=0.02)


def test_bars_are_proportional() -> None:
    rows = [("mix", [("a", 1.0), ("b", 1.0)], "$2"), ("alone", [("a", 4.0)], "$4")]
    drawing = svg.bars("t", rows, {"a": "#111", "b": "#222"})
    widths = [float(node.get("width", "0")) + 1 for node in ET.fromstring(drawing).iter("rect")]
    assert widths[2] == pytest.approx(4 * widths[0])


@pytest.mark.parametrize("points", [[], [(0.0, 0.0)], [(0.0, 1.0), (10.0, 3.0)]])
def test_line_takes_any_number_of_points(points: list[tuple[float, float]]) -> None:
    ET.fromstring(svg.line("t", points, "s"))


def test_page_escapes_and_fetches_nothing() -> None:
    html = page.page(
        "<script>alert(1)</script>",
        [page.paragraph("a < b")],
        [page.Tile("$1", "<b>")],
        [("x & y", page.table(["n", "v"], [["<i>", "1"]]))],
    )
    assert "<script" not in html
    assert not re.search(r"(src|href)=|url\(|@import|https?://", html)
    assert "a &lt; b" in html
