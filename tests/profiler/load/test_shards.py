"""One load from several processes, against a real engine."""

import asyncio
import contextlib
import os
import signal
import threading

import numpy as np
import psutil
import pytest

from profiler.errors import ProfilerUsageError, ShardLostError
from profiler.load import Progress, run_load
from profiler.load.schedule import due_times
from profiler.load.shards import run_sharded

from .conftest import Request, good
from .runs import Start, Writer, configure

OPEN = {"request_rate": 60, "max_concurrency": None, "num_prompts": 60, "salt": "fixed"}


def workers() -> list[psutil.Process]:
    """The processes of shards; not one that ends just now, or did and waits for its parent."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if "profiler.load.shard_worker" in child.cmdline():
                found.append(child)
    return found


def test_shards_send_what_one_client_sends(engine: Start) -> None:
    served = engine()
    config = configure(served, **OPEN)
    run_load(config)
    alone = sorted(request.prompt for request in served.load)
    served.requests.clear()
    run = run_sharded(config, 3)
    assert sorted(request.prompt for request in served.load) == alone
    assert (run.summary.offered, run.summary.completed, run.complete) == (60, 60, True)
    assert (run.shards, run.lost) == (3, ())
    # One schedule, one clock: due at the same moments, in the same order, to the nanosecond.
    np.testing.assert_allclose(run.samples.scheduled_s, due_times(config), atol=2e-9)
    at = np.sort([request.received_at for request in served.load])
    assert np.median(np.abs((at - at[0]) - (due_times(config) - due_times(config)[0]))) < 0.05
    assert [shard.requests for shard in run.summary.client.shards] == [20, 20, 20]
    assert not workers()


def test_a_closed_loop_s_concurrency_is_divided(engine: Start) -> None:
    most, now = 0, 0

    async def count(request: Request, writer: Writer) -> None:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.05)
        now -= 1  # before the client can know that it is over
        await good(request, writer)

    served = engine(count)
    run = run_sharded(configure(served, max_concurrency=5, num_prompts=30), 2)
    assert run.summary.completed == 30
    assert most == 5
    assert run.shards == 2


def test_more_shards_than_requests_in_flight_are_not_started(engine: Start) -> None:
    run = run_sharded(configure(engine(), max_concurrency=1, num_prompts=4), 3)
    assert (run.shards, run.summary.completed, run.summary.client.shards) == (1, 4, ())


def test_a_shard_that_is_killed_is_named_and_the_others_count(engine: Start) -> None:
    begun = threading.Event()

    async def slow(request: Request, writer: Writer) -> None:
        if not request.is_probe:
            begun.set()
        await asyncio.sleep(0.01)
        await good(request, writer)

    def kill() -> None:
        assert begun.wait(30)
        os.kill(max(workers(), key=lambda process: process.pid).pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    run = run_sharded(configure(engine(slow), **{**OPEN, "num_prompts": 180}), 3)
    killer.join()
    (lost,) = run.lost
    assert lost.reason == "killed by signal 9"
    assert run.shards == 3
    assert run.summary.completed == 120
    assert any(f"shard {lost.part} was lost" in note for note in run.summary.notes)
    assert not workers()


def test_a_shard_that_is_lost_before_the_start_ends_the_run(engine: Start) -> None:
    async def fatal(request: Request, writer: Writer) -> None:
        if request.is_probe and (now := workers()):
            os.kill(now[0].pid, signal.SIGKILL)
        await good(request, writer)

    served = engine(fatal)
    with pytest.raises(ShardLostError, match=r"shard \d of 2 was lost before the load began"):
        run_sharded(configure(served, **OPEN), 2)
    assert not served.load


def test_what_a_shard_refuses_is_refused(engine: Start) -> None:
    with pytest.raises(ProfilerUsageError, match="does not serve 'other'") as caught:
        run_sharded(configure(engine(), **OPEN, model="other"), 2)
    assert caught.value.hint == "give one of these as the model"


def test_a_stop_reaches_all_shards(engine: Start) -> None:
    stop, seen = threading.Event(), []

    def watch(now: Progress) -> None:
        seen.append(now)
        stop.set()

    run = run_sharded(
        configure(engine(), **{**OPEN, "num_prompts": 6000}), 2, stop=stop, on_progress=watch
    )
    assert not run.complete
    assert 0 < run.summary.completed < 6000
    assert seen[0].total == 6000
    assert not run.lost
