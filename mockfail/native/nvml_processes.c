/* Processes on a GPU, in every version of the calls, from one list. */
#include "nvml.h"

enum { COMPUTE, GRAPHICS, MPS, ALL_MODES };

/* The mock's processes of a kind; false where the driver's list stands. */
static bool processes_of(nvmlDevice_t device, unsigned mode, mk_process *list, unsigned *count) {
    unsigned gpu, found, kept = 0;
    if (!nvml_gpu(device, &gpu) || !mk_processes(gpu, list, &found)) return false;
    for (unsigned i = 0; i < found; i++) {
        bool wanted = mode == ALL_MODES || (mode == COMPUTE && !list[i].graphics) ||
                      (mode == GRAPHICS && list[i].graphics);
        if (wanted) list[kept++] = list[i];
    }
    *count = kept;
    return true;
}

/* Says how many there are, and whether the caller has room for them. */
static nvmlReturn_t room_for(unsigned found, unsigned *count, const void *list) {
    unsigned room = *count;
    *count = found;
    return found > room || (found > 0 && list == NULL) ? NVML_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

#define PROCESSES_V1(function, mode)                                                               \
    nvmlReturn_t own_##function(nvmlDevice_t device, unsigned *count, nvml_process_v1 *out) {      \
        mk_process list[MK_MAX_PROCESSES];                                                         \
        unsigned found;                                                                            \
        if (count == NULL) return NVML_INVALID_ARGUMENT;                                           \
        if (!processes_of(device, mode, list, &found)) return REAL(function, device, count, out);  \
        nvmlReturn_t result = room_for(found, count, out);                                         \
        for (unsigned i = 0; result == NVML_SUCCESS && i < found; i++)                             \
            out[i] = (nvml_process_v1){list[i].pid, list[i].used_bytes};                           \
        return result;                                                                             \
    }

#define PROCESSES_V2(function, mode)                                                               \
    nvmlReturn_t own_##function(nvmlDevice_t device, unsigned *count, nvml_process_v2 *out) {      \
        mk_process list[MK_MAX_PROCESSES];                                                         \
        unsigned found;                                                                            \
        if (count == NULL) return NVML_INVALID_ARGUMENT;                                           \
        if (!processes_of(device, mode, list, &found)) return REAL(function, device, count, out);  \
        nvmlReturn_t result = room_for(found, count, out);                                         \
        for (unsigned i = 0; result == NVML_SUCCESS && i < found; i++)                             \
            out[i] = (nvml_process_v2){list[i].pid, list[i].used_bytes, NVML_NO_INSTANCE,          \
                                       NVML_NO_INSTANCE};                                          \
        return result;                                                                             \
    }

PROCESSES_V1(nvmlDeviceGetComputeRunningProcesses, COMPUTE)
PROCESSES_V2(nvmlDeviceGetComputeRunningProcesses_v2, COMPUTE)
PROCESSES_V2(nvmlDeviceGetComputeRunningProcesses_v3, COMPUTE)
PROCESSES_V1(nvmlDeviceGetGraphicsRunningProcesses, GRAPHICS)
PROCESSES_V2(nvmlDeviceGetGraphicsRunningProcesses_v2, GRAPHICS)
PROCESSES_V2(nvmlDeviceGetGraphicsRunningProcesses_v3, GRAPHICS)
PROCESSES_V1(nvmlDeviceGetMPSComputeRunningProcesses, MPS)
PROCESSES_V2(nvmlDeviceGetMPSComputeRunningProcesses_v2, MPS)
PROCESSES_V2(nvmlDeviceGetMPSComputeRunningProcesses_v3, MPS)

nvmlReturn_t own_nvmlDeviceGetRunningProcessDetailList(nvmlDevice_t device,
                                                       nvml_process_details *details) {
    mk_process list[MK_MAX_PROCESSES];
    unsigned found;
    if (details == NULL) return NVML_INVALID_ARGUMENT;
    if (!processes_of(device, details->mode, list, &found))
        return REAL(nvmlDeviceGetRunningProcessDetailList, device, details);
    if (details->version != NVML_VERSION_OF(nvml_process_details, 1))
        return NVML_ARGUMENT_VERSION_MISMATCH;
    if (details->mode > ALL_MODES) return NVML_INVALID_ARGUMENT;
    nvmlReturn_t result = room_for(found, &details->count, details->list);
    for (unsigned i = 0; result == NVML_SUCCESS && i < found; i++)
        details->list[i] = (nvml_process_detail){list[i].pid, list[i].used_bytes, NVML_NO_INSTANCE,
                                                 NVML_NO_INSTANCE, 0};
    return result;
}
