"""What LMCache 0.5 writes: keys, the header before a value, and names of files.

A key is ``model@world_size@worker_id@chunk_hash@dtype[@layer][@tag%value...]``; layer-wise engines
add the layer. A header is native int32: length of the value, layout, then for every group of
layers its dtype and four dimensions, padded with zeros.

Sources: ``lmcache/utils.py`` (CacheEngineKey, LayerCacheEngineKey), ``lmcache/v1/protocol.py``
(RemoteMetadata) and ``lmcache/v1/memory_management.py`` (MemoryFormat) of LMCache 0.5.6.
"""

import math
import re
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from kvpool.entry import Entry, Header, State, TensorGroup

DATA_SUFFIX = "kv_bytes"
HEADER_SUFFIX = "metadata"
"""What the two Redis keys of an entry end with. LMCache writes the data first and takes an entry
for present when the header is."""
ONE_GROUP_BYTES = 28
"""Length of the header of a model whose layers all have one shape and dtype."""
MOST_GROUPS = 64
MOST_HEADER_BYTES = 8 + 20 * MOST_GROUPS
FILE_SUFFIX = ".data"
TEMPORARY_SUFFIX = ".tmp"

_LAYOUTS = (
    "UNDEFINED",
    "KV_2LTD",
    "KV_T2D",
    "KV_2TD",
    "BINARY",
    "BINARY_BUFFER",
    "KV_MLA_FMT",
    "EC_TD",
    "HS_TD",
)
BINARY_LAYOUTS = ("BINARY", "BINARY_BUFFER")
"""Layouts of compressed values, whose dtype and shape are those of plain bytes."""
TOKEN_DIM = {
    "KV_2LTD": 2,
    "KV_T2D": 0,
    "KV_2TD": 1,
    "KV_MLA_FMT": 2,
    "EC_TD": 0,
    "HS_TD": 0,
}
"""Which dimension counts the tokens, by layout."""
_LAYER_DIM = {"KV_2LTD": 1, "KV_MLA_FMT": 1}
_HEADER_DTYPES = {
    0: "none",
    1: "float16",
    2: "float16",
    3: "bfloat16",
    4: "float32",
    5: "float64",
    6: "uint8",
    7: "float8_e4m3fn",
    8: "float8_e5m2",
}
KEY_DTYPES = {
    "half": "float16",
    "bfloat16": "bfloat16",
    "float": "float32",
    "double": "float64",
    "int8": "int8",
    "uint8": "uint8",
    "int16": "int16",
    "int32": "int32",
    "int64": "int64",
    "bool": "bool",
    "fp8_e4m3fn": "float8_e4m3fn",
    "fp8_e4m3fnuz": "float8_e4m3fnuz",
    "fp8_e5m2": "float8_e5m2",
    "fp8_e5m2fnuz": "float8_e5m2fnuz",
}
ITEM_BYTES = {
    "float64": 8,
    "int64": 8,
    "float32": 4,
    "int32": 4,
    "float16": 2,
    "bfloat16": 2,
    "int16": 2,
}
"""Bytes of one element; 1 for every other dtype."""

