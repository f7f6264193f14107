"""Print what every version of every NVML call shows of each property, by real pynvml.

Run under a mock: prints a list with one object per GPU, property to the values of all its views;
None is NOT_SUPPORTED.
"""

import contextlib
import ctypes
import json
from collections.abc import Callable

import pynvml as nv

Handle = object
MAX_LINKS = 18  # of the simulated driver
LINK_FIELDS = {  # property: first field of links 0 to 5, of links 6 to 11, of the scoped kind
    "crc_flit_errors": (32, 96, 163, nv.NVML_NVLINK_ERROR_DL_CRC_FLIT),
    "crc_data_errors": (39, 102, None, nv.NVML_NVLINK_ERROR_DL_CRC_DATA),
    "replay_errors": (46, 108, 161, nv.NVML_NVLINK_ERROR_DL_REPLAY),
    "recovery_errors": (53, 114, 162, nv.NVML_NVLINK_ERROR_DL_RECOVERY),
}
PLACES = {"l1": 0, "l2": 1, "dram": 2, "register_file": 3, "texture": 4, "sram": 7}
ECC_FIELDS = {"l1": 7, "l2": 9, "dram": 11, "register_file": 13, "texture": 15}
REASONS = {
    "idle": 0x1, "application_clocks": 0x2, "power_cap": 0x4, "hw_slowdown": 0x8,
    "sync_boost": 0x10, "sw_thermal": 0x20, "hw_thermal": 0x40, "power_brake": 0x80,
    "display": 0x100,
}  # fmt: skip


def field(handle: Handle, number: int, scope: int = 0) -> int:
    [value] = nv.nvmlDeviceGetFieldValues(handle, [(number, scope)])
    nv._nvmlCheckReturn(value.nvmlReturn)
    return int(value.value.ullVal)


def sample(handle: Handle, kind: int) -> int:
    return int(nv.nvmlDeviceGetSamples(handle, kind, 0)[1][-1].sampleValue.uiVal)


def legacy_processes(name: str, handle: Handle, size: int) -> list[list[int]]:
    """Read a version of the process list by its layout: pid, padding, bytes, and more."""
    count = ctypes.c_uint(64)
    buffer = ctypes.create_string_buffer(64 * size)
    nv._nvmlCheckReturn(
        nv._nvmlGetFunctionPointer(name)(handle, ctypes.byref(count), ctypes.byref(buffer))
    )
    parts = [buffer.raw[i * size : (i + 1) * size] for i in range(count.value)]
    return [[int.from_bytes(p[:4], "little"), int.from_bytes(p[8:16], "little")] for p in parts]


def legacy_address(name: str, handle: Handle) -> str:
    """Read the address of the oldest layouts, which begin with it, in the longer form."""
    buffer = ctypes.create_string_buffer(64)
    nv._nvmlCheckReturn(nv._nvmlGetFunctionPointer(name)(handle, ctypes.byref(buffer)))
    return "0000" + buffer.raw[:16].split(b"\0")[0].decode()


