"""Look a prompt up in a pool, by the way that its kind of pool makes keys."""

import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from threading import Event

from kvpool import aibrix, lmcache
from kvpool.entry import Entry, Node
from kvpool.errors import KvPoolUsageError, UnsupportedError
from kvpool.find.hashes import (
    ALGORITHMS,
    DEFAULT_SEED,
    Algorithm,
    Scheme,
    block_keys,
    chunk_hashes,
    schemes,
    slot_hash,
)
from kvpool.find.prefix import Block, Group, spans
from kvpool.pool import Pool, require

LMCACHE_CHUNK_TOKENS = 256
AIBRIX_BLOCK_TOKENS = 16
"""What each takes where nothing else is configured."""
_SAMPLED_BATCHES = 20
_STATS_PER_MODEL = 16
_MOST_MODELS = 1000
_AIBRIX_BLOCKS = ("aibrix+shfs", "aibrix+rocksdb")


@dataclass(frozen=True)
class Query:
    """What to look for, and how its keys are made.

    Attributes:
        tokens: of the prompt.
        model: name or shell pattern; of the ``conn_id`` for AIBrix. None: all that the pool holds.
        chunk_tokens: of a full chunk; None: as the pool's entries have it.
        seed: PYTHONHASHSEED of the engines.
        algorithms: of LMCache's hashes, to be tried.
        world_size, dtype: of LMCache's engine; with both and a model, its keys are asked for one
            by one, and the pool is not scanned.
        tags: of LMCache's keys.
        builder: of AIBrix's keys, where the pool doesn't tell.
    """

    tokens: Sequence[int]
    model: str | None = None
    chunk_tokens: int | None = None
    seed: str = DEFAULT_SEED
    algorithms: tuple[Algorithm, ...] = ALGORITHMS
    world_size: int | None = None
    dtype: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    builder: str = "ro"

    def names(self, name: str) -> bool:
        """Tell whether a model or ``conn_id`` is meant."""
        return self.model is None or name == self.model or fnmatch.fnmatchcase(name, self.model)


@dataclass
class Found:
    """What was found.

    Attributes:
        groups: those that hold the longest prefix first.
        tried: ways of hashing that were tried, with their chunk size.
        models: models, or ``conn_id``s, that were looked at.
        complete: False where the search was stopped.
    """

    groups: list[Group] = field(default_factory=list)
    tried: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    complete: bool = True


def find(
    pool: Pool,
    query: Query,
    *,
    stop: Event | None = None,
    progress: Callable[[int], None] | None = None,
) -> Found:
    """Return which blocks of a prompt a pool holds, for every kind of engine that filled it.

    Args:
        pool: to look in; values of Redis and files are not read.
        query: what to look for.
        stop: when set, the search ends soon.
        progress: called now and then with the number of entries looked at.

    Raises:
        UnsupportedError: the pool can't be listed, and the query does not make up for it.
        KvPoolUsageError: the query is wrong.
        KvPoolError: what the pool raises, or a package that hashes is not installed.
    """
    stop, progress = stop or Event(), progress or (lambda seen: None)
    if pool.url.scheme in _AIBRIX_BLOCKS:
        found = _in_spaces(pool, query, stop, progress)
    elif pool.url.scheme == "vineyard":
        raise UnsupportedError(
            "kv.cannot.find",
            f"{pool.url}: nothing in vineyard's objects tells of which tokens they are",
            target=str(pool.url),
        )
    elif pool.url.scheme == "aibrix+redis":
        found = _by_placement(pool, query)
    elif query.model and query.world_size and query.dtype:
        found = _by_key(pool, query, stop, progress)
    else:
        found = _by_scan(pool, query, stop, progress)
    found.groups.sort(key=lambda group: (-group.prefix_tokens, group.name, group.scheme))
    found.complete = not stop.is_set()
    return found


