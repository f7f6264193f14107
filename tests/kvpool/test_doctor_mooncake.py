"""Hazards of a Mooncake store, as a real master's answers show them."""

import threading
from collections.abc import Sequence

import pytest

from kvpool.doctor.examine import examine
from kvpool.doctor.finding import Report
from kvpool.doctor.survey import Options
from kvpool.drain.job import follow_drain, start_drain
from kvpool.drain.plan import mooncake, plan_drain
from kvpool.mooncake import MooncakePool
from kvpool.mooncake_http import Replicas
from kvpool.pool import open_pool
from tests.kvpool.mooncake_servers import SEGMENTS, replay

SOURCE, _ = SEGMENTS
NEVER = threading.Event()


def start(pool: MooncakePool) -> str:
    return start_drain(pool.master, plan_drain(pool, [SOURCE]), 64).id


def codes(report: Report) -> set[str]:
    return {finding.hazard.code for finding in report.findings}


def test_a_sound_store() -> None:
    with replay("sound") as server, open_pool(server.url) as pool:
        report = examine(pool)
    assert report.faults == ()
    assert "KV-DRAIN-STALLED" in report.passed
    assert report.scanned


def test_an_object_that_no_segment_has_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    with replay("sound") as server, open_pool(server.url) as opened:
        pool = mooncake(opened)
        ask = pool.master.replicas

        def replicas(keys: Sequence[str]) -> dict[str, Replicas]:
            return ask(keys) | {keys[0]: Replicas(None, error="REPLICA_IS_NOT_READY")}

        monkeypatch.setattr(pool.master, "replicas", replicas)
        (finding,) = examine(pool).findings
    assert finding.hazard.code == "KV-INCOMPLETE"
    assert "REPLICA_IS_NOT_READY" in finding.evidence[0]


def test_a_drain_that_hangs_is_found_with_what_blocks_it() -> None:
    with replay("hanging") as server, open_pool(server.url) as opened:
        pool = mooncake(opened)
        job = start(pool)
        follow_drain(pool, job, stall_after_s=0.1, poll_s=0.01, stop=NEVER)
        unknown = examine(pool)
        assert [check.code for check in unknown.undecided] == ["KV-DRAIN-STALLED"]
        assert f"{SOURCE} is being drained" in unknown.undecided[0].reason
        report = examine(pool, Options(drain_job=job, stall_after_s=0.1))
    assert report.undecided == ()
    (finding,) = report.faults
    assert finding.hazard.code == "KV-DRAIN-STALLED"
    assert finding.evidence[0].startswith(f"job {job} of {SOURCE}: 10 objects moved, 2 blocked, 0 ")
    assert any(line.startswith("pinned on") and "held" in line for line in finding.evidence)


def test_a_drain_that_moves_is_none() -> None:
    with replay("sound") as server, open_pool(server.url) as opened:
        pool = mooncake(opened)
        report = examine(pool, Options(drain_job=start(pool), stall_after_s=60))
    assert "KV-DRAIN-STALLED" not in codes(report)
    assert report.complete
