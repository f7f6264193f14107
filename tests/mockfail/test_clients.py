"""Unmodified programs of others: healthy, each fault that they can show, healthy again."""

from pathlib import Path

import pytest

from tests.mockfail.client_table import FAULTS, PAGE, SEEN, row_of
from tests.mockfail.obtain import obtained
from tests.mockfail.real_clients import CLIENTS, Client


def documented() -> dict[str, dict[str, str]]:
    """Return the marks of docs/clients.md by client and scenario."""
    marks: dict[str, dict[str, str]] = {client.name: {} for client in CLIENTS}
    heading: list[str] = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        first, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        if first == "fault":
            heading = cells
        elif first in FAULTS:
            for client, mark in zip(heading, cells, strict=True):
                marks[client][first] = mark
    return marks


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_a_client_shows_each_fault_that_it_can_and_is_healthy_after(
    client: Client, tmp_path: Path
) -> None:
    obtained(client.obtain)
    row = row_of(client, tmp_path)
    assert not row.wrong, "\n".join(row.wrong)
    assert row.marks == documented()[client.name], (
        "run python -m tests.mockfail.client_table --write"
    )


def test_the_table_holds_what_was_promised() -> None:
    table = documented()
    named = {fault for marks in table.values() for fault in marks}
    assert named == set(FAULTS)
    assert len(table) >= 9 and len(named) >= 15
    assert all(SEEN in marks.values() for marks in table.values())
