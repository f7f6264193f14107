/* Calls that show one property each. */
#include "nvml.h"

#define READING(function, property)                                                                \
    nvmlReturn_t own_##function(nvmlDevice_t device, unsigned *value) {                            \
        unsigned gpu;                                                                              \
        if (value == NULL) return NVML_INVALID_ARGUMENT;                                           \
        if (!nvml_gpu(device, &gpu)) return REAL(function, device, value);                         \
        return nvml_reading(device, gpu, MK_GPU_##property, FN_##function, value);                 \
    }

READING(nvmlDeviceGetBrand, BRAND)
READING(nvmlDeviceGetArchitecture, ARCHITECTURE)
READING(nvmlDeviceGetMinorNumber, MINOR_NUMBER)
READING(nvmlDeviceGetModuleId, MODULE_ID)
READING(nvmlDeviceGetBoardId, BOARD_ID)
READING(nvmlDeviceGetMultiGpuBoard, MULTI_GPU_BOARD)
READING(nvmlDeviceGetNumGpuCores, CUDA_CORES)
READING(nvmlDeviceGetMemoryBusWidth, MEMORY_BUS_WIDTH_BITS)
READING(nvmlDeviceGetNumaNodeId, NUMA_NODE)
READING(nvmlDeviceGetDisplayMode, DISPLAY_ACTIVE)
READING(nvmlDeviceGetDisplayActive, DISPLAY_ACTIVE)
READING(nvmlDeviceGetPersistenceMode, PERSISTENCE_MODE)
READING(nvmlDeviceGetComputeMode, COMPUTE_MODE)
READING(nvmlDeviceGetAccountingMode, ACCOUNTING_MODE)
READING(nvmlDeviceGetVirtualizationMode, VIRTUALIZATION_MODE)
READING(nvmlDeviceGetPerformanceState, PERFORMANCE_STATE)
READING(nvmlDeviceGetPowerState, PERFORMANCE_STATE)
READING(nvmlDeviceGetPowerUsage, POWER_MW)
READING(nvmlDeviceGetPowerManagementLimit, POWER_LIMIT_MW)
READING(nvmlDeviceGetPowerManagementDefaultLimit, POWER_LIMIT_DEFAULT_MW)
READING(nvmlDeviceGetEnforcedPowerLimit, POWER_LIMIT_ENFORCED_MW)
READING(nvmlDeviceGetNumFans, FANS)
READING(nvmlDeviceGetFanSpeed, FAN_SPEED_PERCENT)
READING(nvmlDeviceGetCurrPcieLinkGeneration, PCIE_GENERATION_CURRENT)
READING(nvmlDeviceGetCurrPcieLinkWidth, PCIE_WIDTH_CURRENT)
READING(nvmlDeviceGetMaxPcieLinkGeneration, PCIE_GENERATION_MAX)
READING(nvmlDeviceGetGpuMaxPcieLinkGeneration, PCIE_GENERATION_DEVICE_MAX)
READING(nvmlDeviceGetMaxPcieLinkWidth, PCIE_WIDTH_MAX)
READING(nvmlDeviceGetPcieReplayCounter, PCIE_REPLAYS)
READING(nvmlDeviceGetRetiredPagesPendingStatus, RETIRED_PAGES_PENDING)

nvmlReturn_t own_nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t device, nvml_u64 *energy_mj) {
    unsigned gpu;
    int64_t set;
    if (energy_mj == NULL) return NVML_INVALID_ARGUMENT;
    if (!nvml_gpu(device, &gpu) || !mk_gpu(gpu, MK_GPU_ENERGY_MJ, &set))
        return REAL(nvmlDeviceGetTotalEnergyConsumption, device, energy_mj);
    if (set == MK_NOT_SUPPORTED) return NVML_NOT_SUPPORTED;
    *energy_mj = (nvml_u64)set;
    return NVML_SUCCESS;
}
