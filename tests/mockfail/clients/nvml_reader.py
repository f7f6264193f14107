"""Print what a Python binding of NVML reads, as JSON: ``nvml_reader.py pynvml``.

It knows nothing of mocks, and runs in the clients' own environment.
"""

import importlib
import json
import sys

module = sys.argv[1]
nvml = importlib.import_module("py3nvml.py3nvml" if module == "py3nvml" else module)

DEVICE = {
    "name": ("nvmlDeviceGetName",),
    "temperature": ("nvmlDeviceGetTemperature", 0),
    "fan": ("nvmlDeviceGetFanSpeed",),
    "power_mw": ("nvmlDeviceGetPowerUsage",),
    "sm_mhz": ("nvmlDeviceGetClockInfo", 1),
    "memory": ("nvmlDeviceGetMemoryInfo",),
    "ecc_mode": ("nvmlDeviceGetEccMode",),
    "mig_mode": ("nvmlDeviceGetMigMode",),
    "ecc_corrected_volatile": ("nvmlDeviceGetTotalEccErrors", 0, 0),
    "ecc_uncorrected_volatile": ("nvmlDeviceGetTotalEccErrors", 1, 0),
    "ecc_uncorrected_aggregate": ("nvmlDeviceGetTotalEccErrors", 1, 1),
    "ecc_uncorrected_volatile_dram": ("nvmlDeviceGetMemoryErrorCounter", 1, 0, 2),
    "ecc_uncorrected_aggregate_sram": ("nvmlDeviceGetMemoryErrorCounter", 1, 1, 7),
    "retired_sbe": ("nvmlDeviceGetRetiredPages", 0),
    "retired_dbe": ("nvmlDeviceGetRetiredPages", 1),
    "retired_pending": ("nvmlDeviceGetRetiredPagesPendingStatus",),
    "remapped_rows": ("nvmlDeviceGetRemappedRows",),
    "remap_histogram": ("nvmlDeviceGetRowRemapperHistogram",),
    "pcie_width": ("nvmlDeviceGetCurrPcieLinkWidth",),
    "pcie_generation": ("nvmlDeviceGetCurrPcieLinkGeneration",),
    "pcie_replays": ("nvmlDeviceGetPcieReplayCounter",),
    "throttle_reasons": ("nvmlDeviceGetCurrentClocksThrottleReasons",),
    "persistence": ("nvmlDeviceGetPersistenceMode",),
    "inforom": ("nvmlDeviceValidateInforom",),
    "processes": ("nvmlDeviceGetComputeRunningProcesses",),
}
SYSTEM = {"driver": ("nvmlSystemGetDriverVersion",), "cuda": ("nvmlSystemGetCudaDriverVersion",)}
LINK = {
    "nvlink": ("nvmlDeviceGetNvLinkState",),
    "nvlink_crc": ("nvmlDeviceGetNvLinkErrorCounter", 2),
}
LINKS = range(18)


def asked(call, *first):
    """Return what a call gives as text; None where the binding lacks it."""
    function = getattr(nvml, call[0], None)
    if function is None:
        return None
    try:
        return shown(function(*first, *call[1:]))
    except nvml.NVMLError as error:
        return str(error)


def shown(value):
    fields = getattr(value, "_fields_", None)
    if fields:
        return " ".join(f"{name}={shown(getattr(value, name))}" for name, *_ in fields)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(shown(item) for item in value) + "]"
    return value.decode() if isinstance(value, bytes) else str(value)


def read():
    """Return all readings by device."""
    readings = {name: asked(call) for name, call in SYSTEM.items()}
    count = nvml.nvmlDeviceGetCount()
    readings["count"] = str(count)
    for index in range(count):
        try:
            device = nvml.nvmlDeviceGetHandleByIndex(index)
        except nvml.NVMLError as error:
            readings[f"GPU {index} handle"] = str(error)
            continue
        for name, call in DEVICE.items():
            readings[f"GPU {index} {name}"] = asked(call, device)
        for name, call in LINK.items():
            states = [str(asked(call[:1], device, link, *call[1:])) for link in LINKS]
            readings[f"GPU {index} {name}"] = " ".join(states)
        if hasattr(nvml, "nvmlDeviceGetGpuFabricInfo"):
            readings[f"GPU {index} fabric"] = fabric(device)
        readings[f"GPU {index} xid"] = xid(device)
    return {name: value for name, value in readings.items() if value is not None}


def fabric(device):
    info = nvml.c_nvmlGpuFabricInfo_t()
    try:
        nvml.nvmlDeviceGetGpuFabricInfo(device, nvml.byref(info))
    except nvml.NVMLError as error:
        return str(error)
    return f"state={info.state} status={info.status}"


def xid(device):
    """Return the XID that the driver has for whoever registers for this device."""
    if not hasattr(nvml, "nvmlEventSetCreate"):
        return None
    events = nvml.nvmlEventSetCreate()
    try:
        nvml.nvmlDeviceRegisterEvents(device, nvml.nvmlEventTypeXidCriticalError, events)
        wait = getattr(nvml, "nvmlEventSetWait_v2", None) or nvml.nvmlEventSetWait
        return str(wait(events, 0).eventData)
    except nvml.NVMLError as error:
        return str(error)
    finally:
        nvml.nvmlEventSetFree(events)


try:
    nvml.nvmlInit()
    print(json.dumps(read()))
except nvml.NVMLError as error:
    print(json.dumps({"error": str(error)}))
