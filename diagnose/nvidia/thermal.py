"""Heat, power and speed: temperatures, throttle reasons, fans, clocks; and the InfoROM."""

from collections.abc import Iterator

from diagnose.checks import Check, Context, Sign
from diagnose.facts import DeviceFacts
from diagnose.findings import Severity, Unchecked

_SW_POWER_CAP = 0x04
_HW_SLOWDOWN = 0x08
_SW_THERMAL = 0x20
_HW_THERMAL = 0x40
_POWER_BRAKE = 0x80
_REASONS = {
    0x01: "idle",
    0x02: "application clocks",
    _SW_POWER_CAP: "power cap",
    _HW_SLOWDOWN: "hardware slowdown",
    0x10: "sync boost",
    _SW_THERMAL: "software thermal",
    _HW_THERMAL: "hardware thermal",
    _POWER_BRAKE: "power brake",
    0x100: "display clocks",
}
"""NVML's clocks event reasons."""

WORKING_PERCENT = 50  # utilisation from which on clocks are judged; own limit
LOW_CLOCK = 0.6  # share of the highest SM clock; own limit
FAN_ASKED_PERCENT = 20  # below, a fan may rest
FAN_HOT_C = 75


def temperature(gpu: DeviceFacts, context: Context) -> Iterator[Sign | Unchecked]:
    """Yield temperatures at or above the card's own thresholds."""
    now, margin = gpu.get("temperature_c"), gpu.get("temperature_margin_c")
    thresholds, margins = _thresholds(gpu, "threshold_{}_c"), _thresholds(gpu, "margin_{}_c")
    if now is not None and thresholds:
        signs = [({"threshold_c": limit}, each) for limit, each in thresholds if now >= limit]
    elif margin is not None and margins:
        signs = [({"margin_c": margin, "margin_limit_c": limit}, each)
                 for limit, each in margins if margin <= limit]  # fmt: skip
    else:
        signs = []
        if gpu.has("temperature_c"):
            reason = "the card tells no threshold of its temperature"
            yield Unchecked("temperature", gpu.device, reason, skipped=True)
    for evidence, severity in signs[:1]:
        yield Sign("NV-TEMPERATURE", {"temperature_c": now} | evidence, severity=severity)
        return
    memory, most = gpu.get("memory_temperature_c"), gpu.get("threshold_memory_max_c")
    if memory and most and memory >= most:
        evidence = {"memory_temperature_c": memory, "threshold_c": most}
        yield Sign("NV-TEMPERATURE", evidence, severity="degraded")


def _thresholds(gpu: DeviceFacts, form: str) -> list[tuple[int, Severity]]:
    """Return the core's thresholds that the card has, the gravest first.

    From Ada on they may be told only as margins to the T.Limit, where small and negative is hot
    (nvmlDeviceGetMarginTemperature, fields TEMPERATURE_*_TLIMIT).
    """
    named: tuple[tuple[str, Severity], ...] = (("slowdown", "degraded"), ("gpu_max", "warning"))
    known = [(gpu.get(form.format(name)), severity) for name, severity in named]
    return [(limit, severity) for limit, severity in known if limit is not None]


def throttling(gpu: DeviceFacts, context: Context) -> Iterator[Sign]:
    """Yield why the clocks are held down; idling and set clocks are no fault.

    The hardware-slowdown bit is also set for heat and for the power brake: alone it is a finding
    of its own.
    """
    reasons = gpu.get("throttle_reasons") or 0
    evidence = {
        "throttle_reasons": [name for bit, name in _REASONS.items() if reasons & bit],
        "clock_sm_mhz": gpu.get("clock_sm_mhz"),
        "clock_sm_max_mhz": gpu.get("clock_sm_max_mhz"),
        "temperature_c": gpu.get("temperature_c"),
        "power_mw": gpu.get("power_mw"),
    }
    if reasons & (_HW_THERMAL | _SW_THERMAL):
        yield Sign("NV-THERMAL-SLOWDOWN", evidence)
    if reasons & _POWER_BRAKE:
        yield Sign("NV-POWER-BRAKE", evidence)
    if reasons & _HW_SLOWDOWN and not reasons & (_HW_THERMAL | _POWER_BRAKE):
        yield Sign("NV-HW-SLOWDOWN", evidence)
    if reasons & _SW_POWER_CAP:
        limits = ("power_limit_enforced_mw", "power_limit_default_mw")
        yield Sign("NV-POWER-CAP", evidence | {name: gpu.get(name) for name in limits})


