/* Memory errors: ECC counters by location and in total, retired pages, remapped rows. */
#include "nvml.h"

enum { NO_COUNTER = -1, PAGE_BYTES = 4096, MOST_PAGES = 64 };

/* ---- ECC -------------------------------------------------------------------------------------- */

#define COUNTERS(kind, counter)                                                                    \
    {                                                                                              \
        [NVML_L1] = MK_GPU_ECC_##kind##_##counter##_L1,                                            \
        [NVML_L2] = MK_GPU_ECC_##kind##_##counter##_L2,                                            \
        [NVML_DRAM] = MK_GPU_ECC_##kind##_##counter##_DRAM,                                        \
        [NVML_REGISTER_FILE] = MK_GPU_ECC_##kind##_##counter##_REGISTER_FILE,                      \
        [NVML_TEXTURE] = MK_GPU_ECC_##kind##_##counter##_TEXTURE,                                  \
        [NVML_TEXTURE_SHARED] = (mk_gpu_property)NO_COUNTER,                                       \
        [NVML_CBU] = (mk_gpu_property)NO_COUNTER,                                                  \
        [NVML_SRAM] = MK_GPU_ECC_##kind##_##counter##_SRAM,                                        \
    }

static const mk_gpu_property ECC[2][2][NVML_LOCATIONS] = {
    {COUNTERS(CORRECTED, VOLATILE), COUNTERS(CORRECTED, AGGREGATE)},
    {COUNTERS(UNCORRECTED, VOLATILE), COUNTERS(UNCORRECTED, AGGREGATE)},
};

static int64_t or_zero(int64_t value) { return value < 0 ? 0 : value; }

static bool is_sram_aggregate(unsigned type, unsigned counter, unsigned location) {
    return type == NVML_UNCORRECTED && counter == NVML_AGGREGATE && location == NVML_SRAM;
}

static bool location_is_set(unsigned gpu, unsigned type, unsigned counter, unsigned location) {
    int64_t value;
    mk_gpu_property property = ECC[type][counter][location];
    if (property == (mk_gpu_property)NO_COUNTER) return false;
    if (is_sram_aggregate(type, counter, location) &&
        NVML_ANY(gpu, MK_GPU_SRAM_UNCORRECTED_PARITY, MK_GPU_SRAM_UNCORRECTED_SECDED))
        return true;
    return mk_gpu(gpu, property, &value);
}

bool nvml_ecc_set(unsigned gpu, unsigned type, unsigned counter) {
    for (unsigned location = 0; location < NVML_LOCATIONS; location++)
        if (location_is_set(gpu, type, counter, location)) return true;
    return false;
}

/* What the mock says of one location, laid over base. The status call splits uncorrectable SRAM
 * errors into parity and SEC-DED, so their sum is a lower bound of the location's aggregate. */
static int64_t location_over(unsigned gpu, unsigned type, unsigned counter, unsigned location,
                             int64_t base) {
    mk_gpu_property property = ECC[type][counter][location];
    if (property == (mk_gpu_property)NO_COUNTER)
        return mk_mode_now() == MK_STANDALONE ? MK_NOT_SUPPORTED : base;
    int64_t value = mk_gpu_over(gpu, property, base);
    if (!is_sram_aggregate(type, counter, location)) return value;
    int64_t parity = or_zero(mk_gpu_over(gpu, MK_GPU_SRAM_UNCORRECTED_PARITY, 0));
    int64_t parts = parity + or_zero(mk_gpu_over(gpu, MK_GPU_SRAM_UNCORRECTED_SECDED, 0));
    return parts > 0 && (value == MK_UNKNOWN || value < parts) ? parts : value;
}

static int64_t real_location(nvmlDevice_t device, unsigned type, unsigned counter,
                             unsigned location) {
    nvml_u64 count;
    nvmlReturn_t result =
        REAL(nvmlDeviceGetMemoryErrorCounter, device, type, counter, location, &count);
    return result == NVML_SUCCESS ? (int64_t)count : MK_UNKNOWN;
}

