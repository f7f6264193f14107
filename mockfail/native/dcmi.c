/* Our answers to DCMI: the readings of one NPU, and the table of all.
 *
 * In an overlay the driver answers first and a fault changes what it said; a simulated NPU starts
 * from zeros. The gate has applied the faults of the call and of the device before we are asked.
 */
#include "dcmi.h"

enum { MIB = 1 << 20, MW_PER_POWER = 100, MV_PER_VOLTAGE = 10 };

void dcmi_copy(void *to, size_t size, const char *text) {
    memset(to, 0, size);
    for (size_t at = 0; at + 1 < size && text[at] != 0; at++) ((char *)to)[at] = text[at];
}

int dcmi_place(int card, int device, const void *out, unsigned *npu) {
    int logic;
    if (out == NULL) return DCMI_INVALID_PARAMETER;
    if (mk_npu_index(card, device, npu)) return DCMI_OK;
    if (mk_mode_now() != MK_OVERLAY) return DCMI_DEVICE_NOT_EXIST;
    bool known = REAL(dcmi_get_device_logic_id, own_logic_id, &logic, card, device) == DCMI_OK;
    return known ? DCMI_DEVICE_NOT_EXIST : DCMI_ELSEWHERE;
}

/* ---- readings that are one number -------------------------------------------------------- */

/* Turns the driver's answer into ours; `unit` is how many of the property's units one of DCMI's
 * has. A driver that fails is believed unless a fault says the value. */
static int judged(unsigned npu, mk_npu_property property, int64_t unit, int real, int64_t *number) {
    int64_t now;
    if (real == DCMI_OK)
        now = mk_npu_over(npu, property, *number * unit);
    else if (!mk_npu(npu, property, &now))
        return real;
    if (now == MK_NOT_SUPPORTED) return DCMI_NOT_SUPPORTED;
    *number = now / unit;
    return DCMI_OK;
}

/* A function (card, device, out) whose result is one number. */
#define NUMBER(own, name, type, property, unit) \
    static int own(int card, int device, type *out) { \
        unsigned npu; \
        int status = dcmi_place(card, device, out, &npu); \
        if (status < 0) return status; \
        type real = 0; \
        int answered = REAL(name, own, card, device, &real); \
        int64_t number = (int64_t)real; \
        status = status == DCMI_OK ? judged(npu, property, unit, answered, &number) : answered; \
        if (status == DCMI_OK) *out = (type)number; \
        return status; \
    }

NUMBER(own_temperature, dcmi_get_device_temperature, int, MK_NPU_TEMPERATURE_C, 1)
NUMBER(own_power, dcmi_get_device_power_info, int, MK_NPU_POWER_MW, MW_PER_POWER)
NUMBER(own_voltage, dcmi_get_device_voltage, unsigned, MK_NPU_VOLTAGE_MV, MV_PER_VOLTAGE)
NUMBER(own_health, dcmi_get_device_health, unsigned, MK_NPU_HEALTH, 1)
NUMBER(own_network_health, dcmi_get_device_network_health, unsigned, MK_NPU_NETWORK_HEALTH, 1)

/* A function (card, device, which, out); NO_PROPERTY is one that a simulated NPU reads as zero. */
enum { NO_PROPERTY = -1, NOT_THERE = -2 };

static int chosen(int property, unsigned npu, int real, unsigned *out) {
    int64_t number = *out;
    if (property == NOT_THERE || (property == NO_PROPERTY && mk_mode_now() == MK_OVERLAY))
        return real;
    if (property == NO_PROPERTY) {
        *out = 0;
        return DCMI_OK;
    }
    int status = judged(npu, (mk_npu_property)property, 1, real, &number);
    *out = (unsigned)number;
    return status;
}

static int clock_property(int which) {
    switch (which) {
    case DCMI_CLOCK_HBM: return MK_NPU_HBM_CLOCK_MHZ;
    case DCMI_CLOCK_AICORE: return MK_NPU_AICORE_CLOCK_MHZ;
    default: return NOT_THERE;
    }
}

