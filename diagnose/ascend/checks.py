"""The checks of Ascend NPUs."""

from collections.abc import Iterable, Iterator

from diagnose import ascend_codes, presence
from diagnose.ascend_codes import Fault
from diagnose.checks import NODE, Check, Context, Sign, hang
from diagnose.facts import DeviceFacts, Facts
from diagnose.findings import SEVERITIES, Severity, Unchecked
from diagnose.outliers import Metric, outliers

ISOLATED_PAGES_LIMIT = 64
"""Rows that the driver can isolate; at 64 it reports 80E18402, for return (Ascend mind-cluster)."""
ISOLATED_PAGES_NOTICE = 16
"""From more than these on the driver gives notice (80E18401; Huawei's public NPU driver)."""
SINGLE_BIT_ERRORS = 1000
"""Corrected errors since start that we call a storm; the driver's own limit is not public."""
TEMPERATURE_C: tuple[tuple[int, Severity], ...] = ((105, "degraded"), (95, "warning"))
"""Of chip and memory. Our own: DCMI names no limits of the 910B; NVIDIA's cards hold the same
memory to 95 °C."""

_OF_DRIVER = {
    "library_missing": "ASCEND-LIBRARY-MISSING",
    "no_permission": "ASCEND-NO-PERMISSION",
}
_NETWORK = {
    1: "no socket for the test",
    2: "no answer in time",
    3: "detection address unreachable",
    4: "sending took too long",
    5: "sending failed",
    7: "test could not start",
    8: "detection address is being set",
}
_NETWORK_GOOD = (0, 6)  # good; test not begun, as where no detection address is set
_NETWORK_UNTESTED = (1, 7, 8)  # the test itself does not run


def driver(facts: Facts, context: Context) -> Iterator[Sign | Unchecked]:
    """Yield why the driver does not answer."""
    if facts.error is not None and facts.error.kind == "not_started":
        yield Unchecked("driver", NODE, facts.error.text, skipped=False)
    elif facts.error is not None:
        code = _OF_DRIVER.get(facts.error.kind, "ASCEND-DRIVER-INIT")
        yield Sign(code, {"error": facts.error.text, "dcmi_return": facts.error.number})
    if facts.hung_in is not None:
        yield hang(facts, context)


def npus(facts: Facts, context: Context) -> Iterator[Sign | Unchecked]:
    """Yield the NPUs that the driver lists and that do not answer."""
    for npu in facts.devices:
        if npu.hung_in is not None:
            yield hang(npu, context)
        elif npu.error is not None and npu.error.kind == "lost":
            evidence = {"error": npu.error.text, "dcmi_return": npu.error.number}
            yield Sign("ASCEND-LOST", evidence, npu.device)
        elif npu.error is not None:
            yield Unchecked("npus", npu.device, npu.error.text, skipped=False)


def count(facts: Facts, context: Context) -> Iterator[Sign | Unchecked]:
    """Compare the NPUs that the driver lists with the PCI bus, or with what the user says."""
    if facts.error is None and facts.hung_in is None:
        yield from presence.missing(facts, context, "ASCEND-COUNT", "npu")


def type_(npu: DeviceFacts, context: Context) -> Iterator[Sign]:
    """Compare the type of an NPU with what the user says it should be."""
    yield from presence.of_other_type(npu, context, "ASCEND-TYPE")


def health(npu: DeviceFacts, context: Context) -> Iterator[Sign]:
    """Yield a bad health state that nothing else seen on the NPU explains.

    A code whose handling is to do nothing explains none: what is not known is not healthy.
    """
    state = npu.get("health")
    if not state or any(fault.severity != "info" for fault in _faults(npu)):
        return
    severity: Severity = SEVERITIES[state] if state < len(SEVERITIES) else "fatal"
    seen = [sign.severity for check in (hbm, temperature, network) for sign in check(npu, context)]
    if not any(_at_least(each, severity) for each in seen):
        evidence = {"health": state, "fault_codes": npu.get("fault_codes")}
        yield Sign("ASCEND-HEALTH", evidence, severity=severity)


def _at_least(severity: Severity | None, other: Severity) -> bool:
    return severity is not None and SEVERITIES.index(severity) >= SEVERITIES.index(other)


def fault_codes(npu: DeviceFacts, context: Context) -> Iterator[Sign]:
    """Yield every active fault code, with the readings that belong to it."""
    for fault in _faults(npu):
        evidence = {
            "fault_code": fault.code,
            "handling": fault.level,
            "module": fault.module,
            "state": fault.state,
        } | _readings_of(fault, npu)
        yield Sign(f"ASCEND-FAULT-{fault.code}", evidence, number=fault.code)


def hbm(npu: DeviceFacts, context: Context) -> Iterator[Sign]:
    """Yield errors of the memory that no fault code explains."""
    if any(fault.severity != "info" and _is_of_memory(fault) for fault in _faults(npu)):
        return
    severity = _memory_severity(npu)
    if severity is not None:
        yield Sign("ASCEND-HBM-ECC", _counters(npu), severity=severity)


def temperature(npu: DeviceFacts, context: Context) -> Iterator[Sign]:
    """Yield chip or memory too hot, unless a fault code says so."""
    if any(_is_of_heat(fault) for fault in _faults(npu)):
        return
    readings = _known(npu, ("temperature_c", "hbm_temperature_c"))
    for limit, severity in TEMPERATURE_C:
        if hot := {name: value for name, value in readings.items() if value >= limit}:
            yield Sign("ASCEND-TEMPERATURE", hot | {"limit_c": limit}, severity=severity)
            return


