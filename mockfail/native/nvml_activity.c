/* How busy a GPU is: engines, samples, the host link. */
#include "nvml.h"

enum { PERIOD_US = 167000, SAMPLES = 8, SAMPLE_US = 20000, TX = 0, RX = 1 };

/* ---- engines ---------------------------------------------------------------------------------- */

nvmlReturn_t own_nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvml_utilization *rates) {
    unsigned gpu;
    if (rates == NULL) return NVML_INVALID_ARGUMENT;
    nvmlReturn_t driver = REAL(nvmlDeviceGetUtilizationRates, device, rates);
    if (!nvml_gpu(device, &gpu) ||
        !NVML_ANY(gpu, MK_GPU_GPU_UTILIZATION_PERCENT, MK_GPU_MEMORY_UTILIZATION_PERCENT))
        return driver;
    if (driver != NVML_SUCCESS) *rates = (nvml_utilization){0, 0};
    int64_t busy = mk_gpu_over(gpu, MK_GPU_GPU_UTILIZATION_PERCENT, rates->gpu);
    int64_t memory = mk_gpu_over(gpu, MK_GPU_MEMORY_UTILIZATION_PERCENT, rates->memory);
    nvmlReturn_t result = nvml_number_out(busy, &rates->gpu);
    return result == NVML_SUCCESS ? nvml_number_out(memory, &rates->memory) : result;
}

#define ENGINE(function, property)                                                                 \
    nvmlReturn_t own_##function(nvmlDevice_t device, unsigned *percent, unsigned *period_us) {     \
        unsigned gpu;                                                                              \
        if (percent == NULL || period_us == NULL) return NVML_INVALID_ARGUMENT;                    \
        nvmlReturn_t driver = REAL(function, device, percent, period_us);                          \
        if (!nvml_gpu(device, &gpu)) return driver;                                                \
        int64_t base = driver == NVML_SUCCESS ? (int64_t)*percent : MK_UNKNOWN;                    \
        int64_t value = mk_gpu_over(gpu, MK_GPU_##property##_UTILIZATION_PERCENT, base);           \
        if (value == MK_UNKNOWN) return driver;                                                    \
        if (driver != NVML_SUCCESS) *period_us = PERIOD_US;                                        \
        return nvml_number_out(value, percent);                                                    \
    }

ENGINE(nvmlDeviceGetEncoderUtilization, ENCODER)
ENGINE(nvmlDeviceGetDecoderUtilization, DECODER)
ENGINE(nvmlDeviceGetJpgUtilization, JPEG)
ENGINE(nvmlDeviceGetOfaUtilization, OFA)

static bool standalone(nvmlDevice_t device) {
    unsigned gpu;
    return mk_mode_now() == MK_STANDALONE && nvml_gpu(device, &gpu);
}

nvmlReturn_t own_nvmlDeviceGetEncoderStats(nvmlDevice_t device, unsigned *sessions, unsigned *fps,
                                           unsigned *latency_us) {
    if (sessions == NULL || fps == NULL || latency_us == NULL) return NVML_INVALID_ARGUMENT;
    if (!standalone(device))
        return REAL(nvmlDeviceGetEncoderStats, device, sessions, fps, latency_us);
    *sessions = *fps = *latency_us = 0;
    return NVML_SUCCESS;
}

nvmlReturn_t own_nvmlDeviceGetFBCStats(nvmlDevice_t device, nvml_capture *stats) {
    if (stats == NULL) return NVML_INVALID_ARGUMENT;
    if (!standalone(device)) return REAL(nvmlDeviceGetFBCStats, device, stats);
    *stats = (nvml_capture){0, 0, 0};
    return NVML_SUCCESS;
}

#define NO_SESSIONS(function)                                                                      \
    nvmlReturn_t own_##function(nvmlDevice_t device, unsigned *count, void *sessions) {            \
        if (count == NULL) return NVML_INVALID_ARGUMENT;                                           \
        if (!standalone(device)) return REAL(function, device, count, sessions);                   \
        *count = 0;                                                                                \
        return NVML_SUCCESS;                                                                       \
    }

NO_SESSIONS(nvmlDeviceGetEncoderSessions)
NO_SESSIONS(nvmlDeviceGetFBCSessions)

nvmlReturn_t own_nvmlDeviceGetProcessUtilization(nvmlDevice_t device, void *samples,
                                                 unsigned *count, nvml_u64 since_us) {
    if (count == NULL) return NVML_INVALID_ARGUMENT;
    if (!standalone(device))
        return REAL(nvmlDeviceGetProcessUtilization, device, samples, count, since_us);
    *count = 0;
    return NVML_NOT_FOUND; /* no process was busy since then */
}

/* ---- samples: the reading of now, as the driver's buffer would hold it --------------------------- */

