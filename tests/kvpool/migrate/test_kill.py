"""kill -9 at any step of a migration, again and again, while writers are at work: nothing is lost.

Every child is a process of its own that really gets SIGKILL; with four pairs of backends there
are some hundreds of kills.
"""

import dataclasses
import multiprocessing
import random
import signal
from pathlib import Path

import pytest

from kvpool.migrate.report import Options
from tests.kvpool.migrations import (
    FULL,
    PAIRS,
    AnyPool,
    RedisPool,
    Stored,
    ends_of,
    fill,
    key_of,
    killed_child,
    migrate,
    soon_ms,
    stored,
)
from tests.redis_server import requires_redis

pytestmark = requires_redis
_ROUNDS = 16
_ENTRIES = 14
_BATCH = 3
_CHILDREN = multiprocessing.get_context("forkserver")
_CHILDREN.set_forkserver_preload(["tests.kvpool.migrations"])
_STEPS_PER_BATCH = 8


class _Round:
    """One migration, killed several times."""

    def __init__(self, source: AnyPool, target: AnyPool, folder: Path, seed: int):
        self.random = random.Random(seed)
        self.source, self.target = source, target
        self.journal = folder / f"{seed}.journal"
        self.options = Options(
            lanes=self.random.choice([1, 2]),
            verify="full",
            delete_source=self.random.random() < 0.5,
            drop_expiry=not target.keeps_expiry,
            batch_entries=_BATCH,
        )
        self.kills = 0
        for pool in (source, target):
            pool.clear()
            pool.put_foreign()
        self.expected: dict[str, Stored] = {}
        for number in range(_ENTRIES):
            self.write(number)

    def write(self, number: int) -> None:
        """A writer stores an entry at the source."""
        expires_ms = soon_ms() if self.source.keeps_expiry and number % 3 == 0 else -1
        value = stored(self.random, self.random.choice([0, 6, 5000]), expires_ms)
        self.source.put(key_of(number), value)
        self.expected[key_of(number)] = value

    def disturb(self) -> None:
        """A writer changes, adds or removes an entry."""
        if self.random.random() < 0.4:
            self.write(self.random.randrange(_ENTRIES + 3))
        elif self.random.random() < 0.2:
            key = self.random.choice(list(self.expected))
            if key in self.source.entries():
                self.source.remove(key)
                self.expected.pop(key)

    def killed(self) -> bool:
        """Run until a random step; return whether the kill came before the end."""
        steps = self.random.randrange(1, 22)
        child = _CHILDREN.Process(
            target=killed_child,
            args=(
                self.source.url,
                self.target.url,
                self.journal,
                self.options,
                steps,
                self.kills > 0,
            ),
        )
        child.start()
        child.join()
        assert child.exitcode in (0, -signal.SIGKILL)
        self.kills += child.exitcode != 0
        return child.exitcode != 0

    def check_nothing_lost(self) -> None:
        """Wherever the kill came: every entry is whole somewhere, and no half is anywhere."""
        source, target = self.source.entries(), self.target.entries()
        for key, value in self.expected.items():
            assert source.get(key) == value or (
                self.options.delete_source
                and target.get(key) == self.as_target(value)
                and key not in source
            ), f"{key} is lost"
        assert self.source.foreign_is_there()
        assert self.target.foreign_is_there()

    def as_target(self, value: Stored) -> Stored:
        if self.target.keeps_expiry:
            return value
        return dataclasses.replace(value, expires_ms=(-1, -1))

    def finish(self) -> None:
        """Resume until the end."""
        report = migrate(
            self.source.url, self.target.url, self.journal, self.options, resume=self.kills > 0
        )
        assert report.complete, (report.fates, report.examples, self.options)
        found = self.target.entries()
        for key, value in self.expected.items():
            assert found[key] == self.as_target(value)
        left = self.source.entries()
        assert left == ({} if self.options.delete_source else self.expected)
        self.check_nothing_lost()


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_kill_at_random_steps(pair: tuple[str, str], server: RedisPool, tmp_path: Path) -> None:
    kills = 0
    for number in range(_ROUNDS):
        source, target = ends_of(pair, server, tmp_path)
        one = _Round(source, target, tmp_path, number)
        for _ in range(8):
            if not one.killed():
                break
            one.check_nothing_lost()
            one.disturb()
        one.finish()
        kills += one.kills
    assert kills >= 4 * _ROUNDS


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_what_arrived_before_a_kill_is_not_written_again(
    pair: tuple[str, str], server: RedisPool, tmp_path: Path
) -> None:
    """Wherever in its second batch the child was killed."""
    source, target = ends_of(pair, server, tmp_path)
    expected = fill(source, count=4 * _BATCH)
    options = dataclasses.replace(FULL, lanes=1, batch_entries=_BATCH)
    for step in range(_STEPS_PER_BATCH):
        target.clear()
        journal = tmp_path / f"{step}.journal"
        steps = 2 + _STEPS_PER_BATCH + step  # "planned" comes before the first batch
        child = _CHILDREN.Process(
            target=killed_child, args=(source.url, target.url, journal, options, steps, False)
        )
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        arrived = len(target.entries())
        assert _BATCH <= arrived <= 2 * _BATCH
        report = migrate(source.url, target.url, journal, options, resume=True)
        assert report.complete
        assert report.written_entries == len(expected) - arrived
        assert target.entries() == expected
