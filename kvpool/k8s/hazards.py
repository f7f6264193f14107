"""What goes wrong with a cache pool in a cluster, and what to do about it."""

from accelerators.hazards import Hazard

_WRITE_ANEW = (
    "delete the map's key in Redis (`redis-cli DEL KEY`): the watcher writes it anew within 15 s, "
    "and engines keep the old one until then"
)

NO_MAP = Hazard(
    "KV-MAP-MISSING",
    "degraded",
    "no slot map that clients can read",
    "Engines learn from this key which node has which slots. Without it none can start to use the "
    "pool; those that run keep the map they had.",
    "see that the watcher runs and reaches this Redis; a map that is damaged it writes anew once "
    "the key is deleted",
)
STALE = Hazard(
    "KV-POD-STALE",
    "degraded",
    "slots at an address that no pod has",
    "AIBrix's watcher compares names and slots, and not addresses: a pod that comes back under its "
    "name with another address stays in the map with the old one, whatever is restarted. With no "
    "pod left that runs, the last map stays. Every lookup behind these slots waits and fails.",
    _WRITE_ANEW,
)
UNMAPPED = Hazard(
    "KV-POD-IDLE",
    "degraded",
    "pods that own no slots",
    "They run, and no slot leads to them: their memory is paid for and holds nothing.",
    "see that the watcher runs and that the pods carry its labels; " + _WRITE_ANEW,
)
NOT_READY = Hazard(
    "KV-POD-NOT-READY",
    "degraded",
    "slots that lead to pods that are not ready",
    "The watcher lists every pod that runs, ready or not, and one that is being deleted until it "
    "is gone. Lookups behind these slots fail, and engines compute those blocks again.",
    "`kubectl describe` the pod; where its node's accelerators are at fault, cordon the node and "
    "delete the pod, so that it comes back elsewhere",
)
MISSING = Hazard(
    "KV-PODS-MISSING",
    "degraded",
    "fewer cache pods than the resource asks for",
    "The pool is smaller than it was planned, and hits fall. The resource does not say so: no "
    "controller writes its status.",
    "`kubectl describe` the pods and their StatefulSet: node selectors, memory and RDMA devices "
    "are what is usually lacking",
)
ADDRESS_TWICE = Hazard(
    "KV-POD-ADDRESS-TWICE",
    "degraded",
    "two pods on one address",
    "They share their node's network and want the same port: one of the two can't be reached, and "
    "lookups behind its slots end at the other.",
    "take them off the host's network, or keep them on different nodes "
    "(kvcache.orchestration.aibrix.ai/pod-anti-affinity)",
)
SHARED_MAP = Hazard(
    "KV-MAP-SHARED",
    "fatal",
    "another pool writes the same slot map",
    "The map's key holds no name of a pool. Pools of one backend on one Redis database overwrite "
    "each other, and engines change between their nodes.",
    "give each pool a Redis of its own, or a database (REDIS_DATABASE in spec.watcher.env, and in "
    "the engines)",
)
METADATA_DOWN = Hazard(
    "KV-METADATA-DOWN",
    "degraded",
    "the pod that keeps the metadata is not ready",
    "Engines that start find no map. The Redis that AIBrix runs keeps nothing on disk: when it "
    "comes back its map is gone until the watcher writes it anew.",
    "`kubectl describe` the pod; see afterwards that the map is back",
)
WATCHER_DOWN = Hazard(
    "KV-WATCHER-DOWN",
    "warning",
    "nobody updates the slot map",
    "The watcher follows the pods and writes the map. While it is away, pods that come, go or move "
    "leave the map as it was.",
    "`kubectl describe` its pod; where the resource has no spec.watcher, add one",
)
