/* The NVSwitch fabric, and how GPUs lie to each other. */
#include "nvml.h"

enum { LEVEL_INTERNAL = 0, LEVEL_NODE = 40, LEVEL_SYSTEM = 50 };
enum { P2P_NVLINK = 2, P2P_LAST = 5, P2P_OK = 0, P2P_CHIPSET = 1, P2P_NOT_SUPPORTED = 5 };
enum { SUMMARY_HEALTHY = 1, SUMMARY_UNHEALTHY = 2, BRAND_GEFORCE = 5, REMOTE_SWITCH = 2 };

/* ---- fabric ----------------------------------------------------------------------------------- */

static bool fabric_is_set(unsigned gpu) {
    return NVML_ANY(gpu, MK_GPU_FABRIC_STATE, MK_GPU_FABRIC_STATUS, MK_GPU_FABRIC_HEALTH_MASK,
                    MK_GPU_FABRIC_CLIQUE);
}

/* In each two bits of the mask, 1 says that a problem is there. */
static unsigned char summary_of(unsigned mask) {
    for (unsigned shift = 0; shift < 8; shift += 2)
        if ((mask >> shift & 3) == 1) return SUMMARY_UNHEALTHY;
    return (mask >> 8 & 0xF) > 1 ? SUMMARY_UNHEALTHY : SUMMARY_HEALTHY;
}

static nvmlReturn_t fabric_over(unsigned gpu, unsigned *status, unsigned *clique, unsigned *state,
                                unsigned *mask) {
    *state = (unsigned)mk_gpu_over(gpu, MK_GPU_FABRIC_STATE, *state);
    if (*state == 0) return NVML_NOT_SUPPORTED;
    *status = (unsigned)mk_gpu_over(gpu, MK_GPU_FABRIC_STATUS, *status);
    *clique = (unsigned)mk_gpu_over(gpu, MK_GPU_FABRIC_CLIQUE, *clique);
    *mask = (unsigned)mk_gpu_over(gpu, MK_GPU_FABRIC_HEALTH_MASK, *mask);
    return NVML_SUCCESS;
}

nvmlReturn_t own_nvmlDeviceGetGpuFabricInfo(nvmlDevice_t device, nvml_fabric_v1 *info) {
    unsigned gpu, mask = 0;
    if (info == NULL) return NVML_INVALID_ARGUMENT;
    nvmlReturn_t driver = REAL(nvmlDeviceGetGpuFabricInfo, device, info);
    if (!nvml_gpu(device, &gpu) || !fabric_is_set(gpu)) return driver;
    if (driver != NVML_SUCCESS) *info = (nvml_fabric_v1){0};
    return fabric_over(gpu, &info->status, &info->clique, &info->state, &mask);
}

nvmlReturn_t own_nvmlDeviceGetGpuFabricInfoV(nvmlDevice_t device, nvml_fabric_v2 *info) {
    unsigned gpu;
    if (info == NULL) return NVML_INVALID_ARGUMENT;
    bool third = info->version == NVML_VERSION_OF(nvml_fabric_v3, 3);
    if (!third && info->version != NVML_VERSION_OF(nvml_fabric_v2, 2) &&
        mk_mode_now() == MK_STANDALONE)
        return NVML_ARGUMENT_VERSION_MISMATCH;
    unsigned version = info->version;
    nvmlReturn_t driver = REAL(nvmlDeviceGetGpuFabricInfoV, device, info);
    if (!nvml_gpu(device, &gpu) || !fabric_is_set(gpu)) return driver;
    if (driver != NVML_SUCCESS) *info = (nvml_fabric_v2){.version = version};
    nvmlReturn_t result =
        fabric_over(gpu, &info->status, &info->clique, &info->state, &info->health_mask);
    if (result == NVML_SUCCESS && third)
        ((nvml_fabric_v3 *)info)->health_summary = summary_of(info->health_mask);
    return result;
}

nvmlReturn_t own_nvmlDeviceGetGpuFabricInfo_v4(nvmlDevice_t device, nvml_fabric_v4 *info) {
    unsigned gpu;
    if (info == NULL) return NVML_INVALID_ARGUMENT;
    nvmlReturn_t driver = REAL(nvmlDeviceGetGpuFabricInfo_v4, device, info);
    if (!nvml_gpu(device, &gpu) || !fabric_is_set(gpu)) return driver;
    if (driver != NVML_SUCCESS) *info = (nvml_fabric_v4){.clique_count = 1};
    unsigned state = info->state;
    nvmlReturn_t result =
        fabric_over(gpu, &info->status, &info->cliques[0].id, &state, &info->health_mask);
    if (result != NVML_SUCCESS) return result;
    info->state = (unsigned char)state;
    info->health_summary = summary_of(info->health_mask);
    return NVML_SUCCESS;
}

/* ---- topology --------------------------------------------------------------------------------- */

