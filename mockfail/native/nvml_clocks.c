/* Clocks, and why they are lower than they could be. */
#include "nvml.h"

enum { STEP_MHZ = 15, LOWEST_MHZ = 210, MOST_CLOCKS = 256 };

static const mk_gpu_property NOW[NVML_CLOCKS] = {
    MK_GPU_CLOCK_GRAPHICS_MHZ,
    MK_GPU_CLOCK_SM_MHZ,
    MK_GPU_CLOCK_MEMORY_MHZ,
    MK_GPU_CLOCK_VIDEO_MHZ,
};
static const mk_gpu_property HIGHEST[NVML_CLOCKS] = {
    MK_GPU_CLOCK_GRAPHICS_MAX_MHZ,
    MK_GPU_CLOCK_SM_MAX_MHZ,
    MK_GPU_CLOCK_MEMORY_MAX_MHZ,
    MK_GPU_CLOCK_VIDEO_MAX_MHZ,
};
static const mk_gpu_property APPLICATION[NVML_CLOCKS] = {
    MK_GPU_CLOCK_APPLICATION_GRAPHICS_MHZ,
    MK_GPU_CLOCK_APPLICATION_GRAPHICS_MHZ,
    MK_GPU_CLOCK_APPLICATION_MEMORY_MHZ,
    MK_GPU_CLOCK_VIDEO_MAX_MHZ,
};

/* One source for a clock, whatever call asks; driver is what the real one gave and wrote. */
static nvmlReturn_t clock_of(nvmlDevice_t device, const mk_gpu_property *properties, unsigned type,
                             nvmlReturn_t driver, unsigned *mhz) {
    unsigned gpu;
    if (!nvml_gpu(device, &gpu)) return driver;
    if (type >= NVML_CLOCKS) return mk_mode_now() == MK_STANDALONE ? NVML_INVALID_ARGUMENT : driver;
    int64_t base = driver == NVML_SUCCESS ? (int64_t)*mhz : MK_UNKNOWN;
    int64_t value = mk_gpu_over(gpu, properties[type], base);
    return value == MK_UNKNOWN ? driver : nvml_number_out(value, mhz);
}

#define CLOCK(function, properties)                                                                \
    nvmlReturn_t own_##function(nvmlDevice_t device, unsigned type, unsigned *mhz) {               \
        if (mhz == NULL) return NVML_INVALID_ARGUMENT;                                             \
        return clock_of(device, properties, type, REAL(function, device, type, mhz), mhz);         \
    }

CLOCK(nvmlDeviceGetClockInfo, NOW)
CLOCK(nvmlDeviceGetMaxClockInfo, HIGHEST)
CLOCK(nvmlDeviceGetApplicationsClock, APPLICATION)
CLOCK(nvmlDeviceGetDefaultApplicationsClock, APPLICATION)
CLOCK(nvmlDeviceGetMaxCustomerBoostClock, HIGHEST)

nvmlReturn_t own_nvmlDeviceGetClock(nvmlDevice_t device, unsigned type, unsigned which,
                                    unsigned *mhz) {
    static const mk_gpu_property *const sources[] = {
        [NVML_CLOCK_NOW] = NOW,
        [NVML_CLOCK_APPLICATION] = APPLICATION,
        [NVML_CLOCK_DEFAULT] = APPLICATION,
        [NVML_CLOCK_HIGHEST] = HIGHEST,
    };
    if (mhz == NULL) return NVML_INVALID_ARGUMENT;
    nvmlReturn_t driver = REAL(nvmlDeviceGetClock, device, type, which, mhz);
    if (which >= sizeof sources / sizeof *sources) return driver;
    return clock_of(device, sources[which], type, driver, mhz);
}

/* ---- what may be set ------------------------------------------------------------------------- */

static nvmlReturn_t clocks_out(const unsigned *from, unsigned found, unsigned *count,
                               unsigned *list) {
    unsigned room = *count;
    *count = found;
    if (room < found || (list == NULL && found > 0)) return NVML_INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < found; i++) list[i] = from[i];
    return NVML_SUCCESS;
}

nvmlReturn_t own_nvmlDeviceGetSupportedMemoryClocks(nvmlDevice_t device, unsigned *count,
                                                    unsigned *mhz) {
    int64_t highest;
    unsigned gpu;
    if (count == NULL) return NVML_INVALID_ARGUMENT;
    if (!nvml_gpu(device, &gpu) || !mk_gpu(gpu, HIGHEST[NVML_CLOCK_MEMORY], &highest))
        return REAL(nvmlDeviceGetSupportedMemoryClocks, device, count, mhz);
    return clocks_out(&(unsigned){(unsigned)highest}, 1, count, mhz);
}