nvmlReturn_t own_nvmlDeviceGetMemoryErrorCounter(nvmlDevice_t device, unsigned type,
                                                 unsigned counter, unsigned location,
                                                 nvml_u64 *count) {
    unsigned gpu;
    if (count == NULL) return NVML_INVALID_ARGUMENT;
    bool ours = nvml_gpu(device, &gpu) && type < 2 && counter < 2 && location < NVML_LOCATIONS;
    if (!ours || (mk_mode_now() != MK_STANDALONE && !location_is_set(gpu, type, counter, location)))
        return REAL(nvmlDeviceGetMemoryErrorCounter, device, type, counter, location, count);
    int64_t base = real_location(device, type, counter, location);
    int64_t value = location_over(gpu, type, counter, location, base);
    if (value == MK_NOT_SUPPORTED || value == MK_UNKNOWN) return NVML_NOT_SUPPORTED;
    *count = (nvml_u64)value;
    return NVML_SUCCESS;
}

/* The total is the driver's, moved by what the mock moves each location. */
nvmlReturn_t own_nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, unsigned type, unsigned counter,
                                             nvml_u64 *count) {
    unsigned gpu;
    if (count == NULL) return NVML_INVALID_ARGUMENT;
    nvmlReturn_t driver = REAL(nvmlDeviceGetTotalEccErrors, device, type, counter, count);
    if (!nvml_gpu(device, &gpu) || type > 1 || counter > 1 || !nvml_ecc_set(gpu, type, counter))
        return driver;
    bool known = driver == NVML_SUCCESS;
    int64_t total = known ? (int64_t)*count : 0;
    for (unsigned location = 0; location < NVML_LOCATIONS; location++) {
        if (!location_is_set(gpu, type, counter, location)) continue;
        int64_t base = real_location(device, type, counter, location);
        int64_t value = location_over(gpu, type, counter, location, base);
        if (value == MK_NOT_SUPPORTED || value == MK_UNKNOWN) continue;
        known = true;
        total += value - (base == MK_UNKNOWN ? 0 : base);
    }
    if (!known) return NVML_NOT_SUPPORTED;
    *count = (nvml_u64)or_zero(total);
    return NVML_SUCCESS;
}

nvmlReturn_t own_nvmlDeviceGetDetailedEccErrors(nvmlDevice_t device, unsigned type,
                                                unsigned counter, nvml_ecc_counts *counts) {
    unsigned gpu;
    if (counts == NULL) return NVML_INVALID_ARGUMENT;
    nvmlReturn_t driver = REAL(nvmlDeviceGetDetailedEccErrors, device, type, counter, counts);
    if (!nvml_gpu(device, &gpu) || type > 1 || counter > 1 || !nvml_ecc_set(gpu, type, counter))
        return driver;
    static const unsigned locations[] = {NVML_L1, NVML_L2, NVML_DRAM, NVML_REGISTER_FILE};
    nvml_u64 *const places[] = {&counts->l1, &counts->l2, &counts->device_memory,
                                &counts->register_file};
    bool known = driver == NVML_SUCCESS;
    if (!known) *counts = (nvml_ecc_counts){0};
    for (unsigned i = 0; i < 4; i++) {
        if (!location_is_set(gpu, type, counter, locations[i])) continue;
        int64_t value = location_over(gpu, type, counter, locations[i], (int64_t)*places[i]);
        if (value == MK_NOT_SUPPORTED) continue;
        *places[i] = (nvml_u64)value;
        known = true;
    }
    return known ? NVML_SUCCESS : NVML_NOT_SUPPORTED;
}

static nvml_u64 sram_count(nvmlDevice_t device, unsigned type, unsigned counter) {
    nvml_u64 count;
    nvmlReturn_t result =
        own_nvmlDeviceGetMemoryErrorCounter(device, type, counter, NVML_SRAM, &count);
    return result == NVML_SUCCESS ? count : 0;
}

static bool sram_is_set(unsigned gpu) {
    for (unsigned type = 0; type < 2; type++)
        for (unsigned counter = 0; counter < 2; counter++)
            if (location_is_set(gpu, type, counter, NVML_SRAM)) return true;
    return NVML_ANY(gpu, MK_GPU_SRAM_THRESHOLD_EXCEEDED);
}

