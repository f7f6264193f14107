"""Live traffic over a window: the slots that there are, the gaps between, and the rate."""

import datetime
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from optimizer.errors import OptimizerError
from optimizer.live.slots import (
    INTERVAL_S,
    NEWEST_VERSION,
    DamagedSlotError,
    Slot,
    from_two_gateways,
    parse_slot,
)
from optimizer.workload.model import Workload

FORMAT = "aibrix-live"
_OLD_S = 60.0


@dataclass(frozen=True)
class Traffic:
    """What a window of slots says of one model.

    Attributes:
        model: as the gateway names it.
        source: where it was read, without secrets.
        slots: those that could be read, in order of time.
        missing: times of slots within the window that are not there, or damaged.
        damaged: time of a slot to what is wrong with it.
        age_s: seconds between the newest slot and the reading; None when not known.
    """

    model: str
    source: str
    slots: tuple[Slot, ...]
    missing: tuple[int, ...] = ()
    damaged: dict[int, str] = field(default_factory=dict)
    age_s: float | None = None

    @property
    def seconds(self) -> int:
        """What the slots that are there cover."""
        return sum(slot.interval_s for slot in self.slots)

    @property
    def coverage(self) -> float:
        """Share of the window's slots that could be read; 0 without any."""
        return len(self.slots) / max(len(self.slots) + len(self.missing), 1)

    @property
    def requests(self) -> int:
        """Requests that came in; where more were answered, that many."""
        return max(sum(s.total for s in self.slots), sum(s.answered for s in self.slots))

    @property
    def request_rate(self) -> float:
        """Requests/s over the slots that are there; 0 without any."""
        return self.requests / self.seconds if self.seconds else 0.0

    @property
    def pending(self) -> int | None:
        """Requests not yet answered in the newest slot; None when not known."""
        return self.slots[-1].pending if self.slots else None

    @property
    def queueing(self) -> int | None:
        """Those of them that wait in the gateway; None when not known."""
        return self.slots[-1].queueing if self.slots else None


