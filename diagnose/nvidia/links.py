"""Links: PCIe to the host, NVLink to the peers, and the NVSwitch fabric."""

from collections.abc import Iterator, Sequence
from typing import Any

from diagnose.checks import Check, Context, Sign
from diagnose.facts import DeviceFacts, Facts
from diagnose.findings import Unchecked
from diagnose.nvidia.memory import rate_per_min

FAST_STATE = 2  # P0 to P2: performance states in which a GPU computes at speed
LOAD_PERCENT = 10  # from then on a GPU is under load, and its PCIe link at full speed
REPLAYS = 1000  # since the driver was loaded; own limit
REPLAYS_PER_MIN = 8  # DCGM's health watch
LINK_ERROR_LIMITS = {
    "recovery_errors": 1,
    "replay_errors": 10,
    "crc_flit_errors": 1000,
    "crc_data_errors": 1000,
}
"""Errors of one NVLink from which on its signals are called weak; own limits."""

_AMPERE = 8  # compute capability
_FABRIC_COMPLETED = 3
_FABRIC_STATES = {1: "not started", 2: "in progress", _FABRIC_COMPLETED: "completed"}
_FABRIC_HEALTH = {  # shift, width and the values that are faults, of nvmlGpuFabricInfo's mask
    "degraded bandwidth": (0, 0x3, {1}),
    "route recovery in progress": (2, 0x3, {1}),
    "route unhealthy": (4, 0x3, {1}),
    "access timeout recovery in progress": (6, 0x3, {1}),
    "incorrect configuration": (8, 0xF, set(range(2, 16))),
}


def width(gpu: DeviceFacts, context: Context) -> Iterator[Sign]:
    """Yield a PCIe link that is narrower than card and slot are."""
    now, most = gpu.get("pcie_width_current"), gpu.get("pcie_width_max")
    if now and most and now < most:
        yield Sign("NV-PCIE-WIDTH", {"pcie_width": now, "pcie_width_max": most})


def generation(gpu: DeviceFacts, context: Context) -> Iterator[Sign | Unchecked]:
    """Yield a PCIe link that is slow under load; an idle one slows down on purpose."""
    now, most = gpu.get("pcie_generation_current"), gpu.get("pcie_generation_max")
    if not now or not most or now >= most:
        return
    load = max(gpu.get("gpu_utilization_percent") or 0, gpu.get("memory_utilization_percent") or 0)
    # utilisation is of the last second, and the link slows down with the clocks
    if load >= LOAD_PERCENT and (gpu.get("performance_state") or 0) <= FAST_STATE:
        yield Sign(
            "NV-PCIE-GENERATION",
            {"pcie_generation": now, "pcie_generation_max": most, "utilization_percent": load},
        )
    else:
        reason = f"generation {now} of {most} while idle tells nothing; judged under load"
        yield Unchecked("pcie-generation", gpu.device, reason, skipped=True)


def replays(gpu: DeviceFacts, context: Context) -> Iterator[Sign]:
    """Yield PCIe packets that had to be sent again."""
    count = gpu.get("pcie_replays") or 0
    rate = rate_per_min(gpu, "pcie_replays", context)
    if count >= REPLAYS or (rate is not None and rate > REPLAYS_PER_MIN):
        yield Sign("NV-PCIE-REPLAYS", {"pcie_replays": count, "replays_per_min": rate})


def nvlinks(facts: Facts, context: Context) -> Iterator[Sign | Unchecked]:
    """Yield the links that a card should have and that are down."""
    for gpu in facts.devices:
        if not gpu.answers:
            continue
        failure = gpu.failures.get("nvlinks")
        if failure is not None:
            if failure.kind == "not_supported":
                yield Unchecked("nvlink", gpu.device, failure.text, skipped=True)
            continue
        peers = [
            peer
            for peer in facts.devices
            if peer.answers and peer is not gpu and peer.device.name == gpu.device.name
        ]
        down = _down(gpu, peers)
        if down:
            evidence = {"numbers_of_links_down": down, "links": len(gpu.get("nvlinks"))}
            yield Sign("NV-NVLINK-DOWN", evidence, gpu.device)


