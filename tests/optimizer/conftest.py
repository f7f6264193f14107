"""One solver process for all tests of the optimizer, and folders of tables."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from optimizer.solver import Solver
from profiler import table
from profiler.table import ThroughputTable

SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="session")
def solver() -> Iterator[Solver]:
    with Solver() as running:
        yield running


@pytest.fixture
def tables_in(tmp_path: Path) -> Callable[..., Path]:
    """Write tables into a folder and return it."""

    def write(*written: ThroughputTable) -> Path:
        folder = tmp_path / "profiles"
        folder.mkdir(exist_ok=True)
        for one in written:
            table.save(one, folder / f"{one.target}.table.json")
        return folder

    return write


@pytest.fixture(scope="session")
def shared_data() -> Path:
    if not SHARED.is_dir():
        pytest.skip("the reference data is not beside this checkout")
    return SHARED
