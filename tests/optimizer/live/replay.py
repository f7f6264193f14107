"""A day of live traffic made from an hour of a real trace, in the gateway's own format.

The hour is replayed again and again: every slot of ten seconds keeps its requests' sizes and its
burst, and a daily curve says how often each request is repeated.
"""

import csv
import datetime
import math
import random
from collections.abc import Iterator
from pathlib import Path

from optimizer.live.traffic import Traffic, gather
from tests.gateway import INTERVAL_S, GatewayTrace

DAY_S = 86_400
START_S = 1_700_006_400  # midnight


def real_slots(path: Path) -> list[list[tuple[int, int]]]:
    """Return the sizes of the requests of every ten seconds of Azure's trace."""
    with path.open(newline="") as file:
        rows = [
            (
                datetime.datetime.fromisoformat(row["TIMESTAMP"][:26]).timestamp(),
                max(int(row["ContextTokens"]), 1),
                max(int(row["GeneratedTokens"]), 1),
            )
            for row in csv.DictReader(file)
        ]
    first_s, last_s = rows[0][0], rows[-1][0]
    slots: list[list[tuple[int, int]]] = [[] for _ in range(int((last_s - first_s) // 10))]
    for at_s, size_in, size_out in rows:
        slot = int((at_s - first_s) // 10)
        if slot < len(slots):
            slots[slot].append((size_in, size_out))
    return slots


def daily(at_s: float) -> float:
    """Return how many times the trace's load there is: least at night, most in the afternoon."""
    return 1.1 - 0.9 * math.cos((at_s % DAY_S / DAY_S - 0.1) * 2 * math.pi)


def day(path: Path, seed: int = 0) -> GatewayTrace:
    """Return a day of slots, from midnight on."""
    slots, draw = real_slots(path), random.Random(seed)
    trace = GatewayTrace("m", START_S)
    for number in range(DAY_S // INTERVAL_S):
        factor = daily(number * INTERVAL_S)
        sizes = [
            size
            for size in slots[number % len(slots)]
            for _ in range(int(factor) + (draw.random() < factor % 1))
        ]
        trace.slot(sizes)
    return trace


def windows(trace: GatewayTrace, every_s: int, window_s: int) -> Iterator[tuple[float, Traffic]]:
    """Yield what the loop reads, every so often."""
    times = sorted(trace.values)
    for now_s in range(times[0] + window_s, times[-1] + 1, every_s):
        held = [
            (at_s, trace.values[at_s])
            for at_s in range(now_s - window_s, now_s, INTERVAL_S)
            if at_s in trace.values
        ]
        yield now_s, gather("m", "replay", held, window_s=window_s, now_s=now_s)
