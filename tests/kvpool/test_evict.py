"""Eviction: the oldest go, no more than needed, and nothing that came to life meanwhile."""

import os
from pathlib import Path
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvpool import lmcache
from kvpool.entry import Entry
from kvpool.evict import _MOST_BINS, Evicted, _Ages, evict, plan_eviction
from kvpool.pool import open_pool
from kvpool.selection import Selection
from tests.kvpool.pools import copy, entries
from tests.kvpool.test_stats import pool_of

HEADER = lmcache.pack_header(lmcache.Header(0, "KV_2LTD", (lmcache.TensorGroup("uint8", (1,)),)))


def fill(folder: Path, ages_s: list[int], sizes: list[int]) -> None:
    """Entries m@1@0@0, m@1@0@1 and so on, with these ages and sizes."""
    for number, (age, size) in enumerate(zip(ages_s, sizes, strict=True)):
        path = folder / f"m@1@0@{number:x}@half.data"
        path.write_bytes(HEADER + bytes(size - len(HEADER)))
        os.utime(path, (1e9 - age, 1e9 - age))


_POOLS = st.lists(st.tuples(st.integers(0, 10_000), st.integers(28, 400)), min_size=1, max_size=25)


@given(_POOLS, st.integers(0, 5000))
def test_the_oldest_go_until_the_rest_fits_and_not_one_more(
    tmp_path_factory: pytest.TempPathFactory, made: list[tuple[int, int]], limit: int
) -> None:
    folder = tmp_path_factory.mktemp("pool")
    fill(folder, [age for age, _ in made], [size for _, size in made])
    with open_pool(f"lmcache+file://{folder}") as pool:
        before = entries(pool)
        plan = plan_eviction(pool, Selection(), to_bytes=limit)
        total = sum(size for _, size in made)
        assert (plan.scanned, plan.scanned_bytes) == (len(made), total)
        done = evict(pool, plan)
        left = entries(pool)
        gone = [entry for key, entry in before.items() if key not in left]
        assert (done.removed, done.removed_bytes) == (len(gone), sum(e.bytes for e in gone))
        rest = total - done.removed_bytes
        newest_gone = max((entry.stored_s or 0 for entry in gone), default=0)
        assert rest <= limit or not left
        # Entries of one second are told apart only as they are removed.
        sizes = [e.bytes for e in before.values() if e.stored_s == newest_gone]
        assert abs(done.removed_bytes - plan.bytes) <= sum(sizes)
        if len(set(sizes)) <= 1:
            assert (done.removed, done.removed_bytes) == (plan.entries, plan.bytes)
        assert all((entry.stored_s or 0) >= newest_gone for entry in left.values())
        if gone:
            assert rest + max(e.bytes for e in gone if e.stored_s == newest_gone) > limit


def test_what_was_written_anew_is_spared(tmp_path: Path) -> None:
    fill(tmp_path, [30, 20, 10], [28, 28, 28])
    with open_pool(f"lmcache+file://{tmp_path}") as pool:
        plan = plan_eviction(pool, Selection(older_than_s=60), to_bytes=28)
        assert (plan.entries, plan.bytes) == (2, 56)
        (tmp_path / "m@1@0@0@half.data").write_bytes(HEADER)
        assert evict(pool, plan) == Evicted(1, 28)
        assert sorted(entries(pool)) == ["m@1@0@0@half", "m@1@0@2@half"]


def test_other_states_and_unselected_entries_stay(tmp_path: Path) -> None:
    fill(tmp_path, [30, 20], [28, 100])
    (tmp_path / "m@1@0@9@half.tmp").write_bytes(b"x")
    (tmp_path / "README").write_bytes(b"x")
    with open_pool(f"lmcache+file://{tmp_path}") as pool:
        plan = plan_eviction(pool, Selection(min_bytes=50), to_bytes=0)
        assert (plan.scanned, plan.scanned_bytes) == (2, 128)
        assert evict(pool, plan) == Evicted(1, 100)
        assert len(entries(pool)) == 3


def test_entries_of_unknown_age_stay_and_are_counted() -> None:
    pool = pool_of([Entry("a", "whole", 5), Entry("b", "whole", 5, stored_s=1.0)])
    plan = plan_eviction(pool, Selection(), to_bytes=0)
    assert (plan.entries, plan.unknown_age) == (1, 1)


def test_memory_is_bounded_whatever_the_ages() -> None:
    ages = _Ages()
    for number in range(3 * _MOST_BINS):
        ages.add(number * 1.5, 1)
    assert len(ages.bytes) <= _MOST_BINS
    assert sum(ages.bytes.values()) == sum(ages.entries.values()) == 3 * _MOST_BINS


def test_a_block_goes_while_its_database_is_read(tmp_path: Path) -> None:
    with open_pool(f"aibrix+rocksdb://{copy('aibrix-rocksdb', tmp_path)}") as pool:
        plan = plan_eviction(pool, Selection(models=("tiny_*",)))
        assert evict(pool, plan).removed == 4


def test_a_stopped_plan_is_not_complete_and_a_stopped_removal_says_so(tmp_path: Path) -> None:
    fill(tmp_path, [1], [28])
    stop = Event()
    stop.set()
    with open_pool(f"lmcache+file://{tmp_path}") as pool:
        assert not plan_eviction(pool, Selection(), stop=stop).complete
        plan = plan_eviction(pool, Selection())
        assert evict(pool, plan, stop=stop) == Evicted(complete=False)
        assert len(entries(pool)) == 1
