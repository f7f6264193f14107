"""A small pool to try the commands on: what LMCache would leave after some conversations."""

import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from kvpool import lmcache
from kvpool.directory import write_whole
from kvpool.entry import Header, TensorGroup
from kvpool.errors import KvPoolUsageError
from kvpool.find.hashes import Scheme, chunk_hashes

_CHUNK_TOKENS = 16
_VOCABULARY = 32_000
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
        prefix: token ids up to the end of the chunk; empty where it is none.
        conversation: which one it belongs to.
    """

    name: str
    data: bytes
    age_s: float
    prefix: tuple[int, ...] = ()
    conversation: int = 0


def demo_files(entries: int, seed: int, *, hazards: bool = False) -> Iterator[DemoFile]:
    """Yield the files of a pool; the same for the same arguments.

    Conversations of one model share the chunks of its system prompt, and each adds its own.
    """
    draw = random.Random(seed)
    for model in _MODELS:
        yield from _files_of(model, max(1, round(entries * model.share)), draw)
    if hazards:
        yield from _hazards(draw)


def demo_prompt(entries: int, seed: int) -> list[int]:
    """Return token ids of a prompt that starts as a conversation in the pool of these arguments."""
    draw = random.Random(seed)
    files = _files_of(_MODELS[0], max(1, round(entries * _MODELS[0].share)), draw)
    first = list(takewhile(lambda file: file.conversation == 0, files))
    # A chunk that is not full is found at the end of a prompt only, and this one goes on.
    full = max((file.prefix for file in first if len(file.prefix) % _CHUNK_TOKENS == 0), key=len)
    return [*full, *_tokens("what nobody asked before", 2 * _CHUNK_TOKENS)]


def _files_of(model: _Model, count: int, draw: random.Random) -> Iterator[DemoFile]:
    made = 0
    system = [f"{model.name}/{number}" for number in range(draw.randrange(2, 5))]
    shared = [token for name in system for token in _tokens(name, _CHUNK_TOKENS)]
    conversation = 0
    while made < count:
        tags = f"@tenant%{draw.choice(model.tenants)}" if model.tenants else ""
        age_s = min(draw.expovariate(1 / (_DAY_S / 2)), 6 * _DAY_S)
        own = [f"{model.name}/{conversation}/{number}" for number in range(draw.randrange(1, 9))]
        prefix = [] if conversation == 0 else shared
        names = [*system, *own] if conversation == 0 else own
        for number, name in enumerate(names):
            full = number + 1 < len(names)
            tokens = _CHUNK_TOKENS if full else draw.randrange(1, _CHUNK_TOKENS + 1)
            prefix = [*prefix, *_tokens(name, tokens)]
            for worker in range(model.world_size):
                if made == count:
                    return
                made += 1
                key = f"{model.name}@{model.world_size}@{worker}@{_hash(prefix)}"
                key = f"{key}@{_KEY_DTYPE[model.dtype]}{tags}"
                value = _value(model, tokens, draw)
                yield DemoFile(lmcache.file_name(key), value, age_s, tuple(prefix), conversation)
        conversation += 1


def _tokens(name: str, count: int) -> list[int]:
    """Return the token ids of a piece of text that nobody wrote."""
    return random.Random(name).choices(range(_VOCABULARY), k=count)


def _hash(prefix: list[int]) -> str:
    """Return the hash of the chunk that ends a prefix, as LMCache makes it without vLLM."""
    *_, last = chunk_hashes(prefix, _CHUNK_TOKENS, Scheme("builtin", 0, ""))
    return last


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