static bool two_simulated(nvmlDevice_t one, nvmlDevice_t other, unsigned *a, unsigned *b) {
    return mk_mode_now() == MK_STANDALONE && nvml_gpu(one, a) && nvml_gpu(other, b);
}

static unsigned level_between(unsigned a, unsigned b) {
    int64_t first = 0, second = 0;
    if (a == b) return LEVEL_INTERNAL;
    mk_gpu(a, MK_GPU_NUMA_NODE, &first);
    mk_gpu(b, MK_GPU_NUMA_NODE, &second);
    return first == second ? LEVEL_NODE : LEVEL_SYSTEM;
}

nvmlReturn_t own_nvmlDeviceGetTopologyCommonAncestor(nvmlDevice_t one, nvmlDevice_t other,
                                                     unsigned *level) {
    unsigned a, b;
    if (level == NULL) return NVML_INVALID_ARGUMENT;
    if (!two_simulated(one, other, &a, &b))
        return REAL(nvmlDeviceGetTopologyCommonAncestor, one, other, level);
    *level = level_between(a, b);
    return NVML_SUCCESS;
}

nvmlReturn_t own_nvmlDeviceGetTopologyNearestGpus(nvmlDevice_t device, unsigned level,
                                                  unsigned *count, nvmlDevice_t *list) {
    unsigned gpu, other, found = 0;
    if (count == NULL) return NVML_INVALID_ARGUMENT;
    if (mk_mode_now() != MK_STANDALONE || !nvml_gpu(device, &gpu))
        return REAL(nvmlDeviceGetTopologyNearestGpus, device, level, count, list);
    for (unsigned i = 0; nvml_visible(i, &other); i++) {
        if (other == gpu || level_between(gpu, other) != level) continue;
        if (list != NULL && found < *count) list[found] = mk_handle(other);
        found++;
    }
    *count = list != NULL && found > *count ? *count : found;
    return NVML_SUCCESS;
}

nvmlReturn_t own_nvmlSystemGetTopologyGpuSet(unsigned cpu, unsigned *count, nvmlDevice_t *list) {
    unsigned gpu, found = 0;
    if (count == NULL) return NVML_INVALID_ARGUMENT;
    if (mk_mode_now() != MK_STANDALONE)
        return REAL(nvmlSystemGetTopologyGpuSet, cpu, count, list);
    for (unsigned i = 0; nvml_visible(i, &gpu); i++, found++)
        if (list != NULL && found < *count) list[found] = mk_handle(gpu);
    *count = list != NULL && found > *count ? *count : found;
    return NVML_SUCCESS;
}

static bool link_is_up(unsigned gpu, unsigned link) {
    int64_t active;
    return nvml_link_known(gpu, link) && mk_link(gpu, link, MK_LINK_ACTIVE, &active) && active == 1;
}

/* A link that leads to the other GPU, or to a switch. */
static bool leads_to(unsigned gpu, unsigned other, bool *by_switch) {
    char remote[MK_STRING_BYTES], wanted[MK_STRING_BYTES];
    nvml_address end, place;
    int64_t type;
    if (!mk_gpu_text(other, MK_GPU_PCI_BUS_ID, wanted, sizeof wanted)) return false;
    nvml_address_of(wanted, &place);
    for (unsigned link = 0; link < MK_MAX_LINKS; link++) {
        if (!link_is_up(gpu, link)) continue;
        *by_switch = mk_link(gpu, link, MK_LINK_REMOTE_TYPE, &type) && type == REMOTE_SWITCH;
        if (*by_switch) return true;
        if (mk_link_text(gpu, link, MK_LINK_REMOTE_PCI_BUS_ID, remote, sizeof remote) &&
            nvml_address_of(remote, &end) && end.domain == place.domain && end.bus == place.bus)
            return true;
    }
    return false;
}

static bool linked(unsigned a, unsigned b) {
    bool there, back;
    return a != b && leads_to(a, b, &there) && leads_to(b, a, &back) && there == back;
}

nvmlReturn_t own_nvmlDeviceGetP2PStatus(nvmlDevice_t one, nvmlDevice_t other, unsigned kind,
                                        unsigned *status) {
    int64_t brand;
    unsigned a, b;
    if (status == NULL) return NVML_INVALID_ARGUMENT;
    if (!two_simulated(one, other, &a, &b))
        return REAL(nvmlDeviceGetP2PStatus, one, other, kind, status);
    if (kind >= P2P_LAST) return NVML_INVALID_ARGUMENT;
    mk_gpu(a, MK_GPU_BRAND, &brand);
    if (kind == P2P_NVLINK)
        *status = linked(a, b) ? P2P_OK : P2P_NOT_SUPPORTED;
    else
        *status = brand == BRAND_GEFORCE ? P2P_CHIPSET : P2P_OK;
    return NVML_SUCCESS;
}
