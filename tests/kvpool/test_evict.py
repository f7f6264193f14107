"""Eviction: the oldest go, no more than needed, and nothing that came to life meanwhile."""

import os
from pathlib import Path
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvpool import lmcache
from kvpool.evict import Evicted, evict, plan_eviction
from kvpool.pool import open_pool
from kvpool.selection import Selection
from tests.kvpool.pools import entries

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
    tmp_path_factory: pytest.TempPathFactory, pool_of: list[tuple[int, int]], limit: int
) -> None:
    folder = tmp_path_factory.mktemp("pool")
    fill(folder, [age for age, _ in pool_of], [size for _, size in pool_of])
    with open_pool(f"lmcache+file://{folder}") as pool:
        before = entries(pool)
        plan = plan_eviction(pool, Selection(), to_bytes=limit)
        total = sum(size for _, size in pool_of)
        assert plan.scanned_bytes == total
        rest = total - plan.victim_bytes
        assert rest <= limit or len(plan.victims) == len(pool_of)
        if plan.victims:
            assert rest + plan.victims[-1].bytes > limit
        kept = set(before) - {victim.key for victim in plan.victims}
        newest_gone = max((before[v.key].stored_s or 0 for v in plan.victims), default=0)
        assert all((before[key].stored_s or 0) >= newest_gone for key in kept)
        done = evict(pool, plan)
        assert (done.removed, done.removed_bytes) == (len(plan.victims), plan.victim_bytes)
        assert set(entries(pool)) == kept


def test_what_was_written_anew_or_is_gone_is_spared(tmp_path: Path) -> None:
    fill(tmp_path, [30, 20, 10], [28, 28, 28])
    with open_pool(f"lmcache+file://{tmp_path}") as pool:
        plan = plan_eviction(pool, Selection())
        (tmp_path / "m@1@0@0@half.data").write_bytes(HEADER)
        (tmp_path / "m@1@0@1@half.data").unlink()
        assert evict(pool, plan) == Evicted(removed=1, removed_bytes=28, changed=1, absent=1)
        assert list(entries(pool)) == ["m@1@0@0@half"]


def test_other_states_and_unselected_entries_are_no_victims(tmp_path: Path) -> None:
    fill(tmp_path, [30, 20], [28, 100])
    (tmp_path / "m@1@0@9@half.tmp").write_bytes(b"x")
    (tmp_path / "README").write_bytes(b"x")
    with open_pool(f"lmcache+file://{tmp_path}") as pool:
        plan = plan_eviction(pool, Selection(min_bytes=50), to_bytes=0)
        assert [victim.bytes for victim in plan.victims] == [100]
        assert (plan.scanned, plan.scanned_bytes) == (2, 128)


def test_a_stopped_plan_is_not_complete_and_a_stopped_removal_says_so(tmp_path: Path) -> None:
    fill(tmp_path, [1], [28])
    stop = Event()
    stop.set()
    with open_pool(f"lmcache+file://{tmp_path}") as pool:
        assert not plan_eviction(pool, Selection(), stop=stop).complete
        plan = plan_eviction(pool, Selection())
        assert evict(pool, plan, stop=stop) == Evicted(complete=False)
        assert len(entries(pool)) == 1
