"""Writers that are at work on either side while a migration runs."""

import random
import threading
from pathlib import Path

import pytest

from kvpool.migrate.ends import Access
from kvpool.migrate.lane import ConflictError
from kvpool.migrate.report import Options
from kvpool.migrate.run import Migration
from tests.kvpool.migrations import (
    FULL,
    PAIRS,
    AnyPool,
    FilePool,
    Once,
    RedisPool,
    ends_of,
    fill,
    key_of,
    migrate,
    stored,
)
from tests.redis_server import requires_redis

pytestmark = requires_redis


SAME_LENGTH, OTHER_LENGTH = 3000, 2000


@pytest.mark.parametrize("size", [SAME_LENGTH, OTHER_LENGTH])
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_another_entry_under_the_same_key(
    pair: tuple[str, str], size: int, server: RedisPool, tmp_path: Path
) -> None:
    ends = ends_of(pair, server, tmp_path)
    expected = fill(ends[0], size=SAME_LENGTH)
    theirs = stored(random.Random(99), size)
    ends[1].put(key_of(3), theirs)
    ends[1].put(key_of(4), expected[key_of(4)])

    def run(policy: str) -> dict[str, int]:
        options = Options(on_conflict=policy, lanes=1)  # type: ignore[arg-type]
        report = migrate(ends[0].url, ends[1].url, tmp_path / policy, options)
        if report.error is not None:
            raise report.error
        return dict(report.fates)

    before = ends[1].entries()
    with pytest.raises(ConflictError, match=r"the target has (an)?other entr"):
        run("fail")
    assert ends[1].entries() == before
    assert run("skip") == {"copied": 4, "kept": 1, "same": 1}
    assert ends[1].entries() == expected | {key_of(3): theirs}
    assert run("overwrite") == {"copied": 1, "same": 5}
    assert ends[1].entries() == expected


@pytest.mark.parametrize("step", ["looked", "begun", "read", "committed", "verified", "left"])
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_entry_written_while_it_is_copied(
    pair: tuple[str, str], step: str, server: RedisPool, tmp_path: Path, journal: Path
) -> None:
    ends = ends_of(pair, server, tmp_path)
    expected = fill(ends[0])
    newer = stored(random.Random(5), 3000)
    fresh = stored(random.Random(6), 10)

    def write() -> None:
        ends[0].put(key_of(2), newer)
        ends[0].put(key_of(77), fresh)

    report = migrate(ends[0].url, ends[1].url, journal, FULL, at=Once(step, write))
    assert report.complete
    assert ends[1].entries() == expected | {key_of(2): newer, key_of(77): fresh}


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_entry_written_before_its_removal_is_kept(
    pair: tuple[str, str], server: RedisPool, tmp_path: Path, journal: Path
) -> None:
    ends = ends_of(pair, server, tmp_path)
    expected = fill(ends[0])
    newer = stored(random.Random(5), 3000)
    options = Options(verify="full", delete_source=True)
    at = Once("verified", lambda: ends[0].put(key_of(2), newer))
    report = migrate(ends[0].url, ends[1].url, journal, options, at=at)
    assert report.complete
    assert ends[1].entries() == expected | {key_of(2): newer}
    assert ends[0].entries() == {}


@pytest.mark.parametrize("kind", ["redis", "file"])
def test_entry_that_a_writer_puts_into_the_target_meanwhile(
    kind: str, server: RedisPool, other: RedisPool, directory: FilePool, journal: Path
) -> None:
    target: AnyPool = other if kind == "redis" else directory
    expected = fill(server)
    theirs = stored(random.Random(5), 3000)
    at = Once("put", lambda: target.put(key_of(2), theirs))
    report = migrate(server.url, target.url, journal, Options(on_conflict="skip"), at=at)
    assert at.done
    assert report.fates == {"copied": 5, "kept": 1}
    assert target.entries() == expected | {key_of(2): theirs}


def test_entry_that_vanishes_first(server: RedisPool, other: RedisPool, journal: Path) -> None:
    expected = fill(server)
    at = Once("planned", lambda: server.remove(key_of(2)))
    report = migrate(server.url, other.url, journal, at=at)
    assert report.fates == {"copied": 5, "gone": 1}
    del expected[key_of(2)]
    assert other.entries() == expected


@pytest.mark.parametrize("delete", [False, True])
def test_writers_at_work_all_along(
    delete: bool, server: RedisPool, other: RedisPool, journal: Path
) -> None:
    """Whatever they wrote before the last look is in the target, and what they wrote last."""
    expected = fill(server, count=300, size=5000)
    numbers = random.Random(11)
    wrote = threading.Event()

    def write() -> None:
        for _ in range(150):
            key, value = key_of(numbers.randrange(400)), stored(numbers, 2000)
            server.put(key, value)
            expected[key] = value
        wrote.set()

    writer = threading.Thread(target=write)

    def at(step: str) -> None:
        if step == "planned":
            writer.start()
        if step == "settled":
            # Not a wait for a state: it only keeps the migration from ending first.
            wrote.wait(20)

    options = Options(verify="full", delete_source=delete, batch_entries=8)
    assert migrate(server.url, other.url, journal, options, at=at).complete
    writer.join()
    assert other.entries() == expected
    assert server.entries() == ({} if delete else expected)


def test_server_that_tells_no_changes(server: RedisPool, other: RedisPool, journal: Path) -> None:
    expected = fill(server)
    server.client.acl_setuser(
        "ops", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-client"]
    )
    url = server.url.replace("//", "//ops@")
    with Migration(url, other.url, FULL, source_access=Access("any")) as migration:
        report = migration.run(journal, resume=False, stop=threading.Event())
    assert report.complete
    assert "does not tell which keys change" in report.warnings[0]
    assert other.entries() == expected
