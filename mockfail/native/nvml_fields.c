/* Field values: the readings again, by number. Each comes from the same source as its own call. */
#include "nvml.h"

enum {
    /* nvmlFieldValue ids, as nvidia-ml-py (BSD) numbers them */
    FIRST_ECC_TOTAL = 3,
    LAST_ECC_TOTAL = 6,
    FIRST_ECC_LOCATION = 7,
    LAST_ECC_LOCATION = 28,
    RETIRED_PENDING_SBE = 92,
    RETIRED_PENDING_DBE = 93,
    LINK_COUNT = 91,
    LINKS_TO_SWITCHES = 147,
    ERROR_DL_REPLAY = 161,
    ERROR_DL_RECOVERY = 162,
    ERROR_DL_CRC = 163,
    LINK_SPEED = 164,
    LINK_STATE = 165,
    LINK_VERSION = 166,
    RESET_STATUS = 226,
    DRAIN_AND_RESET_STATUS = 227,
    FIRST_LINKS = 6, /* links that the older runs of numbers begin with */
    ALL_LINKS = 0xFFFFFFFF,
    REMOTE_SWITCH = 2,
    RECOVERY_RESET = 1,
    RECOVERY_DRAIN_AND_RESET = 4,
};

/* ---- one property ------------------------------------------------------------------------------ */

static const struct {
    unsigned field;
    mk_gpu_property property;
} PROPERTIES[] = {
    {1, MK_GPU_ECC_MODE_CURRENT},
    {2, MK_GPU_ECC_MODE_PENDING},
    {29, MK_GPU_RETIRED_PAGES_SBE},
    {30, MK_GPU_RETIRED_PAGES_DBE},
    {31, MK_GPU_RETIRED_PAGES_PENDING},
    {74, MK_GPU_VIOLATION_POWER_NS},
    {75, MK_GPU_VIOLATION_THERMAL_NS},
    {82, MK_GPU_MEMORY_TEMPERATURE_C},
    {83, MK_GPU_ENERGY_MJ},
    {LINK_COUNT, MK_GPU_NVLINKS},
    {94, MK_GPU_PCIE_REPLAYS},
    {142, MK_GPU_REMAPPED_ROWS_CORRECTABLE},
    {143, MK_GPU_REMAPPED_ROWS_UNCORRECTABLE},
    {144, MK_GPU_REMAP_PENDING},
    {145, MK_GPU_REMAP_FAILURE},
    {185, MK_GPU_POWER_MW},
    {186, MK_GPU_POWER_MW},
    {187, MK_GPU_POWER_LIMIT_MIN_MW},
    {188, MK_GPU_POWER_LIMIT_MAX_MW},
    {189, MK_GPU_POWER_LIMIT_DEFAULT_MW},
    {190, MK_GPU_POWER_LIMIT_ENFORCED_MW},
    {191, MK_GPU_ENERGY_MJ},
    {192, MK_GPU_POWER_LIMIT_MW},
    {230, MK_GPU_RECOVERY_ACTION},
};

static bool property_field(unsigned gpu, unsigned field, int64_t real, int64_t *value) {
    for (unsigned i = 0; i < sizeof PROPERTIES / sizeof *PROPERTIES; i++) {
        if (PROPERTIES[i].field != field) continue;
        *value = mk_gpu_over(gpu, PROPERTIES[i].property, real);
        return mk_gpu(gpu, PROPERTIES[i].property, &(int64_t){0});
    }
    return false;
}

/* ---- ECC --------------------------------------------------------------------------------------- */

/* What a run of ECC ids counts: L1, L2, device memory, registers, texture, each single- then
 * double-bit, first volatile; then double-bit of the CBU, which nothing here has. */
static bool ecc_location(unsigned field, unsigned *type, unsigned *counter, unsigned *location) {
    static const unsigned order[] = {NVML_L1, NVML_L2, NVML_DRAM, NVML_REGISTER_FILE, NVML_TEXTURE};
    enum { RUN = 11 };
    if (field < FIRST_ECC_LOCATION || field > LAST_ECC_LOCATION) return false;
    unsigned place = (field - FIRST_ECC_LOCATION) % RUN;
    *counter = (field - FIRST_ECC_LOCATION) / RUN;
    *type = place == RUN - 1 ? NVML_UNCORRECTED : place % 2;
    *location = place == RUN - 1 ? NVML_CBU : order[place / 2];
    return true;
}

