"""The journal of a migration, by itself."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelerators.errors import ToolError
from kvpool.migrate.journal import OPEN, Fate, Journal, Settled, _those

CONFIG = {"source": "a", "target": "b", "models": [], "drop_expiry": False}


@given(st.lists(st.integers(1, 60), min_size=1, unique=True))
def test_condition_names_exactly_the_numbers(numbers: list[int]) -> None:
    which, values = _those(numbers)
    if values:
        assert list(range(values[0], values[1] + 1)) == numbers
        assert which == "id BETWEEN ? AND ?"
    else:
        assert which == f"id IN ({','.join(map(str, numbers))})"


@given(
    fates=st.lists(
        st.tuples(
            st.integers(0, 19),
            st.sampled_from(["copied", "moved", "same", "kept", "gone", "unfit"]),
        ),
        max_size=30,
    ),
    reopened=st.sets(st.integers(0, 19)),
)
def test_what_is_open_is_what_was_not_settled_last(
    tmp_path_factory: pytest.TempPathFactory,
    fates: list[tuple[int, Fate]],
    reopened: set[int],
) -> None:
    """Replayed after being opened again, as after a crash."""
    path = tmp_path_factory.mktemp("journal") / "journal"
    keys = [f"m@1@0@{number:x}@half\udcff" for number in range(20)]
    with Journal(path, CONFIG, resume=False) as journal:
        journal.add([(key, 10, "pending", "") for key in keys])
        journal.note("planned", True)
        numbers = {item.key: item.number for _, item in journal.open_items((-1, 0), 100)}
        journal.begin(list(numbers.values())[:7])
        for which, fate in fates:
            journal.settle([Settled(numbers[keys[which]], fate, "stamp", "note")])
        journal.reopen(sorted(numbers[keys[which]] for which in reopened))
    expected: dict[str, Fate] = dict.fromkeys(keys, "pending")
    expected |= dict.fromkeys(keys[:7], "writing")
    expected |= {keys[which]: fate for which, fate in fates}
    expected |= {keys[which]: "stale" for which in reopened}
    with Journal(path, CONFIG, resume=True) as journal:
        assert {key: fate for key, (_, fate) in journal.fates(keys).items()} == expected
        waiting = {item.key: item.ours for _, item in journal.open_items((-1, 0), 100)}
        assert waiting == {k: f != "pending" for k, f in expected.items() if f in OPEN}
        assert sum(count for count, _ in journal.totals().values()) == 20


def test_only_one_process_writes_it(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal", CONFIG, resume=False) as journal:
        journal.note("planned", True)
        with pytest.raises(ToolError, match="another migration is writing"):
            Journal(tmp_path / "journal", CONFIG, resume=True)


def test_place_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ToolError, match="cannot write"):
        Journal(tmp_path / "file" / "journal", CONFIG, resume=False)
