"""The limit on the rate."""

import random
import threading
import time
from pathlib import Path

import pytest

from kvpool.migrate import pace
from kvpool.migrate.pace import Pace
from kvpool.migrate.report import Options
from tests.kvpool.migrations import Once, RedisPool, fill, key_of, migrate, stored
from tests.redis_server import requires_redis

RATE = 1000.0
BATCH = 100
"""Bytes: a tenth of a second's worth."""


class Clock(threading.Event):
    """A clock that goes on when somebody waits, who then wakes up late."""

    def __init__(self, late_s: float):
        super().__init__()
        self.now_s, self._late_s = 1000.0, late_s

    def monotonic(self) -> float:
        return self.now_s

    def wait(self, timeout: float | None = None) -> bool:
        self.now_s += max(0.0, timeout or 0.0) + self._late_s
        return False


def sent(clock: Clock, count: int) -> list[float]:
    """When each of some batches left."""
    limit = Pace(RATE)
    times = [clock.now_s]
    for _ in range(count):
        limit.wait(BATCH, clock)
        times.append(clock.now_s)
    return times


def test_waking_up_late_does_not_lower_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(late_s=0.03)
    monkeypatch.setattr(pace, "time", clock)
    times = sent(clock, 50)
    assert 50 * BATCH / (times[-1] - times[0]) == pytest.approx(RATE, rel=0.05)


def test_a_stall_is_not_followed_by_a_burst(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(late_s=0.0)
    monkeypatch.setattr(pace, "time", clock)
    limit = Pace(RATE)
    limit.wait(BATCH, clock)
    clock.now_s += 60.0
    start_s = clock.now_s
    for _ in range(10):
        limit.wait(BATCH, clock)
    assert 10 * BATCH / (clock.now_s - start_s) <= 1.05 * RATE


@requires_redis
def test_rate_is_kept(server: RedisPool, other: RedisPool, journal: Path) -> None:
    fill(server, count=40, size=50_000)
    rate = 1_500_000
    start_s = time.monotonic()
    report = migrate(server.url, other.url, journal, Options(bytes_per_s=rate))
    assert report.complete
    took_s = time.monotonic() - start_s
    assert report.written_bytes / report.elapsed_s < 1.05 * rate
    assert report.written_bytes / took_s > 0.6 * rate


@requires_redis
def test_what_is_written_while_a_batch_waits_breaks_no_batch(
    server: RedisPool, other: RedisPool, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = fill(server)
    newer = stored(random.Random(5), 3000)
    write = Once("waits", lambda: server.put(key_of(2), newer))

    class Written(Pace):
        def wait(self, count: int, stop: threading.Event) -> None:
            write("waits")

    monkeypatch.setattr("kvpool.migrate.work.Pace", Written)
    steps: list[str] = []
    options = Options(bytes_per_s=1e9, lanes=1)
    assert migrate(server.url, other.url, journal, options, at=steps.append).complete
    # The batch, and the entry that was written; not each entry of the batch by itself.
    assert steps.count("looked") <= 2
    assert other.entries() == expected | {key_of(2): newer}
