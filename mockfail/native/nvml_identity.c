/* Which card it is, where it sits, and what its InfoROM says. */
#define _GNU_SOURCE
#include "nvml.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>

enum { PCI_DISPLAY = 3, PCI_VGA = 0, PCI_3D = 2, BRAND_GEFORCE = 5, ALL_INFOROM_OBJECTS = 3 };

/* ---- texts ----------------------------------------------------------------------------------- */

#define TEXT(function, property)                                                                   \
    nvmlReturn_t own_##function(nvmlDevice_t device, char *out, unsigned size) {                   \
        char text[MK_STRING_BYTES];                                                                \
        unsigned gpu;                                                                              \
        if (out == NULL) return NVML_INVALID_ARGUMENT;                                             \
        if (!nvml_gpu(device, &gpu) || !mk_gpu_text(gpu, MK_GPU_##property, text, sizeof text))    \
            return REAL(function, device, out, size);                                              \
        return nvml_text_out(text, out, size);                                                     \
    }

TEXT(nvmlDeviceGetName, NAME)
TEXT(nvmlDeviceGetUUID, UUID)
TEXT(nvmlDeviceGetSerial, SERIAL)
TEXT(nvmlDeviceGetVbiosVersion, VBIOS_VERSION)
TEXT(nvmlDeviceGetBoardPartNumber, BOARD_PART_NUMBER)
TEXT(nvmlDeviceGetInforomImageVersion, INFOROM_IMAGE_VERSION)

nvmlReturn_t own_nvmlDeviceGetInforomVersion(nvmlDevice_t device, unsigned object, char *out,
                                             unsigned size) {
    static const mk_gpu_property objects[ALL_INFOROM_OBJECTS] = {
        [NVML_INFOROM_OEM] = MK_GPU_INFOROM_OEM_VERSION,
        [NVML_INFOROM_ECC] = MK_GPU_INFOROM_ECC_VERSION,
        [NVML_INFOROM_POWER] = MK_GPU_INFOROM_POWER_VERSION,
    };
    char text[MK_STRING_BYTES];
    unsigned gpu;
    if (out == NULL) return NVML_INVALID_ARGUMENT;
    bool ours = nvml_gpu(device, &gpu) && object < ALL_INFOROM_OBJECTS;
    if (!ours || !mk_gpu_text(gpu, objects[object], text, sizeof text))
        return REAL(nvmlDeviceGetInforomVersion, device, object, out, size);
    return nvml_text_out(text, out, size);
}

nvmlReturn_t own_nvmlDeviceValidateInforom(nvmlDevice_t device) {
    unsigned gpu;
    int64_t valid;
    if (!nvml_gpu(device, &gpu) || !mk_gpu(gpu, MK_GPU_INFOROM_VALID, &valid))
        return REAL(nvmlDeviceValidateInforom, device);
    if (valid == MK_NOT_SUPPORTED) return NVML_NOT_SUPPORTED;
    return valid ? NVML_SUCCESS : NVML_CORRUPTED_INFOROM;
}

nvmlReturn_t own_nvmlDeviceGetGspFirmwareVersion(nvmlDevice_t device, char *version) {
    char text[MK_STRING_BYTES];
    unsigned gpu;
    if (version == NULL) return NVML_INVALID_ARGUMENT;
    if (!nvml_gpu(device, &gpu) ||
        !mk_gpu_text(gpu, MK_GPU_GSP_FIRMWARE_VERSION, text, sizeof text))
        return REAL(nvmlDeviceGetGspFirmwareVersion, device, version);
    return nvml_text_out(text, version, 64); /* the documented size of the caller's buffer */
}

nvmlReturn_t own_nvmlDeviceGetGspFirmwareMode(nvmlDevice_t device, unsigned *on,
                                              unsigned *default_on) {
    char text[MK_STRING_BYTES];
    unsigned gpu;
    if (on == NULL || default_on == NULL) return NVML_INVALID_ARGUMENT;
    if (!nvml_gpu(device, &gpu) ||
        !mk_gpu_text(gpu, MK_GPU_GSP_FIRMWARE_VERSION, text, sizeof text))
        return REAL(nvmlDeviceGetGspFirmwareMode, device, on, default_on);
    *on = *default_on = *text != '\0';
    return NVML_SUCCESS;
}

nvmlReturn_t own_nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor) {
    unsigned gpu;
    if (major == NULL || minor == NULL) return NVML_INVALID_ARGUMENT;
    nvmlReturn_t driver = REAL(nvmlDeviceGetCudaComputeCapability, device, major, minor);
    if (!nvml_gpu(device, &gpu) ||
        !NVML_ANY(gpu, MK_GPU_COMPUTE_CAPABILITY_MAJOR, MK_GPU_COMPUTE_CAPABILITY_MINOR))
        return driver;
    int64_t one = mk_gpu_over(gpu, MK_GPU_COMPUTE_CAPABILITY_MAJOR, *major);
    int64_t two = mk_gpu_over(gpu, MK_GPU_COMPUTE_CAPABILITY_MINOR, *minor);
    if (one == MK_NOT_SUPPORTED || two == MK_NOT_SUPPORTED) return NVML_NOT_SUPPORTED;
    *major = (int)one;
    *minor = (int)two;
    return NVML_SUCCESS;
}

