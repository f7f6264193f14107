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

enum { SLOTS = 1024, HANDLE_BY_INDEX = 81, HOST_MAX_GENERATION = 230 };
enum { COMPUTE_LIST = 213, GRAPHICS_LIST = 214, MPS_LIST = 215 };
enum { HANDLE_FLAGS = 0x22, MOST_ENTRIES = 65536 };

typedef struct {
    nvml_process_detail process;
    char name[4096];
} entry;

static const unsigned char IDENTIFIER[16] = {0xc4, 0xfe, 0x3e, 0x6c, 0xc9, 0x8f, 0x6c, 0x4e,
                                             0xa3, 0x27, 0xee, 0x69, 0x6e, 0x12, 0xf7, 0xc4};

/* ---- the driver's own table, in an overlay -------------------------------------------------- */

typedef nvmlReturn_t (*slot_call)(uintptr_t, uintptr_t, uintptr_t, uintptr_t);

static const void *const *_Atomic drivers_slots;

/* The driver's function of a slot; NULL in standalone mode. */
static slot_call driver_slot(unsigned slot) {
    const void *const *slots = mk_mode_now() == MK_STANDALONE ? NULL : drivers_slots;
    return slots == NULL ? NULL : (slot_call)slots[slot];
}

/* ---- slots that the mock answers ------------------------------------------------------------- */

static nvmlReturn_t any_slot(uintptr_t first) {
    unsigned gpu;
    return nvml_gpu((nvmlDevice_t)first, &gpu) ? NVML_NOT_SUPPORTED : NVML_SUCCESS;
}

/* The driver counts hidden GPUs too, so it is asked by its own index. */
static nvmlReturn_t handle_by_index(uintptr_t index, nvmlDevice_t *device, uintptr_t flags,
                                    uintptr_t fourth) {
    slot_call driver = driver_slot(HANDLE_BY_INDEX);
    unsigned gpu;
    mk_refresh();
    if (flags != HANDLE_FLAGS || device == NULL)
        return driver ? driver(index, (uintptr_t)device, flags, fourth) : any_slot(index);
    if (!nvml_visible((unsigned)index, &gpu)) return NVML_INVALID_ARGUMENT;
    nvmlReturn_t fault = nvml_handle(gpu, device);
    if (fault != NVML_SUCCESS || driver == NULL) return fault;
    return driver(gpu, (uintptr_t)device, flags, fourth);
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
static nvmlReturn_t list_of(unsigned slot, nvmlDevice_t device, unsigned *count, entry *list) {
    slot_call driver = driver_slot(slot);
    mk_process found[MK_MAX_PROCESSES];
    unsigned gpu, processes, kept = 0;
    mk_refresh();
    bool ours = nvml_gpu(device, &gpu) && mk_processes(gpu, found, &processes);
    if (!ours && driver)
        return driver((uintptr_t)device, (uintptr_t)count, (uintptr_t)list, 0);
    if (!ours) return any_slot((uintptr_t)device);
    if (count == NULL || list == NULL || *count > MOST_ENTRIES) return NVML_NOT_SUPPORTED;
    for (unsigned i = 0; i < processes && kept < *count; i++)
        if ((found[i].graphics != 0) == (slot == GRAPHICS_LIST)) fill(&list[kept++], &found[i]);
    *count = kept;
    return NVML_SUCCESS;
}

static nvmlReturn_t compute_list(nvmlDevice_t device, unsigned *count, entry *list) {
    return list_of(COMPUTE_LIST, device, count, list);
}

static nvmlReturn_t graphics_list(nvmlDevice_t device, unsigned *count, entry *list) {
    return list_of(GRAPHICS_LIST, device, count, list);
}

static nvmlReturn_t mps_list(nvmlDevice_t device, unsigned *count) {
    unsigned gpu;
    if (nvml_gpu(device, &gpu) && count != NULL) *count = 0;
    return NVML_SUCCESS;
}

/* ---- the table -------------------------------------------------------------------------------- */

static void lay_over(const void **slots) {
    slots[HANDLE_BY_INDEX] = (const void *)handle_by_index;
    slots[COMPUTE_LIST] = (const void *)compute_list;
    slots[GRAPHICS_LIST] = (const void *)graphics_list;
}

static const void *simulated_table(void) {
    static const void *slots[SLOTS];
    for (unsigned slot = 1; slot < SLOTS; slot++) slots[slot] = (const void *)any_slot;
    lay_over(slots);
    slots[MPS_LIST] = (const void *)mps_list;
    slots[HOST_MAX_GENERATION] = (const void *)host_max_generation;
    slots[0] = (const void *)sizeof slots;
    return slots;
}

/* A copy of the driver's table with our slots; the table itself where its size is not plausible. */
static const void *overlaid_table(const void *const *driver) {
    static const void *slots[SLOTS];
    uintptr_t bytes = (uintptr_t)driver[0];
    if (bytes <= GRAPHICS_LIST * sizeof *slots || bytes > sizeof slots) return driver;
    drivers_slots = driver;
    memcpy(slots, driver, bytes);
    lay_over(slots);
    return slots;
}

nvmlReturn_t own_nvmlInternalGetExportTable(const void **table, const void *identifier) {
    bool known = identifier != NULL && memcmp(identifier, IDENTIFIER, sizeof IDENTIFIER) == 0;
    if (mk_mode_now() != MK_STANDALONE) {
        nvmlReturn_t result = REAL(nvmlInternalGetExportTable, table, identifier);
        if (result == NVML_SUCCESS && known && *table != NULL) *table = overlaid_table(*table);
        return result;
    }
    if (table == NULL || identifier == NULL) return NVML_INVALID_ARGUMENT;
    *table = known ? simulated_table() : NULL;
    return known ? NVML_SUCCESS : NVML_NOT_FOUND;
}