nvmlReturn_t own_nvmlDeviceGetSupportedGraphicsClocks(nvmlDevice_t device, unsigned memory_mhz,
                                                      unsigned *count, unsigned *mhz) {
    int64_t highest, memory;
    unsigned gpu, list[MOST_CLOCKS], found = 0;
    if (count == NULL) return NVML_INVALID_ARGUMENT;
    if (mk_mode_now() != MK_STANDALONE || !nvml_gpu(device, &gpu))
        return REAL(nvmlDeviceGetSupportedGraphicsClocks, device, memory_mhz, count, mhz);
    mk_gpu(gpu, HIGHEST[NVML_CLOCK_GRAPHICS], &highest);
    mk_gpu(gpu, HIGHEST[NVML_CLOCK_MEMORY], &memory);
    if (memory_mhz != (unsigned)memory) return NVML_NOT_FOUND;
    for (int64_t at = highest; at >= LOWEST_MHZ && found < MOST_CLOCKS; at -= STEP_MHZ)
        list[found++] = (unsigned)at;
    return clocks_out(list, found, count, mhz);
}

/* ---- reasons ---------------------------------------------------------------------------------- */

static const struct {
    mk_gpu_property property;
    nvml_u64 bit;
} REASONS[] = {
    {MK_GPU_THROTTLE_IDLE, 0x1},        {MK_GPU_THROTTLE_APPLICATION_CLOCKS, 0x2},
    {MK_GPU_THROTTLE_POWER_CAP, 0x4},   {MK_GPU_THROTTLE_HW_SLOWDOWN, 0x8},
    {MK_GPU_THROTTLE_SYNC_BOOST, 0x10}, {MK_GPU_THROTTLE_SW_THERMAL, 0x20},
    {MK_GPU_THROTTLE_HW_THERMAL, 0x40}, {MK_GPU_THROTTLE_POWER_BRAKE, 0x80},
    {MK_GPU_THROTTLE_DISPLAY, 0x100},
};
enum { REASON_COUNT = sizeof REASONS / sizeof *REASONS };

static nvmlReturn_t reasons_of(nvmlDevice_t device, nvmlReturn_t driver, nvml_u64 *reasons) {
    unsigned gpu;
    bool known = driver == NVML_SUCCESS;
    if (!nvml_gpu(device, &gpu)) return driver;
    nvml_u64 mask = known ? *reasons : 0;
    for (unsigned i = 0; i < REASON_COUNT; i++) {
        int64_t set;
        if (!mk_gpu(gpu, REASONS[i].property, &set)) continue;
        known = true;
        mask = set == 1 ? mask | REASONS[i].bit : mask & ~REASONS[i].bit;
    }
    if (!known) return driver;
    *reasons = mask;
    return NVML_SUCCESS;
}

static nvmlReturn_t supported_of(nvmlDevice_t device, nvmlReturn_t driver, nvml_u64 *reasons) {
    unsigned gpu;
    int64_t value;
    if (mk_mode_now() != MK_STANDALONE || !nvml_gpu(device, &gpu)) return driver;
    *reasons = 0;
    for (unsigned i = 0; i < REASON_COUNT; i++)
        if (mk_gpu(gpu, REASONS[i].property, &value) && value != MK_NOT_SUPPORTED)
            *reasons |= REASONS[i].bit;
    return NVML_SUCCESS;
}

#define REASONS_CALL(function, source)                                                             \
    nvmlReturn_t own_##function(nvmlDevice_t device, nvml_u64 *reasons) {                          \
        if (reasons == NULL) return NVML_INVALID_ARGUMENT;                                         \
        return source(device, REAL(function, device, reasons), reasons);                           \
    }

REASONS_CALL(nvmlDeviceGetCurrentClocksThrottleReasons, reasons_of)
REASONS_CALL(nvmlDeviceGetCurrentClocksEventReasons, reasons_of)
REASONS_CALL(nvmlDeviceGetSupportedClocksThrottleReasons, supported_of)
REASONS_CALL(nvmlDeviceGetSupportedClocksEventReasons, supported_of)

nvmlReturn_t own_nvmlDeviceGetViolationStatus(nvmlDevice_t device, unsigned policy,
                                              nvml_violation *violation) {
    enum { POWER, THERMAL, LAST_POLICY = 11 };
    unsigned gpu;
    if (violation == NULL) return NVML_INVALID_ARGUMENT;
    nvmlReturn_t driver = REAL(nvmlDeviceGetViolationStatus, device, policy, violation);
    if (!nvml_gpu(device, &gpu)) return driver;
    int64_t time_ns = driver == NVML_SUCCESS ? (int64_t)violation->violation_ns : MK_UNKNOWN;
    if (policy == POWER || policy == THERMAL)
        time_ns = mk_gpu_over(
            gpu, policy == POWER ? MK_GPU_VIOLATION_POWER_NS : MK_GPU_VIOLATION_THERMAL_NS,
            time_ns);
    else if (mk_mode_now() == MK_STANDALONE)
        time_ns = policy <= LAST_POLICY ? 0 : MK_UNKNOWN;
    if (time_ns == MK_UNKNOWN) return driver;
    if (time_ns == MK_NOT_SUPPORTED) return NVML_NOT_SUPPORTED;
    if (driver != NVML_SUCCESS) violation->reference_us = nvml_now_us();
    violation->violation_ns = (nvml_u64)time_ns;
    return NVML_SUCCESS;
}