def gather(
    model: str,
    source: str,
    values: Iterable[tuple[int, bytes]],
    *,
    window_s: float | None = None,
    now_s: float | None = None,
) -> Traffic:
    """Return the traffic that raw values state.

    Args:
        model: as the gateway names it.
        source: where they were read.
        values: unix seconds of a slot and its value.
        window_s: take the newest so many seconds; None takes all.
        now_s: when they were read, on the clock of the slots' times.
    """
    slots: dict[int, Slot] = {}
    damaged: dict[int, str] = {}
    listed = sorted(values)
    first_s = listed[-1][0] - window_s if listed and window_s is not None else -1.0
    for at_s, raw in listed:
        if at_s <= first_s:
            continue
        try:
            slots[at_s] = parse_slot(at_s, raw)
        except DamagedSlotError as error:
            damaged[at_s] = str(error)
    times = sorted([*slots, *damaged])
    step_s = min((slot.interval_s for slot in slots.values()), default=INTERVAL_S)
    there = {at_s // step_s for at_s in slots}
    expected = range(times[0] // step_s, times[-1] // step_s + 1) if times else range(0)
    missing = [step * step_s for step in expected if step not in there]
    return Traffic(
        model=model,
        source=source,
        slots=tuple(slots[at_s] for at_s in sorted(slots)),
        missing=tuple(missing),
        damaged=damaged,
        age_s=None if now_s is None or not times else max(now_s - times[-1], 0.0),
    )


def workload(traffic: Traffic, request_rate: float | None = None) -> Workload:
    """Return the workload that traffic amounts to; what a reader must know is in its notes.

    Sizes are spread as those of the answered requests; the rate is of all that came in.

    Raises:
        OptimizerError: no request came in, or none was answered, so that no size is known.
    """
    sizes: Counter[tuple[int, int]] = Counter()
    for slot in traffic.slots:
        sizes.update({size: n for size, n in slot.sizes.items() if n})
    if not sizes:
        raise _nothing(traffic)
    ordered = sorted(sizes)
    answered = sum(sizes.values())
    factor = traffic.requests / answered
    return Workload(
        source=f"{traffic.source} {traffic.model}",
        format=FORMAT,
        digest=_digest(traffic),
        input_tokens=np.array([size[0] for size in ordered], dtype=np.int64),
        output_tokens=np.array([size[1] for size in ordered], dtype=np.int64),
        count=np.array([sizes[size] * factor for size in ordered], dtype=np.float64),
        request_rate=traffic.request_rate if request_rate is None else request_rate,
        duration_s=float(traffic.seconds + _gap_s(traffic)),
        arrivals=_arrivals(traffic),
        notes=tuple(notes(traffic)),
    )


def _nothing(traffic: Traffic) -> OptimizerError:
    came = traffic.requests
    what = f"{came:,} requests came in, none was answered" if came else "no request came in"
    return OptimizerError(
        "traffic.none",
        f"{len(traffic.slots)} slots of {traffic.model!r} in {traffic.source}: {what}, so no "
        "size is known",
        hint="wait until requests are answered, or plan from a trace file",
        target=traffic.source,
    )


def _digest(traffic: Traffic) -> str:
    text = json.dumps([[s.at_s, s.total, sorted(s.sizes.items())] for s in traffic.slots])
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _gap_s(traffic: Traffic) -> int:
    return len(traffic.missing) * min(slot.interval_s for slot in traffic.slots)


def _arrivals(traffic: Traffic) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Return requests per slot, NaN where there is none; empty where slots differ in length."""
    if len({slot.interval_s for slot in traffic.slots}) > 1:
        return np.empty(0)
    by_time = {slot.at_s: float(slot.total) for slot in traffic.slots}
    times = sorted([*by_time, *traffic.missing])
    return np.array([by_time.get(at_s, np.nan) for at_s in times])


def notes(traffic: Traffic) -> list[str]:
    """Return what a reader of the figures must know, one line each."""
    return [*_gap_notes(traffic), *_gateway_notes(traffic), *_waiting_notes(traffic)]


def _gap_notes(traffic: Traffic) -> list[str]:
    lines = []
    if traffic.missing and traffic.slots:
        there, all_ = len(traffic.slots), len(traffic.slots) + len(traffic.missing)
        least = traffic.requests / (traffic.seconds + _gap_s(traffic))
        lines.append(
            f"{len(traffic.missing)} of {all_} slots have no data, which is not zero traffic: "
            f"{traffic.request_rate:.4g} requests/s is over the {there} that do; it would be "
            f"{least:.4g} if nothing came in the others"
        )
    for at_s, why in sorted(traffic.damaged.items())[:3]:
        lines.append(f"the slot of {_clock(at_s)} is damaged: {why}")
    if len(traffic.damaged) > 3:
        lines.append(f"{len(traffic.damaged) - 3} more slots are damaged")
    if traffic.age_s is not None and traffic.age_s > _OLD_S:
        from accelerators.units import format_duration

        age = format_duration(round(traffic.age_s))
        lines.append(f"the newest slot is {age} old: the gateway may have stopped tracing")
    return lines


def _gateway_notes(traffic: Traffic) -> list[str]:
    lines = []
    versions = sorted({slot.version for slot in traffic.slots})
    if versions and versions[0] < 3:
        lines.append(
            f"slots of version {versions[0]} count answered requests only; the rate is theirs"
        )
    if versions and versions[-1] > NEWEST_VERSION:
        lines.append(f"version {versions[-1]} of the slots is read as {NEWEST_VERSION}")
    unknown = sorted({name for slot in traffic.slots for name in slot.unknown})
    if unknown:
        shown = ", ".join(repr(name[:40]) for name in unknown[:8])
        more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
        lines.append(f"unknown fields skipped: {shown}{more}")
    odd = from_two_gateways(traffic.slots)
    if odd:
        lines.append(
            f"{len(odd)} slots do not follow from the one before ({_times(odd)}): two gateways "
            "may overwrite each other's slots, then the true rate is higher"
        )
    return lines


def _waiting_notes(traffic: Traffic) -> list[str]:
    waiting = [f"{traffic.pending:,} requests are not yet answered"] if traffic.pending else []
    if traffic.queueing:
        waiting.append(f"{traffic.queueing:,} wait in the gateway's queue")
    return [f"in the newest slot {', '.join(waiting)}"] if waiting else []


def _times(times: Sequence[int]) -> str:
    return ", ".join(map(_clock, times[:3])) + (" …" if len(times) > 3 else "")


def _clock(at_s: int) -> str:
    return datetime.datetime.fromtimestamp(at_s, datetime.UTC).strftime("%H:%M:%SZ")