View = Callable[[Handle], object]
VIEWS: dict[str, list[View]] = {
    "name": [nv.nvmlDeviceGetName],
    "uuid": [nv.nvmlDeviceGetUUID],
    "serial": [nv.nvmlDeviceGetSerial],
    "pci_bus_id": [
        lambda h: nv.nvmlDeviceGetPciInfo_v3(h).busId,
        lambda h: filled(nv.nvmlPciInfoExt_v1_t(version=nv.nvmlPciInfoExt_v1),
                         nv.nvmlDeviceGetPciInfoExt, h).busId,
        lambda h: "0000" + nv.nvmlDeviceGetPciInfo_v3(h).busIdLegacy,
        lambda h: legacy_address("nvmlDeviceGetPciInfo_v2", h),
        lambda h: legacy_address("nvmlDeviceGetPciInfo", h),
    ],
    "temperature_c": [
        lambda h: nv.nvmlDeviceGetTemperature(h, 0),
        lambda h: nv.nvmlDeviceGetTemperatureV(h, 0),
        lambda h: nv.nvmlDeviceGetThermalSettings(h, 0)[0].currentTemp,
    ],
    "memory_temperature_c": [lambda h: field(h, 82)],
    "power_mw": [nv.nvmlDeviceGetPowerUsage, lambda h: field(h, 186), lambda h: field(h, 185)],
    "power_limit_mw": [nv.nvmlDeviceGetPowerManagementLimit, lambda h: field(h, 192)],
    "power_limit_enforced_mw": [nv.nvmlDeviceGetEnforcedPowerLimit, lambda h: field(h, 190)],
    "power_limit_min_mw": [
        lambda h: nv.nvmlDeviceGetPowerManagementLimitConstraints(h)[0],
        lambda h: field(h, 187),
    ],
    "energy_mj": [
        nv.nvmlDeviceGetTotalEnergyConsumption,
        lambda h: field(h, 83),
        lambda h: field(h, 191),
    ],
    "clock_sm_mhz": [
        lambda h: nv.nvmlDeviceGetClockInfo(h, nv.NVML_CLOCK_SM),
        lambda h: nv.nvmlDeviceGetClock(h, nv.NVML_CLOCK_SM, nv.NVML_CLOCK_ID_CURRENT),
        lambda h: sample(h, nv.NVML_PROCESSOR_CLK_SAMPLES),
    ],
    "clock_memory_max_mhz": [
        lambda h: nv.nvmlDeviceGetMaxClockInfo(h, nv.NVML_CLOCK_MEM),
        lambda h: nv.nvmlDeviceGetClock(h, nv.NVML_CLOCK_MEM, nv.NVML_CLOCK_ID_CUSTOMER_BOOST_MAX),
    ],
    "performance_state": [nv.nvmlDeviceGetPerformanceState, nv.nvmlDeviceGetPowerState],
    "gpu_utilization_percent": [
        lambda h: nv.nvmlDeviceGetUtilizationRates(h).gpu,
        lambda h: sample(h, nv.NVML_GPU_UTILIZATION_SAMPLES),
    ],
    "memory_total_bytes": [
        lambda h: nv.nvmlDeviceGetMemoryInfo(h).total,
        lambda h: nv.nvmlDeviceGetMemoryInfo(h, version=nv.nvmlMemory_v2).total,
    ],
    "memory_used_bytes": [
        lambda h: nv.nvmlDeviceGetMemoryInfo(h, version=nv.nvmlMemory_v2).used,
        lambda h: nv.nvmlDeviceGetMemoryInfo(h).used
        - nv.nvmlDeviceGetMemoryInfo(h, version=nv.nvmlMemory_v2).reserved,
    ],
    "bar1_used_bytes": [lambda h: nv.nvmlDeviceGetBAR1MemoryInfo(h).bar1Used],
    "pcie_generation_current": [nv.nvmlDeviceGetCurrPcieLinkGeneration],
    "pcie_width_current": [nv.nvmlDeviceGetCurrPcieLinkWidth],
    "pcie_replays": [nv.nvmlDeviceGetPcieReplayCounter, lambda h: field(h, 94)],
    "ecc_mode_current": [lambda h: nv.nvmlDeviceGetEccMode(h)[0], lambda h: field(h, 1)],
    "ecc_mode_pending": [lambda h: nv.nvmlDeviceGetEccMode(h)[1], lambda h: field(h, 2)],
    "retired_pages_sbe": [
        lambda h: len(nv.nvmlDeviceGetRetiredPages(h, 0)),
        lambda h: len(nv.nvmlDeviceGetRetiredPages_v2(h, 0)),
        lambda h: field(h, 29),
    ],
    "retired_pages_dbe": [
        lambda h: len(nv.nvmlDeviceGetRetiredPages(h, 1)),
        lambda h: field(h, 30),
    ],
    "retired_pages_pending": [
        nv.nvmlDeviceGetRetiredPagesPendingStatus,
        lambda h: field(h, 31),
    ],
    "remapped_rows_uncorrectable": [
        lambda h: nv.nvmlDeviceGetRemappedRows(h)[1],
        lambda h: field(h, 143),
    ],
    "remap_pending": [lambda h: nv.nvmlDeviceGetRemappedRows(h)[2], lambda h: field(h, 144)],
    "remap_failure": [lambda h: nv.nvmlDeviceGetRemappedRows(h)[3], lambda h: field(h, 145)],
    "remap_banks_none": [lambda h: nv.nvmlDeviceGetRowRemapperHistogram(h).none],
    "recovery_action": [lambda h: field(h, nv.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION)],
    "violation_power_ns": [
        lambda h: nv.nvmlDeviceGetViolationStatus(h, 0).violationTime,
        lambda h: field(h, 74),
    ],
    "nvlinks": [lambda h: field(h, 91)],
    "fabric_state": [
        lambda h: filled(nv.c_nvmlGpuFabricInfo_t(), nv.nvmlDeviceGetGpuFabricInfo, h).state,
        lambda h: filled(nv.c_nvmlGpuFabricInfo_v2_t(),
                         nv.nvmlDeviceGetGpuFabricInfoV, h).state,
        lambda h: filled(nv.c_nvmlGpuFabricInfo_v3_t(),
                         nv.nvmlDeviceGetGpuFabricInfoV, h).state,
        lambda h: filled(nv.c_nvmlGpuFabricInfo_v4_t(),
                         nv.nvmlDeviceGetGpuFabricInfo_v4, h).state,
    ],
}  # fmt: skip


