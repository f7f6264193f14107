"""Tables on a narrow terminal: wrapped where there is text, never cut."""

import io

import pytest

from accelerators.catalog import load_catalog
from aibrixctl.commands.accelerators import _summary
from aibrixctl.heatmap import heatmap
from aibrixctl.render import table_of
from aibrixctl.screen import Screen


def drawn(table: object, width: int) -> list[str]:
    screen = Screen(file=io.StringIO(), width=width)
    screen.print(table)
    assert screen.width == width
    return screen.file.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]


def test_the_list_of_accelerators_fits_80_columns_whole() -> None:
    types = load_catalog().values()
    lines = drawn(table_of([_summary(type_, wide=False) for type_ in types]), 80)
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines[2:]] == [type_.name for type_ in types]
    assert "…" not in "".join(lines)


def test_text_wraps_between_words() -> None:
    source = "a data sheet of the vendor, read on some day"
    lines = drawn(table_of([{"name": "a10", "source": source, "figure": 12345}]), 40)
    assert len(lines) > 2
    assert max(map(len, lines)) <= 40
    shown = {"NAME", "SOURCE", "FIGURE", "a10", "12345", *source.split()}
    assert set(" ".join(lines).split()) == shown


@pytest.mark.parametrize("width", [20, 60])
def test_what_can_not_be_wrapped_runs_past_the_edge(width: int) -> None:
    sizes = [str(2**n) for n in range(5, 16)]
    labels = [[f"{n + 0.125:g}" for n in range(len(sizes))]]
    lines = drawn(heatmap(sizes, ["1"], labels, [[None] * len(sizes)]), width)
    assert lines[0].split()[3:] == sizes
    assert lines[1].split()[1:] == labels[0]
    assert len(lines) == 2


def test_control_characters_are_shown() -> None:
    screen = Screen(file=io.StringIO(), width=40, force_terminal=True, color_system="standard")
    screen.print("a\x1b[31mb\x9b1m\u202ec", style="red", highlight=False)
    assert screen.file.getvalue() == "\x1b[31ma␛[31mb\ufffd1m\ufffdc\x1b[0m\n"  # type: ignore[attr-defined]