nvmlReturn_t own_nvmlDeviceGetSramEccErrorStatus(nvmlDevice_t device, nvml_sram_errors *errors) {
    unsigned gpu;
    if (errors == NULL) return NVML_INVALID_ARGUMENT;
    if (mk_mode_now() == MK_STANDALONE && errors->version != NVML_VERSION_OF(nvml_sram_errors, 1))
        return NVML_ARGUMENT_VERSION_MISMATCH;
    nvmlReturn_t driver = REAL(nvmlDeviceGetSramEccErrorStatus, device, errors);
    if (!nvml_gpu(device, &gpu) || !sram_is_set(gpu)) return driver;
    if (driver != NVML_SUCCESS) *errors = (nvml_sram_errors){.version = errors->version};
    int64_t parity = (int64_t)errors->aggregate_parity;
    parity = mk_gpu_over(gpu, MK_GPU_SRAM_UNCORRECTED_PARITY, parity);
    if (mk_mode_now() == MK_STANDALONE && parity == MK_NOT_SUPPORTED) return NVML_NOT_SUPPORTED;
    nvml_u64 total = sram_count(device, NVML_UNCORRECTED, NVML_AGGREGATE);
    nvml_u64 known = errors->bucket_l2 + errors->bucket_sm + errors->bucket_pcie +
                     errors->bucket_mcu + errors->bucket_other;
    errors->aggregate_parity = (nvml_u64)or_zero(parity);
    if (errors->aggregate_parity > total) errors->aggregate_parity = total;
    errors->aggregate_secded = total - errors->aggregate_parity;
    errors->aggregate_corrected = sram_count(device, NVML_CORRECTED, NVML_AGGREGATE);
    nvml_u64 lately = sram_count(device, NVML_UNCORRECTED, NVML_VOLATILE);
    if (errors->volatile_parity > lately) errors->volatile_parity = lately;
    errors->volatile_secded = lately - errors->volatile_parity;
    errors->volatile_corrected = sram_count(device, NVML_CORRECTED, NVML_VOLATILE);
    if (known > total) {
        errors->bucket_l2 = errors->bucket_sm = errors->bucket_pcie = errors->bucket_mcu = 0;
        errors->bucket_other = known = 0;
    }
    errors->bucket_other += total - known;
    errors->threshold_exceeded = (unsigned)or_zero(
        mk_gpu_over(gpu, MK_GPU_SRAM_THRESHOLD_EXCEEDED, errors->threshold_exceeded));
    return NVML_SUCCESS;
}

/* ---- retired pages ---------------------------------------------------------------------------- */

/* The addresses are made up: the cause decides the region, the place the page. */
static nvmlReturn_t pages_out(unsigned cause, int64_t pages, unsigned *count, nvml_u64 *addresses,
                              nvml_u64 *times_us) {
    if (pages == MK_NOT_SUPPORTED) return NVML_NOT_SUPPORTED;
    unsigned room = *count;
    *count = pages > MOST_PAGES ? MOST_PAGES : (unsigned)or_zero(pages);
    if (*count == 0) return NVML_SUCCESS;
    if (room < *count || addresses == NULL) return NVML_INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < *count; i++) {
        addresses[i] = (nvml_u64)(cause + 1) << 28 | (nvml_u64)i * PAGE_BYTES;
        if (times_us != NULL) times_us[i] = 0; /* retired at an unknown time */
    }
    return NVML_SUCCESS;
}

static bool pages_of(nvmlDevice_t device, unsigned cause, int64_t *pages) {
    unsigned gpu;
    return cause < 2 && nvml_gpu(device, &gpu) &&
           mk_gpu(gpu, cause == 0 ? MK_GPU_RETIRED_PAGES_SBE : MK_GPU_RETIRED_PAGES_DBE, pages);
}

nvmlReturn_t own_nvmlDeviceGetRetiredPages(nvmlDevice_t device, unsigned cause, unsigned *count,
                                           nvml_u64 *addresses) {
    int64_t pages;
    if (count == NULL) return NVML_INVALID_ARGUMENT;
    if (!pages_of(device, cause, &pages))
        return REAL(nvmlDeviceGetRetiredPages, device, cause, count, addresses);
    return pages_out(cause, pages, count, addresses, NULL);
}

nvmlReturn_t own_nvmlDeviceGetRetiredPages_v2(nvmlDevice_t device, unsigned cause, unsigned *count,
                                              nvml_u64 *addresses, nvml_u64 *times_us) {
    int64_t pages;
    if (count == NULL) return NVML_INVALID_ARGUMENT;
    if (!pages_of(device, cause, &pages))
        return REAL(nvmlDeviceGetRetiredPages_v2, device, cause, count, addresses, times_us);
    return pages_out(cause, pages, count, addresses, times_us);
}