def clocks(gpu: DeviceFacts, context: Context) -> Iterator[Sign]:
    """Yield clocks that stay low under load without a throttle reason that says why."""
    now, most = gpu.get("clock_sm_mhz"), gpu.get("clock_sm_max_mhz")
    working = (gpu.get("gpu_utilization_percent") or 0) >= WORKING_PERCENT
    explained = (gpu.get("throttle_reasons") or 0) & ~0x01
    if now and most and working and not explained and now < LOW_CLOCK * most:
        yield Sign(
            "NV-CLOCKS-LOW",
            {
                "clock_sm_mhz": now,
                "clock_sm_max_mhz": most,
                "utilization_percent": gpu.get("gpu_utilization_percent"),
                "performance_state": gpu.get("performance_state"),
            },
        )


def fans(gpu: DeviceFacts, context: Context) -> Iterator[Sign]:
    """Yield fans that are asked to turn and do not."""
    asked = gpu.get("fan_speeds_percent") or []
    turning = gpu.get("fan_speeds_rpm")
    hot = (gpu.get("temperature_c") or 0) >= FAN_HOT_C
    for fan, percent in enumerate(asked):
        rpm = turning[fan] if turning else None
        stands = percent >= FAN_ASKED_PERCENT and rpm == 0
        if stands or (rpm is None and percent == 0 and hot):
            evidence = {
                "fan": fan,
                "fan_speed_percent": percent,
                "fan_speed_rpm": rpm,
                "temperature_c": gpu.get("temperature_c"),
            }
            yield Sign("NV-FAN", evidence)


def inforom(gpu: DeviceFacts, context: Context) -> Iterator[Sign]:
    """Yield an InfoROM whose checksums do not hold."""
    if gpu.get("inforom_valid") is False:
        yield Sign("NV-INFOROM", {"inforom_valid": False})


_ACTIONS = {
    1: "reset the GPU",
    2: "restart the node",
    3: "drain its peers",
    4: "drain, then reset the GPU",
    5: "recover the IMEX domain",
    6: "reset the bus",
    7: "restart the system",
}


def recovery(gpu: DeviceFacts, context: Context) -> Iterator[Sign]:
    """Yield what the driver itself asks for."""
    action = gpu.get("recovery_action")
    if action:
        asked = _ACTIONS.get(action, f"action {action}")
        yield Sign("NV-RECOVERY-ACTION", {"recovery_action": asked})


CHECKS = (
    Check(
        "temperature",
        "Core and memory are cooler than the card's own thresholds.",
        ("temperature_c", "threshold_slowdown_c", "threshold_gpu_max_c", "memory_temperature_c"),
        ("NV-TEMPERATURE",),
        of_device=temperature,
    ),
    Check(
        "throttle",
        "Neither heat nor power supply holds the clocks down.",
        ("throttle_reasons", "power_mw"),
        ("NV-THERMAL-SLOWDOWN", "NV-POWER-BRAKE", "NV-HW-SLOWDOWN", "NV-POWER-CAP"),
        of_device=throttling,
        needs=("throttle_reasons",),
    ),
    Check(
        "clocks",
        "Under load the SM clock is near its highest, or something says why not.",
        ("clock_sm_mhz", "clock_sm_max_mhz", "gpu_utilization_percent"),
        ("NV-CLOCKS-LOW",),
        of_device=clocks,
        needs=("clock_sm_mhz", "clock_sm_max_mhz", "gpu_utilization_percent"),
    ),
    Check(
        "fans",
        "Fans turn when they are asked to.",
        ("fans", "fan_speeds_percent", "fan_speeds_rpm"),
        ("NV-FAN",),
        of_device=fans,
    ),
    Check(
        "inforom",
        "The InfoROM's checksums hold.",
        ("inforom_valid",),
        ("NV-INFOROM",),
        of_device=inforom,
    ),
    Check(
        "recovery",
        "The driver asks for no reset, drain or restart.",
        ("recovery_action",),
        ("NV-RECOVERY-ACTION",),
        of_device=recovery,
    ),
)
