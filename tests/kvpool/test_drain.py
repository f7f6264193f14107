"""Drains of a Mooncake store, as a real master's answers show them."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from kvpool.drain.job import cancel_drain, follow_drain, query_drain, start_drain
from kvpool.drain.plan import mooncake, plan_drain
from kvpool.errors import KvPoolError, KvPoolUsageError
from kvpool.mooncake import MooncakePool
from kvpool.pool import open_pool
from tests.kvpool.mooncake_servers import SEGMENTS, Master, replay, scenes

SOURCE, TARGET = SEGMENTS
NEVER = threading.Event()


@pytest.fixture(params=["hanging"])
def server(request: pytest.FixtureRequest) -> Iterator[Master]:
    with replay(request.param) as master:
        yield master


@pytest.fixture
def pool(server: Master) -> Iterator[MooncakePool]:
    with open_pool(server.url) as opened:
        yield mooncake(opened)


def _start(pool: MooncakePool) -> str:
    return start_drain(pool.master, plan_drain(pool, [SOURCE]), 64).id


def test_a_plan_counts_and_names_what_will_block(pool: MooncakePool) -> None:
    plan = plan_drain(pool, [SOURCE])
    assert (plan.objects, plan.copied, plan.examples) == (12, 1, ("copied",))
    assert [target.name for target in plan.targets] == [TARGET]
    assert plan.bytes == sum(1024 + n for n in range(12) if n % 5 != 4) + 3000 + 4000
    assert plan.fits


def test_a_plan_counts_what_stays_on_the_client_s_disk() -> None:
    """As the master's own test has such an object: /batch_query_keys names client and size."""

    def offloaded(keys: dict[str, Any], segments: list[dict[str, Any]]) -> None:
        source = next(one["client_id"] for one in segments if one["segment_name"] == SOURCE)
        target = next(one["client_id"] for one in segments if one["segment_name"] == TARGET)
        for key, client, alone in (
            ("only", source, True),
            ("pinned", source, False),
            ("elsewhere", target, True),
        ):
            copy = {"client_id": client, "object_size": 7000, "transport_endpoint": "h:1"}
            found = keys.setdefault(key, {"ok": True, "error": None, "values": []})
            assert bool(found["values"]) != alone
            found["local_disk_values"] = [copy]

    with replay("hanging", objects=offloaded) as server, open_pool(server.url) as pool:
        plan = plan_drain(mooncake(pool), [SOURCE])
        assert (plan.objects, plan.copied) == (12, 1)
        assert (plan.on_disk, plan.only_on_disk, plan.only_on_disk_bytes) == (2, 1, 7000)
        entry = pool.stat("pinned")
        assert entry is not None
        assert entry.node == f"{SOURCE}, disk of {SOURCE}"
        assert entry.bytes == 2 * (entry.value_bytes or 0)


@pytest.mark.parametrize("server", ["sound"], indirect=True)
def test_a_drain_is_followed_to_its_end(pool: MooncakePool) -> None:
    seen = []
    done = follow_drain(pool, _start(pool), poll_s=0.01, stop=NEVER, progress=seen.append)
    assert done.end == "succeeded"
    assert (done.job.moved, done.job.blocked, done.job.active) == (10, 0, 0)
    assert [job.moved for job in seen] == [0, 0, 9, 9, 10]


def test_a_hang_is_noticed_and_what_blocks_is_named(pool: MooncakePool) -> None:
    done = follow_drain(pool, _start(pool), stall_after_s=0.2, poll_s=0.02, stop=NEVER)
    assert done.end == "stalled"
    assert done.job.status == "RUNNING"
    assert (done.job.moved, done.job.blocked, done.job.active) == (10, 2, 0)
    assert done.still_s >= 0.2
    assert (done.blockers.objects, done.blockers.bytes, done.blockers.copied) == (2, 7000, 1)
    assert {one.key: one.why for one in done.blockers.examples} == {
        "copied": "copied",
        "pinned": "held",
    }


def test_canceling_puts_the_segment_back(pool: MooncakePool) -> None:
    job = _start(pool)
    follow_drain(pool, job, stall_after_s=0.1, poll_s=0.02, stop=NEVER)
    assert cancel_drain(pool.master, job, stop=NEVER).status == "CANCELED"
    assert {segment.status for segment in pool.master.segments()} == {"OK"}
    with pytest.raises(KvPoolError, match="has ended already: Drain job canceled"):
        cancel_drain(pool.master, job, stop=NEVER)


def test_waiting_can_be_stopped_and_the_drain_goes_on(pool: MooncakePool, server: Master) -> None:
    job = _start(pool)
    stop = threading.Event()
    stop.set()
    assert follow_drain(pool, job, stop=stop).end == "stopped"
    assert not any("cancel" in path for _, path in server.seen)
    assert query_drain(pool.master, job).status == "RUNNING"


def test_a_second_drain_of_a_segment_is_refused(pool: MooncakePool) -> None:
    plan = plan_drain(pool, [SOURCE])
    start_drain(pool.master, plan, 64)
    with pytest.raises(KvPoolError, match="one of them is being drained") as caught:
        start_drain(pool.master, plan, 64)
    assert caught.value.code == "kv.drain.busy"


