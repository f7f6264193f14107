/* The driver as a whole, and the way to the handles of its GPUs. */
#include "nvml.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* ---- what it says of itself ------------------------------------------------------------------ */

#define NODE_TEXT(function, property)                                                              \
    nvmlReturn_t own_##function(char *out, unsigned size) {                                        \
        char text[MK_STRING_BYTES];                                                                \
        if (out == NULL) return NVML_INVALID_ARGUMENT;                                             \
        if (!mk_node_text(property, text, sizeof text)) return REAL(function, out, size);          \
        return nvml_text_out(text, out, size);                                                     \
    }

NODE_TEXT(nvmlSystemGetDriverVersion, MK_NODE_DRIVER_VERSION)
NODE_TEXT(nvmlSystemGetNVMLVersion, MK_NODE_NVML_VERSION)

nvmlReturn_t own_nvmlSystemGetDriverBranch(nvml_driver_branch *info, unsigned size) {
    char version[MK_STRING_BYTES];
    if (info == NULL) return NVML_INVALID_ARGUMENT;
    if (!mk_node_text(MK_NODE_DRIVER_VERSION, version, sizeof version))
        return REAL(nvmlSystemGetDriverBranch, info, size);
    if (info->version != NVML_VERSION_OF(nvml_driver_branch, 1))
        return NVML_ARGUMENT_VERSION_MISMATCH;
    char branch[MK_STRING_BYTES + 4];
    snprintf(branch, sizeof branch, "r%.*s_00", (int)strcspn(version, "."), version);
    return nvml_text_out(branch, info->branch,
                         size < sizeof info->branch ? size : sizeof info->branch);
}

static nvmlReturn_t cuda_version(nvmlReturn_t driver, int *version) {
    int64_t set;
    if (mk_mode_now() == MK_PASS || !mk_node(MK_NODE_CUDA_VERSION, &set)) return driver;
    if (set == MK_NOT_SUPPORTED) return NVML_FUNCTION_NOT_FOUND;
    *version = (int)set;
    return NVML_SUCCESS;
}

nvmlReturn_t own_nvmlSystemGetCudaDriverVersion(int *version) {
    if (version == NULL) return NVML_INVALID_ARGUMENT;
    return cuda_version(REAL(nvmlSystemGetCudaDriverVersion, version), version);
}

nvmlReturn_t own_nvmlSystemGetCudaDriverVersion_v2(int *version) {
    if (version == NULL) return NVML_INVALID_ARGUMENT;
    return cuda_version(REAL(nvmlSystemGetCudaDriverVersion_v2, version), version);
}

nvmlReturn_t own_nvmlSystemGetProcessName(unsigned pid, char *name, unsigned size) {
    char path[32], command[1024];
    if (name == NULL || size == 0) return NVML_INVALID_ARGUMENT;
    if (mk_mode_now() != MK_STANDALONE)
        return REAL(nvmlSystemGetProcessName, pid, name, size);
    snprintf(path, sizeof path, "/proc/%u/cmdline", pid);
    FILE *file = fopen(path, "re");
    if (file == NULL) return NVML_NOT_FOUND;
    size_t got = fread(command, 1, sizeof command - 1, file);
    fclose(file);
    command[got] = '\0';
    snprintf(name, size, "%s", command); /* the first word, cut to what fits as the driver does */
    return NVML_SUCCESS;
}

#define NONE_OF_THEM(function)                                                                     \
    nvmlReturn_t own_##function(unsigned *count) {                                                 \
        if (count == NULL) return NVML_INVALID_ARGUMENT;                                           \
        if (mk_mode_now() != MK_STANDALONE) return REAL(function, count);                          \
        *count = 0;                                                                                \
        return NVML_SUCCESS;                                                                       \
    }

NONE_OF_THEM(nvmlUnitGetCount)
NONE_OF_THEM(nvmlGetExcludedDeviceCount)
NONE_OF_THEM(nvmlGetBlacklistDeviceCount)

nvmlReturn_t own_nvmlSystemGetHicVersion(unsigned *count, void *entries) {
    if (count == NULL) return NVML_INVALID_ARGUMENT;
    if (mk_mode_now() != MK_STANDALONE) return REAL(nvmlSystemGetHicVersion, count, entries);
    *count = 0;
    return NVML_SUCCESS;
}

const char *own_nvmlErrorString(unsigned result) {
    static const char *const words[] = {
        "Success", "Uninitialized", "Invalid Argument", "Not Supported",
        "Insufficient Permissions", "Already Initialized", "Not Found", "Insufficient Size",
        "Insufficient External Power", "Driver Not Loaded", "Timeout", "Interrupt Request Issue",
        "NVML Shared Library Not Found", "Function Not Found", "Corrupted infoROM", "GPU is lost",
        "GPU requires reset", "The operating system has blocked the request",
        "Driver/library version mismatch", "In use by another client", "Insufficient Memory",
        "No data", "The requested vgpu operation is not available on target device, ECC is on",
        "Ran out of critical resources, other than memory", "Frequency not supported",
        "The provided version is invalid/unsupported", "Deprecated", "The system is not ready",
        "No GPUs found", "Resource not in correct state", "Reset type not supported",
    };
    return result < sizeof words / sizeof *words ? words[result] : "Unknown Error";
}