def pcie(facts: Facts, context: Context) -> Iterator[Sign]:
    """Yield an NPU whose link has fewer lanes than card and slot can have."""
    links = {each.address: each for each in context.pci}
    for npu in facts.devices:
        link = links.get(npu.device.pci_bus_id or "")
        if link is None or link.width is None or link.width_max is None:
            continue
        if 0 < link.width < link.width_max:
            evidence = {
                "pcie_width_current": link.width,
                "pcie_width_max": link.width_max,
                "pci_address": link.address,
            }
            yield Sign("ASCEND-PCIE", evidence, npu.device)


def network(npu: DeviceFacts, context: Context) -> Iterator[Sign]:
    """Yield a RoCE port that does not reach its detection address."""
    state = npu.get("network_health")
    if state is None or state in _NETWORK_GOOD:
        return
    evidence = {"network_health": state, "state": _NETWORK.get(state, "unknown")}
    severity: Severity = "warning" if state in _NETWORK_UNTESTED else "degraded"
    yield Sign("ASCEND-NETWORK", evidence, severity=severity)


_METRICS = (
    Metric("temperature_c", 1, 15.0, 0.0, under_load=False),
    Metric("aicore_clock_mhz", -1, 0.0, 0.2, under_load=True),
    Metric("power_mw", -1, 0.0, 0.3, under_load=True),
)


def unlike(facts: Facts, context: Context) -> Iterator[Sign]:
    """Yield NPUs that run unlike their peers, unless a fault code speaks of heat."""
    hot = {npu.device for npu in facts.devices if any(map(_is_of_heat, _faults(npu)))}
    for sign in outliers(facts, _METRICS, "aicore_utilization_percent", "ASCEND-OUTLIER"):
        if sign.device not in hot:
            yield sign


# ---- what a fault code is about ----------------------------------------------------------------


def _faults(npu: DeviceFacts) -> list[Fault]:
    return [ascend_codes.fault(code) for code in npu.get("fault_codes") or ()]


def _is_of_memory(fault: Fault) -> bool:
    return "HBM" in (fault.module or "") or fault.code in ("A8028801", "A8028802", "A4028801")


def _is_of_heat(fault: Fault) -> bool:
    return fault.severity != "info" and "temperature" in (fault.state or "")


def _readings_of(fault: Fault, npu: DeviceFacts) -> dict[str, int]:
    if _is_of_memory(fault):
        return _counters(npu)
    if _is_of_heat(fault):
        return _known(npu, ("temperature_c", "hbm_temperature_c"))
    return {}


def _counters(npu: DeviceFacts) -> dict[str, int]:
    return _known(npu, _ECC)


def _known(npu: DeviceFacts, names: Iterable[str]) -> dict[str, int]:
    return {name: npu.values[name] for name in names if npu.has(name)}


def _memory_severity(npu: DeviceFacts) -> Severity | None:
    isolated = npu.get("hbm_isolated_double_bit_pages") or 0
    if isolated >= ISOLATED_PAGES_LIMIT:
        return "fatal"
    if npu.get("hbm_double_bit_errors"):
        return "degraded"
    storm = (npu.get("hbm_single_bit_errors") or 0) >= SINGLE_BIT_ERRORS
    return "warning" if storm or isolated > ISOLATED_PAGES_NOTICE else None


_ECC = (
    "hbm_single_bit_errors",
    "hbm_double_bit_errors",
    "hbm_isolated_single_bit_pages",
    "hbm_isolated_double_bit_pages",
)

CHECKS: tuple[Check, ...] = (
    Check(
        "driver",
        "The driver's library is there, starts and lets us in.",
        ("dcmi_init",),
        (*_OF_DRIVER.values(), "ASCEND-DRIVER-INIT", "DRIVER-HANG"),
        of_node=driver,
        without_driver=True,
    ),
    Check(
        "npus",
        "Every NPU answers.",
        ("dcmi_get_device_health",),
        ("ASCEND-LOST", "DRIVER-HANG"),
        of_node=npus,
    ),
    Check(
        "count",
        "The driver lists as many NPUs as the PCI bus has, or as --expect-gpus says.",
        ("PCI bus", "dcmi_get_card_list", "dcmi_get_device_num_in_card"),
        ("ASCEND-COUNT",),
        of_node=count,
    ),
    Check(
        "type",
        "Every NPU is of the type that --expect names.",
        (),
        ("ASCEND-TYPE",),
        of_device=type_,
    ),
    Check(
        "health",
        "The driver calls the NPU healthy, or a fault code says why not.",
        ("health",),
        ("ASCEND-HEALTH",),
        of_device=health,
    ),
    Check(
        "fault-codes",
        "The NPU has no active fault code; each is judged by its handling level.",
        ("fault_codes",),
        ("ASCEND-FAULT-<code>",),
        of_device=fault_codes,
    ),
    Check(
        "ecc",
        f"HBM has no uncorrected error since start, at most {ISOLATED_PAGES_NOTICE} isolated rows "
        f"and fewer than {SINGLE_BIT_ERRORS} corrected errors.",
        _ECC,
        ("ASCEND-HBM-ECC",),
        of_device=hbm,
    ),
    Check(
        "temperature",
        "Chip and HBM are below 95 °C.",
        ("temperature_c", "hbm_temperature_c"),
        ("ASCEND-TEMPERATURE",),
        of_device=temperature,
    ),
    Check(
        "pcie",
        "The link to the host has all lanes that card and slot can have.",
        ("PCI bus",),
        ("ASCEND-PCIE",),
        of_node=pcie,
    ),
    Check(
        "network",
        "The NPU's RoCE port reaches its detection address.",
        ("network_health",),
        ("ASCEND-NETWORK",),
        of_device=network,
    ),
    Check(
        "outliers",
        "No NPU is far slower or hotter, or draws far less power, than its peers.",
        tuple(metric.name for metric in _METRICS),
        ("ASCEND-OUTLIER",),
        of_node=unlike,
    ),
)
