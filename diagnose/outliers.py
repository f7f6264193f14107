"""Devices that run unlike their peers, for accelerators of any family."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from diagnose.checks import Sign
from diagnose.facts import DeviceFacts, Facts

LEAST_PEERS = 4
SAME_LOAD_PERCENT = 20  # points of utilisation around the median
WORKING_PERCENT = 50
DEVIATIONS = 5.0
_MAD_TO_SIGMA = 1.4826  # of a normal distribution


@dataclass(frozen=True)
class Metric:
    """A reading that peers have about alike.

    Attributes:
        name: of the reading.
        sign: 1 where high is bad, -1 where low is.
        floor, floor_share: least deviation from the median that counts: absolute, or its share.
        under_load: compared only while the peers work.
    """

    name: str
    sign: int
    floor: float
    floor_share: float
    under_load: bool


def groups(facts: Facts) -> list[list[DeviceFacts]]:
    """Return the devices that answer, those of a type together."""
    by_name: dict[str | None, list[DeviceFacts]] = defaultdict(list)
    for device in facts.devices:
        if device.answers:
            by_name[device.device.name].append(device)
    return list(by_name.values())


def outliers(facts: Facts, metrics: Sequence[Metric], load: str, code: str) -> Iterator[Sign]:
    """Yield devices that are far from the median of their peers under about the same load.

    Median and median absolute deviation are not moved by the outlier itself (Iglewicz and
    Hoaglin, 1993); the floors keep quiet peers from making a small difference large.

    Args:
        facts: of one family.
        metrics: what is compared.
        load: name of the reading that tells the load, in percent.
        code: of the findings.
    """
    for group in groups(facts):
        loads = [device.get(load) or 0 for device in group]
        usual = median(loads)
        alike = [
            device
            for device, its in zip(group, loads, strict=True)
            if abs(its - usual) <= SAME_LOAD_PERCENT
        ]
        for metric in metrics:
            if usual >= WORKING_PERCENT or not metric.under_load:
                comparable = [device for device in alike if device.has(metric.name)]
                yield from _of_metric(metric, comparable, load, code)


def _of_metric(
    metric: Metric, group: Sequence[DeviceFacts], load: str, code: str
) -> Iterator[Sign]:
    if len(group) < LEAST_PEERS:
        return
    values = [float(device.get(metric.name)) for device in group]
    middle = median(values)
    spread = _MAD_TO_SIGMA * median(abs(value - middle) for value in values)
    limit = max(DEVIATIONS * spread, metric.floor, metric.floor_share * middle)
    for device, value in zip(group, values, strict=True):
        if metric.sign * (value - middle) >= limit > 0:
            evidence = {
                "reading": metric.name,
                "value": device.get(metric.name),
                "median_of_peers": middle,
                "peers": len(group),
                "utilization_percent": device.get(load),
            }
            yield Sign(code, evidence, device.device)
