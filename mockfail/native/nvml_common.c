/* What answers of every kind need: handles, text, addresses, the driver's own word. */
#define _GNU_SOURCE
#include "nvml.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

void *nvml_real(mk_function function) {
    return mk_mode_now() == MK_STANDALONE ? NULL : mk_real(function);
}

nvmlReturn_t nvml_absent(void) {
    return mk_mode_now() == MK_STANDALONE ? NVML_INVALID_ARGUMENT : NVML_FUNCTION_NOT_FOUND;
}

bool nvml_gpu(nvmlDevice_t device, unsigned *gpu) { return mk_handle_index(device, gpu); }

static bool hidden(unsigned gpu) {
    int64_t value;
    return mk_gpu(gpu, MK_GPU_HIDDEN, &value) && value == 1;
}

bool nvml_visible(unsigned index, unsigned *gpu) {
    for (unsigned i = 0; i < MK_MAX_GPUS; i++) {
        if (!mk_gpu_exists(i) || hidden(i) || index-- > 0) continue;
        *gpu = i;
        return true;
    }
    return false;
}

unsigned nvml_visible_count(void) {
    unsigned count = 0;
    for (unsigned i = 0; i < MK_MAX_GPUS; i++) count += mk_gpu_exists(i) && !hidden(i);
    return count;
}

nvmlReturn_t nvml_handle(unsigned gpu, nvmlDevice_t *device) {
    nvmlReturn_t fault = (nvmlReturn_t)mk_device_fault(gpu);
    if (fault != NVML_SUCCESS) return fault;
    void *handle = mk_handle(gpu);
    if (handle == NULL) return REAL(nvmlDeviceGetHandleByIndex_v2, gpu, device); /* says why */
    *device = handle;
    return NVML_SUCCESS;
}

nvmlReturn_t nvml_text_out(const char *text, char *out, unsigned size) {
    if (*text == '\0') return NVML_NOT_SUPPORTED;
    size_t bytes = strlen(text) + 1;
    if (bytes > size) return NVML_INSUFFICIENT_SIZE;
    memcpy(out, text, bytes);
    return NVML_SUCCESS;
}

nvmlReturn_t nvml_number_out(int64_t value, unsigned *out) {
    if (value == MK_NOT_SUPPORTED) return NVML_NOT_SUPPORTED;
    *out = (unsigned)value;
    return NVML_SUCCESS;
}

nvmlReturn_t nvml_reading(nvmlDevice_t device, unsigned gpu, mk_gpu_property property,
                          mk_function function, unsigned *value) {
    int64_t set;
    unsigned real = 0;
    if (mk_mode_now() == MK_STANDALONE) {
        mk_gpu(gpu, property, &set);
        return nvml_number_out(set, value);
    }
    nvmlReturn_t (*driver)(nvmlDevice_t, unsigned *) = mk_real(function);
    nvmlReturn_t result = driver == NULL ? NVML_FUNCTION_NOT_FOUND : driver(device, &real);
    set = mk_gpu_over(gpu, property, result == NVML_SUCCESS ? (int64_t)real : MK_UNKNOWN);
    if (set == MK_UNKNOWN) return result;
    return nvml_number_out(set, value);
}

bool nvml_any(unsigned gpu, const mk_gpu_property *properties, unsigned count) {
    int64_t value;
    for (unsigned i = 0; i < count; i++)
        if (mk_gpu(gpu, properties[i], &value)) return true;
    return false;
}

bool nvml_address_of(const char *text, nvml_address *address) {
    char rest;
    *address = (nvml_address){0};
    if (sscanf(text, "%8x:%2x:%2x.%1x%c", &address->domain, &address->bus, &address->device,
               &address->function, &rest) == 4)
        return true;
    *address = (nvml_address){0};
    return sscanf(text, "%2x:%2x.%1x%c", &address->bus, &address->device, &address->function,
                  &rest) == 3;
}

uint64_t nvml_now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}
