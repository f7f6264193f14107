"""One slot of the gateway's request trace: what came in within some seconds, and how large.

AIBrix's gateway writes a JSON object of whole numbers per model and slot. ``"90:70": 3`` are three
requests of log2 sizes 9.0 and 7.0, rounded to the nearest tenth; ``meta_…`` describe the slot:

    version   what it adds
    1         sizes only, over 10 s; whole powers of 2, or tenths where whole ones would be absurd
    2         meta_interval_sec, meta_precision (parts of a power of 2)
    3         meta_total_reqs, all that came in; meta_pending_reqs, not yet answered
    4         meta_queueing_reqs, waiting in the gateway

Counts by size are of requests that were answered in the slot, whenever they came in.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from optimizer.workload.collect import MAX_TOKENS

NEWEST_VERSION = 4
INTERVAL_S = 10
_SIZES = re.compile(r"(\d{1,6}):(\d{1,6})")
_META = ("meta_v", "meta_interval_sec", "meta_precision", "meta_total_reqs", "meta_pending_reqs",
         "meta_queueing_reqs")  # fmt: skip


class DamagedSlotError(ValueError):
    """A slot's value can't be read; the text says why."""


@dataclass(frozen=True)
class Slot:
    """What one gateway saw of one model within ``interval_s`` seconds.

    Attributes:
        at_s: unix seconds, from the key.
        interval_s: length.
        version: of the format.
        sizes: (input, output) tokens, the most that the written size stands for, to answered
            requests.
        total: requests that came in; those answered where the version does not say.
        pending, queueing: requests not yet answered, and those of them waiting in the gateway;
            None where the version does not say.
        unknown: names of fields that were skipped.
    """

    at_s: int
    interval_s: int
    version: int
    sizes: dict[tuple[int, int], int]
    total: int
    pending: int | None = None
    queueing: int | None = None
    unknown: tuple[str, ...] = ()

    @property
    def answered(self) -> int:
        """Requests that were answered in the slot."""
        return sum(self.sizes.values())


def parse_slot(at_s: int, raw: bytes) -> Slot:
    """Return the slot that a value holds.

    Raises:
        DamagedSlotError: not a JSON object, or a number that makes no sense.
    """
    try:
        document = json.loads(raw)
    except ValueError as error:
        raise DamagedSlotError(f"not JSON: {error}") from error
    if not isinstance(document, dict):
        raise DamagedSlotError(f"{type(document).__name__} instead of a JSON object")
    version = _whole(document, "meta_v", 1, least=1)
    precision = _whole(document, "meta_precision", _likely_precision(document), least=1)
    sizes: Counter[tuple[int, int]] = Counter()
    unknown = []
    for name in document:
        match = _SIZES.fullmatch(name)
        if match:
            size = (_most_tokens(match[1], precision), _most_tokens(match[2], precision))
            sizes[size] += _whole(document, name, 0)
        elif name not in _META:
            unknown.append(name)
    answered = sum(sizes.values())
    return Slot(
        at_s=at_s,
        interval_s=_whole(document, "meta_interval_sec", INTERVAL_S, least=1),
        version=version,
        sizes=dict(sizes),
        total=_whole(document, "meta_total_reqs", answered) if version >= 3 else answered,
        pending=_whole(document, "meta_pending_reqs", 0) if version >= 3 else None,
        queueing=_whole(document, "meta_queueing_reqs", 0) if version >= 4 else None,
        unknown=tuple(sorted(unknown)),
    )


def _whole(document: dict[str, Any], name: str, default: int, least: int = 0) -> int:
    value = document.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 1e12:
        raise DamagedSlotError(f"{name} is {value!r}; expected a whole number from {least}")
    return value


def _likely_precision(document: dict[str, Any]) -> int:
    """Return the precision of a slot that does not state it."""
    matches = filter(None, map(_SIZES.fullmatch, document))
    largest = max((int(index) for match in matches for index in match.groups()), default=0)
    return 1 if largest < math.log2(MAX_TOKENS) else 10


def _most_tokens(index: str, precision: int) -> int:
    """Return the most tokens whose log2, times the precision, rounds to the index."""
    exponent = (int(index) + 0.5) / precision
    if exponent > math.log2(MAX_TOKENS):
        raise DamagedSlotError(f"a size of 2^{int(index) / precision:g} tokens")
    return max(math.floor(2**exponent), 1)


def from_two_gateways(slots: Iterable[Slot]) -> list[int]:
    """Return the times of slots that can't be of the same gateway as the slot before.

    What a gateway answers in a slot, and what is left over at its end, was left over from the
    slot before or came in. Two gateways on one Redis replace each other's slots, and their sums
    do not add up so. A few requests are allowed for, as the counters are not read at one moment.
    """
    found = []
    before: Slot | None = None
    for slot in slots:
        if before is not None and slot.at_s == before.at_s + before.interval_s:
            found += [slot.at_s] if _adds_up(before, slot) is False else []
        before = slot
    return found


def _adds_up(before: Slot, slot: Slot) -> bool | None:
    if before.pending is None or slot.pending is None:
        return None
    could_be = before.pending + slot.total
    return slot.answered + slot.pending <= could_be + max(3, 0.1 * could_be)
