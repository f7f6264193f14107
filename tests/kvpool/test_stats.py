"""Counting, choosing and ordering entries, on entries made up here."""

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvpool.entry import STATES, Entry, PoolFacts
from kvpool.listing import ORDERS, Order, first
from kvpool.pool import Pool
from kvpool.selection import Selection
from kvpool.stats import EDGES_S, MOST_NAMES, OTHERS, Histogram, PoolStats

NOW_S = time.time()
_TIMES = st.none() | st.floats(NOW_S - 1e6, NOW_S)
_ENTRIES = st.lists(
    st.builds(
        Entry,
        key=st.text("abc", min_size=1, max_size=6),
        state=st.sampled_from(STATES),
        bytes=st.integers(0, 1000),
        model=st.sampled_from(["a/x", "a/y", "b"]),
        world_size=st.just(2),
        worker_id=st.integers(0, 1),
        tokens=st.none() | st.integers(1, 256),
        tags=st.sampled_from([(), (("t", "1"),), (("t", "2"), ("u", "1"))]),
        stored_s=_TIMES,
        accessed_s=_TIMES,
        expires_s=st.none() | st.floats(NOW_S, NOW_S + 1e6),
    ),
    max_size=40,
    unique_by=lambda entry: entry.key,
)


def pool_of(entries: list[Entry], batch: int = 7) -> Pool:
    """A pool that only lists what it was given."""

    def scan(**_: Any) -> Iterator[list[Entry]]:
        for start in range(0, len(entries), batch):
            yield entries[start : start + batch]

    return cast(Pool, SimpleNamespace(scan=scan))


@given(_ENTRIES)
def test_every_entry_is_counted_once_in_each_table(entries: list[Entry]) -> None:
    stats = PoolStats(PoolFacts("test"))
    stats.add(entries, NOW_S)
    whole = [entry for entry in entries if entry.state == "whole"]
    assert sum(tally.entries for tally in stats.states.values()) == len(entries)
    assert sum(tally.bytes for tally in stats.states.values()) == sum(e.bytes for e in entries)
    groups = [group for _, group in stats.largest_groups()]
    assert sum(group.tally.bytes for group in groups) == stats.states["whole"].bytes
    assert [g.tally.bytes for g in groups] == sorted((g.tally.bytes for g in groups), reverse=True)
    assert sum(sum(group.workers.values()) for group in groups) == len(whole)
    for histogram in (stats.stored, stats.accessed, stats.expires):
        assert sum(histogram.counts) + histogram.without == len(whole)


def test_memory_is_bounded_whatever_the_tags_and_models() -> None:
    stats = PoolStats(PoolFacts("test"))
    for number in range(3 * MOST_NAMES):
        entry = Entry(str(number), "whole", 1, model=f"m{number}", tags=(("id", str(number)),))
        stats.add([entry], NOW_S)
    assert len(stats.groups) == len(stats.tags) == MOST_NAMES + 1
    assert stats.tags["id", OTHERS].entries == 2 * MOST_NAMES
    assert stats.entries == 3 * MOST_NAMES


@given(st.floats(-10, 1e8))
def test_a_span_falls_into_the_bin_below_its_edge(span_s: float) -> None:
    histogram = Histogram()
    histogram.add(span_s)
    place = histogram.counts.index(1)
    assert place == len(EDGES_S) or span_s < EDGES_S[place]
    assert place == 0 or span_s >= EDGES_S[place - 1]


@given(_ENTRIES, st.sampled_from(ORDERS), st.integers(0, 50))
def test_the_first_of_an_order_are_those_of_a_full_sort(
    entries: list[Entry], order: Order, limit: int
) -> None:
    everything = first(pool_of(entries), Selection(), order=order)
    assert everything.matching == len(entries)
    assert {entry.key for entry in everything.entries} == {entry.key for entry in entries}
    cut = first(pool_of(entries), Selection(), order=order, limit=limit)
    assert cut.entries == (everything.entries[:limit] if limit else everything.entries)
    sizes = [entry.bytes for entry in everything.entries]
    assert order != "size" or sizes == sorted(sizes, reverse=True)
    expiries = [entry.expires_s or float("inf") for entry in everything.entries]
    assert order != "expiry" or expiries == sorted(expiries)


@pytest.mark.parametrize(
    ("selection", "keys"),
    [
        (Selection(), "abcd"),
        (Selection(models=("org/*",)), "ab"),
        (Selection(models=("org/x", "ns_h0_1")), "ad"),
        (Selection(states=("orphan", "foreign")), "c"),
        (Selection(tags=(("t", "1"),)), "b"),
        (Selection(min_bytes=20, max_bytes=30), "bc"),
        (Selection(older_than_s=60), "ab"),
        (Selection(expires_within_s=60), "a"),
    ],
)
def test_conditions_choose_entries(selection: Selection, keys: str) -> None:
    entries = [
        Entry("a", "whole", 10, model="org/x", stored_s=NOW_S - 100, expires_s=NOW_S + 30),
        Entry(
            "b", "whole", 20, model="org/y", tags=(("t", "1"), ("u", "2")), accessed_s=NOW_S - 70
        ),
        Entry("c", "orphan", 30, stored_s=NOW_S - 10, accessed_s=NOW_S - 500),
        Entry("d", "whole", 40, namespace="ns_h0_1", expires_s=NOW_S + 90),
    ]
    assert "".join(entry.key for entry in entries if selection.holds(entry, NOW_S)) == keys