/* ---- PCI: the one source of all versions ----------------------------------------------------- */

static void lay_over(unsigned gpu, nvml_pci_v3 *pci) {
    char text[MK_STRING_BYTES];
    nvml_address at;
    pci->pci_device_id = (unsigned)mk_gpu_over(gpu, MK_GPU_PCI_DEVICE_ID, pci->pci_device_id);
    pci->pci_subsystem_id =
        (unsigned)mk_gpu_over(gpu, MK_GPU_PCI_SUBSYSTEM_ID, pci->pci_subsystem_id);
    if (!mk_gpu_text(gpu, MK_GPU_PCI_BUS_ID, text, sizeof text)) return;
    if (!nvml_address_of(text, &at)) { /* shown as the scenario writes it */
        snprintf(pci->bus_id, sizeof pci->bus_id, "%.31s", text);
        snprintf(pci->bus_id_legacy, sizeof pci->bus_id_legacy, "%.15s", text);
        return;
    }
    pci->domain = at.domain;
    pci->bus = at.bus;
    pci->device = at.device;
    snprintf(pci->bus_id, sizeof pci->bus_id, "%08X:%02X:%02X.%X", at.domain, at.bus & 0xFF,
             at.device & 0xFF, at.function & 0xF);
    snprintf(pci->bus_id_legacy, sizeof pci->bus_id_legacy, "%04X:%02X:%02X.%X",
             at.domain & 0xFFFF, at.bus & 0xFF, at.device & 0xFF, at.function & 0xF);
}

static bool pci_is_set(unsigned gpu) {
    char text[MK_STRING_BYTES];
    return mk_gpu_text(gpu, MK_GPU_PCI_BUS_ID, text, sizeof text) ||
           NVML_ANY(gpu, MK_GPU_PCI_DEVICE_ID, MK_GPU_PCI_SUBSYSTEM_ID);
}

nvmlReturn_t own_nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvml_pci_v3 *pci) {
    unsigned gpu;
    if (pci == NULL) return NVML_INVALID_ARGUMENT;
    nvmlReturn_t driver = REAL(nvmlDeviceGetPciInfo_v3, device, pci);
    if (!nvml_gpu(device, &gpu) || !pci_is_set(gpu)) return driver;
    if (driver != NVML_SUCCESS) *pci = (nvml_pci_v3){0};
    lay_over(gpu, pci);
    return NVML_SUCCESS;
}

nvmlReturn_t own_nvmlDeviceGetPciInfo_v2(nvmlDevice_t device, nvml_pci_v2 *pci) {
    nvml_pci_v3 now;
    unsigned gpu;
    if (pci == NULL) return NVML_INVALID_ARGUMENT;
    if (!nvml_gpu(device, &gpu) || !pci_is_set(gpu))
        return REAL(nvmlDeviceGetPciInfo_v2, device, pci);
    nvmlReturn_t result = own_nvmlDeviceGetPciInfo_v3(device, &now);
    if (result != NVML_SUCCESS) return result;
    *pci = (nvml_pci_v2){
        .domain = now.domain,
        .bus = now.bus,
        .device = now.device,
        .pci_device_id = now.pci_device_id,
        .pci_subsystem_id = now.pci_subsystem_id,
    };
    memcpy(pci->bus_id_legacy, now.bus_id_legacy, sizeof pci->bus_id_legacy);
    return NVML_SUCCESS;
}

nvmlReturn_t own_nvmlDeviceGetPciInfo(nvmlDevice_t device, nvml_pci_v1 *pci) {
    nvml_pci_v2 now;
    unsigned gpu;
    if (pci == NULL) return NVML_INVALID_ARGUMENT;
    if (!nvml_gpu(device, &gpu) || !pci_is_set(gpu))
        return REAL(nvmlDeviceGetPciInfo, device, pci);
    nvmlReturn_t result = own_nvmlDeviceGetPciInfo_v2(device, &now);
    if (result == NVML_SUCCESS) memcpy(pci, &now, sizeof *pci); /* v2 begins as v1 does */
    return result;
}

