/* Event sets: what is due goes once per process, to a set that registered its device. */
#define _GNU_SOURCE
#include "nvml.h"

#include <stdatomic.h>
#include <time.h>

enum { SETS = 256, POLL_MS = 50 };

struct nvml_event_set {
    _Atomic bool used;
    _Atomic nvml_u64 types[MK_MAX_GPUS]; /* event bits, by GPU */
    nvmlEventSet_t real;                 /* the driver's own set in an overlay */
};

static struct nvml_event_set sets[SETS];

static bool is_ours(nvmlEventSet_t set) {
    return set >= sets && set < sets + SETS &&
           ((uintptr_t)set - (uintptr_t)sets) % sizeof *sets == 0 && atomic_load(&set->used);
}

static nvmlReturn_t new_set(nvmlEventSet_t real, nvmlEventSet_t *out) {
    for (unsigned i = 0; i < SETS; i++) {
        bool used = false;
        if (!atomic_compare_exchange_strong(&sets[i].used, &used, true)) continue;
        for (unsigned gpu = 0; gpu < MK_MAX_GPUS; gpu++) atomic_store(&sets[i].types[gpu], 0);
        sets[i].real = real;
        *out = &sets[i];
        return NVML_SUCCESS;
    }
    return NVML_MEMORY;
}

nvmlReturn_t own_nvmlEventSetCreate(nvmlEventSet_t *set) {
    nvmlEventSet_t real = NULL;
    if (set == NULL) return NVML_INVALID_ARGUMENT;
    if (mk_mode_now() == MK_OVERLAY) {
        nvmlReturn_t result = REAL(nvmlEventSetCreate, &real);
        if (result != NVML_SUCCESS) return result;
    }
    return new_set(real, set);
}

nvmlReturn_t own_nvmlEventSetFree(nvmlEventSet_t set) {
    if (!is_ours(set)) return REAL(nvmlEventSetFree, set);
    nvmlReturn_t result = set->real == NULL ? NVML_SUCCESS : REAL(nvmlEventSetFree, set->real);
    atomic_store(&set->used, false);
    return result;
}

nvmlReturn_t own_nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device, nvml_u64 *types) {
    enum { SBE = 1, DBE = 2, PSTATE = 4, XID = 8, CLOCK = 16 };
    unsigned gpu;
    if (types == NULL) return NVML_INVALID_ARGUMENT;
    if (mk_mode_now() != MK_STANDALONE || !nvml_gpu(device, &gpu))
        return REAL(nvmlDeviceGetSupportedEventTypes, device, types);
    *types = SBE | DBE | PSTATE | XID | CLOCK;
    return NVML_SUCCESS;
}

nvmlReturn_t own_nvmlDeviceRegisterEvents(nvmlDevice_t device, nvml_u64 types,
                                          nvmlEventSet_t set) {
    unsigned gpu;
    if (!is_ours(set)) return REAL(nvmlDeviceRegisterEvents, device, types, set);
    if (set->real != NULL) {
        nvmlReturn_t result = REAL(nvmlDeviceRegisterEvents, device, types, set->real);
        if (result != NVML_SUCCESS) return result;
    }
    if (!nvml_gpu(device, &gpu)) return set->real ? NVML_SUCCESS : NVML_INVALID_ARGUMENT;
    atomic_fetch_or(&set->types[gpu], types);
    return NVML_SUCCESS;
}

/* ---- waiting ---------------------------------------------------------------------------------- */

static bool take_due(nvmlEventSet_t set, nvml_event_v2 *out) {
    mk_event event;
    for (unsigned n = 0; mk_event_due(n, &event); n++) {
        if (event.gpu >= MK_MAX_GPUS || !(atomic_load(&set->types[event.gpu]) & event.type))
            continue;
        if (!mk_event_take(event.id)) continue;
        *out = (nvml_event_v2){mk_handle(event.gpu), event.type, event.data, NVML_NO_INSTANCE,
                               NVML_NO_INSTANCE};
        return true;
    }
    return false;
}

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* Sleep, or in an overlay let the driver wait meanwhile for events of its own. */
static nvmlReturn_t pause_for(nvmlEventSet_t set, nvml_event_v2 *out, unsigned milliseconds) {
    if (set->real != NULL) return REAL(nvmlEventSetWait_v2, set->real, out, milliseconds);
    struct timespec time = {0, (long)milliseconds * 1000000};
    nanosleep(&time, NULL);
    return NVML_TIMEOUT;
}

nvmlReturn_t own_nvmlEventSetWait_v2(nvmlEventSet_t set, nvml_event_v2 *out,
                                     unsigned timeout_ms) {
    if (out == NULL) return NVML_INVALID_ARGUMENT;
    if (!is_ours(set)) return REAL(nvmlEventSetWait_v2, set, out, timeout_ms);
    int64_t deadline_ms = now_ms() + timeout_ms;
    for (;;) {
        if (take_due(set, out)) return NVML_SUCCESS;
        int64_t left_ms = deadline_ms - now_ms();
        unsigned next_ms = left_ms < 0 ? 0 : left_ms < POLL_MS ? (unsigned)left_ms : POLL_MS;
        nvmlReturn_t result = pause_for(set, out, next_ms);
        if (result != NVML_TIMEOUT || left_ms <= 0) return result;
        mk_refresh();
    }
}

nvmlReturn_t own_nvmlEventSetWait(nvmlEventSet_t set, nvml_event_v1 *out, unsigned timeout_ms) {
    nvml_event_v2 event;
    if (out == NULL) return NVML_INVALID_ARGUMENT;
    if (!is_ours(set)) return REAL(nvmlEventSetWait, set, out, timeout_ms);
    nvmlReturn_t result = own_nvmlEventSetWait_v2(set, &event, timeout_ms);
    if (result == NVML_SUCCESS)
        *out = (nvml_event_v1){event.device, event.type, event.data};
    return result;
}
