"""Unmodified programs of others: healthy, each fault that they can show, healthy again."""

from dataclasses import replace
from pathlib import Path

import pytest

from mockfail.nodes import node
from mockfail.state import Override, State
from tests.mockfail.client_readings import pattern
from tests.mockfail.client_table import PAGE, changed, page, wrong_of
from tests.mockfail.obtain import debian_clients, obtained
from tests.mockfail.programs import MockFolder, RealDriver, requires_no_driver
from tests.mockfail.real_clients import CLIENTS, Client


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_a_client_shows_each_fault_that_it_can_and_is_healthy_after(
    client: Client, tmp_path: Path
) -> None:
    obtained(client.obtain)
    wrong = wrong_of(client, tmp_path)
    assert not wrong, "\n".join(wrong)


def test_the_table_says_what_the_clients_show() -> None:
    stale = "run python -m tests.mockfail.client_table --write"
    assert PAGE.read_text(encoding="utf-8") == page(), stale


# ---- laid over a driver -------------------------------------------------------------------------


OVERLAID = ["nvidia-smi -q -x", "nvtop", "pynvml", "nvitop", "C"]


@pytest.fixture
def overlaid(mock: MockFolder, real_driver: RealDriver) -> MockFolder:
    """A mock's folder whose programs find the stand-in driver beneath."""
    return replace(mock, variables=real_driver.environment)


@pytest.mark.parametrize("name", OVERLAID)
def test_over_a_driver_a_client_sees_the_fault_and_all_else_as_it_is(
    overlaid: MockFolder, real_driver: RealDriver, name: str
) -> None:
    client = next(client for client in CLIENTS if client.name == name)
    obtained(client.obtain)
    over = State(node("a100-80gx2"), "overlay", real_library=str(real_driver.library))
    hot = Override("gpu", "temperature_c", 97, 1)
    with client.under(overlaid) as session:
        as_it_is = session.show(over)
        lines = changed(as_it_is, session.show(replace(over, overrides=(hot,))))
        again = session.show(over)
    words = pattern(name, "temperature_c", 97, None)
    assert words and [line for line in lines if line.startswith("GPU 1") and words.search(line)]
    assert len(lines) == 1
    assert again == as_it_is


@requires_no_driver
@pytest.mark.parametrize("name", ["nvidia-smi", "pynvml", "C"])
def test_over_nvidias_own_library_without_a_card_a_client_hears_what_that_says(
    mock: MockFolder, name: str
) -> None:
    library = next(obtained(debian_clients).glob("usr/lib/*/nvidia/current/libnvidia-ml.so.1"))
    client = next(client for client in CLIENTS if client.name == name)
    obtained(client.obtain)
    over = State(node("h100x8"), "overlay", real_library=str(library))
    not_loaded = pattern(name, "init_error", 9, None)
    with client.under(mock) as session:
        said = session.show(over).items()
    assert not_loaded and any(not_loaded.search(f"{place}: {text}") for place, text in said)
