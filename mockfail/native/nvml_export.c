/* The undocumented table by which nvidia-smi reaches inside the driver.
 *
 * Facts from NVIDIA's own nvml-mock (k8s-test-infra, Apache-2.0): the table's identifier, that its
 * first word is its size, which slot gives a handle by index (with 0x22 as third argument), the
 * host's PCIe generation, and the processes, with the layout of an entry; and that a device slot
 * that succeeds without writing its result crashes the client. The slots are the same in 535 and
 * 580; what the others do is not known, and they refuse.
 */
#include "nvml.h"

#include <string.h>

enum { SLOTS = 512, HANDLE_BY_INDEX = 81, HOST_MAX_GENERATION = 230 };
enum { COMPUTE_LIST = 213, GRAPHICS_LIST = 214, MPS_LIST = 215 };
enum { HANDLE_FLAGS = 0x22, MOST_ENTRIES = 65536 };

typedef struct {
    nvml_process_detail process;
    char name[4096];
} entry;

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

static void fill(entry *out, const mk_process *process) {
    out->process = (nvml_process_detail){process->pid, process->used_bytes, NVML_NO_INSTANCE,
                                         NVML_NO_INSTANCE, 0};
    if (own_nvmlSystemGetProcessName(process->pid, out->name, sizeof out->name) != NVML_SUCCESS)
        memcpy(out->name, "[Not Found]", sizeof "[Not Found]");
}

/* The processes of a kind with their names, for the table, -q and --query-compute-apps. */
static nvmlReturn_t list_of(nvmlDevice_t device, bool graphics, unsigned *count, entry *list) {
    mk_process found[MK_MAX_PROCESSES];
    unsigned gpu, processes, kept = 0;
    if (!nvml_gpu(device, &gpu)) return NVML_SUCCESS;
    if (count == NULL || list == NULL || *count > MOST_ENTRIES ||
        !mk_processes(gpu, found, &processes))
        return NVML_NOT_SUPPORTED;
    for (unsigned i = 0; i < processes && kept < *count; i++)
        if ((found[i].graphics != 0) == graphics) fill(&list[kept++], &found[i]);
    *count = kept;
    return NVML_SUCCESS;
}

static nvmlReturn_t compute_list(nvmlDevice_t device, unsigned *count, entry *list) {
    return list_of(device, false, count, list);
}

static nvmlReturn_t graphics_list(nvmlDevice_t device, unsigned *count, entry *list) {
    return list_of(device, true, count, list);
}

static nvmlReturn_t mps_list(nvmlDevice_t device, unsigned *count) {
    unsigned gpu;
    if (nvml_gpu(device, &gpu) && count != NULL) *count = 0;
    return NVML_SUCCESS;
}

nvmlReturn_t own_nvmlInternalGetExportTable(const void **table, const void *identifier) {
    static const void *slots[SLOTS];
    if (mk_mode_now() != MK_STANDALONE) return REAL(nvmlInternalGetExportTable, table, identifier);
    if (table == NULL || identifier == NULL) return NVML_INVALID_ARGUMENT;
    *table = NULL;
    if (memcmp(identifier, IDENTIFIER, sizeof IDENTIFIER) != 0) return NVML_NOT_FOUND;
    for (unsigned slot = 1; slot < SLOTS; slot++) slots[slot] = (const void *)any_slot;
    slots[HANDLE_BY_INDEX] = (const void *)handle_by_index;
    slots[COMPUTE_LIST] = (const void *)compute_list;
    slots[GRAPHICS_LIST] = (const void *)graphics_list;
    slots[MPS_LIST] = (const void *)mps_list;
    slots[HOST_MAX_GENERATION] = (const void *)host_max_generation;
    slots[0] = (const void *)sizeof slots;
    *table = slots;
    return NVML_SUCCESS;
}