static bool sampled(unsigned gpu, unsigned type, int64_t *value) {
    static const mk_gpu_property sources[] = {
        [NVML_SAMPLES_POWER] = MK_GPU_POWER_MW,
        [NVML_SAMPLES_GPU] = MK_GPU_GPU_UTILIZATION_PERCENT,
        [NVML_SAMPLES_MEMORY] = MK_GPU_MEMORY_UTILIZATION_PERCENT,
        [NVML_SAMPLES_ENCODER] = MK_GPU_ENCODER_UTILIZATION_PERCENT,
        [NVML_SAMPLES_DECODER] = MK_GPU_DECODER_UTILIZATION_PERCENT,
        [NVML_SAMPLES_CLOCK] = MK_GPU_CLOCK_SM_MHZ,
        [NVML_SAMPLES_MEMORY_CLOCK] = MK_GPU_CLOCK_MEMORY_MHZ,
        [NVML_SAMPLES_MODULE_POWER] = MK_GPU_POWER_MW,
        [NVML_SAMPLES_JPEG] = MK_GPU_JPEG_UTILIZATION_PERCENT,
        [NVML_SAMPLES_OFA] = MK_GPU_OFA_UTILIZATION_PERCENT,
    };
    return type < sizeof sources / sizeof *sources && mk_gpu(gpu, sources[type], value);
}

nvmlReturn_t own_nvmlDeviceGetSamples(nvmlDevice_t device, unsigned type, nvml_u64 since_us,
                                      unsigned *value_type, unsigned *count, nvml_sample *samples) {
    unsigned gpu, written = 0;
    int64_t value;
    if (value_type == NULL || count == NULL) return NVML_INVALID_ARGUMENT;
    if (!nvml_gpu(device, &gpu) || !sampled(gpu, type, &value))
        return REAL(nvmlDeviceGetSamples, device, type, since_us, value_type, count, samples);
    if (value == MK_NOT_SUPPORTED) return NVML_NOT_SUPPORTED;
    *value_type = NVML_VALUE_U32;
    unsigned room = *count;
    *count = SAMPLES;
    if (samples == NULL) return NVML_SUCCESS;
    uint64_t last_us = nvml_now_us() / SAMPLE_US * SAMPLE_US;
    for (unsigned i = SAMPLES; i > 0 && written < room; i--) {
        uint64_t time_us = last_us - (uint64_t)(i - 1) * SAMPLE_US;
        if (time_us <= since_us) continue;
        samples[written++] = (nvml_sample){time_us, {.u64 = (uint32_t)value}};
    }
    *count = written;
    return written > 0 ? NVML_SUCCESS : NVML_NOT_FOUND;
}

/* ---- the host link ---------------------------------------------------------------------------- */

nvmlReturn_t own_nvmlDeviceGetPcieThroughput(nvmlDevice_t device, unsigned direction,
                                             unsigned *kb_per_s) {
    unsigned gpu;
    if (kb_per_s == NULL) return NVML_INVALID_ARGUMENT;
    nvmlReturn_t driver = REAL(nvmlDeviceGetPcieThroughput, device, direction, kb_per_s);
    if (!nvml_gpu(device, &gpu) || direction > RX) return driver;
    int64_t base = driver == NVML_SUCCESS ? (int64_t)*kb_per_s : MK_UNKNOWN;
    int64_t value = mk_gpu_over(
        gpu, direction == TX ? MK_GPU_PCIE_TX_KB_PER_S : MK_GPU_PCIE_RX_KB_PER_S, base);
    return value == MK_UNKNOWN ? driver : nvml_number_out(value, kb_per_s);
}

nvmlReturn_t own_nvmlDeviceGetPcieSpeed(nvmlDevice_t device, unsigned *mb_per_s) {
    static const unsigned speeds[] = {0, 2500, 5000, 8000, 16000, 32000, 64000};
    unsigned gpu;
    int64_t generation;
    if (mb_per_s == NULL) return NVML_INVALID_ARGUMENT;
    if (!nvml_gpu(device, &gpu) || !mk_gpu(gpu, MK_GPU_PCIE_GENERATION_CURRENT, &generation))
        return REAL(nvmlDeviceGetPcieSpeed, device, mb_per_s);
    if (generation < 1 || generation > 6) return NVML_NOT_SUPPORTED;
    *mb_per_s = speeds[generation];
    return NVML_SUCCESS;
}

/* The call numbers the speeds as the generations are numbered. */
nvmlReturn_t own_nvmlDeviceGetPcieLinkMaxSpeed(nvmlDevice_t device, unsigned *speed) {
    unsigned gpu;
    int64_t generation;
    if (speed == NULL) return NVML_INVALID_ARGUMENT;
    if (!nvml_gpu(device, &gpu) || !mk_gpu(gpu, MK_GPU_PCIE_GENERATION_MAX, &generation))
        return REAL(nvmlDeviceGetPcieLinkMaxSpeed, device, speed);
    return nvml_number_out(generation, speed);
}