nvmlReturn_t own_nvmlDeviceGetPciInfoExt(nvmlDevice_t device, nvml_pci_ext *pci) {
    nvml_pci_v3 now;
    unsigned gpu;
    if (pci == NULL) return NVML_INVALID_ARGUMENT;
    if (!nvml_gpu(device, &gpu) || !pci_is_set(gpu))
        return REAL(nvmlDeviceGetPciInfoExt, device, pci);
    if (pci->version != NVML_VERSION_OF(nvml_pci_ext, 1)) return NVML_ARGUMENT_VERSION_MISMATCH;
    nvmlReturn_t result = own_nvmlDeviceGetPciInfo_v3(device, &now);
    if (result != NVML_SUCCESS) return result;
    pci->domain = now.domain;
    pci->bus = now.bus;
    pci->device = now.device;
    pci->pci_device_id = now.pci_device_id;
    pci->pci_subsystem_id = now.pci_subsystem_id;
    pci->base_class = PCI_DISPLAY;
    unsigned brand = 0;
    own_nvmlDeviceGetBrand(device, &brand);
    pci->sub_class = brand == BRAND_GEFORCE ? PCI_VGA : PCI_3D;
    memcpy(pci->bus_id, now.bus_id, sizeof pci->bus_id);
    return NVML_SUCCESS;
}

/* ---- place on the host ----------------------------------------------------------------------- */

nvmlReturn_t own_nvmlDeviceOnSameBoard(nvmlDevice_t one, nvmlDevice_t other, int *same) {
    int64_t first, second;
    unsigned a, b;
    if (same == NULL) return NVML_INVALID_ARGUMENT;
    if (!nvml_gpu(one, &a) || !nvml_gpu(other, &b) || !mk_gpu(a, MK_GPU_BOARD_ID, &first) ||
        !mk_gpu(b, MK_GPU_BOARD_ID, &second))
        return REAL(nvmlDeviceOnSameBoard, one, other, same);
    *same = first == second;
    return NVML_SUCCESS;
}

/* The mock runs on whatever host it has, so a GPU's processors are those the process may use. */
static nvmlReturn_t processors(unsigned words, unsigned long *set) {
    cpu_set_t usable;
    if (words == 0 || set == NULL) return NVML_INVALID_ARGUMENT;
    CPU_ZERO(&usable);
    sched_getaffinity(0, sizeof usable, &usable);
    memset(set, 0, words * sizeof *set);
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        unsigned word = cpu / (8 * (unsigned)sizeof *set);
        if (word < words && CPU_ISSET(cpu, &usable))
            set[word] |= 1ul << cpu % (8 * sizeof *set);
    }
    return NVML_SUCCESS;
}

nvmlReturn_t own_nvmlDeviceGetCpuAffinity(nvmlDevice_t device, unsigned words,
                                          unsigned long *set) {
    unsigned gpu;
    if (mk_mode_now() != MK_STANDALONE || !nvml_gpu(device, &gpu))
        return REAL(nvmlDeviceGetCpuAffinity, device, words, set);
    return processors(words, set);
}

nvmlReturn_t own_nvmlDeviceGetCpuAffinityWithinScope(nvmlDevice_t device, unsigned words,
                                                     unsigned long *set, unsigned scope) {
    unsigned gpu;
    if (mk_mode_now() != MK_STANDALONE || !nvml_gpu(device, &gpu))
        return REAL(nvmlDeviceGetCpuAffinityWithinScope, device, words, set, scope);
    return processors(words, set);
}

nvmlReturn_t own_nvmlDeviceGetMemoryAffinity(nvmlDevice_t device, unsigned words,
                                             unsigned long *set, unsigned scope) {
    int64_t node;
    unsigned gpu;
    if (mk_mode_now() != MK_STANDALONE || !nvml_gpu(device, &gpu))
        return REAL(nvmlDeviceGetMemoryAffinity, device, words, set, scope);
    if (words == 0 || set == NULL) return NVML_INVALID_ARGUMENT;
    mk_gpu(gpu, MK_GPU_NUMA_NODE, &node);
    memset(set, 0, words * sizeof *set);
    if (node < 0 || (uint64_t)node >= words * 8 * sizeof *set) return NVML_NOT_SUPPORTED;
    set[(uint64_t)node / (8 * sizeof *set)] = 1ul << (uint64_t)node % (8 * sizeof *set);
    return NVML_SUCCESS;
}
