/* Device memory and the BAR1 window, in every version of the calls. */
#include "nvml.h"

typedef struct {
    int64_t total, reserved, used; /* used: without what is reserved */
} memory;

static bool memory_is_set(unsigned gpu) {
    return NVML_ANY(gpu, MK_GPU_MEMORY_TOTAL_BYTES, MK_GPU_MEMORY_RESERVED_BYTES,
                    MK_GPU_MEMORY_USED_BYTES);
}

/* The driver's figures: version 2 tells what is reserved, version 1 counts it as used. */
static bool real_memory(nvmlDevice_t device, memory *now) {
    nvml_memory_v2 two = {.version = NVML_VERSION_OF(nvml_memory_v2, 2)};
    nvml_memory one;
    *now = (memory){0};
    if (REAL(nvmlDeviceGetMemoryInfo_v2, device, &two) == NVML_SUCCESS) {
        *now = (memory){(int64_t)two.total, (int64_t)two.reserved, (int64_t)two.used};
        return true;
    }
    if (REAL(nvmlDeviceGetMemoryInfo, device, &one) != NVML_SUCCESS) return false;
    *now = (memory){(int64_t)one.total, 0, (int64_t)one.used};
    return true;
}

static nvmlReturn_t memory_of(nvmlDevice_t device, unsigned gpu, nvml_memory_v2 *out) {
    memory now;
    real_memory(device, &now);
    now.total = mk_gpu_over(gpu, MK_GPU_MEMORY_TOTAL_BYTES, now.total);
    now.reserved = mk_gpu_over(gpu, MK_GPU_MEMORY_RESERVED_BYTES, now.reserved);
    now.used = mk_gpu_over(gpu, MK_GPU_MEMORY_USED_BYTES, now.used);
    if (now.total == MK_NOT_SUPPORTED || now.used == MK_NOT_SUPPORTED) return NVML_NOT_SUPPORTED;
    if (now.reserved < 0) now.reserved = 0;
    int64_t left = now.total - now.reserved - now.used;
    out->total = (nvml_u64)now.total;
    out->reserved = (nvml_u64)now.reserved;
    out->used = (nvml_u64)now.used;
    out->free = (nvml_u64)(left < 0 ? 0 : left);
    return NVML_SUCCESS;
}

nvmlReturn_t own_nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvml_memory_v2 *out) {
    unsigned gpu;
    if (out == NULL) return NVML_INVALID_ARGUMENT;
    if (!nvml_gpu(device, &gpu) || !memory_is_set(gpu))
        return REAL(nvmlDeviceGetMemoryInfo_v2, device, out);
    if (out->version != NVML_VERSION_OF(nvml_memory_v2, 2)) return NVML_ARGUMENT_VERSION_MISMATCH;
    return memory_of(device, gpu, out);
}

nvmlReturn_t own_nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvml_memory *out) {
    nvml_memory_v2 now;
    unsigned gpu;
    if (out == NULL) return NVML_INVALID_ARGUMENT;
    if (!nvml_gpu(device, &gpu) || !memory_is_set(gpu))
        return REAL(nvmlDeviceGetMemoryInfo, device, out);
    nvmlReturn_t result = memory_of(device, gpu, &now);
    if (result == NVML_SUCCESS)
        *out = (nvml_memory){now.total, now.free, now.used + now.reserved};
    return result;
}

nvmlReturn_t own_nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t device, nvml_memory *out) {
    unsigned gpu;
    if (out == NULL) return NVML_INVALID_ARGUMENT;
    nvmlReturn_t driver = REAL(nvmlDeviceGetBAR1MemoryInfo, device, out);
    if (!nvml_gpu(device, &gpu) ||
        !NVML_ANY(gpu, MK_GPU_BAR1_TOTAL_BYTES, MK_GPU_BAR1_USED_BYTES))
        return driver;
    if (driver != NVML_SUCCESS) *out = (nvml_memory){0};
    int64_t total = mk_gpu_over(gpu, MK_GPU_BAR1_TOTAL_BYTES, (int64_t)out->total);
    int64_t used = mk_gpu_over(gpu, MK_GPU_BAR1_USED_BYTES, (int64_t)out->used);
    if (total == MK_NOT_SUPPORTED || used == MK_NOT_SUPPORTED) return NVML_NOT_SUPPORTED;
    *out = (nvml_memory){(nvml_u64)total, (nvml_u64)(used > total ? 0 : total - used),
                         (nvml_u64)used};
    return NVML_SUCCESS;
}