/* ---- remapped rows ---------------------------------------------------------------------------- */

nvmlReturn_t own_nvmlDeviceGetRemappedRows(nvmlDevice_t device, unsigned *corrected,
                                           unsigned *uncorrected, unsigned *pending,
                                           unsigned *failure) {
    unsigned gpu;
    if (corrected == NULL || uncorrected == NULL || pending == NULL || failure == NULL)
        return NVML_INVALID_ARGUMENT;
    nvmlReturn_t driver =
        REAL(nvmlDeviceGetRemappedRows, device, corrected, uncorrected, pending, failure);
    if (!nvml_gpu(device, &gpu) ||
        !NVML_ANY(gpu, MK_GPU_REMAPPED_ROWS_CORRECTABLE, MK_GPU_REMAPPED_ROWS_UNCORRECTABLE,
                  MK_GPU_REMAP_PENDING, MK_GPU_REMAP_FAILURE))
        return driver;
    const mk_gpu_property properties[] = {MK_GPU_REMAPPED_ROWS_CORRECTABLE,
                                          MK_GPU_REMAPPED_ROWS_UNCORRECTABLE, MK_GPU_REMAP_PENDING,
                                          MK_GPU_REMAP_FAILURE};
    unsigned *const out[] = {corrected, uncorrected, pending, failure};
    bool supported = driver == NVML_SUCCESS;
    for (unsigned i = 0; i < 4; i++) {
        int64_t base = driver == NVML_SUCCESS ? (int64_t)*out[i] : MK_NOT_SUPPORTED;
        int64_t value = mk_gpu_over(gpu, properties[i], base);
        supported |= value != MK_NOT_SUPPORTED;
        *out[i] = (unsigned)or_zero(value);
    }
    return supported ? NVML_SUCCESS : NVML_NOT_SUPPORTED;
}

nvmlReturn_t own_nvmlDeviceGetRemappedRows_v2(nvmlDevice_t device, nvml_remapped_rows *rows) {
    unsigned gpu;
    if (rows == NULL) return NVML_INVALID_ARGUMENT;
    nvmlReturn_t driver = REAL(nvmlDeviceGetRemappedRows_v2, device, rows);
    if (!nvml_gpu(device, &gpu) ||
        !NVML_ANY(gpu, MK_GPU_REMAPPED_ROWS_CORRECTABLE, MK_GPU_REMAPPED_ROWS_UNCORRECTABLE,
                  MK_GPU_REMAP_PENDING, MK_GPU_REMAP_FAILURE))
        return driver;
    if (driver != NVML_SUCCESS) *rows = (nvml_remapped_rows){0};
    return own_nvmlDeviceGetRemappedRows(device, &rows->corrected_active, &rows->uncorrected_active,
                                         &rows->pending, &rows->failure);
}

nvmlReturn_t own_nvmlDeviceGetRowRemapperHistogram(nvmlDevice_t device,
                                                   nvml_remap_histogram *histogram) {
    static const mk_gpu_property properties[] = {MK_GPU_REMAP_BANKS_MAX, MK_GPU_REMAP_BANKS_HIGH,
                                                 MK_GPU_REMAP_BANKS_PARTIAL, MK_GPU_REMAP_BANKS_LOW,
                                                 MK_GPU_REMAP_BANKS_NONE};
    unsigned gpu;
    if (histogram == NULL) return NVML_INVALID_ARGUMENT;
    nvmlReturn_t driver = REAL(nvmlDeviceGetRowRemapperHistogram, device, histogram);
    if (!nvml_gpu(device, &gpu) || !nvml_any(gpu, properties, 5)) return driver;
    unsigned *const out[] = {&histogram->max, &histogram->high, &histogram->partial,
                             &histogram->low, &histogram->none};
    bool supported = driver == NVML_SUCCESS;
    for (unsigned i = 0; i < 5; i++) {
        int64_t base = driver == NVML_SUCCESS ? (int64_t)*out[i] : MK_NOT_SUPPORTED;
        int64_t value = mk_gpu_over(gpu, properties[i], base);
        supported |= value != MK_NOT_SUPPORTED;
        *out[i] = (unsigned)or_zero(value);
    }
    return supported ? NVML_SUCCESS : NVML_NOT_SUPPORTED;
}