def _in_spaces(pool: Pool, query: Query, stop: Event, progress: Callable[[int], None]) -> Found:
    found = Found()
    seen = 0
    spaces = (aibrix.parse_conn_id(name) for name in getattr(pool, "conn_ids", ()))
    for space in spaces:
        if space is None or not query.names(space.conn_id):
            continue
        blocks = []
        keys = block_keys(query.tokens, space.block_tokens, space.key_builder)
        for (start, end), key in zip(
            spans(len(query.tokens), space.block_tokens), keys, strict=False
        ):
            entry = pool.stat(f"{space.conn_id}/{key}")
            blocks.append(Block(start, end, key, [entry] if entry else [], 1, pool.url.place))
            seen += 1
            if stop.is_set():
                break
        progress(seen)
        how = aibrix.KEY_BUILDERS[space.key_builder]
        found.models.append(space.conn_id)
        found.tried.append(f"{how}, {space.block_tokens} tokens")
        if any(block.entries for block in blocks):
            count = len(query.tokens)
            found.groups.append(Group(space.conn_id, how, space.block_tokens, tuple(blocks), count))
    found.tried = sorted(set(found.tried))
    return found


def _by_placement(pool: Pool, query: Query) -> Found:
    """Say which node each block belongs to; what is on the nodes can't be seen from here."""
    facts = pool.describe()
    owners = _slots_as_read(facts.nodes, facts.total_slots or 0)
    size = query.chunk_tokens or AIBRIX_BLOCK_TOKENS
    how = aibrix.KEY_BUILDERS.get(query.builder)
    if how is None or not owners:
        what = f"{query.builder!r} is no key builder" if how is None else "no node owns a slot"
        raise KvPoolUsageError(
            "kv.find.placement", what, hint=f"known: {', '.join(aibrix.KEY_BUILDERS)}"
        )
    blocks = []
    keys = block_keys(query.tokens, size, query.builder)
    for (start, end), key in zip(spans(len(query.tokens), size), keys, strict=False):
        node = owners[slot_hash(key) % len(owners)]
        blocks.append(Block(start, end, key, node=f"{node.name} {node.address}", unknown=True))
    group = Group(pool.url.options["key"], how, size, tuple(blocks), len(query.tokens))
    return Found([group], [f"{how}, {size} tokens"])


def _slots_as_read(nodes: Sequence[Node], total: int) -> list[Node]:
    """Return the owner of every slot as clients list them: gaps close up, shared slots repeat."""
    pairs = [
        (slot, node)
        for node in nodes
        for start, end in node.slots
        for slot in range(max(0, start), min(end, total - 1) + 1)
    ]
    return [node for _, node in sorted(pairs, key=lambda pair: pair[0])]


def _by_key(pool: Pool, query: Query, stop: Event, progress: Callable[[int], None]) -> Found:
    """Ask for the keys of one engine, chunk after chunk; only ways whose first is there go on."""
    assert query.model and query.world_size and query.dtype
    size = query.chunk_tokens or LMCACHE_CHUNK_TOKENS
    found = Found(models=[query.model])
    for scheme in schemes(query.seed, query.algorithms):
        found.tried.append(_words(scheme, size))
        blocks: list[Block] = []
        hashes = chunk_hashes(query.tokens, size, scheme)
        for (start, end), chunk_hash in zip(spans(len(query.tokens), size), hashes, strict=True):
            keys = [
                lmcache.Key(
                    query.model, query.world_size, rank, chunk_hash, query.dtype, None, query.tags
                )
                for rank in range(query.world_size)
            ]
            entries = [entry for key in keys if (entry := pool.stat(str(key)))]
            block = Block(start, end, chunk_hash, entries, query.world_size, pool.url.place)
            blocks.append(block)
            progress(len(blocks))
            if stop.is_set() or (start == 0 and not entries):
                break
        if blocks and blocks[0].entries:
            found.groups.append(
                Group(
                    query.model,
                    _words(scheme, size),
                    size,
                    tuple(blocks),
                    len(query.tokens),
                    query.dtype,
                    query.world_size,
                    query.tags,
                )
            )
    return found


@dataclass(frozen=True)
class _Way:
    """One way to hash the prompt: a scheme with a chunk size."""

    scheme: Scheme
    size: int


