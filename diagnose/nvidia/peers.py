"""GPUs against their peers: settings that differ, and one that runs unlike the others."""

from collections.abc import Iterator, Sequence
from typing import Any

from diagnose.checks import Check, Context, Sign
from diagnose.facts import DeviceFacts, Facts
from diagnose.outliers import Metric, groups, outliers

_METRICS = (
    Metric("temperature_c", 1, 15.0, 0.0, under_load=False),
    Metric("clock_sm_mhz", -1, 0.0, 0.2, under_load=True),
    Metric("clock_memory_mhz", -1, 0.0, 0.2, under_load=True),
    Metric("power_mw", -1, 0.0, 0.3, under_load=True),
)


def unlike(facts: Facts, context: Context) -> Iterator[Sign]:
    """Yield GPUs that run unlike their peers."""
    return outliers(facts, _METRICS, "gpu_utilization_percent", "NV-OUTLIER")


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
    for group in groups(facts):
        for gpu, evidence in _minority(group, "persistence_mode", usual=True):
            yield Sign("NV-PERSISTENCE-DRIFT", evidence, gpu.device)


def mig(facts: Facts, context: Context) -> Iterator[Sign]:
    """Yield MIG modes that differ between peers, or wait for a reset."""
    for group in groups(facts):
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
    for group in groups(facts):
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
        of_node=unlike,
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