def filled(info: object, call: Callable[[Handle, object], None], handle: Handle) -> object:
    call(handle, ctypes.byref(info))
    return info


def _ecc(kind: int, counter: int, place: str) -> list[View]:
    views: list[View] = [
        lambda h: nv.nvmlDeviceGetMemoryErrorCounter(h, kind, counter, PLACES[place])
    ]
    if place in ECC_FIELDS:
        views.append(lambda h: field(h, ECC_FIELDS[place] + kind + 11 * counter))
    if place == "sram" and (kind, counter) == (1, 1):
        views.append(lambda h: sram(h, "aggregateUncParity") + sram(h, "aggregateUncSecDed"))
    return views


def sram(handle: Handle, name: str) -> int:
    status = nv.c_nvmlEccSramErrorStatus_v1_t()
    status.version = nv.nvmlEccSramErrorStatus_v1
    nv.nvmlDeviceGetSramEccErrorStatus(handle, ctypes.byref(status))
    return int(getattr(status, name))


for k, kind in enumerate(("corrected", "uncorrected")):
    for c, counter in enumerate(("volatile", "aggregate")):
        for place in PLACES:
            VIEWS[f"ecc_{kind}_{counter}_{place}"] = _ecc(k, c, place)
        VIEWS[f"total {kind} {counter}"] = [
            lambda h, k=k, c=c: nv.nvmlDeviceGetTotalEccErrors(h, k, c),
            lambda h, k=k, c=c: field(h, 3 + k + 2 * c),
        ]
for reason, bit in REASONS.items():
    VIEWS[f"throttle_{reason}"] = [
        lambda h, bit=bit: bool(nv.nvmlDeviceGetCurrentClocksThrottleReasons(h) & bit),
        lambda h, bit=bit: bool(nv.nvmlDeviceGetCurrentClocksEventReasons(h) & bit),
    ]
for version, size in (("", 16), ("_v2", 24), ("_v3", 24)):
    VIEWS.setdefault("processes", []).append(
        lambda h, v=version, s=size: legacy_processes(
            f"nvmlDeviceGetComputeRunningProcesses{v}", h, s
        )
    )


def link_views(link: int) -> dict[str, list[View]]:
    views: dict[str, list[View]] = {
        "active": [
            lambda h: nv.nvmlDeviceGetNvLinkState(h, link),
            lambda h: field(h, nv.NVML_FI_DEV_NVLINK_GET_STATE, link),
        ],
        "version": [
            lambda h: nv.nvmlDeviceGetNvLinkVersion(h, link),
            lambda h: field(h, nv.NVML_FI_DEV_NVLINK_GET_VERSION, link),
        ],
        "remote_type": [lambda h: nv.nvmlDeviceGetNvLinkRemoteDeviceType(h, link)],
        "speed_mb_per_s": [lambda h: field(h, nv.NVML_FI_DEV_NVLINK_GET_SPEED, link)],
    }
    for name, (early, late, scoped, counter) in LINK_FIELDS.items():
        views[name] = [lambda h, c=counter: nv.nvmlDeviceGetNvLinkErrorCounter(h, link, c)]
        if link < 12:
            number = early + link if link < 6 else late + link - 6
            views[name].append(lambda h, n=number: field(h, n))
        if scoped:
            views[name].append(lambda h, n=scoped: field(h, n, link))
    return views


def shown(view: View, handle: Handle) -> object:
    with contextlib.suppress(nv.NVMLError_NotSupported):
        value = view(handle)
        return value.decode() if isinstance(value, bytes) else value
    return None


def main() -> None:
    nv.nvmlInit()
    gpus = []
    for index in range(nv.nvmlDeviceGetCount()):
        handle = nv.nvmlDeviceGetHandleByIndex(index)
        views = dict(VIEWS)
        for link in range(MAX_LINKS):
            views |= {f"link {link} {name}": each for name, each in link_views(link).items()}
        gpus.append({name: [shown(v, handle) for v in each] for name, each in views.items()})
    print(json.dumps(gpus))


if __name__ == "__main__":
    main()