static int own_clock(int card, int device, int which, unsigned *mhz) {
    unsigned npu, now = 0;
    int status = dcmi_place(card, device, mhz, &npu);
    if (status < 0) return status;
    int real = REAL(dcmi_get_device_frequency, own_clock, card, device, which, &now);
    status = status == DCMI_OK ? chosen(clock_property(which), npu, real, &now) : real;
    if (status == DCMI_OK) *mhz = now;
    return status;
}

/* Percent of HBM in use, which no property holds by itself. */
static int hbm_percent(unsigned npu, int real, unsigned *percent) {
    int64_t used, size;
    if (!mk_npu(npu, MK_NPU_HBM_USED_BYTES, &used) || !mk_npu(npu, MK_NPU_HBM_TOTAL_BYTES, &size))
        return real;
    if (used == MK_NOT_SUPPORTED || size == MK_NOT_SUPPORTED || size <= 0)
        return DCMI_NOT_SUPPORTED;
    *percent = used >= size ? 100 : used <= 0 ? 0 : (unsigned)((double)used / (double)size * 100);
    return DCMI_OK;
}

static int use_property(int which) {
    switch (which) {
    case DCMI_USE_AICORE:
    case DCMI_USE_VECTOR:
    case DCMI_USE_NPU: return MK_NPU_AICORE_UTILIZATION_PERCENT;
    case DCMI_USE_HBM_BANDWIDTH: return MK_NPU_HBM_BANDWIDTH_PERCENT;
    case DCMI_USE_AICPU:
    case DCMI_USE_CONTROL_CPU: return NO_PROPERTY;
    default: return NOT_THERE;
    }
}

static int own_use(int card, int device, int which, unsigned *percent) {
    unsigned npu, now = 0;
    int status = dcmi_place(card, device, percent, &npu);
    if (status < 0) return status;
    int real = REAL(dcmi_get_device_utilization_rate, own_use, card, device, which, &now);
    if (status == DCMI_ELSEWHERE)
        status = real;
    else if (which == DCMI_USE_HBM)
        status = hbm_percent(npu, real, &now);
    else
        status = chosen(use_property(which), npu, real, &now);
    if (status == DCMI_OK) *percent = now;
    return status;
}

/* ---- readings that are a structure ------------------------------------------------------- */

static void put_hbm(unsigned npu, dcmi_hbm *out, int64_t unit) {
    PUT(out->size_mib, npu, MK_NPU_HBM_TOTAL_BYTES, unit);
    PUT(out->used_mib, npu, MK_NPU_HBM_USED_BYTES, unit);
    PUT(out->clock_mhz, npu, MK_NPU_HBM_CLOCK_MHZ, 1);
    PUT(out->temperature_c, npu, MK_NPU_HBM_TEMPERATURE_C, 1);
    PUT(out->bandwidth_percent, npu, MK_NPU_HBM_BANDWIDTH_PERCENT, 1);
}

static int own_hbm(int card, int device, dcmi_hbm *out) {
    unsigned npu = 0;
    START(dcmi_get_device_hbm_info, own_hbm, npu, out, card, device, out);
    put_hbm(npu, out, MIB);
    return DCMI_OK;
}

/* The older call has the same members, with sizes in KiB. */
static int own_hbm_v1(int card, int device, dcmi_hbm *out) {
    unsigned npu = 0;
    START(dcmi_get_hbm_info, own_hbm_v1, npu, out, card, device, out);
    put_hbm(npu, out, 1024);
    return DCMI_OK;
}

