"""Where each client shows a property of the mock, and in what words.

A pattern is searched in the lines ``place: text`` that a fault has changed in what the client says
of the device; ``{}`` is the value. A property that a client's entry lacks is one that the client
has no reading for. Numbers that a client shows in units of its own go through UNITS first.
"""

import re
from collections.abc import Callable, Mapping

from mockfail.state import Value

_MIB, _GIB = 2**20, 2**30

Pattern = str | tuple[str, str]  # a pair: for False, for True
Words = Mapping[str, Pattern]

_NO_YES = ("No$", "Yes$")
_OFF_ON = ("Disabled$", "Enabled$")
_ACTIVE = ("Not Active$", ": Active$")


def _with(place: str, pair: tuple[str, str]) -> tuple[str, str]:
    return (place + pair[0], place + pair[1])


def _throttles(place: str) -> Words:
    names = {
        "throttle_hw_thermal": "hw_thermal_slowdown",
        "throttle_power_brake": "hw_power_brake_slowdown",
        "throttle_hw_slowdown": "hw_slowdown",
        "throttle_power_cap": "sw_power_cap",
    }
    return {name: _with(f"{place}{reason}.*", _ACTIVE) for name, reason in names.items()}


# What every client says when a call fails; the driver's own words, or those of a binding.
_NVIDIA_SMI_ERRORS = {
    "init_error": {
        9: "couldn't communicate with the NVIDIA driver",
        18: "Driver/library version mismatch",
        4: "Insufficient Permissions",
    },
    "lost": "GPU is lost",
    "reset_required": "A GPU reset must occur",
}
_BINDING_ERRORS = {
    "init_error": {
        9: "Driver Not Loaded",
        18: "RM has detected an NVML/RM version mismatch",
        4: "Insufficient Permissions",
    },
    "lost": "(?i)GPU is lost",
    "reset_required": "GPU requires restart",
}

_BINDING: Words = {
    "hidden": "count: 7$",
    "driver_version": "^driver: {}$",
    "temperature_c": "temperature: {}$",
    "fan_speed_percent": "fan: {}$",
    "power_mw": "power_mw: {}$",
    "clock_sm_mhz": "sm_mhz: {}$",
    "memory_used_bytes": "memory: .*free={}",
    "ecc_mode_current": (r"ecc_mode: \[0", r"ecc_mode: \[1"),
    "ecc_mode_pending": (r"ecc_mode: .*0\]", r"ecc_mode: .*1\]"),
    "ecc_corrected_volatile_dram": "ecc_corrected_volatile: {}$",
    "ecc_uncorrected_volatile_dram": "ecc_uncorrected_volatile_dram: {}$",
    "ecc_uncorrected_aggregate_dram": "ecc_uncorrected_aggregate: {}$",
    "ecc_uncorrected_volatile_sram": "ecc_uncorrected_volatile: {}$",
    "retired_pages_pending": ("retired_pending: 0$", "retired_pending: 1$"),
    "retired_pages_sbe": r"retired_sbe: \[(\d+(, )?){{{}}}\]$",
    "retired_pages_dbe": r"retired_dbe: \[(\d+(, )?){{{}}}\]$",
    "pcie_width_current": "pcie_width: {}$",
    "pcie_generation_current": "pcie_generation: {}$",
    "pcie_replays": "pcie_replays: {}$",
    "throttle_hw_thermal": ("throttle_reasons: 1$", "throttle_reasons: 72$"),
    "throttle_power_brake": ("throttle_reasons: 1$", "throttle_reasons: 136$"),
    "throttle_hw_slowdown": ("throttle_reasons: 1$", "throttle_reasons: 8$"),
    "throttle_power_cap": ("throttle_reasons: 1$", "throttle_reasons: 4$"),
    "persistence_mode": ("persistence: 0$", "persistence: 1$"),
    "inforom_valid": ("(?i)inforom: corrupted infoROM$", "inforom: None$"),
    "pid": "processes: .*{}",
    "xid": "xid: {}$",
}