_KEY = re.compile(
    r"(?P<model>.+?)@(?P<world>\d+)@(?P<worker>-?\d+)@(?P<hash>-?[0-9a-f]+)@(?P<dtype>\w+)"
    r"(?:@(?P<layer>\d+))?(?P<tags>(?:@[^@%]+%[^@]*)*)",
    re.ASCII | re.DOTALL,
)
_OBJECT_KEY = re.compile(
    r".+@(?:0x)?[0-9a-f]{8}@[0-9a-f]+@[0-9a-f]+(?:@[^@]*)?", re.ASCII | re.DOTALL | re.IGNORECASE
)
_KEY_LIKE = re.compile(r".+@-?\w+@-?\w+@-?\w+@\w+", re.ASCII | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Key:
    """A key of LMCache, taken apart.

    Attributes:
        chunk_hash: hexadecimal, negative where Python's builtin hash was.
        dtype: under PyTorch's name.
        layer: for layer-wise entries.
    """

    model: str
    world_size: int
    worker_id: int
    chunk_hash: str
    dtype: str
    layer: int | None = None
    tags: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """Return the key as LMCache writes it."""
        dtype = next(name for name, torch in KEY_DTYPES.items() if torch == self.dtype)
        layer = "" if self.layer is None else f"@{self.layer}"
        tags = "".join(f"@{name}%{value}" for name, value in self.tags)
        start = f"{self.model}@{self.world_size}@{self.worker_id}@{self.chunk_hash}"
        return f"{start}@{dtype}{layer}{tags}"


def parse_key(text: str) -> Key | None:
    """Return the parts of a key; None where LMCache could not have written it."""
    match = _KEY.fullmatch(text)
    if match is None:
        return None
    model, world, worker, chunk_hash, name, layer, tags = match.groups()
    dtype = KEY_DTYPES.get(name)
    if dtype is None:
        return None
    pairs = _tags(tags) if tags else ()
    number = None if layer is None else int(layer)
    return Key(model, int(world), int(worker), chunk_hash, dtype, number, pairs)


def _tags(text: str) -> tuple[tuple[str, str], ...]:
    parts = (part.partition("%") for part in text.split("@")[1:])
    return tuple((name, value) for name, _, value in parts)


def looks_like_key(text: str) -> bool:
    """Tell a damaged or unknown key of LMCache from a name that has nothing to do with it."""
    return _KEY_LIKE.match(text) is not None


def other_kind(text: str) -> str:
    """Return what a name is that is no key of an entry, as far as LMCache has other names."""
    if _OBJECT_KEY.fullmatch(text):
        return "an object of LMCache's multi-process server, which has keys and values of its own"
    return "not a key of LMCache"


@lru_cache(maxsize=1024)  # a pool has few shapes and many entries
def parse_header(data: bytes) -> Header | None:
    """Return what a header says; None where LMCache could not have written it."""
    count, rest = divmod(len(data) - 8, 20)
    if rest or not 1 <= count <= MOST_GROUPS:
        return None
    numbers = struct.unpack(f"={2 + 5 * count}i", data)
    value_bytes, layout = numbers[:2]
    if value_bytes < 0 or not 0 <= layout < len(_LAYOUTS):
        return None
    name = _LAYOUTS[layout]
    groups = []
    for start in range(2, len(numbers), 5):
        dtype = _HEADER_DTYPES.get(numbers[start])
        shape = _unpadded(numbers[start + 1 : start + 5])
        if dtype is None or min(shape) < 0:
            return None
        groups.append(TensorGroup(dtype, shape))
    return Header(value_bytes, name, tuple(groups), data)


def _unpadded(dims: tuple[int, ...]) -> tuple[int, ...]:
    end = len(dims)
    while end > 1 and dims[end - 1] == 0:
        end -= 1
    return dims[:end]


def pack_header(header: Header) -> bytes:
    """Return the bytes of a header; the inverse of ``parse_header``."""
    numbers = [header.value_bytes, _LAYOUTS.index(header.layout)]
    codes = {dtype: code for code, dtype in _HEADER_DTYPES.items()}
    for group in header.groups:
        numbers += [codes[group.dtype], *group.shape, *[0] * (4 - len(group.shape))]
    return struct.pack(f"={len(numbers)}i", *numbers)


def shape_bytes(header: Header) -> int:
    """Return how long the value must be for the shapes and dtypes of its header."""
    if header.layout in BINARY_LAYOUTS:
        return header.groups[0].shape[0]
    return sum(math.prod(group.shape) * ITEM_BYTES.get(group.dtype, 1) for group in header.groups)


def token_count(header: Header) -> int | None:
    """Return how many tokens a value covers; None where the layout doesn't tell."""
    dim = TOKEN_DIM.get(header.layout)
    shape = header.groups[0].shape
    return None if dim is None or dim >= len(shape) else shape[dim]


def layer_range(key: Key, header: Header | None) -> tuple[int, int] | None:
    """Return first and last layer, counted within the worker; None where nothing tells."""
    if key.layer is not None:
        return key.layer, key.layer
    dim = _LAYER_DIM.get(header.layout) if header else None
    if header is None or dim is None:
        return None
    count = sum(group.shape[dim] for group in header.groups if dim < len(group.shape))
    return (0, count - 1) if count else None


def file_name(key: str) -> str:
    """Return the name of an entry's file under ``fs://``."""
    return key.replace("/", "-SEP-") + FILE_SUFFIX


def key_of_file(name: str) -> str:
    """Return the key of an entry's file; the inverse of ``file_name``."""
    return name.removesuffix(FILE_SUFFIX).replace("-SEP-", "/")


def make_entry(
    key: str,
    *,
    size: int,
    value_bytes: int | None,
    header: Header | None,
    damage: str,
    has_data: bool = True,
    has_header: bool = True,
    stored_s: float | None = None,
    accessed_s: float | None = None,
    expires_s: float | None = None,
) -> Entry:
    """Return the entry of a key of LMCache, or of a key that only looks like one.

    Args:
        key: without suffix.
        size: of value and header, or the memory they take.
        value_bytes: true length of the value, where it was looked up.
        header: decoded, where it was read.
        damage: why the header can't be read; empty where it can, or was not read.
        has_data: whether the value is there.
        has_header: whether the header is there.
        stored_s: when it was written, in seconds since the epoch.
        accessed_s: when it was last used.
        expires_s: when it will vanish.
    """
    parts = parse_key(key)
    common: dict[str, Any] = {
        "value_bytes": value_bytes,
        "header": header,
        "stored_s": stored_s,
        "accessed_s": accessed_s,
        "expires_s": expires_s,
        "has_data": has_data,
        "has_header": has_header,
    }
    if parts is None:
        if _OBJECT_KEY.fullmatch(key) or not looks_like_key(key):
            return Entry(key, "foreign", size, other_kind(key), **common)
        return Entry(key, "undecodable", size, "its key is none of LMCache 0.5", **common)
    state, reason = _verdict(has_data, has_header, damage)
    return Entry(
        key,
        state,
        size,
        reason,
        model=parts.model,
        world_size=parts.world_size,
        worker_id=parts.worker_id,
        chunk_hash=parts.chunk_hash,
        dtype=parts.dtype,
        layers=layer_range(parts, header),
        tokens=token_count(header) if header else None,
        tags=parts.tags,
        **common,
    )


def _verdict(has_data: bool, has_header: bool, damage: str) -> tuple[State, str]:
    if not has_header:
        return "orphan", "data without metadata"
    if not has_data:
        return "orphan", "metadata without data"
    return ("undecodable", damage) if damage else ("whole", "")