def _down(gpu: DeviceFacts, peers: Sequence[DeviceFacts]) -> list[int]:
    """Return the inactive links that should be active.

    A module's links all lead somewhere, unless the whole node has none in use. Before NVSwitch
    (Ampere) they may lead to GPUs that a smaller machine, or a share of one, does not have: there
    every GPU has as many. Those of a PCIe card depend on its bridges: there a link is missed where
    the card has others in use and a peer has this one.
    """
    active = _active(gpu)
    of_peers = set().union(*map(_active, peers)) if peers else set()
    module = _is_module(gpu.device.name or "")
    if not active and not (module and of_peers):
        return []
    before_switches = (gpu.get("compute_capability_major") or _AMPERE) < _AMPERE
    if module and before_switches and all(len(_active(peer)) <= len(active) for peer in peers):
        return []
    every = {link["link"] for link in gpu.get("nvlinks")}
    return sorted((every if module else of_peers & every) - active)


def _active(gpu: DeviceFacts) -> set[int]:
    return {link["link"] for link in gpu.get("nvlinks") or () if link["active"]}


def _is_module(name: str) -> bool:
    """Tell whether a card sits on a baseboard with its peers (SXM), by the driver's name."""
    from accelerators.errors import UsageError
    from accelerators.names import resolve, words

    try:
        return "sxm" in words(resolve(name).name)
    except UsageError:
        return "sxm" in words(name)


def link_errors(gpu: DeviceFacts, context: Context) -> Iterator[Sign | Unchecked]:
    """Yield links with more errors than the limits."""
    links = [link for link in gpu.get("nvlinks") or () if link["active"]]
    if links and not any(name in link for link in links for name in LINK_ERROR_LIMITS):
        reason = "the driver has no error counters for this generation of NVLink"
        yield Unchecked("nvlink-errors", gpu.device, reason, skipped=True)
    bad: list[dict[str, Any]] = [
        link
        for link in links
        if any(link.get(name, 0) >= limit for name, limit in LINK_ERROR_LIMITS.items())
    ]
    if bad:
        yield Sign("NV-NVLINK-ERRORS", {"links": bad})


def fabric(gpu: DeviceFacts, context: Context) -> Iterator[Sign]:
    """Yield what keeps a GPU out of the NVSwitch fabric."""
    state = gpu.get("fabric_state")
    if not state:  # 0: the card has no fabric
        return
    faults = _fabric_faults(gpu.get("fabric_health_mask") or 0)
    status = gpu.get("fabric_status") or 0
    if state != _FABRIC_COMPLETED or status != 0 or faults:
        evidence = {
            "fabric_state": _FABRIC_STATES.get(state, str(state)),
            "fabric_nvml_return": status,
            "fabric_health": faults,
        }
        yield Sign("NV-FABRIC-NOT-READY", evidence)


def _fabric_faults(mask: int) -> list[str]:
    return [
        name
        for name, (shift, bits, faults) in _FABRIC_HEALTH.items()
        if mask >> shift & bits in faults
    ]


CHECKS = (
    Check(
        "pcie-width",
        "The PCIe link has all the lanes that card and slot have.",
        ("pcie_width_current", "pcie_width_max"),
        ("NV-PCIE-WIDTH",),
        of_device=width,
        needs=("pcie_width_current", "pcie_width_max"),
    ),
    Check(
        "pcie-generation",
        "Under load the PCIe link runs at the highest generation of card and slot.",
        ("pcie_generation_current", "pcie_generation_max", "gpu_utilization_percent"),
        ("NV-PCIE-GENERATION",),
        of_device=generation,
        needs=("pcie_generation_current", "pcie_generation_max"),
    ),
    Check(
        "pcie-replays",
        "Few PCIe packets had to be sent again.",
        ("pcie_replays",),
        ("NV-PCIE-REPLAYS",),
        of_device=replays,
    ),
    Check(
        "nvlink",
        "Every NVLink that the card should have is up.",
        ("nvlinks",),
        ("NV-NVLINK-DOWN",),
        of_node=nvlinks,
    ),
    Check(
        "nvlink-errors",
        "NVLinks have few errors.",
        ("nvlinks",),
        ("NV-NVLINK-ERRORS",),
        of_device=link_errors,
    ),
    Check(
        "fabric",
        "The GPU is registered with the NVSwitch fabric.",
        ("fabric_state", "fabric_status", "fabric_health_mask"),
        ("NV-FABRIC-NOT-READY",),
        of_device=fabric,
    ),
)