static bool ecc_field(nvmlDevice_t device, unsigned gpu, unsigned field, int64_t *value) {
    unsigned type, counter, location;
    nvml_u64 count = 0;
    nvmlReturn_t result;
    if (field >= FIRST_ECC_TOTAL && field <= LAST_ECC_TOTAL) {
        type = (field - FIRST_ECC_TOTAL) % 2;
        counter = (field - FIRST_ECC_TOTAL) / 2;
        if (!nvml_ecc_set(gpu, type, counter)) return false;
        result = own_nvmlDeviceGetTotalEccErrors(device, type, counter, &count);
    } else if (ecc_location(field, &type, &counter, &location)) {
        if (!nvml_ecc_set(gpu, type, counter)) return false;
        result = own_nvmlDeviceGetMemoryErrorCounter(device, type, counter, location, &count);
    } else {
        return false;
    }
    *value = result == NVML_SUCCESS ? (int64_t)count : MK_NOT_SUPPORTED;
    return true;
}

/* ---- NVLink ------------------------------------------------------------------------------------ */

/* Counters by link: six ids and their total, the next six links further on. */
static const struct {
    unsigned first, further;
    bool total;
    mk_link_property property;
} LINK_RUNS[] = {
    {32, 96, true, MK_LINK_CRC_FLIT_ERRORS},   {39, 102, true, MK_LINK_CRC_DATA_ERRORS},
    {46, 108, true, MK_LINK_REPLAY_ERRORS},    {53, 114, true, MK_LINK_RECOVERY_ERRORS},
    {84, 132, false, MK_LINK_SPEED_MB_PER_S},
};

static bool link_number(unsigned gpu, unsigned link, mk_link_property property, int64_t *value) {
    *value = MK_NOT_SUPPORTED;
    if (!nvml_link_known(gpu, link)) return mk_mode_now() == MK_STANDALONE;
    return mk_link(gpu, link, property, value);
}

/* All links together: the driver's sum moved by what the mock says of single links. */
static bool link_total(nvmlDevice_t device, unsigned gpu, mk_link_property property,
                       int64_t *total) {
    static const unsigned counters[] = {
        [MK_LINK_REPLAY_ERRORS] = NVML_LINK_REPLAY,
        [MK_LINK_RECOVERY_ERRORS] = NVML_LINK_RECOVERY,
        [MK_LINK_CRC_FLIT_ERRORS] = NVML_LINK_CRC_FLIT,
        [MK_LINK_CRC_DATA_ERRORS] = NVML_LINK_CRC_DATA,
    };
    bool set = mk_mode_now() == MK_STANDALONE, any = false;
    nvml_u64 count;
    int64_t ignored, sum = 0;
    for (unsigned link = 0; link < MK_MAX_LINKS; link++) {
        set |= mk_link(gpu, link, property, &ignored) && nvml_link_known(gpu, link);
        if (own_nvmlDeviceGetNvLinkErrorCounter(device, link, counters[property], &count) !=
            NVML_SUCCESS)
            continue;
        any = true;
        sum += (int64_t)count;
    }
    *total = any ? sum : MK_NOT_SUPPORTED;
    return set;
}

static bool link_run_field(nvmlDevice_t device, unsigned gpu, unsigned field, int64_t *value) {
    for (unsigned i = 0; i < sizeof LINK_RUNS / sizeof *LINK_RUNS; i++) {
        unsigned first = LINK_RUNS[i].first, further = LINK_RUNS[i].further;
        mk_link_property property = LINK_RUNS[i].property;
        if (field >= first && field < first + FIRST_LINKS)
            return link_number(gpu, field - first, property, value);
        if (field >= further && field < further + FIRST_LINKS)
            return link_number(gpu, field - further + FIRST_LINKS, property, value);
        if (field != first + FIRST_LINKS) continue;
        return LINK_RUNS[i].total ? link_total(device, gpu, property, value)
                                  : link_number(gpu, 0, property, value);
    }
    return false;
}

