"""Read NVML: the driver, then every GPU. Runs as a child of :mod:`diagnose.reading`.

Readings have the names of ``mockfail``'s properties where they say the same.
"""

from collections.abc import Callable, Sequence
from ctypes import byref
from functools import partial
from typing import Any

import pynvml as nvml

from diagnose import child
from diagnose.child import Reader, Refused
from diagnose.facts import Failure, FailureKind
from diagnose.nvidia.read_links import read_links

_KINDS: dict[int, FailureKind] = {
    nvml.NVML_ERROR_NOT_SUPPORTED: "not_supported",
    nvml.NVML_ERROR_FUNCTION_NOT_FOUND: "not_supported",  # the driver is older than the call
    nvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH: "not_supported",
    nvml.NVML_ERROR_DEPRECATED: "not_supported",
    nvml.NVML_ERROR_VGPU_ECC_NOT_SUPPORTED: "not_supported",
    nvml.NVML_ERROR_NO_PERMISSION: "no_permission",
    nvml.NVML_ERROR_DRIVER_NOT_LOADED: "not_loaded",
    nvml.NVML_ERROR_LIBRARY_NOT_FOUND: "library_missing",
    nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "mismatch",
    nvml.NVML_ERROR_GPU_IS_LOST: "lost",
    nvml.NVML_ERROR_RESET_REQUIRED: "reset_required",
}

_CLOCKS = {"graphics": 0, "sm": 1, "memory": 2, "video": 3}
_ECC_KINDS = {"corrected": 0, "uncorrected": 1}
_ECC_COUNTERS = {"volatile": 0, "aggregate": 1}
_ECC_PLACES = {"dram": 2, "sram": 7}
_THRESHOLDS = {"shutdown": 0, "slowdown": 1, "memory_max": 2, "gpu_max": 3}


class Nvml:
    """The driver as :func:`diagnose.child.serve` wants it."""

    def open(self, reader: Reader) -> int:
        """Start NVML and read what it says of itself; return the number of GPUs."""
        reader.tell("nvmlInit_v2")
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            raise Refused(_failure(error)) from error
        reader.take("driver_version", "nvmlSystemGetDriverVersion", nvml.nvmlSystemGetDriverVersion)
        reader.take("nvml_version", "nvmlSystemGetNVMLVersion", nvml.nvmlSystemGetNVMLVersion)
        reader.take(
            "cuda_version",
            "nvmlSystemGetCudaDriverVersion_v2",
            nvml.nvmlSystemGetCudaDriverVersion_v2,
        )
        reader.tell("nvmlDeviceGetCount_v2")
        try:
            count: int = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError as error:
            raise Refused(_failure(error)) from error
        return count

    def read(self, index: int, reader: Reader) -> None:
        """Read one GPU."""
        reader.tell("nvmlDeviceGetHandleByIndex_v2")
        try:
            gpu = nvml.nvmlDeviceGetHandleByIndex(index)
        except nvml.NVMLError as error:
            raise Refused(_failure(error)) from error
        _identity(gpu, reader)
        _simple(gpu, reader)
        for read in (_memory, _processes, _clocks, _thermal, _ecc, _retirement, _fields, _fabric):
            read(gpu, reader)
        read_links(gpu, reader)

    def failure_of(self, error: Exception) -> Failure | None:
        """Return what an NVML error means."""
        return _failure(error) if isinstance(error, nvml.NVMLError) else None


def _failure(error: Any) -> Failure:
    number: int = error.value
    return Failure(_KINDS.get(number, "error"), f"NVML: {error}", number)


def _identity(gpu: Any, reader: Reader) -> None:
    for name, call, ask in (
        ("pci_bus_id", "nvmlDeviceGetPciInfo_v3", _bus_id),
        ("uuid", "nvmlDeviceGetUUID", nvml.nvmlDeviceGetUUID),
        ("name", "nvmlDeviceGetName", nvml.nvmlDeviceGetName),
        ("serial", "nvmlDeviceGetSerial", nvml.nvmlDeviceGetSerial),
    ):
        value = reader.take(name, call, partial(ask, gpu))
        if value is not None:
            reader.identity[name] = value