def test_an_unknown_job_is_said_to_be_so(pool: MooncakePool) -> None:
    with pytest.raises(KvPoolError, match="knows no drain job '1-2'"):
        query_drain(pool.master, "1-2")


def test_too_little_room_is_refused_before_it_starts() -> None:
    with replay("hanging", segments=_full) as server, open_pool(server.url) as opened:
        plan = plan_drain(mooncake(opened), [SOURCE])
        assert not plan.fits
        with pytest.raises(KvPoolError, match="room for 10 bytes"):
            start_drain(mooncake(opened).master, plan, 64)
        assert not any(method == "POST" for method, _ in server.seen)


def _full(segments: list[dict[str, Any]]) -> None:
    for segment in segments:
        if segment["segment_name"] == TARGET:
            segment["allocator_used_bytes"] = segment["size_bytes"] - 10


@pytest.mark.parametrize(
    ("segments", "targets", "message"),
    [
        (["nosuch"], [], "no segment 'nosuch'"),
        ([SOURCE], ["nosuch"], "no segment 'nosuch'"),
        ([SOURCE], [SOURCE], "emptied and filled at once"),
        ([SOURCE, TARGET], [], "no other segment"),
    ],
)
def test_what_cannot_be_drained_is_refused(
    segments: list[str], targets: list[str], message: str, pool: MooncakePool
) -> None:
    with pytest.raises(KvPoolUsageError, match=message):
        plan_drain(pool, segments, targets)


def test_a_segment_that_is_being_drained_is_refused(pool: MooncakePool) -> None:
    job = _start(pool)
    for _ in scenes()["hanging"]["states"]:
        query_drain(pool.master, job)
    with pytest.raises(KvPoolUsageError, match="not in service but DRAINING"):
        plan_drain(pool, [SOURCE])


def test_another_kind_of_pool_has_no_segments(tmp_path: Any) -> None:
    with (
        open_pool(f"lmcache+file:{tmp_path}") as other,
        pytest.raises(KvPoolUsageError, match="only a Mooncake store"),
    ):
        mooncake(other)


def test_a_success_whose_objects_never_arrived_is_none() -> None:
    """The client of the segment went away; the master then takes the segment for empty."""
    with replay("abandoned") as server, open_pool(server.url) as opened:
        pool = mooncake(opened)
        plan = plan_drain(pool, [SOURCE])
        job = start_drain(pool.master, plan, 64)
        done = follow_drain(pool, job.id, planned=plan.objects, poll_s=0.01, stop=NEVER)
    assert (done.end, done.job.moved, done.job.failed) == ("succeeded", 0, 10)
    assert (done.missing, done.unmounted, done.objects_lost) == (10, (SOURCE,), True)


def test_what_engines_removed_meanwhile_is_no_loss() -> None:
    with replay("sound") as server, open_pool(server.url) as opened:
        pool = mooncake(opened)
        done = follow_drain(pool, _start(pool), planned=12, poll_s=0.01, stop=NEVER)
    assert (done.missing, done.objects_lost) == (2, False)


def test_a_job_that_was_over_before_says_nothing_of_its_segments() -> None:
    """Their clients may have been stopped since, as they should."""
    with replay("abandoned") as server, open_pool(server.url) as opened:
        pool = mooncake(opened)
        job = _start(pool)
        while query_drain(pool.master, job).status != "SUCCEEDED":
            pass
        done = follow_drain(pool, job, stop=NEVER)
    assert (done.end, done.unmounted, done.objects_lost) == ("succeeded", (), False)


def test_objects_on_their_way_are_not_said_to_be_held() -> None:
    with replay("hanging", states=2) as server, open_pool(server.url) as opened:
        pool = mooncake(opened)
        done = follow_drain(pool, _start(pool), stall_after_s=0.1, poll_s=0.01, stop=NEVER)
    assert done.job.active > 0
    assert {one.why for one in done.blockers.examples} == {"copied", "waiting"}


def test_a_drain_that_moves_is_not_canceled() -> None:
    with replay("abandoned", states=2) as server, open_pool(server.url) as opened:
        pool = mooncake(opened)
        job = _start(pool)
        with pytest.raises(KvPoolError, match="while objects are on their way: 10 now") as caught:
            cancel_drain(pool.master, job, stop=NEVER, patience_s=0.2)
    assert caught.value.code == "kv.drain.moving"


def test_a_segment_named_twice_is_drained_once(pool: MooncakePool) -> None:
    plan = plan_drain(pool, [SOURCE, SOURCE], [TARGET, TARGET])
    assert [one.name for one in (*plan.segments, *plan.targets)] == [SOURCE, TARGET]


def test_a_plan_that_was_stopped_says_so(pool: MooncakePool) -> None:
    stop = threading.Event()
    stop.set()
    assert not plan_drain(pool, [SOURCE], stop=stop).complete


def test_what_is_recorded_is_what_hangs() -> None:
    last = json.loads(scenes()["hanging"]["states"][-1])
    assert (last["status_name"], last["active_units"]) == ("RUNNING", 0)
    assert last["blocked_units"] > 0