/* Ids of newer cards, where the scope says which link; all of them is possible for errors. */
static bool link_scope_field(nvmlDevice_t device, unsigned gpu, unsigned field, unsigned link,
                             int64_t *value) {
    mk_link_property property;
    switch (field) {
    case ERROR_DL_REPLAY: property = MK_LINK_REPLAY_ERRORS; break;
    case ERROR_DL_RECOVERY: property = MK_LINK_RECOVERY_ERRORS; break;
    case ERROR_DL_CRC: property = MK_LINK_CRC_FLIT_ERRORS; break;
    case LINK_SPEED: property = MK_LINK_SPEED_MB_PER_S; break;
    case LINK_STATE: property = MK_LINK_ACTIVE; break;
    case LINK_VERSION: property = MK_LINK_VERSION; break;
    default: return false;
    }
    if (link == ALL_LINKS && field <= ERROR_DL_CRC)
        return link_total(device, gpu, property, value);
    return link_number(gpu, link, property, value);
}

/* ---- the rest ---------------------------------------------------------------------------------- */

/* Links that are up and lead to a switch; in an overlay the driver knows which do. */
static bool switch_links(unsigned gpu, int64_t *value) {
    int64_t type, active, up = 0;
    if (mk_mode_now() != MK_STANDALONE) return false;
    *value = MK_NOT_SUPPORTED;
    for (unsigned link = 0; nvml_link_known(gpu, link); link++) {
        if (!mk_link(gpu, link, MK_LINK_REMOTE_TYPE, &type) || type != REMOTE_SWITCH) continue;
        up += mk_link(gpu, link, MK_LINK_ACTIVE, &active) && active == 1;
        *value = up;
    }
    return true;
}

static bool derived_field(unsigned gpu, unsigned field, int64_t *value) {
    int64_t action, pages;
    switch (field) {
    case LINKS_TO_SWITCHES: return switch_links(gpu, value);
    case RESET_STATUS:
        if (!mk_gpu(gpu, MK_GPU_RECOVERY_ACTION, &action)) return false;
        *value = action == RECOVERY_RESET;
        return true;
    case DRAIN_AND_RESET_STATUS:
        if (!mk_gpu(gpu, MK_GPU_RECOVERY_ACTION, &action)) return false;
        *value = action == RECOVERY_DRAIN_AND_RESET;
        return true;
    case RETIRED_PENDING_SBE:
    case RETIRED_PENDING_DBE:
        if (!mk_gpu(gpu, MK_GPU_RETIRED_PAGES_PENDING, value)) return false;
        if (*value != 1) return true;
        pages = mk_gpu_over(gpu, field == RETIRED_PENDING_SBE ? MK_GPU_RETIRED_PAGES_SBE
                                                              : MK_GPU_RETIRED_PAGES_DBE, 0);
        *value = pages > 0;
        return true;
    default: return false;
    }
}

static void answer(nvmlDevice_t device, unsigned gpu, nvml_field *field) {
    unsigned id = field->field_id;
    bool real = mk_mode_now() != MK_STANDALONE && field->result == NVML_SUCCESS;
    bool narrow = field->value_type == NVML_VALUE_U32 || field->value_type == NVML_VALUE_I32;
    int64_t said = narrow ? (int64_t)field->value.u32 : (int64_t)field->value.u64;
    int64_t base = real ? said : MK_UNKNOWN, value = MK_NOT_SUPPORTED;
    bool ours = property_field(gpu, id, base, &value) || ecc_field(device, gpu, id, &value) ||
                link_run_field(device, gpu, id, &value) ||
                link_scope_field(device, gpu, id, field->scope_id, &value) ||
                derived_field(gpu, id, &value);
    if (!ours && mk_mode_now() != MK_STANDALONE) return;
    field->result = value == MK_NOT_SUPPORTED ? NVML_NOT_SUPPORTED : NVML_SUCCESS;
    field->value.u64 = value == MK_NOT_SUPPORTED ? 0 : (nvml_u64)value;
    if (real) return; /* the driver has said type and time */
    field->value_type = NVML_VALUE_U64;
    field->timestamp_us = (int64_t)nvml_now_us();
    field->latency_us = 0;
}

nvmlReturn_t own_nvmlDeviceGetFieldValues(nvmlDevice_t device, int count, nvml_field *fields) {
    unsigned gpu;
    if (fields == NULL || count <= 0) return NVML_INVALID_ARGUMENT;
    nvmlReturn_t driver = REAL(nvmlDeviceGetFieldValues, device, count, fields);
    if (!nvml_gpu(device, &gpu) || (mk_mode_now() != MK_STANDALONE && driver != NVML_SUCCESS))
        return driver;
    for (int i = 0; i < count; i++) answer(device, gpu, &fields[i]);
    return NVML_SUCCESS;
}
