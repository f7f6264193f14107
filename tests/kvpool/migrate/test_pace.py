"""The limit on the rate."""

import time
from pathlib import Path

from kvpool.migrate.report import Options
from tests.kvpool.migrations import (
    RedisPool,
    fill,
    migrate,
)
from tests.redis_server import requires_redis

pytestmark = requires_redis


def test_rate_is_kept(server: RedisPool, other: RedisPool, journal: Path) -> None:
    fill(server, count=40, size=50_000)
    rate = 1_500_000
    start_s = time.monotonic()
    report = migrate(server.url, other.url, journal, Options(bytes_per_s=rate))
    assert report.complete
    took_s = time.monotonic() - start_s
    assert report.written_bytes / report.elapsed_s < 1.05 * rate
    assert report.written_bytes / took_s > 0.6 * rate
