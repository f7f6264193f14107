"""Every hazard that an examination looks for, with what it means and what to do about it.

Where a hazard was seen in the field or derived from an upstream source, the issue is named.
"""

from accelerators.hazards import Hazard

_REPAIR = "`aibrixctl kv doctor POOL --repair` removes them; --dry-run shows which"

HALF_DATA = Hazard(
    "KV-HALF-DATA",
    "warning",
    "values without metadata",
    "LMCache writes the value, then its metadata, and takes an entry for present when the metadata "
    "is. A writer that died in between, or a server that evicted one of the two keys, leaves "
    "memory in use that no engine ever reads.",
    _REPAIR,
)
HALF_HEADER = Hazard(
    "KV-HALF-HEADER",
    "degraded",
    "metadata without a value",
    "Engines judge by the metadata alone: they count these chunks as hits, fail to load them and "
    "compute them after all. Evicting servers and copies that wrote the metadata first cause it.",
    _REPAIR,
)
TEMPORARY = Hazard(
    "KV-TEMPORARY",
    "warning",
    "temporary files left behind",
    "Writers fill a temporary file and rename it. One that has not changed for long belongs to a "
    "writer that died; it occupies disk and is never read.",
    _REPAIR,
)
UNDECODABLE = Hazard(
    "KV-UNDECODABLE",
    "degraded",
    "entries whose key or header can't be read",
    "They stand where entries stand, but no engine of the versions known here could have written "
    "them so: another version, another setting, or damage. Engines that meet one fail to load it.",
    "look at one with `aibrixctl kv show POOL KEY`; when no engine of another version uses the "
    "pool, remove them by hand",
)
INCOMPLETE = Hazard(
    "KV-INCOMPLETE",
    "info",
    "objects without a complete copy",
    "Mooncake names an object before its data has arrived. It is being written now, or its writer "
    "died, for which the master waits before it drops the object.",
    "look again in a minute; what is still there then was left behind",
)
FOREIGN = Hazard(
    "KV-FOREIGN",
    "info",
    "something else lives in the pool's place",
    "Keys or files of other programs share the database or the folder. They are left alone, but "
    "they count for its memory and may be evicted with the rest.",
    "give the pool a database, a server or a folder of its own",
)
LENGTH = Hazard(
    "KV-LENGTH",
    "fatal",
    "length and shape contradict each other",
    "The header's length is not what its shapes and dtypes make, or the value is longer than the "
    "header says. An engine would take bytes for keys and values of the wrong tokens.",
    "remove these entries, and find the writer: versions that differ between engines do this",
)
TRUNCATED = Hazard(
    "KV-TRUNCATED",
    "degraded",
    "values that were cut short",
    "Less is stored than the header, or the shape that the name states, says: a full disk, a copy "
    "that was cut off, or a crash before the data reached the disk. Engines fail to load them.",
    "remove these entries; they are computed anew when they are needed",
)
DTYPE = Hazard(
    "KV-DTYPE",
    "fatal",
    "key and header name different dtypes",
    "The dtype in the key decides which engine takes an entry, the one in the header how its bytes "
    "are read. Where they differ, values are misread.",
    "remove these entries, and find the writer",
)
SHAPES = Hazard(
    "KV-SHAPES",
    "fatal",
    "one model name stands for several shapes",
    "Entries of one model, world size, rank and dtype differ in layers or width: two models, or "
    "two layouts of one, are served under the same name and find each other's entries.",
    "serve them under different names (--served-model-name), or give each its own pool",
)
SHARED_SPACE = Hazard(
    "KV-SHARED-SPACE",
    "fatal",
    "blocks of several models under one conn_id",
    "AIBrix's conn_id holds neither model nor dtype. Blocks under this one differ in length, so "
    "two models or dtypes share it, and each takes the other's blocks for its own.",
    "set AIBRIX_KV_CACHE_OL_L2_CACHE_NAMESPACE apart for each model and dtype, then remove this "
    "conn_id's blocks",
)
NAMESPACE = Hazard(
    "KV-NAMESPACE",
    "info",
    "AIBrix's default namespace",
    "The namespace is the only thing that keeps models of the same shape apart, and this pool uses "
    "the default one. Nothing in the pool can show whether two models share it.",
    "set AIBRIX_KV_CACHE_OL_L2_CACHE_NAMESPACE to the model's name in each deployment",
)
TOKENS = Hazard(
    "KV-TOKENS",
    "degraded",
    "blocks without the tokens that should stand behind them",
    "The conn_id says that tokens are stored behind each block, to be compared on a hit; here "
    "they are missing or contradict themselves.",
    "remove these blocks; they are computed anew when they are needed",
)
HASH = Hazard(
    "KV-HASH",
    "degraded",
    "chunk hashes of two algorithms",
    "Python's builtin hash is a signed 64-bit number, sha256_cbor an unsigned one; this model's "
    "keys hold both. Engines that hash differently never find each other's entries. (Different "
    "PYTHONHASHSEEDs do the same and leave no trace in the keys; `kv find --hash-seed` tells.)",
    "set pre_caching_hash_algorithm and PYTHONHASHSEED alike in every engine",
)
NO_EXPIRY = Hazard(
    "KV-NO-EXPIRY",
    "warning",
    "entries without expiry in a pool that has one",
    "Other entries of this pool vanish by themselves, and these do not: a copy that lost their "
    "expiry, or one writer without it. They stay until something evicts them.",
    "`aibrixctl kv evict POOL --older-than TIME`, and give every writer the same expiry",
)
NEVER_EVICTS = Hazard(
    "KV-NEVER-EVICTS",
    "warning",
    "nothing ever leaves this pool",
    "The server has a limit of memory that it can't keep by evicting, because its policy evicts "
    "nothing, or only keys with an expiry, which these do not have. At the limit writes fail.",
    "set maxmemory-policy to allkeys-lru or allkeys-lfu, or run `aibrixctl kv evict` regularly",
)
UNBOUNDED = Hazard(
    "KV-UNBOUNDED",
    "info",
    "the server has no limit of memory",
    "Entries have no expiry and maxmemory is 0, so the pool grows until the kernel ends the "
    "server, and with it everything in the pool.",
    "set maxmemory, and maxmemory-policy to allkeys-lru or allkeys-lfu",
)
FULL = Hazard(
    "KV-FULL",
    "warning",
    "almost no room is left",
    "Writers will fail, or half-written files remain, when the last room is gone.",
    "make room: `aibrixctl kv evict POOL --to-size SIZE`",
)
READ_ONLY = Hazard(
    "KV-READ-ONLY",
    "info",
    "this is a read-only copy",
    "What answers is a replica or a file system mounted read-only; engines that write to it fail.",
    "point writers at the primary",
)
SLOTS_MISSING = Hazard(
    "KV-SLOTS-MISSING",
    "degraded",
    "slots without an owner",
    "Clients take a key's hash modulo the number of slots that they read. With some missing, "
    "almost every key is looked for on another node than it was stored on.",
    "restart AIBrix's kvcache watcher of this cluster, which writes the metadata anew",
)
SLOTS_TWICE = Hazard(
    "KV-SLOTS-TWICE",
    "degraded",
    "slots with several owners",
    "Clients count such a slot once for every owner, which moves every key behind it to another "
    "node than it was stored on.",
    "restart AIBrix's kvcache watcher of this cluster, which writes the metadata anew",
)
SLOTS_OUTSIDE = Hazard(
    "KV-SLOTS-OUTSIDE",
    "degraded",
    "slots that do not exist",
    "Slots are numbered 0 to 4095; others shift what clients count.",
    "find who wrote the metadata: AIBrix's watcher does not",
)
WRAPPED = Hazard(
    "KV-SLOTS-WRAPPED",
    "degraded",
    "a range of slots that runs backwards",
    "AIBrix writes {start: 4095, end: 0} for a node that owns both the first and the last slot "
    "among several ranges. Clients read it as empty, the node loses all slots of that range, and "
    "every key is mapped anew.",
    "correct the range by hand (two ranges, one to 4095 and one from 0), or add or remove a node, "
    "which draws the slots anew",
)
IDLE_NODE = Hazard(
    "KV-NODE-IDLE",
    "degraded",
    "nodes without slots",
    "A node that owns no slot holds nothing: its memory is paid for and never used.",
    "scale the cluster, which draws the slots anew; if it remains so, look for a wrapped range",
)
NO_NODES = Hazard(
    "KV-NO-NODES",
    "degraded",
    "the metadata names no node",
    "Clients find no place for any key, and the cache is out of use.",
    "see whether the cluster's pods run and carry AIBrix's labels",
)
STALE_ADDRESS = Hazard(
    "KV-ADDRESS-STALE",
    "degraded",
    "nodes that do not answer at their address",
    "A pod that came back with another address leaves its old one in the metadata, and with no "
    "valid pod left the last metadata stays. Every lookup on such a node waits and fails.",
    "compare with `kubectl get pods -o wide`, or let `aibrixctl kv doctor k8s:NAME` do it; delete "
    "the key: AIBrix's watcher, which compares names and slots only, then writes it anew",
)
SAME_ADDRESS = Hazard(
    "KV-ADDRESS-TWICE",
    "degraded",
    "nodes that share a name or an address",
    "Two members of the metadata are one pod: an old entry was not removed when the pod came back. "
    "Slots of the old one lead to the wrong place or nowhere.",
    "restart AIBrix's kvcache watcher of this cluster, which writes the metadata anew",
)
TWO_POOLS = Hazard(
    "KV-TWO-POOLS",
    "fatal",
    "two clusters write the same key",
    "The metadata's key holds no name of a cluster, so two clusters on one Redis database "
    "overwrite each other, and engines change between their nodes.",
    "give each cluster a Redis database of its own",
)
STALLED_DRAIN = Hazard(
    "KV-DRAIN-STALLED",
    "degraded",
    "a drain that no longer moves",
    "A drain of Mooncake can remain RUNNING with blocked units and none active: some object can't "
    "be moved, and the job does not end.",
    "`aibrixctl kv drain POOL --segment SEGMENT` names the keys and offers to cancel",
)