def _bus_id(gpu: Any) -> str:
    address: bytes | str = nvml.nvmlDeviceGetPciInfo(gpu).busId
    return address.decode() if isinstance(address, bytes) else address


_SIMPLE: tuple[tuple[str, str], ...] = (
    ("persistence_mode", "nvmlDeviceGetPersistenceMode"),
    ("performance_state", "nvmlDeviceGetPerformanceState"),
    ("power_mw", "nvmlDeviceGetPowerUsage"),
    ("power_limit_enforced_mw", "nvmlDeviceGetEnforcedPowerLimit"),
    ("power_limit_default_mw", "nvmlDeviceGetPowerManagementDefaultLimit"),
    ("pcie_generation_current", "nvmlDeviceGetCurrPcieLinkGeneration"),
    ("pcie_generation_max", "nvmlDeviceGetMaxPcieLinkGeneration"),
    ("pcie_width_current", "nvmlDeviceGetCurrPcieLinkWidth"),
    ("pcie_width_max", "nvmlDeviceGetMaxPcieLinkWidth"),
    ("pcie_replays", "nvmlDeviceGetPcieReplayCounter"),
    ("throttle_reasons", "nvmlDeviceGetCurrentClocksThrottleReasons"),
)
"""Readings that are one call's number as it is."""


def _simple(gpu: Any, reader: Reader) -> None:
    for name, call in _SIMPLE:
        reader.take(name, call, partial(getattr(nvml, call), gpu))
    reader.take_all(
        ("compute_capability_major", "compute_capability_minor"),
        "nvmlDeviceGetCudaComputeCapability",
        lambda: nvml.nvmlDeviceGetCudaComputeCapability(gpu),
    )
    reader.take_all(
        ("ecc_mode_current", "ecc_mode_pending"),
        "nvmlDeviceGetEccMode",
        lambda: nvml.nvmlDeviceGetEccMode(gpu),
    )
    reader.take_all(
        ("mig_mode_current", "mig_mode_pending"),
        "nvmlDeviceGetMigMode",
        lambda: nvml.nvmlDeviceGetMigMode(gpu),
    )
    reader.take("inforom_valid", "nvmlDeviceValidateInforom", lambda: _inforom_valid(gpu))
    reader.take_all(
        ("gpu_utilization_percent", "memory_utilization_percent"),
        "nvmlDeviceGetUtilizationRates",
        lambda: _pair(nvml.nvmlDeviceGetUtilizationRates(gpu), "gpu", "memory"),
    )


def _pair(structure: Any, *names: str) -> list[Any]:
    return [getattr(structure, name) for name in names]


def _inforom_valid(gpu: Any) -> bool:
    try:
        nvml.nvmlDeviceValidateInforom(gpu)
    except nvml.NVMLError as error:
        if error.value == nvml.NVML_ERROR_CORRUPTED_INFOROM:
            return False
        raise
    return True


def _memory(gpu: Any, reader: Reader) -> None:
    """Read the newer form, whose ``used`` leaves out what the driver keeps for itself."""
    names = ("memory_total_bytes", "memory_used_bytes", "memory_reserved_bytes")
    total, _, _ = reader.take_all(
        names,
        "nvmlDeviceGetMemoryInfo_v2",
        lambda: _pair(
            nvml.nvmlDeviceGetMemoryInfo(gpu, nvml.nvmlMemory_v2), "total", "used", "reserved"
        ),
    )
    if total is None:
        for name in names:
            reader.failures.pop(name)
        reader.take_all(
            names[:2],
            "nvmlDeviceGetMemoryInfo",
            lambda: _pair(nvml.nvmlDeviceGetMemoryInfo(gpu), "total", "used"),
        )


def _processes(gpu: Any, reader: Reader) -> None:
    for kind in ("Compute", "Graphics"):
        call = f"nvmlDeviceGet{kind}RunningProcesses_v3"
        reader.take(
            f"{kind.lower()}_processes",
            call,
            partial(_running, getattr(nvml, call), gpu),
        )


