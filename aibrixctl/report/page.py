"""The page around the drawings: one HTML file that needs nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_STYLE = """
:root { color-scheme: light dark; --ink: #16222c; --soft: #5a6a76; --line: #d9e0e6;
  --paper: #ffffff; --panel: #f5f8fa; --accent: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4eaef; --soft: #9aa9b5; --line: #33424e;
  --paper: #12191f; --panel: #1a242c; --accent: #56b4e9; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 40px 28px 64px; max-width: 1080px; color: var(--ink);
  background: var(--paper); font: 15px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 6px; }
h2 { font-size: 19px; margin: 40px 0 4px; }
h3 { font-size: 15px; margin: 18px 0 4px; }
p { margin: 4px 0 10px; max-width: 76ch; }
.soft, .axis { color: var(--soft); fill: var(--soft); }
.notice { border-left: 3px solid #e69f00; background: var(--panel); padding: 8px 14px; }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; margin: 22px 0 0; }
.tile { background: var(--panel); border: 1px solid var(--line); border-radius: 8px;
  padding: 12px 18px; min-width: 150px; }
.tile b { display: block; font-size: 24px; line-height: 1.25; }
.tile span { color: var(--soft); font-size: 13px; }
.side { display: flex; flex-wrap: wrap; gap: 8px 36px; }
svg { max-width: 100%; height: auto; color: var(--ink); display: block; }
svg text { font: 12.5px system-ui, "Segoe UI", Roboto, sans-serif; }
svg text:not([fill]) { fill: currentColor; }
svg text.axis { fill: var(--soft); }
table { border-collapse: collapse; margin: 6px 0 12px; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 4px 14px 4px 0; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
th { color: var(--soft); font-weight: 600; font-size: 13px; }
.key { display: inline-block; width: 11px; height: 11px; border-radius: 2px; margin: 0 6px 0 0; }
.keys span { margin-right: 18px; white-space: nowrap; }
"""


@dataclass(frozen=True)
class Tile:
    """One figure at the top: the value and what it is."""

    value: str
    about: str


def paragraph(content: str, kind: str = "") -> str:
    """Return a paragraph; ``kind`` is ``soft``, ``notice`` or nothing."""
    return f'<p class="{kind}">{escape(content)}</p>' if kind else f"<p>{escape(content)}</p>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; the first column is text, the others figures."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def legend(colours: dict[str, str]) -> str:
    """Return the key to the colours."""
    keys = "".join(
        f'<span><i class="key" style="background:{colour}"></i>{escape(name)}</span>'
        for name, colour in colours.items()
    )
    return f'<p class="keys">{keys}</p>'


def side_by_side(blocks: Sequence[tuple[str, str]]) -> str:
    """Return titled blocks beside each other, as the width allows."""
    inner = "".join(f"<div><h3>{escape(title)}</h3>{body}</div>" for title, body in blocks)
    return f'<div class="side">{inner}</div>'


def page(
    title: str, lead: Sequence[str], tiles: Sequence[Tile], sections: Sequence[tuple[str, str]]
) -> str:
    """Return the whole page.

    Args:
        title: heading and title of the document.
        lead: HTML blocks under the heading.
        tiles: the figures to read first.
        sections: heading and HTML of each part.
    """
    drawn = "".join(
        f'<div class="tile"><b>{escape(tile.value)}</b><span>{escape(tile.about)}</span></div>'
        for tile in tiles
    )
    body = "".join(f"<h2>{escape(heading)}</h2>{content}" for heading, content in sections)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(title)}</h1>{''.join(lead)}"
        f'<div class="tiles">{drawn}</div>{body}</body></html>\n'
    )
