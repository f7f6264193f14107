"""GPUs against their peers: settings that differ, and one that runs unlike the others."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from diagnose.checks import Check, Context, Sign
from diagnose.facts import DeviceFacts, Facts

LEAST_PEERS = 4
SAME_LOAD_PERCENT = 20  # points of utilisation around the median
WORKING_PERCENT = 50
DEVIATIONS = 5.0
_MAD_TO_SIGMA = 1.4826  # of a normal distribution


@dataclass(frozen=True)
class _Metric:
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


_METRICS = (
    _Metric("temperature_c", 1, 15.0, 0.0, under_load=False),
    _Metric("clock_sm_mhz", -1, 0.0, 0.2, under_load=True),
    _Metric("clock_memory_mhz", -1, 0.0, 0.2, under_load=True),
    _Metric("power_mw", -1, 0.0, 0.3, under_load=True),
)


def _groups(facts: Facts) -> list[list[DeviceFacts]]:
    """Return the GPUs that answer, those of a type together."""
    groups: dict[str | None, list[DeviceFacts]] = defaultdict(list)
    for gpu in facts.devices:
        if gpu.answers:
            groups[gpu.device.name].append(gpu)
    return list(groups.values())


def outliers(facts: Facts, context: Context) -> Iterator[Sign]:
    """Yield GPUs that are far from the median of their peers under about the same load.

    Median and median absolute deviation are not moved by the outlier itself (Iglewicz and
    Hoaglin, 1993); the floors keep quiet peers from making a small difference large.
    """
    for group in _groups(facts):
        loads = [gpu.get("gpu_utilization_percent") or 0 for gpu in group]
        usual = median(loads)
        alike = [
            gpu
            for gpu, load in zip(group, loads, strict=True)
            if abs(load - usual) <= SAME_LOAD_PERCENT
        ]
        for metric in _METRICS:
            if usual >= WORKING_PERCENT or not metric.under_load:
                yield from _outliers_of(metric, [gpu for gpu in alike if gpu.has(metric.name)])


def _outliers_of(metric: _Metric, group: Sequence[DeviceFacts]) -> Iterator[Sign]:
    if len(group) < LEAST_PEERS:
        return
    values = [float(gpu.get(metric.name)) for gpu in group]
    middle = median(values)
    spread = _MAD_TO_SIGMA * median(abs(value - middle) for value in values)
    limit = max(DEVIATIONS * spread, metric.floor, metric.floor_share * middle)
    for gpu, value in zip(group, values, strict=True):
        if metric.sign * (value - middle) >= limit > 0:
            evidence = {
                "reading": metric.name,
                "value": gpu.get(metric.name),
                "median_of_peers": middle,
                "peers": len(group),
                "utilization_percent": gpu.get("gpu_utilization_percent"),
            }
            yield Sign("NV-OUTLIER", evidence, gpu.device)


def _minority(
    group: Sequence[DeviceFacts], name: str, *, usual: bool
) -> Iterator[tuple[DeviceFacts, dict[str, Any]]]:
    """Yield the GPUs whose setting is not that of most; in a tie, not the usual one."""
    known = [gpu for gpu in group if gpu.has(name)]
    on = sum(bool(gpu.get(name)) for gpu in known)
    if 2 * on != len(known):
        usual = 2 * on > len(known)
    for gpu in known:
        if bool(gpu.get(name)) != usual:
            yield gpu, {name: bool(gpu.get(name)), "peers": usual}


def persistence(facts: Facts, context: Context) -> Iterator[Sign]:
    """Yield persistence mode that differs between peers, or is off on all."""
    known = [gpu for gpu in facts.devices if gpu.answers and gpu.has("persistence_mode")]
    if known and not any(gpu.get("persistence_mode") for gpu in known):
        yield Sign("NV-PERSISTENCE-OFF", {"gpus": len(known)})
    for group in _groups(facts):
        for gpu, evidence in _minority(group, "persistence_mode", usual=True):
            yield Sign("NV-PERSISTENCE-DRIFT", evidence, gpu.device)


def mig(facts: Facts, context: Context) -> Iterator[Sign]:
    """Yield MIG modes that differ between peers, or wait for a reset."""
    for group in _groups(facts):
        odd = {
            id(gpu): evidence for gpu, evidence in _minority(group, "mig_mode_current", usual=False)
        }
        for gpu in group:
            evidence = odd.get(id(gpu), {})
            now, after = gpu.get("mig_mode_current"), gpu.get("mig_mode_pending")
            if gpu.has("mig_mode_current", "mig_mode_pending") and now != after:
                evidence |= {"mig_mode_current": bool(now), "mig_mode_pending": bool(after)}
            if evidence:
                yield Sign("NV-MIG-DRIFT", evidence, gpu.device)


def ecc_mode(facts: Facts, context: Context) -> Iterator[Sign]:
    """Yield ECC modes that differ between peers, or wait for a reset."""
    for group in _groups(facts):
        for gpu, evidence in _minority(group, "ecc_mode_current", usual=True):
            yield Sign("NV-ECC-MODE-DRIFT", evidence, gpu.device)
        for gpu in group:
            now, after = gpu.get("ecc_mode_current"), gpu.get("ecc_mode_pending")
            if gpu.has("ecc_mode_current", "ecc_mode_pending") and now != after:
                evidence = {"ecc_mode_current": bool(now), "ecc_mode_pending": bool(after)}
                yield Sign("NV-ECC-MODE-PENDING", evidence, gpu.device)


CHECKS = (
    Check(
        "outliers",
        "No GPU is far slower or hotter, or draws far less power, than its peers.",
        tuple(metric.name for metric in _METRICS),
        ("NV-OUTLIER",),
        of_node=outliers,
    ),
    Check(
        "persistence",
        "Persistence mode is on, on all GPUs.",
        ("persistence_mode",),
        ("NV-PERSISTENCE-DRIFT", "NV-PERSISTENCE-OFF"),
        of_node=persistence,
    ),
    Check(
        "mig-mode",
        "MIG mode is the same on all GPUs of a type.",
        ("mig_mode_current", "mig_mode_pending"),
        ("NV-MIG-DRIFT",),
        of_node=mig,
    ),
    Check(
        "ecc-mode",
        "ECC mode is the same on all GPUs of a type, and nothing waits for a reset.",
        ("ecc_mode_current", "ecc_mode_pending"),
        ("NV-ECC-MODE-DRIFT", "NV-ECC-MODE-PENDING"),
        of_node=ecc_mode,
    ),
)
