/* NVLinks: state, version, other end, errors. */
#include "nvml.h"

#include <stdio.h>
#include <string.h>

enum { CAPABILITY_P2P, CAPABILITY_SLI = 4, CAPABILITY_VALID = 5 };

bool nvml_link_known(unsigned gpu, unsigned link) {
    int64_t links;
    if (link >= MK_MAX_LINKS) return false;
    if (mk_mode_now() != MK_STANDALONE) return true; /* the driver says which there are */
    return mk_gpu(gpu, MK_GPU_NVLINKS, &links) && (int64_t)link < links;
}

static nvmlReturn_t missing(unsigned link) {
    return link < MK_MAX_LINKS ? NVML_NOT_SUPPORTED : NVML_INVALID_ARGUMENT;
}

/* One source for a number of a link; driver is what the real call gave and wrote. */
static nvmlReturn_t number_of(nvmlDevice_t device, unsigned link, mk_link_property property,
                              nvmlReturn_t driver, nvml_u64 *number) {
    unsigned gpu;
    if (!nvml_gpu(device, &gpu)) return driver;
    if (!nvml_link_known(gpu, link))
        return mk_mode_now() == MK_STANDALONE ? missing(link) : driver;
    int64_t base = driver == NVML_SUCCESS ? (int64_t)*number : MK_UNKNOWN;
    int64_t value = mk_link_over(gpu, link, property, base);
    if (value == MK_UNKNOWN) return driver;
    if (value == MK_NOT_SUPPORTED) return NVML_NOT_SUPPORTED;
    *number = (nvml_u64)value;
    return NVML_SUCCESS;
}

#define LINK(function, property)                                                                   \
    nvmlReturn_t own_##function(nvmlDevice_t device, unsigned link, unsigned *value) {             \
        if (value == NULL) return NVML_INVALID_ARGUMENT;                                           \
        nvmlReturn_t driver = REAL(function, device, link, value);                                 \
        nvml_u64 number = *value;                                                                  \
        nvmlReturn_t result = number_of(device, link, MK_LINK_##property, driver, &number);        \
        if (result == NVML_SUCCESS) *value = (unsigned)number;                                     \
        return result;                                                                             \
    }

LINK(nvmlDeviceGetNvLinkState, ACTIVE)
LINK(nvmlDeviceGetNvLinkVersion, VERSION)
LINK(nvmlDeviceGetNvLinkRemoteDeviceType, REMOTE_TYPE)

nvmlReturn_t own_nvmlDeviceGetNvLinkCapability(nvmlDevice_t device, unsigned link,
                                               unsigned capability, unsigned *has) {
    unsigned gpu;
    if (has == NULL) return NVML_INVALID_ARGUMENT;
    if (mk_mode_now() != MK_STANDALONE || !nvml_gpu(device, &gpu))
        return REAL(nvmlDeviceGetNvLinkCapability, device, link, capability, has);
    if (!nvml_link_known(gpu, link)) return missing(link);
    if (capability > CAPABILITY_VALID) return NVML_INVALID_ARGUMENT;
    *has = capability != CAPABILITY_SLI;
    return NVML_SUCCESS;
}

nvmlReturn_t own_nvmlDeviceGetNvLinkErrorCounter(nvmlDevice_t device, unsigned link,
                                                 unsigned counter, nvml_u64 *count) {
    static const mk_link_property counters[] = {
        [NVML_LINK_REPLAY] = MK_LINK_REPLAY_ERRORS,
        [NVML_LINK_RECOVERY] = MK_LINK_RECOVERY_ERRORS,
        [NVML_LINK_CRC_FLIT] = MK_LINK_CRC_FLIT_ERRORS,
        [NVML_LINK_CRC_DATA] = MK_LINK_CRC_DATA_ERRORS,
    };
    if (count == NULL) return NVML_INVALID_ARGUMENT;
    nvmlReturn_t driver = REAL(nvmlDeviceGetNvLinkErrorCounter, device, link, counter, count);
    if (counter >= sizeof counters / sizeof *counters)
        return mk_mode_now() == MK_STANDALONE ? NVML_NOT_SUPPORTED : driver;
    return number_of(device, link, counters[counter], driver, count);
}

/* ---- the other end ---------------------------------------------------------------------------- */

/* Lay the mock's end of the link over the driver's. A link that is down has no other end. */
static nvmlReturn_t remote_of(unsigned gpu, unsigned link, nvmlReturn_t driver, nvml_pci_v3 *pci) {
    char text[MK_STRING_BYTES];
    nvml_address at;
    int64_t active;
    if (mk_link(gpu, link, MK_LINK_ACTIVE, &active) && active != 1) return NVML_NOT_SUPPORTED;
    if (!mk_link_text(gpu, link, MK_LINK_REMOTE_PCI_BUS_ID, text, sizeof text)) return driver;
    if (*text == '\0') return NVML_NOT_SUPPORTED;
    if (driver != NVML_SUCCESS) *pci = (nvml_pci_v3){0};
    nvml_address_of(text, &at);
    pci->domain = at.domain;
    pci->bus = at.bus;
    pci->device = at.device;
    snprintf(pci->bus_id, sizeof pci->bus_id, "%.31s", text);
    snprintf(pci->bus_id_legacy, sizeof pci->bus_id_legacy, "%04X:%02X:%02X.%X",
             at.domain & 0xFFFF, at.bus & 0xFF, at.device & 0xFF, at.function & 0xF);
    return NVML_SUCCESS;
}

nvmlReturn_t own_nvmlDeviceGetNvLinkRemotePciInfo_v2(nvmlDevice_t device, unsigned link,
                                                     nvml_pci_v3 *pci) {
    unsigned gpu;
    if (pci == NULL) return NVML_INVALID_ARGUMENT;
    nvmlReturn_t driver = REAL(nvmlDeviceGetNvLinkRemotePciInfo_v2, device, link, pci);
    if (!nvml_gpu(device, &gpu)) return driver;
    if (!nvml_link_known(gpu, link))
        return mk_mode_now() == MK_STANDALONE ? missing(link) : driver;
    return remote_of(gpu, link, driver, pci);
}

nvmlReturn_t own_nvmlDeviceGetNvLinkRemotePciInfo(nvmlDevice_t device, unsigned link,
                                                  nvml_pci_v2 *pci) {
    nvml_pci_v3 now;
    if (pci == NULL) return NVML_INVALID_ARGUMENT;
    nvmlReturn_t result = own_nvmlDeviceGetNvLinkRemotePciInfo_v2(device, link, &now);
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