def _running(ask: Callable[[Any], Any], gpu: Any) -> list[dict[str, Any]]:
    return [{"pid": each.pid, "used_bytes": each.usedGpuMemory} for each in ask(gpu)]


def _clocks(gpu: Any, reader: Reader) -> None:
    for name, number in _CLOCKS.items():
        reader.take(
            f"clock_{name}_mhz",
            "nvmlDeviceGetClockInfo",
            partial(nvml.nvmlDeviceGetClockInfo, gpu, number),
        )
        reader.take(
            f"clock_{name}_max_mhz",
            "nvmlDeviceGetMaxClockInfo",
            partial(nvml.nvmlDeviceGetMaxClockInfo, gpu, number),
        )


def _thermal(gpu: Any, reader: Reader) -> None:
    reader.take("temperature_c", "nvmlDeviceGetTemperatureV", lambda: _temperature(gpu))
    for name, number in _THRESHOLDS.items():
        reader.take(
            f"threshold_{name}_c",
            "nvmlDeviceGetTemperatureThreshold",
            partial(nvml.nvmlDeviceGetTemperatureThreshold, gpu, number),
        )
    reader.take(
        "temperature_margin_c",
        "nvmlDeviceGetMarginTemperature",
        lambda: int(nvml.nvmlDeviceGetMarginTemperature(gpu)),
    )
    fans = reader.take("fans", "nvmlDeviceGetNumFans", lambda: nvml.nvmlDeviceGetNumFans(gpu))
    if fans:
        reader.take(
            "fan_speeds_percent",
            "nvmlDeviceGetFanSpeed_v2",
            lambda: [nvml.nvmlDeviceGetFanSpeed_v2(gpu, fan) for fan in range(fans)],
        )
        reader.take(
            "fan_speeds_rpm",
            "nvmlDeviceGetFanSpeedRPM",
            lambda: [_fan_rpm(gpu, fan) for fan in range(fans)],
        )


def _temperature(gpu: Any) -> int:
    """Read the core by the newer call; drivers before 570 have only the older one."""
    try:
        celsius: int = nvml.nvmlDeviceGetTemperatureV(gpu, nvml.NVML_TEMPERATURE_GPU)
    except (nvml.NVMLError_FunctionNotFound, nvml.NVMLError_NotSupported):
        celsius = nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU)
    return celsius


def _fan_rpm(gpu: Any, fan: int) -> int:
    """Read one fan; nvidia-ml-py's own wrapper knows only the first."""
    info = nvml.c_nvmlFanSpeedInfo_t(version=nvml.nvmlFanSpeedInfo_v1, fan=fan)
    _call("nvmlDeviceGetFanSpeedRPM", gpu, byref(info))
    return int(info.speed)


_ECC_READINGS = (
    *(
        f"ecc_{kind}_{counter}_{place}"
        for kind in _ECC_KINDS
        for counter in _ECC_COUNTERS
        for place in ("total", *_ECC_PLACES)
    ),
    "sram_threshold_exceeded",
)


def _ecc(gpu: Any, reader: Reader) -> None:
    mode, failure = reader.values.get("ecc_mode_current"), reader.failures.get("ecc_mode_current")
    if mode == 0 or (failure is not None and failure.kind == "not_supported"):
        off = Failure("not_supported", "the card has no ECC" if failure else "ECC is off")
        reader.failures.update(dict.fromkeys(_ECC_READINGS, off))
        return
    for kind, of_kind in _ECC_KINDS.items():
        for counter, of_counter in _ECC_COUNTERS.items():
            reader.take(
                f"ecc_{kind}_{counter}_total",
                "nvmlDeviceGetTotalEccErrors",
                partial(nvml.nvmlDeviceGetTotalEccErrors, gpu, of_kind, of_counter),
            )
            for place, of_place in _ECC_PLACES.items():
                reader.take(
                    f"ecc_{kind}_{counter}_{place}",
                    "nvmlDeviceGetMemoryErrorCounter",
                    partial(
                        nvml.nvmlDeviceGetMemoryErrorCounter, gpu, of_kind, of_counter, of_place
                    ),
                )
    reader.take_all(
        ("sram_uncorrected_parity", "sram_uncorrected_secded", "sram_threshold_exceeded"),
        "nvmlDeviceGetSramEccErrorStatus",
        lambda: _sram(gpu),
    )