def _by_scan(pool: Pool, query: Query, stop: Event, progress: Callable[[int], None]) -> Found:
    """Hash the prompt in every way that may be, and scan for the hashes."""
    require(pool, "scan")
    sizes = {} if query.chunk_tokens else _chunk_sizes(pool, query, stop)
    several = sorted(set(sizes.values())) or [query.chunk_tokens or LMCACHE_CHUNK_TOKENS]
    ways = [
        _Way(scheme, size) for size in several for scheme in schemes(query.seed, query.algorithms)
    ]
    hashes = {way: list(chunk_hashes(query.tokens, way.size, way.scheme)) for way in ways}
    wanted: dict[str, list[tuple[_Way, int]]] = {}
    for way, made in hashes.items():
        for at, chunk_hash in enumerate(made):
            wanted.setdefault(chunk_hash, []).append((way, at))
    hits: dict[tuple[_Engine, _Way], dict[int, dict[str, Entry]]] = {}
    models: set[str] = set(sizes)
    seen = 0
    for batch in pool.scan():
        for entry in batch:
            if entry.model is None or not query.names(entry.model):
                continue
            if len(models) < _MOST_MODELS:
                models.add(entry.model)
            for way, at in wanted.get(entry.chunk_hash or "", ()):
                chunks = hits.setdefault((_Engine.of(entry), way), {})
                chunks.setdefault(at, {})[entry.key] = entry
        seen += len(batch)
        progress(seen)
        if stop.is_set():
            break
    groups = [
        _group(pool, query, engine, way, hashes[way], chunks)
        for (engine, way), chunks in hits.items()
    ]
    return Found(groups, [_words(way.scheme, way.size) for way in ways], sorted(models))


@dataclass(frozen=True)
class _Engine:
    """What must be alike for two engines to use each other's entries."""

    model: str
    dtype: str | None
    world_size: int | None
    tags: tuple[tuple[str, str], ...]
    is_layerwise: bool

    @classmethod
    def of(cls, entry: Entry) -> "_Engine":
        """Return the engine that wrote an entry."""
        parts = lmcache.parse_key(entry.key)
        layerwise = parts is not None and parts.layer is not None
        return cls(entry.model or "", entry.dtype, entry.world_size, entry.tags, layerwise)


def _group(
    pool: Pool,
    query: Query,
    engine: _Engine,
    way: _Way,
    hashes: Sequence[str],
    chunks: dict[int, dict[str, Entry]],
) -> Group:
    layers = 1
    if engine.is_layerwise:
        layers += max(e.layers[0] for c in chunks.values() for e in c.values() if e.layers)
    needed = (engine.world_size or 1) * layers
    blocks = []
    for at, (start, end) in enumerate(spans(len(query.tokens), way.size)):
        entries = list(chunks.get(at, {}).values())
        node = next((entry.node for entry in entries if entry.node), pool.url.place)
        blocks.append(Block(start, end, hashes[at], entries, needed, node))
    return Group(
        engine.model,
        _words(way.scheme, way.size),
        way.size,
        tuple(blocks),
        len(query.tokens),
        engine.dtype,
        engine.world_size,
        engine.tags,
    )


def _chunk_sizes(pool: Pool, query: Query, stop: Event) -> dict[str, int]:
    """Return the chunk size of each model: the most tokens in one of its first entries."""
    sizes: dict[str, int] = {}
    asked: dict[str, int] = {}
    for batch in islice(pool.scan(), _SAMPLED_BATCHES):
        for entry in batch:
            name = entry.model
            if name is None or entry.state != "whole" or not query.names(name):
                continue
            known: Entry | None = entry
            if entry.tokens is None:
                # An old Redis counts reading a header as use, so only a few are read.
                asked[name] = asked.get(name, 0) + 1
                known = pool.stat(entry.key) if asked[name] <= _STATS_PER_MODEL else None
            if known is not None and known.tokens:
                sizes[name] = max(sizes.get(name, 0), known.tokens)
        if stop.is_set():
            break
    return sizes


def _words(scheme: Scheme, size: int) -> str:
    return f"{scheme.algorithm}, {scheme.about}, {size} tokens"
