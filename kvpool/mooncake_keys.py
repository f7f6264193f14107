"""Who wrote an object of a Mooncake store, told by its key.

LMCache       model@world_size@worker_id@chunk_hash@dtype[@tag%value...]
vLLM          model@[pcpN@]dcpN@head_or_tp_rank:N@pp_rank:N[@name:value...]@chunk_hash
SGLang        page_hash[_rank...]_k and _v; rank is that of tensor or pipeline parallelism

Sources: LMCache 0.5.6 (``mooncakestore_connector.py``), vLLM's and vLLM-Ascend's ``PoolKey``,
SGLang's ``mooncake_store.py``.
"""

import re
from typing import Any

from kvpool import lmcache

_VLLM = re.compile(
    r"(?P<model>.+?)@(?:pcp:?\d+@)?dcp:?\d+@head_or_tp_rank:(?P<rank>\d+)(?:@[^@]+)*?"
    r"(?:@layer_id:(?P<layer>\d+))?@(?P<hash>[0-9a-f]+)",
    re.ASCII,
)
_SGLANG = re.compile(r"(?P<hash>[0-9a-f]{32,128})(?:_-?\d+)*_(?:L\d+_)?[kv]", re.ASCII)


def identify(key: str) -> dict[str, Any]:
    """Return what a key says of its object, as fields of ``kvpool.entry.Entry``."""
    parts = lmcache.parse_key(key)
    if parts is not None:
        return {
            "model": parts.model,
            "world_size": parts.world_size,
            "worker_id": parts.worker_id,
            "chunk_hash": parts.chunk_hash,
            "dtype": parts.dtype,
            "layers": lmcache.layer_range(parts, None),
            "tags": parts.tags,
            "namespace": "LMCache",
        }
    if match := _VLLM.fullmatch(key):
        layer = None if match["layer"] is None else (int(match["layer"]), int(match["layer"]))
        return {
            "model": match["model"],
            "worker_id": int(match["rank"]),
            "chunk_hash": match["hash"],
            "layers": layer,
            "namespace": "vLLM",
        }
    if match := _SGLANG.fullmatch(key):
        return {"chunk_hash": match["hash"], "namespace": "SGLang"}
    return {"namespace": "others"}