static int own_ecc(int card, int device, int memory, dcmi_ecc *out) {
    unsigned npu = 0;
    START(dcmi_get_device_ecc_info, own_ecc, npu, out, card, device, memory, out);
    if (memory != DCMI_MEMORY_HBM)
        return mk_mode_now() == MK_STANDALONE ? DCMI_NOT_SUPPORTED : DCMI_OK;
    if (mk_mode_now() == MK_STANDALONE) out->enabled = 1;
    PUT(out->single_bit, npu, MK_NPU_HBM_SINGLE_BIT_ERRORS, 1);
    PUT(out->double_bit, npu, MK_NPU_HBM_DOUBLE_BIT_ERRORS, 1);
    PUT(out->single_bit_total, npu, MK_NPU_HBM_SINGLE_BIT_ERRORS_TOTAL, 1);
    PUT(out->double_bit_total, npu, MK_NPU_HBM_DOUBLE_BIT_ERRORS_TOTAL, 1);
    PUT(out->isolated_single_bit, npu, MK_NPU_HBM_ISOLATED_SINGLE_BIT_PAGES, 1);
    PUT(out->isolated_double_bit, npu, MK_NPU_HBM_ISOLATED_DOUBLE_BIT_PAGES, 1);
    return DCMI_OK;
}

/* The 910B has no memory but HBM: size and use of the other are zero. */
#define OTHER_MEMORY(own, name, type) \
    static int own(int card, int device, type *out) { \
        unsigned npu = 0; \
        START(name, own, npu, out, card, device, out); \
        return DCMI_OK; \
    }

OTHER_MEMORY(own_memory_v1, dcmi_get_memory_info, dcmi_memory)
OTHER_MEMORY(own_memory_v2, dcmi_get_device_memory_info_v2, dcmi_memory)
OTHER_MEMORY(own_memory_v3, dcmi_get_device_memory_info_v3, dcmi_memory_v3)

static void put_use(unsigned npu, dcmi_utilization *out) {
    PUT(out->cube_percent, npu, MK_NPU_AICORE_UTILIZATION_PERCENT, 1);
    PUT(out->vector_percent, npu, MK_NPU_AICORE_UTILIZATION_PERCENT, 1);
    PUT(out->aicore_percent, npu, MK_NPU_AICORE_UTILIZATION_PERCENT, 1);
    PUT(out->npu_percent, npu, MK_NPU_AICORE_UTILIZATION_PERCENT, 1);
}

#define USE_OF_ALL(own, name) \
    static int own(int card, int device, dcmi_utilization *out) { \
        unsigned npu = 0; \
        START(name, own, npu, out, card, device, out); \
        put_use(npu, out); \
        return DCMI_OK; \
    }

USE_OF_ALL(own_use_all, dcmi_get_device_multi_utilization_rate)
USE_OF_ALL(own_use_all_period, dcmi_get_device_multi_utilization_rate_period)

/* ---- fault codes ------------------------------------------------------------------------- */

static int own_codes(int card, int device, int *count, unsigned *list, unsigned length) {
    uint32_t codes[MK_MAX_CODES];
    unsigned npu, found;
    int status = dcmi_place(card, device, list, &npu);
    if (count == NULL || length == 0) return DCMI_INVALID_PARAMETER;
    if (status < 0) return status;
    if (status == DCMI_ELSEWHERE || !mk_codes(npu, codes, &found))
        return REAL(dcmi_get_device_errorcode_v2, own_codes, card, device, count, list, length);
    if (found > length) /* as the driver does */
        return DCMI_INVALID_PARAMETER;
    memcpy(list, codes, found * sizeof *list);
    *count = (int)found;
    return DCMI_OK;
}

static int own_code_text(int card, int device, unsigned code, unsigned char *text, int size) {
    enum { LEAST = 48 };
    char own[] = "Simulated fault 0x00000000";
    unsigned npu;
    int status = dcmi_place(card, device, text, &npu);
    if (status < 0 || size < LEAST) return status < 0 ? status : DCMI_INVALID_PARAMETER;
    if (status == DCMI_ELSEWHERE || mk_mode_now() == MK_OVERLAY)
        return REAL(dcmi_get_device_errorcode_string, own_code_text, card, device, code, text,
                    size);
    for (char *digit = own + sizeof own - 2; code != 0; code >>= 4)
        *digit-- = "0123456789ABCDEF"[code & 0xF];
    dcmi_copy(text, (size_t)size, own);
    return DCMI_OK;
}