READINGS: Mapping[str, Mapping[str, object]] = {
    "nvidia-smi": {
        **_NVIDIA_SMI_ERRORS,
        "hidden": "^GPU 7: absent$",
        "driver_version": "Driver Version: {} ",
        "cuda_version": "CUDA Version: {} ",
        "temperature_c": r" {}C P\d",
        "fan_speed_percent": r" {}% \d+C",
        "power_mw": " {}W /",
        "memory_used_bytes": " {}MiB /",
        "ecc_uncorrected_volatile_dram": r"\.0 Off {} ",
        "ecc_uncorrected_volatile_sram": r"\.0 Off {} ",
        "ecc_mode_current": (r"\.0 Off Off ", r"\.0 Off \d"),
        "ecc_mode_pending": (r"\.0 Off 0\* ", r"\.0 Off \d "),
        "persistence_mode": (" Off 0000", " On 0000"),
        "mig_mode_current": _OFF_ON,
        "inforom_valid": ("infoROM is corrupted", "never"),
        "pid": " {} C ",
    },
    "nvidia-smi -q": {
        **_NVIDIA_SMI_ERRORS,
        "hidden": "Attached GPUs: 7$",
        "driver_version": "Driver Version: {}$",
        "cuda_version": "CUDA Version: {}$",
        "temperature_c": "GPU Current Temp: {} C$",
        "memory_temperature_c": "Memory Current Temp: {} C$",
        "fan_speed_percent": "Fan Speed: {} %$",
        "power_mw": "GPU Power Readings/Power Draw: {}.00 W$",
        "clock_sm_mhz": " Clocks/SM: {} MHz$",
        "memory_used_bytes": "FB Memory Usage/Used: {} MiB$",
        "ecc_corrected_volatile_dram": "Volatile/(DRAM Correctable|Single Bit/Device Memory): {}$",
        "ecc_uncorrected_volatile_dram": "Volatile/DRAM Uncorrectable: {}$",
        "ecc_uncorrected_aggregate_dram": "Aggregate/(DRAM Uncorrectable|Double.*Memory): {}$",
        "ecc_uncorrected_volatile_sram": r"Volatile/SRAM Uncorrectable [\w-]+: {}$",
        "ecc_mode_current": _with("ECC Mode/Current: ", _OFF_ON),
        "ecc_mode_pending": _with("ECC Mode/Pending: ", _OFF_ON),
        "mig_mode_current": _with("MIG Mode/Current: ", _OFF_ON),
        "persistence_mode": _with("Persistence Mode: ", _OFF_ON),
        "retired_pages_sbe": "Retired Pages/Single Bit ECC: {}$",
        "retired_pages_dbe": "Retired Pages/Double Bit ECC: {}$",
        "retired_pages_pending": _with("Pending Page Blacklist: ", _NO_YES),
        "remap_pending": _with("Remapped Rows/Pending: ", _NO_YES),
        "remap_failure": _with("Remapping Failure Occurred: ", _NO_YES),
        "remap_banks_none": r"Histogram/None: {} bank\(s\)$",
        "pcie_width_current": "Link Width/Current: {}x$",
        "pcie_generation_current": "PCIe Generation/Current: {}$",
        "pcie_replays": "Replays Since Reset: {}$",
        "throttle_hw_thermal": _with("HW Thermal Slowdown", _ACTIVE),
        "throttle_power_brake": _with("HW Power Brake Slowdown", _ACTIVE),
        "throttle_hw_slowdown": _with("HW Slowdown", _ACTIVE),
        "throttle_power_cap": _with("SW Power Cap", _ACTIVE),
        "fabric_state": "Fabric/State: In Progress$",
        "recovery_action": "Drain and Reset Recommended: Yes$",
        "pid": "Process ID: {}$",
    },
    "nvidia-smi -q -x": {
        **_NVIDIA_SMI_ERRORS,
        "hidden": "^attached_gpus: 7$",
        "driver_version": "^driver_version: {}$",
        "cuda_version": "^cuda_version: {}$",
        "temperature_c": "temperature.gpu_temp: {} C$",
        "memory_temperature_c": "temperature.memory_temp: {} C$",
        "fan_speed_percent": "fan_speed: {} %$",
        "power_mw": " gpu_power_readings.power_draw: {}.00 W$",
        "clock_sm_mhz": " clocks.sm_clock: {} MHz$",
        "memory_used_bytes": "fb_memory_usage.used: {} MiB$",
        "ecc_corrected_volatile_dram": r"volatile\.(dram_corr|single_bit.device_mem)\w+: {}$",
        "ecc_uncorrected_volatile_dram": r"volatile\.dram_uncorrectable: {}$",
        "ecc_uncorrected_aggregate_dram": r"aggregate\.(dram_uncorr|double_bit.device_mem)\w+: {}$",
        "ecc_uncorrected_volatile_sram": r"volatile\.sram_uncorrectable\w*: {}$",
        "ecc_mode_current": _with("current_ecc: ", _OFF_ON),
        "ecc_mode_pending": _with("pending_ecc: ", _OFF_ON),
        "mig_mode_current": _with("current_mig: ", _OFF_ON),
        "persistence_mode": _with("persistence_mode: ", _OFF_ON),
        "retired_pages_sbe": "multiple_single_bit_retirement.retired_count: {}$",
        "retired_pages_dbe": "double_bit_retirement.retired_count: {}$",
        "retired_pages_pending": _with(r"pending_\w+: ", _NO_YES),
        "remap_pending": _with("remapped_row_pending: ", _NO_YES),
        "remap_failure": _with("remapped_row_failure: ", _NO_YES),
        "remap_banks_none": r"histogram_none: {} bank\(s\)$",
        "pcie_width_current": "current_link_width: {}x$",
        "pcie_generation_current": "current_link_gen: {}$",
        "pcie_replays": "replay_counter: {}$",
        **_throttles("clocks_event_reason_"),
        "fabric_state": "fabric.state: In Progress$",
        "recovery_action": "drain_and_reset_recommended: Yes$",
        "pid": "pid: {}$",
    },
    "nvidia-smi --query": {
        **_NVIDIA_SMI_ERRORS,
        "hidden": "^GPU 7 name: absent$",
        "driver_version": "driver_version: {}$",
        "temperature_c": "temperature.gpu: {}$",
        "memory_temperature_c": "temperature.memory: {}$",
        "fan_speed_percent": "fan.speed .*: {} %$",
        "power_mw": "power.draw .*: {}.00 W$",
        "clock_sm_mhz": "clocks.current.sm .*: {} MHz$",
        "memory_used_bytes": "memory.used .*: {} MiB$",
        "ecc_corrected_volatile_dram": "ecc.errors.corrected.volatile.total: {}$",
        "ecc_uncorrected_volatile_dram": "ecc.errors.uncorrected.volatile.dram: {}$",
        "ecc_uncorrected_aggregate_dram": "ecc.errors.uncorrected.aggregate.total: {}$",
        "ecc_uncorrected_volatile_sram": "ecc.errors.uncorrected.volatile.total: {}$",
        "ecc_mode_current": _with("ecc.mode.current: ", _OFF_ON),
        "ecc_mode_pending": _with("ecc.mode.pending: ", _OFF_ON),
        "mig_mode_current": _with("mig.mode.current: ", _OFF_ON),
        "persistence_mode": _with("persistence_mode: ", _OFF_ON),
        "retired_pages_sbe": "retired_pages.single_bit_ecc.count: {}$",
        "retired_pages_dbe": "retired_pages.double_bit.count: {}$",
        "retired_pages_pending": _with("retired_pages.pending: ", _NO_YES),
        "remap_pending": ("remapped_rows.pending: 0$", "remapped_rows.pending: 1$"),
        "remap_failure": ("remapped_rows.failure: 0$", "remapped_rows.failure: 1$"),
        "pcie_width_current": "pcie.link.width.current: {}$",
        "pcie_generation_current": "pcie.link.gen.current: {}$",
        **_throttles("clocks_event_reasons."),
        "pid": "^process 0 pid: {}$",
    },
    "nvidia-smi nvlink": {
        **_NVIDIA_SMI_ERRORS,
        "hidden": "^GPU 7 Link 0: absent$",
        "link active": ("Link {link}: <inactive>$", "Link {link}: .* GB/s$"),
        "link replay_errors": "Link {link}: Replay Errors: {}$",
        "link recovery_errors": "Link {link}: Recovery Errors: {}$",
    },
    "nvtop": {
        "init_error": dict.fromkeys((9, 18, 4), "No GPU to monitor"),
        "hidden": "^GPU 7: absent$",
        "lost": "TEMP N/A",
        "reset_required": "TEMP N/A",
        "temperature_c": "TEMP {}°C",
        "fan_speed_percent": "FAN {}%",
        "power_mw": "POW {} /",
        "clock_sm_mhz": "GPU {}MHz",
        "memory_used_bytes": r"MEM.* {}Gi/",
        "pcie_width_current": "PCIe GEN .@ ?{}x",
        "pcie_generation_current": "PCIe GEN {}@",
    },
    "lstopo": {
        "init_error": {
            9: "Driver Not Loaded",
            18: "Driver/library version mismatch",
            4: "Insufficient Permissions",
        },
        "hidden": "^GPU 7: absent$",
        "lost": "ret == NVML_SUCCESS",
        "reset_required": "ret == NVML_SUCCESS",
    },
    "pynvml": {
        **_BINDING_ERRORS,
        **_BINDING,
        "cuda_version": "^cuda: {}$",
        "mig_mode_current": (r"mig_mode: \[0", r"mig_mode: \[1"),
        "remap_pending": (r"rows: \[\d+, \d+, 0", r"rows: \[\d+, \d+, 1"),
        "remap_failure": (r"rows: \[.*0\]", r"rows: \[.*1\]"),
        "remap_banks_none": "histogram: .*none={}$",
        "link active": ("nvlink: (1 ){{{link}}}0", "nvlink: (1 ){{{link}}}1"),
        "link crc_flit_errors": r"nvlink_crc: (\d+ ){{{link}}}{} ",
        "fabric_state": "fabric: state={} ",
    },
    "py3nvml": {**_BINDING_ERRORS, **_BINDING},
    "nvitop": {
        **_BINDING_ERRORS,
        "reset_required": "NVMLError_ResetRequired|GPU requires restart",
        "hidden": "^GPU 7: absent$",
        "driver_version": "Driver Version: {} ",
        "cuda_version": "CUDA Driver Version: {} ",
        "temperature_c": r" {}C P\d",
        "fan_speed_percent": r" {}% \d+C",
        "power_mw": " {}W /",
        "memory_used_bytes": " {}GiB /",
        "ecc_uncorrected_volatile_dram": " {} N/A ",
        "ecc_uncorrected_volatile_sram": " {} N/A ",
        "persistence_mode": (" Off 0000", " On 0000"),
        "mig_mode_current": (" Disabled 0", " Enabled "),
        "pid": " {} ",
    },
    "nvitop-exporter": {
        **_BINDING_ERRORS,
        "hidden": "^GPU 7 .*: absent$",
        "lost": "gpu_temperature_C: NaN$",
        "reset_required": "gpu_temperature_C: NaN$",
        "temperature_c": "gpu_temperature_C: {}.0$",
        "fan_speed_percent": "gpu_fan_speed_Percentage: {}.0$",
        "power_mw": "gpu_power_usage_W: {}.0$",
        "clock_sm_mhz": "gpu_clock_sm_MHz: {}.0$",
        "memory_used_bytes": "gpu_memory_used_MiB: {}.0$",
    },
    "gpustat": {
        **_BINDING_ERRORS,
        "hidden": "^GPU 7 .*: absent$",
        "driver_version": "^driver_version: {}$",
        "temperature_c": "temperature.gpu: {}$",
        "fan_speed_percent": "fan.speed: {}$",
        "power_mw": "power.draw: {}$",
        "memory_used_bytes": "memory.used: {}$",
    },
    "gpustack-runtime": {
        "dcmi_init_error": "^GPU 0 name: absent$",
        "hidden": "^GPU 7 name: absent$",
        "lost": "^GPU 0 name: absent$",
        "temperature_c": " temperature: {}$",
        "health": "memory_status: unhealthy$",
    },
    "C": {
        "init_error": {9: "nvmlInit: 9$", 18: "nvmlInit: 18$", 4: "nvmlInit: 4$"},
        "hidden": "^count: 7$",
        "lost": "temperature: !15$",
        "reset_required": "temperature: !16$",
        "temperature_c": "temperature: {}$",
    },
}
READINGS = {**READINGS, "Go": READINGS["C"]}

UNITS: Mapping[str, Callable[[str, int], object]] = {
    "power_mw": lambda client, mw: mw if client in ("pynvml", "py3nvml") else mw // 1000,
    "cuda_version": lambda client, version: (
        version if client in ("pynvml", "py3nvml") else f"{version // 1000}.{version % 1000 // 10}"
    ),
    "memory_used_bytes": lambda client, used: {
        "nvitop": f"{used / _GIB:.2f}",
        "pynvml": r"\d+",
        "py3nvml": r"\d+",
        "nvtop": r"\d\d\.\d+",
    }.get(client, -(-used // _MIB)),
}


def pattern(client: str, name: str, value: Value, link: int | None) -> re.Pattern[str] | None:
    """Return what a client must show for a property that a fault has set; None if it can't."""
    words = READINGS[client].get(name)
    if isinstance(words, dict):
        words = words[value]
    if words is None:
        return None
    if isinstance(words, tuple):
        words, value = words[bool(value)], ""
    shown = UNITS[name](client, value) if name in UNITS and isinstance(value, int) else value
    assert isinstance(words, str)
    return re.compile(words.format(shown, link=link) if "{" in words else words)
