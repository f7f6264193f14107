"""The report's drawings are well-formed, complete and self-contained."""

import re
import xml.etree.ElementTree as ET

import pytest

from aibrixctl.report import page, svg
from aibrixctl.report.plan_page import plan_page
from optimizer.limits import Limits, apply
from optimizer.plan import Plan
from optimizer.planner import make_plan
from tests.optimizer.problems import make_problem

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


def limited_plan() -> Plan:
    """A plan on two types, neither of which serves everything alone, with a limit that binds."""
    problem = make_problem([12, 4], {"small": (1.0, [4, 0]), "a-type-of-a-long-name": (4, [0, 4])})
    return make_plan(apply(problem, Limits(available={"small": 3})), current={"small": 2})


def test_a_plan_page_draws_the_mix_whatever_single_types_can_do() -> None:
    html = plan_page(limited_plan(), [])
    assert "this plan" in html
    assert html.count("cannot serve") >= 3  # both types alone, and the current fleet
    assert "every available GPU of small is used" in html


def test_a_plan_page_without_sizes_lists_the_routes() -> None:
    html = plan_page(limited_plan(), [])
    assert "<td>b1</td><td>a-type-of-a-long-name</td><td>100.0%</td><td>4</td>" in html


def test_bars_leave_room_for_long_labels_and_endings() -> None:
    drawing = ET.fromstring(svg.bars("t", [("w" * 60, [("a", 1.0)], "w" * 90)], {"a": "#111"}))
    label, ending = drawing.iter("text")
    assert float(label.get("x", "0")) > 60 * 7
    assert float(drawing.get("width", "0")) > float(ending.get("x", "0")) + 90 * 7


def test_sixteen_types_have_sixteen_colours() -> None:
    assert len(set(svg.SERIES)) == 16
