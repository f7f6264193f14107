/* Modes of a GPU, and what no simulated card uses: MIG instances, accounting, licences. */
#include "nvml.h"

#include <string.h>

enum { MIG_INSTANCES = 7, ACCOUNTED_PROCESSES = 4000, BUS_PCIE = 2, POWER_FROM_MAINS = 0 };

static bool standalone(nvmlDevice_t device) {
    unsigned gpu;
    return mk_mode_now() == MK_STANDALONE && nvml_gpu(device, &gpu);
}

static nvmlReturn_t mode_pair(unsigned gpu, mk_gpu_property now, mk_gpu_property pending,
                              nvmlReturn_t driver, unsigned *current, unsigned *next) {
    bool known = driver == NVML_SUCCESS;
    int64_t one = mk_gpu_over(gpu, now, known ? (int64_t)*current : MK_UNKNOWN);
    int64_t two = mk_gpu_over(gpu, pending, known ? (int64_t)*next : MK_UNKNOWN);
    if (one == MK_UNKNOWN && two == MK_UNKNOWN) return driver;
    if (one == MK_NOT_SUPPORTED || two == MK_NOT_SUPPORTED) return NVML_NOT_SUPPORTED;
    *current = one == MK_UNKNOWN ? 0 : (unsigned)one;
    *next = two == MK_UNKNOWN ? *current : (unsigned)two;
    return NVML_SUCCESS;
}

#define MODE_PAIR(function, now, pending)                                                          \
    nvmlReturn_t own_##function(nvmlDevice_t device, unsigned *current, unsigned *next) {          \
        unsigned gpu;                                                                              \
        if (current == NULL || next == NULL) return NVML_INVALID_ARGUMENT;                         \
        nvmlReturn_t driver = REAL(function, device, current, next);                               \
        if (!nvml_gpu(device, &gpu)) return driver;                                                \
        return mode_pair(gpu, now, pending, driver, current, next);                                \
    }

MODE_PAIR(nvmlDeviceGetEccMode, MK_GPU_ECC_MODE_CURRENT, MK_GPU_ECC_MODE_PENDING)
MODE_PAIR(nvmlDeviceGetMigMode, MK_GPU_MIG_MODE_CURRENT, MK_GPU_MIG_MODE_PENDING)

nvmlReturn_t own_nvmlDeviceGetDefaultEccMode(nvmlDevice_t device, unsigned *mode) {
    int64_t ecc, remap;
    unsigned gpu;
    if (mode == NULL) return NVML_INVALID_ARGUMENT;
    if (!standalone(device) || !nvml_gpu(device, &gpu))
        return REAL(nvmlDeviceGetDefaultEccMode, device, mode);
    mk_gpu(gpu, MK_GPU_ECC_MODE_CURRENT, &ecc);
    mk_gpu(gpu, MK_GPU_ECC_CORRECTED_VOLATILE_DRAM, &remap);
    if (ecc == MK_NOT_SUPPORTED) return NVML_NOT_SUPPORTED;
    *mode = remap != MK_NOT_SUPPORTED; /* a card that counts errors comes with ECC on */
    return NVML_SUCCESS;
}

nvmlReturn_t own_nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned *count) {
    int64_t mig;
    unsigned gpu;
    if (count == NULL) return NVML_INVALID_ARGUMENT;
    if (!standalone(device) || !nvml_gpu(device, &gpu))
        return REAL(nvmlDeviceGetMaxMigDeviceCount, device, count);
    mk_gpu(gpu, MK_GPU_MIG_MODE_CURRENT, &mig);
    *count = mig == MK_NOT_SUPPORTED ? 0 : MIG_INSTANCES;
    return NVML_SUCCESS;
}

nvmlReturn_t own_nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned index,
                                                     nvmlDevice_t *instance) {
    if (instance == NULL) return NVML_INVALID_ARGUMENT;
    if (!standalone(device))
        return REAL(nvmlDeviceGetMigDeviceHandleByIndex, device, index, instance);
    return index < MIG_INSTANCES ? NVML_NOT_FOUND : NVML_INVALID_ARGUMENT;
}

#define CONSTANT(function, type, constant)                                                         \
    nvmlReturn_t own_##function(nvmlDevice_t device, type *value) {                                \
        if (value == NULL) return NVML_INVALID_ARGUMENT;                                           \
        if (!standalone(device)) return REAL(function, device, value);                             \
        *value = constant;                                                                         \
        return NVML_SUCCESS;                                                                       \
    }

CONSTANT(nvmlDeviceIsMigDeviceHandle, unsigned, 0)
CONSTANT(nvmlDeviceGetAccountingBufferSize, unsigned, ACCOUNTED_PROCESSES)
CONSTANT(nvmlDeviceGetPowerManagementMode, unsigned, 1)
CONSTANT(nvmlDeviceGetPowerSource, unsigned, POWER_FROM_MAINS)
CONSTANT(nvmlDeviceGetBusType, unsigned, BUS_PCIE)
CONSTANT(nvmlDeviceGetGridLicensableFeatures_v4, nvml_licences, ((nvml_licences){0, 0}))
CONSTANT(nvmlDeviceGetConfComputeProtectedMemoryUsage, nvml_memory, ((nvml_memory){0, 0, 0}))

nvmlReturn_t own_nvmlDeviceGetAccountingPids(nvmlDevice_t device, unsigned *count,
                                             unsigned *pids) {
    if (count == NULL) return NVML_INVALID_ARGUMENT;
    if (!standalone(device)) return REAL(nvmlDeviceGetAccountingPids, device, count, pids);
    *count = 0;
    return NVML_SUCCESS;
}
