/* The undocumented table by which nvidia-smi reaches inside the driver.
 *
 * Facts from NVIDIA's own nvml-mock (k8s-test-infra, Apache-2.0): the table's identifier, that its
 * first word is its size, that slot 81 gives a handle by index (with 0x22 as third argument), and
 * that a device slot that succeeds without writing its result crashes the client.
 */
#include "nvml.h"

#include <string.h>

enum { SLOTS = 512, HANDLE_BY_INDEX = 81, HANDLE_FLAGS = 0x22, HOST_MAX_GENERATION = 230 };

static const unsigned char IDENTIFIER[16] = {0xc4, 0xfe, 0x3e, 0x6c, 0xc9, 0x8f, 0x6c, 0x4e,
                                             0xa3, 0x27, 0xee, 0x69, 0x6e, 0x12, 0xf7, 0xc4};

static nvmlReturn_t any_slot(uintptr_t first) {
    unsigned gpu;
    return nvml_gpu((nvmlDevice_t)first, &gpu) ? NVML_NOT_SUPPORTED : NVML_SUCCESS;
}

static nvmlReturn_t handle_by_index(uintptr_t index, nvmlDevice_t *device, uintptr_t flags) {
    if (flags != HANDLE_FLAGS || device == NULL) return any_slot(index);
    return own_nvmlDeviceGetHandleByIndex_v2((unsigned)index, device);
}

static nvmlReturn_t host_max_generation(nvmlDevice_t device, unsigned *generation) {
    unsigned gpu;
    if (generation == NULL || !nvml_gpu(device, &gpu)) return NVML_SUCCESS;
    return own_nvmlDeviceGetMaxPcieLinkGeneration(device, generation);
}

nvmlReturn_t own_nvmlInternalGetExportTable(const void **table, const void *identifier) {
    static const void *slots[SLOTS];
    if (mk_mode_now() != MK_STANDALONE) return REAL(nvmlInternalGetExportTable, table, identifier);
    if (table == NULL || identifier == NULL) return NVML_INVALID_ARGUMENT;
    *table = NULL;
    if (memcmp(identifier, IDENTIFIER, sizeof IDENTIFIER) != 0) return NVML_NOT_FOUND;
    for (unsigned slot = 1; slot < SLOTS; slot++) slots[slot] = (const void *)any_slot;
    slots[HANDLE_BY_INDEX] = (const void *)handle_by_index;
    slots[HOST_MAX_GENERATION] = (const void *)host_max_generation;
    slots[0] = (const void *)sizeof slots;
    *table = slots;
    return NVML_SUCCESS;
}
