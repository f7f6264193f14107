"""Migrations for the tests: pools to fill and read from outside, and children that get killed."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import redis

from kvpool.entry import Header, TensorGroup
from kvpool.lmcache import file_name, key_of_file, pack_header
from kvpool.migrate.report import Options, Report
from kvpool.migrate.run import Migration

MODEL = "acme/chat-8b"
FULL = Options(verify="full")
PAIRS = [("redis", "redis"), ("redis", "file"), ("file", "redis"), ("file", "file")]


def key_of(number: int, model: str = MODEL) -> str:
    return f"{model}@1@0@{number:016x}@bfloat16"


def header_of(size: int) -> bytes:
    return pack_header(Header(size, "KV_2LTD", (TensorGroup("uint8", (2, 1, size // 2, 1)),)))


@dataclass(frozen=True)
class Stored:
    """An entry as it stands in a pool."""

    data: bytes
    header: bytes
    expires_ms: tuple[int, int] = (-1, -1)


def stored(source: random.Random, size: int, expires_ms: int = -1) -> Stored:
    size -= size % 2
    return Stored(source.randbytes(size), header_of(size), (expires_ms, expires_ms))


class RedisPool:
    """Entries in a real server, seen through the official client."""

    keeps_expiry = True

    def __init__(self, port: int, database: int = 0):
        self.port = port
        self.client = redis.Redis(port=port, db=database)
        self.url = f"lmcache+redis://127.0.0.1:{port}/{database}"

    def clear(self) -> None:
        self.client.flushdb()

    def put(self, key: str, value: Stored) -> None:
        for suffix, text, at_ms in zip(
            ("kv_bytes", "metadata"), (value.data, value.header), value.expires_ms, strict=True
        ):
            self.client.set(key + suffix, text, pxat=None if at_ms < 0 else at_ms)

    def put_foreign(self) -> None:
        self.client.set("session:42", "somebody else's")
        self.client.set(f"{key_of(999)}kv_bytes", "half of an entry")

    def foreign_is_there(self) -> bool:
        return (
            self.client.get("session:42") == b"somebody else's"
            and self.client.get(f"{key_of(999)}kv_bytes") == b"half of an entry"
        )

    def remove(self, key: str) -> None:
        self.client.delete(key + "metadata", key + "kv_bytes")

    def entries(self) -> dict[str, Stored]:
        """Every entry; fails where one half of a pair is missing."""
        names = {name.decode() for name in self.client.scan_iter() if b"@" in name}
        keys = {name.removesuffix("metadata").removesuffix("kv_bytes") for name in names}
        found = {}
        for key in keys - {key_of(999)}:
            data, header = (self.client.get(key + half) for half in ("kv_bytes", "metadata"))
            assert isinstance(data, bytes), f"{key} has no kv_bytes"
            assert isinstance(header, bytes), f"{key} has no metadata"
            ends = [self.client.pexpiretime(key + half) for half in ("kv_bytes", "metadata")]
            found[key] = Stored(data, header, (int(ends[0]), int(ends[1])))
        return found


class FilePool:
    """Entries in a directory, as LMCache names them."""

    keeps_expiry = False

    def __init__(self, root: Path):
        self.root = root
        self.url = f"lmcache+file://{root}"
        root.mkdir(exist_ok=True)

    def clear(self) -> None:
        for path in self.root.iterdir():
            path.unlink()

    def put(self, key: str, value: Stored) -> None:
        scratch = self.root / "writer"
        scratch.write_bytes(value.header + value.data)
        scratch.replace(self.root / file_name(key))

    def put_foreign(self) -> None:
        (self.root / "README").write_text("somebody else's")

    def foreign_is_there(self) -> bool:
        return (self.root / "README").read_text() == "somebody else's"

    def remove(self, key: str) -> None:
        (self.root / file_name(key)).unlink(missing_ok=True)

    def entries(self) -> dict[str, Stored]:
        found = {}
        for path in self.root.glob("*.data"):
            whole = path.read_bytes()
            assert len(whole) >= 28, f"{path} has no whole header"
            assert int.from_bytes(whole[:4], "little") == len(whole) - 28, f"{path} is cut short"
            found[key_of_file(path.name)] = Stored(whole[28:], whole[:28])
        return found


AnyPool = RedisPool | FilePool


def ends_of(pair: tuple[str, str], server: RedisPool, folder: Path) -> list[AnyPool]:
    """Source and target of some kinds; two of Redis are databases of one server."""
    return [
        RedisPool(server.port, number) if kind == "redis" else FilePool(folder / f"pool{number}")
        for number, kind in enumerate(pair)
    ]


def fill(pool: AnyPool, count: int = 6, size: int = 3000) -> dict[str, Stored]:
    source = random.Random(7)
    expected = {key_of(number): stored(source, size) for number in range(count)}
    for key, value in expected.items():
        pool.put(key, value)
    return expected


def config_of(source: AnyPool, target: AnyPool) -> dict[str, object]:
    return {"source": source.url, "target": target.url, "models": [], "drop_expiry": False}


class Once:
    """Does something at the first occurrence of a step."""

    def __init__(self, step: str, action: Callable[[], object]):
        self._step, self._action = step, action
        self._lock = threading.Lock()
        self.done = False

    def __call__(self, step: str) -> None:
        with self._lock:
            if step != self._step or self.done:
                return
            self.done = True
        self._action()


@dataclass
class Killer:
    """Kills its own process at the given step of a migration."""

    steps: int
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, step: str) -> None:
        with self._lock:
            self.steps -= 1
            if self.steps == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def migrate(
    source: str,
    target: str,
    journal: Path,
    options: Options | None = None,
    *,
    resume: bool = False,
    at: Callable[[str], None] = lambda step: None,
    stop: threading.Event | None = None,
) -> Report:
    with Migration(source, target, options or Options(), at=at) as migration:
        return migration.run(journal, resume=resume, stop=stop or threading.Event())


def killed_child(
    source: str, target: str, journal: Path, options: Options, steps: int, resume: bool
) -> None:
    """What a child process does; it ends by SIGKILL unless the migration ends first."""
    migrate(source, target, journal, options, resume=resume, at=Killer(steps))


def soon_ms(seconds: float = 3600) -> int:
    return int((time.time() + seconds) * 1000)