/* ---- all of them ------------------------------------------------------------------------- */

#define ANSWER(name, own) [FN_##name] = (void *)own

void *const mk_own[FN_COUNT] = {
    ANSWER(dcmi_get_all_device_count, own_device_count),
    ANSWER(dcmi_get_card_id_device_id_from_logicid, own_place_of_logic),
    ANSWER(dcmi_get_card_id_device_id_from_phyid, own_place_of_physical),
    ANSWER(dcmi_get_card_list, own_card_list),
    ANSWER(dcmi_get_card_num_list, own_card_list),
    ANSWER(dcmi_get_dcmi_version, own_dcmi_version),
    ANSWER(dcmi_get_device_board_info, own_board),
    ANSWER(dcmi_get_device_boot_status, own_boot),
    ANSWER(dcmi_get_device_chip_info, own_chip),
    ANSWER(dcmi_get_device_chip_info_v2, own_chip_v2),
    ANSWER(dcmi_get_device_die, own_die),
    ANSWER(dcmi_get_device_die_v2, own_die_v2),
    ANSWER(dcmi_get_device_ecc_info, own_ecc),
    ANSWER(dcmi_get_device_errorcode_string, own_code_text),
    ANSWER(dcmi_get_device_errorcode_v2, own_codes),
    ANSWER(dcmi_get_device_errorinfo, own_code_text),
    ANSWER(dcmi_get_device_frequency, own_clock),
    ANSWER(dcmi_get_device_hbm_info, own_hbm),
    ANSWER(dcmi_get_device_health, own_health),
    ANSWER(dcmi_get_device_id_in_card, own_device_ids),
    ANSWER(dcmi_get_device_logic_id, own_logic_id),
    ANSWER(dcmi_get_device_logicid_from_phyid, own_logic_of_physical),
    ANSWER(dcmi_get_device_memory_info_v2, own_memory_v2),
    ANSWER(dcmi_get_device_memory_info_v3, own_memory_v3),
    ANSWER(dcmi_get_device_multi_utilization_rate, own_use_all),
    ANSWER(dcmi_get_device_multi_utilization_rate_period, own_use_all_period),
    ANSWER(dcmi_get_device_network_health, own_network_health),
    ANSWER(dcmi_get_device_num_in_card, own_device_num),
    ANSWER(dcmi_get_device_pcie_info, own_pcie),
    ANSWER(dcmi_get_device_pcie_info_v2, own_pcie_v2),
    ANSWER(dcmi_get_device_phyid_from_logicid, own_physical_of_logic),
    ANSWER(dcmi_get_device_power_info, own_power),
    ANSWER(dcmi_get_device_resource_info, own_processes),
    ANSWER(dcmi_get_device_temperature, own_temperature),
    ANSWER(dcmi_get_device_type, own_type),
    ANSWER(dcmi_get_device_utilization_rate, own_use),
    ANSWER(dcmi_get_device_voltage, own_voltage),
    ANSWER(dcmi_get_driver_errorcode, own_driver_codes),
    ANSWER(dcmi_get_driver_health, own_driver_health),
    ANSWER(dcmi_get_driver_version, own_driver_version),
    ANSWER(dcmi_get_fault_event, own_fault_event),
    ANSWER(dcmi_get_hbm_info, own_hbm_v1),
    ANSWER(dcmi_get_memory_info, own_memory_v1),
    ANSWER(dcmi_get_pcie_info, own_pcie),
    ANSWER(dcmi_get_product_type, own_product),
    ANSWER(dcmi_get_topo_info_by_device_id, own_path),
    ANSWER(dcmi_get_version, own_device_version),
    ANSWER(dcmi_subscribe_fault_event, own_subscribe),
};
