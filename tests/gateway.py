"""What AIBrix's gateway leaves in Redis: request traces, in every version of their format.

trace = GatewayTrace("m", start_s=1_700_000_000)
trace.slot([(512, 128)] * 30)           # 30 requests came in and were answered
trace.skip()                            # a slot that was not written
trace.slot([(512, 128)] * 28, total=40) # 40 came in, 28 were answered
trace.write(client)
"""

import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

INTERVAL_S = 10
KEPT_S = 600


def log2_index(tokens: int, precision: int = 10) -> int:
    """Return a size as the gateway writes it: log2, to the nearest part of a power of 2."""
    return round(math.log2(tokens) * precision)


def document(
    sizes: Iterable[tuple[int, int]],
    *,
    version: int = 4,
    total: int | None = None,
    pending: int = 0,
    queueing: int = 0,
) -> dict[str, int]:
    """Return one slot's JSON object: answered requests by size, and what the version adds."""
    precision = 10 if version >= 2 else 1
    listed = list(sizes)
    body = dict(
        Counter(f"{log2_index(i, precision)}:{log2_index(o, precision)}" for i, o in listed)
    )
    if version >= 2:
        body |= {"meta_v": version, "meta_interval_sec": INTERVAL_S, "meta_precision": precision}
    if version >= 3:
        body["meta_total_reqs"] = len(listed) if total is None else total
        body["meta_pending_reqs"] = pending
    if version >= 4:
        body["meta_queueing_reqs"] = queueing
    return body


@dataclass
class GatewayTrace:
    """The slots of one model, from ``start_s`` on; times are multiples of 10, as the gateway's."""

    model: str
    start_s: int
    version: int = 4
    values: dict[int, bytes] = field(default_factory=dict)
    _slots: int = 0

    @property
    def next_s(self) -> int:
        """When the next slot is."""
        return self.start_s // INTERVAL_S * INTERVAL_S + self._slots * INTERVAL_S

    def slot(self, sizes: Iterable[tuple[int, int]], **options: Any) -> "GatewayTrace":
        """Add a slot of answered requests; ``options`` are those of ``document``."""
        return self.raw(json.dumps(document(sizes, version=self.version, **options)))

    def raw(self, text: str | bytes) -> "GatewayTrace":
        """Add a slot whose value is given as it is."""
        self.values[self.next_s] = text if isinstance(text, bytes) else text.encode()
        self._slots += 1
        return self

    def skip(self, slots: int = 1) -> "GatewayTrace":
        """Leave slots out, as a gateway that was away."""
        self._slots += slots
        return self

    def key(self, at_s: int) -> str:
        return f"aibrix:{self.model}_request_trace_{at_s}"

    def write(self, client: Any, *, expire: bool = False) -> "GatewayTrace":
        """Write what was added; with ``expire`` for the time that the gateway's keys live."""
        for at_s, value in self.values.items():
            client.set(self.key(at_s), value, ex=KEPT_S if expire else None)
        return self


def recent(model: str, client: Any, slots: int, **options: Any) -> GatewayTrace:
    """Return a trace whose ``slots`` slots end now, on Redis's clock."""
    now_s = int(client.time()[0])
    return GatewayTrace(model, now_s - slots * INTERVAL_S, **options)