def _sram(gpu: Any) -> list[Any]:
    status = nvml.c_nvmlEccSramErrorStatus_v1_t()
    nvml.nvmlDeviceGetSramEccErrorStatus(gpu, byref(status))
    return [status.aggregateUncParity, status.aggregateUncSecDed, bool(status.bThresholdExceeded)]


def _retirement(gpu: Any, reader: Reader) -> None:
    corrected = reader.take_all(
        (
            "remapped_rows_correctable",
            "remapped_rows_uncorrectable",
            "remap_pending",
            "remap_failure",
        ),
        "nvmlDeviceGetRemappedRows",
        lambda: nvml.nvmlDeviceGetRemappedRows(gpu),
    )[0]
    if corrected is not None:
        levels = ("max", "high", "partial", "low", "none")
        reader.take_all(
            tuple(f"remap_banks_{level}" for level in levels),
            "nvmlDeviceGetRowRemapperHistogram",
            lambda: _pair(nvml.nvmlDeviceGetRowRemapperHistogram(gpu), *levels),
        )
    for name, cause in (("sbe", 0), ("dbe", 1)):
        reader.take(
            f"retired_pages_{name}",
            "nvmlDeviceGetRetiredPages",
            partial(_retired_pages, gpu, cause),
        )
    reader.take(
        "retired_pages_pending",
        "nvmlDeviceGetRetiredPagesPendingStatus",
        lambda: bool(nvml.nvmlDeviceGetRetiredPagesPendingStatus(gpu)),
    )


def _retired_pages(gpu: Any, cause: int) -> int:
    return len(nvml.nvmlDeviceGetRetiredPages(gpu, cause))


_FIELDS = {
    "memory_temperature_c": nvml.NVML_FI_DEV_MEMORY_TEMP,
    "recovery_action": nvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION,
    "margin_slowdown_c": nvml.NVML_FI_DEV_TEMPERATURE_SLOWDOWN_TLIMIT,
    "margin_gpu_max_c": nvml.NVML_FI_DEV_TEMPERATURE_GPU_MAX_TLIMIT,
}


def _fields(gpu: Any, reader: Reader) -> None:
    for name, number in _FIELDS.items():
        reader.take(name, "nvmlDeviceGetFieldValues", partial(_field, gpu, number))


def _field(gpu: Any, number: int) -> int:
    value = nvml.nvmlDeviceGetFieldValues(gpu, [number])[0]
    if value.nvmlReturn == nvml.NVML_ERROR_INVALID_ARGUMENT:  # the driver is older than the field
        raise nvml.NVMLError(nvml.NVML_ERROR_NOT_SUPPORTED)
    if value.nvmlReturn != nvml.NVML_SUCCESS:
        raise nvml.NVMLError(value.nvmlReturn)
    signed = value.valueType == nvml.NVML_VALUE_TYPE_SIGNED_INT
    return int(value.value.siVal if signed else value.value.uiVal)


def _fabric(gpu: Any, reader: Reader) -> None:
    reader.take_all(
        ("fabric_state", "fabric_status", "fabric_health_mask"),
        "nvmlDeviceGetGpuFabricInfoV",
        lambda: _fabric_info(gpu),
    )


def _fabric_info(gpu: Any) -> Sequence[int]:
    info = nvml.c_nvmlGpuFabricInfoV_t()
    nvml.nvmlDeviceGetGpuFabricInfoV(gpu, byref(info))
    return [info.state, info.status, info.healthMask]


def _call(name: str, *arguments: Any) -> None:
    """Call a function that nvidia-ml-py binds without a wrapper of the form that is needed."""
    function: Callable[..., int] = nvml._nvmlGetFunctionPointer(name)
    returned = function(*arguments)
    if returned != nvml.NVML_SUCCESS:
        raise nvml.NVMLError(returned)


if __name__ == "__main__":
    child.serve(Nvml())
