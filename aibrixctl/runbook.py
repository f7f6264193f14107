"""Write the runbook from what ``diagnose explain`` knows: ``python -m aibrixctl.runbook FILE``."""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from diagnose import ascend_codes, xid
from diagnose.explain import Explanation, catalogue, explain

_INTRODUCTION = """\
# Runbook

What every finding of `aibrixctl diagnose` means and what to do. This file is made by
`python -m aibrixctl.runbook docs/runbook.md` from the data behind `aibrixctl diagnose explain`,
which prints the same for one code; a file given with `--actions` overrides entries.

Severities: **fatal**, the device does no trustworthy work; **degraded**, it works at a loss or will
fail soon; **warning**, look at it at the next maintenance; **info**, no fault, and no effect on the
exit code.
"""

_XIDS = """
## XIDs

Every code of NVIDIA's XID catalogue (docs.nvidia.com/deploy/xid-errors, as of 2025-10-29). Finding
codes are `NV-XID-<n>`; they come from the kernel log.

| XID | name | severity | move work | what to do |
|---|---|---|---|---|
"""

_ASCEND = """
## Ascend fault codes

Findings are `ASCEND-FAULT-<code>`; `aibrixctl diagnose explain 80E01801` names module and state of
each of the {number} codes. What to do follows from the handling level.

| handling level | codes | severity | move work | what to do |
|---|---|---|---|---|
"""


def render() -> str:
    """Return the whole runbook as Markdown."""
    return "".join((_INTRODUCTION, *_findings(), _XIDS, *_xids(), *_levels()))


def _findings() -> Iterator[str]:
    for prefix, title in (
        ("DRIVER-", "Any accelerator"),
        ("PCIE-", ""),
        ("NV-", "NVIDIA GPUs"),
        ("ASCEND-", "Ascend NPUs"),
        ("ACTIVE-", "Active tests"),
        ("ENGINE-", "Serving engines"),
        ("NODE-", "Nodes of a cluster"),
    ):
        if title:
            yield f"\n## {title}\n"
        for code, entry in sorted(catalogue().items()):
            if code.startswith(prefix):
                yield _section(entry)


def _section(entry: Explanation) -> str:
    move = "move it away first" if entry.move_workload else "may stay"
    title = entry.title[:1].upper() + entry.title[1:]
    return (
        f"\n### {entry.code}\n\n{title} · **{entry.severity}** · workload: {move}\n\n"
        f"{entry.meaning}\n\n- Detected by: {entry.detected_by}.\n"
        f"- What to do: {entry.action}\n- Source: {entry.source}.\n"
    )


def _xids() -> Iterator[str]:
    for number in sorted(xid.catalogue()):
        entry = explain(f"XID {number}")
        yield _row(str(number), entry.title, entry)


def _levels() -> Iterator[str]:
    levels = ascend_codes.levels()
    yield _ASCEND.format(number=len(levels))
    counts = Counter(levels.values())
    for level in ascend_codes.LEVELS:
        yield _row(level, str(counts[level]), explain(level))


def _row(first: str, second: str, entry: Explanation) -> str:
    move = "yes" if entry.move_workload else "no"
    cells = (first, second, entry.severity, move, entry.action)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(render(), encoding="utf-8")
