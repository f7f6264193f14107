"""A small pool to try the commands on: what LMCache would leave after some conversations."""

import hashlib
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kvpool import lmcache
from kvpool.directory import write_whole
from kvpool.entry import Header, TensorGroup
from kvpool.errors import KvPoolUsageError

_CHUNK_TOKENS = 16
_DAY_S = 86400.0


@dataclass(frozen=True)
class _Model:
    """An engine that fills the pool: shapes are real ones, shrunk so that a laptop notices none."""

    name: str
    world_size: int
    dtype: str
    layers: int
    hidden: int
    share: float
    tenants: tuple[str, ...] = ()


_MODELS = (
    _Model("demo/chat-8b", 2, "bfloat16", 4, 32, 0.6, ("acme", "globex")),
    _Model("demo/code-3b", 1, "float16", 2, 32, 0.3),
    _Model("demo/embed-1b", 1, "float8_e4m3fn", 2, 16, 0.1),
)
_KEY_DTYPE = {"bfloat16": "bfloat16", "float16": "half", "float8_e4m3fn": "fp8_e4m3fn"}


@dataclass(frozen=True)
class DemoFile:
    """One file to write.

    Attributes:
        name: in the pool's folder.
        data: its content.
        age_s: seconds since it was stored.
    """

    name: str
    data: bytes
    age_s: float


def demo_files(entries: int, seed: int, *, hazards: bool = False) -> Iterator[DemoFile]:
    """Yield the files of a pool; the same for the same arguments.

    Conversations of one model share the chunks of its system prompt, and each adds its own.
    """
    draw = random.Random(seed)
    for model in _MODELS:
        yield from _files_of(model, max(1, round(entries * model.share)), draw)
    if hazards:
        yield from _hazards(draw)


def _files_of(model: _Model, count: int, draw: random.Random) -> Iterator[DemoFile]:
    made = 0
    system = _chain(model.name, draw.randrange(2, 5), "")
    conversation = 0
    while made < count:
        tags = f"@tenant%{draw.choice(model.tenants)}" if model.tenants else ""
        age_s = min(draw.expovariate(1 / (_DAY_S / 2)), 6 * _DAY_S)
        own = _chain(f"{model.name}/{conversation}", draw.randrange(1, 9), system[-1])
        chunks = [*system, *own] if conversation == 0 else own
        conversation += 1
        for number, chunk_hash in enumerate(chunks):
            full = number + 1 < len(chunks)
            tokens = _CHUNK_TOKENS if full else draw.randrange(1, _CHUNK_TOKENS + 1)
            for worker in range(model.world_size):
                if made == count:
                    return
                made += 1
                key = f"{model.name}@{model.world_size}@{worker}@{chunk_hash}"
                key = f"{key}@{_KEY_DTYPE[model.dtype]}{tags}"
                yield DemoFile(lmcache.file_name(key), _value(model, tokens, draw), age_s)


def _chain(name: str, count: int, before: str) -> list[str]:
    """Return hashes of chunks, each of which depends on all before it."""
    hashes = []
    for number in range(count):
        before = hashlib.sha256(f"{before}/{name}/{number}".encode()).hexdigest()[:16]
        hashes.append(f"{int(before, 16):x}")
    return hashes


def _value(model: _Model, tokens: int, draw: random.Random) -> bytes:
    shape = (2, model.layers, tokens, model.hidden // model.world_size)
    groups = (TensorGroup(model.dtype, shape),)
    size = lmcache.shape_bytes(Header(0, "KV_2LTD", groups))
    return lmcache.pack_header(Header(size, "KV_2LTD", groups)) + draw.randbytes(size)


def _hazards(draw: random.Random) -> Iterator[DemoFile]:
    """Yield what a pool should not hold, one of each kind."""
    model = _MODELS[1]
    start = f"{model.name}@{model.world_size}@0@"
    whole = _value(model, _CHUNK_TOKENS, draw)

    def named(chunk_hash: str, dtype: str = "half") -> str:
        return lmcache.file_name(f"{start}{chunk_hash}@{dtype}")

    half_written = named("dead4f00c0ffee01").removesuffix(lmcache.FILE_SUFFIX)
    yield DemoFile(half_written + lmcache.TEMPORARY_SUFFIX, whole[:900], 7200.0)
    yield DemoFile(named("c07d00c0ffee02"), whole[: len(whole) // 2], 3600.0)
    yield DemoFile(named("bad000c0ffee03"), draw.randbytes(64), 3600.0)
    yield DemoFile(named("e4400c0ffee04", "nf4"), whole, 3600.0)
    yield DemoFile("NOTES.txt", b"mounted from the old cluster, do not delete\n", 5 * _DAY_S)


def write_demo(folder: Path, files: Iterator[DemoFile], *, now_s: float | None = None) -> int:
    """Write files with their age; return how many there are.

    Raises:
        KvPoolUsageError: the folder is there and not empty.
        KvPoolError: it can't be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise KvPoolUsageError(
            "kv.demo.exists",
            f"{folder} is there and not an empty folder",
            hint="name one that is not there yet",
            target=str(folder),
        )
    now_s = time.time() if now_s is None else now_s
    count = 0
    for file in files:
        path = folder / file.name
        write_whole(path, (file.data,), durable=False)
        os.utime(path, (now_s - file.age_s, now_s - file.age_s))
        count += 1
    return count