/* ---- handles --------------------------------------------------------------------------------- */

nvmlReturn_t own_nvmlDeviceGetCount_v2(unsigned *count) {
    if (count == NULL) return NVML_INVALID_ARGUMENT;
    if (mk_mode_now() == MK_OVERLAY) {
        nvmlReturn_t driver = REAL(nvmlDeviceGetCount_v2, count);
        if (driver != NVML_SUCCESS) return driver;
    }
    *count = nvml_visible_count();
    return NVML_SUCCESS;
}

nvmlReturn_t own_nvmlDeviceGetCount(unsigned *count) { return own_nvmlDeviceGetCount_v2(count); }

nvmlReturn_t own_nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *device) {
    unsigned gpu;
    if (device == NULL || !nvml_visible(index, &gpu)) return NVML_INVALID_ARGUMENT;
    return nvml_handle(gpu, device);
}

nvmlReturn_t own_nvmlDeviceGetHandleByIndex(unsigned index, nvmlDevice_t *device) {
    return own_nvmlDeviceGetHandleByIndex_v2(index, device);
}

nvmlReturn_t own_nvmlDeviceGetIndex(nvmlDevice_t device, unsigned *index) {
    unsigned gpu, other;
    if (index == NULL) return NVML_INVALID_ARGUMENT;
    if (!nvml_gpu(device, &gpu)) return REAL(nvmlDeviceGetIndex, device, index);
    for (unsigned i = 0; nvml_visible(i, &other); i++)
        if (other == gpu) return *index = i, NVML_SUCCESS;
    return NVML_INVALID_ARGUMENT;
}

typedef nvmlReturn_t (*text_call)(nvmlDevice_t, char *, unsigned);

/* Find the visible GPU whose text, as the client would read it, is what was asked for. */
static bool find_by_text(text_call text_of, const char *wanted, unsigned *gpu) {
    char text[MK_STRING_BYTES];
    for (unsigned i = 0; nvml_visible(i, gpu); i++)
        if (text_of(mk_handle(*gpu), text, sizeof text) == NVML_SUCCESS &&
            strcasecmp(text, wanted) == 0)
            return true;
    return false;
}

/* A driver's handle that the mock doesn't hide, such as a MIG device's. */
static nvmlReturn_t only_foreign(nvmlReturn_t driver, const nvmlDevice_t *device) {
    unsigned gpu;
    if (mk_mode_now() == MK_STANDALONE) return NVML_NOT_FOUND;
    return driver == NVML_SUCCESS && nvml_gpu(*device, &gpu) ? NVML_NOT_FOUND : driver;
}

nvmlReturn_t own_nvmlDeviceGetHandleBySerial(const char *serial, nvmlDevice_t *device) {
    unsigned gpu;
    if (serial == NULL || device == NULL) return NVML_INVALID_ARGUMENT;
    if (find_by_text(own_nvmlDeviceGetSerial, serial, &gpu)) return nvml_handle(gpu, device);
    return only_foreign(REAL(nvmlDeviceGetHandleBySerial, serial, device), device);
}

nvmlReturn_t own_nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device) {
    unsigned gpu;
    if (uuid == NULL || device == NULL) return NVML_INVALID_ARGUMENT;
    if (find_by_text(own_nvmlDeviceGetUUID, uuid, &gpu)) return nvml_handle(gpu, device);
    return only_foreign(REAL(nvmlDeviceGetHandleByUUID, uuid, device), device);
}

nvmlReturn_t own_nvmlDeviceGetHandleByUUIDV(const nvml_uuid *uuid, nvmlDevice_t *device) {
    char text[MK_STRING_BYTES];
    if (uuid == NULL || device == NULL) return NVML_INVALID_ARGUMENT;
    if (uuid->version != NVML_VERSION_OF(nvml_uuid, 1)) return NVML_ARGUMENT_VERSION_MISMATCH;
    if (uuid->type == 1) {
        snprintf(text, sizeof text, "%.40s", uuid->value.text);
    } else if (uuid->type == 2) {
        const unsigned char *b = uuid->value.bytes;
        snprintf(text, sizeof text,
                 "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0],
                 b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13],
                 b[14], b[15]);
    } else {
        return NVML_INVALID_ARGUMENT;
    }
    return own_nvmlDeviceGetHandleByUUID(text, device);
}

nvmlReturn_t own_nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, nvmlDevice_t *device) {
    nvml_address wanted;
    nvml_pci_v3 pci;
    unsigned gpu;
    if (bus_id == NULL || device == NULL || !nvml_address_of(bus_id, &wanted))
        return NVML_INVALID_ARGUMENT;
    for (unsigned i = 0; nvml_visible(i, &gpu); i++)
        if (own_nvmlDeviceGetPciInfo_v3(mk_handle(gpu), &pci) == NVML_SUCCESS &&
            pci.domain == wanted.domain && pci.bus == wanted.bus && pci.device == wanted.device)
            return nvml_handle(gpu, device);
    return NVML_NOT_FOUND;
}

nvmlReturn_t own_nvmlDeviceGetHandleByPciBusId(const char *bus_id, nvmlDevice_t *device) {
    return own_nvmlDeviceGetHandleByPciBusId_v2(bus_id, device);
}
