/* Which cards and NPUs there are, and their ids.
 *
 * The logic id counts the NPUs that the driver enumerates, the physical id names the place: with
 * NPU 3 missing of eight, the logic ids are 0 to 6 and the physical ones 0 to 7 without 3.
 */
#include "dcmi.h"

bool dcmi_visible(unsigned npu) {
    int64_t hidden;
    return !(mk_npu(npu, MK_NPU_HIDDEN, &hidden) && hidden);
}

int dcmi_id_of(unsigned npu, mk_npu_property card_or_device) {
    int64_t id;
    return mk_npu(npu, card_or_device, &id) ? (int)id : -1;
}

int dcmi_logic_id(unsigned npu) {
    int logic = 0;
    if (!dcmi_visible(npu)) return -1;
    for (unsigned before = 0; before < npu; before++) logic += dcmi_visible(before);
    return logic;
}

/* The NPU of a logic id, -1 where there is none. */
static int npu_of_logic(unsigned logic) {
    for (unsigned npu = 0; npu < mk_npu_count(); npu++)
        if (dcmi_visible(npu) && logic-- == 0) return (int)npu;
    return -1;
}

/* ---- cards ------------------------------------------------------------------------------- */

static bool listed(const int *cards, int count, int card) {
    for (int at = 0; at < count; at++)
        if (cards[at] == card) return true;
    return false;
}

static int simulated_cards(int cards[MK_MAX_NPUS]) {
    int count = 0;
    for (unsigned npu = 0; npu < mk_npu_count(); npu++) {
        int card = dcmi_id_of(npu, MK_NPU_CARD);
        if (dcmi_visible(npu) && !listed(cards, count, card)) cards[count++] = card;
    }
    return count;
}

/* How many NPUs the driver says a card has, and how many of them a fault leaves. */
static int real_devices(int card, int *count) {
    return REAL(dcmi_get_device_num_in_card, own_device_num, card, count);
}

static int left_of(int card, int devices) {
    int left = 0;
    unsigned npu;
    for (int device = 0; device < devices; device++) left += mk_npu_index(card, device, &npu);
    return left;
}

static int real_cards(int cards[MK_MAX_NPUS], int *count) {
    int found = 0, status = REAL(dcmi_get_card_list, own_card_list, &found, cards, MK_MAX_NPUS);
    if (status == DCMI_NOT_SUPPORTED)
        status = REAL(dcmi_get_card_num_list, own_card_list, &found, cards, MK_MAX_NPUS);
    if (status != DCMI_OK) return status;
    if (found > MK_MAX_NPUS) found = MK_MAX_NPUS;
    *count = 0;
    for (int at = 0; at < found; at++) {
        int devices = 0;
        if (real_devices(cards[at], &devices) != DCMI_OK || left_of(cards[at], devices) > 0)
            cards[(*count)++] = cards[at];
    }
    return DCMI_OK;
}

int own_card_list(int *count, int *cards, int length) {
    int all[MK_MAX_NPUS], found = 0, status = DCMI_OK;
    if (count == NULL || cards == NULL || length <= 0) return DCMI_INVALID_PARAMETER;
    if (mk_mode_now() == MK_OVERLAY)
        status = real_cards(all, &found);
    else
        found = simulated_cards(all);
    if (status != DCMI_OK) return status;
    *count = found < length ? found : length;
    for (int at = 0; at < *count; at++) cards[at] = all[at];
    return DCMI_OK;
}

int own_device_num(int card, int *count) {
    int devices = 0;
    if (count == NULL) return DCMI_INVALID_PARAMETER;
    if (mk_mode_now() == MK_OVERLAY) {
        int status = real_devices(card, &devices);
        *count = status == DCMI_OK ? left_of(card, devices) : *count;
        return status;
    }
    for (unsigned npu = 0; npu < mk_npu_count(); npu++)
        devices += dcmi_visible(npu) && dcmi_id_of(npu, MK_NPU_CARD) == card;
    if (devices == 0) return DCMI_DEVICE_NOT_EXIST;
    *count = devices;
    return DCMI_OK;
}

int own_device_ids(int card, int *most, int *mcu, int *cpu) {
    int devices, status = own_device_num(card, &devices);
    if (most == NULL || mcu == NULL || cpu == NULL) return DCMI_INVALID_PARAMETER;
    if (mk_mode_now() == MK_OVERLAY)
        return REAL(dcmi_get_device_id_in_card, own_device_ids, card, most, mcu, cpu);
    if (status != DCMI_OK) return status;
    *most = devices;
    *mcu = *cpu = -1; /* a simulated card has neither */
    return DCMI_OK;
}

int own_device_count(int *count) {
    int cards[MK_MAX_NPUS], found, all = 0;
    if (count == NULL) return DCMI_INVALID_PARAMETER;
    int status = own_card_list(&found, cards, MK_MAX_NPUS);
    for (int at = 0; status == DCMI_OK && at < found; at++) {
        int devices = 0;
        status = own_device_num(cards[at], &devices);
        all += devices;
    }
    if (status == DCMI_OK) *count = all;
    return status;
}

/* ---- ids --------------------------------------------------------------------------------- */

int own_logic_id(int *logic, int card, int device) {
    unsigned npu;
    int status = dcmi_place(card, device, logic, &npu);
    if (status == DCMI_ELSEWHERE || (status == DCMI_OK && mk_mode_now() == MK_OVERLAY))
        return REAL(dcmi_get_device_logic_id, own_logic_id, logic, card, device);
    if (status == DCMI_OK) *logic = dcmi_logic_id(npu);
    return status;
}

int own_physical_of_logic(unsigned logic, unsigned *physical) {
    if (physical == NULL) return DCMI_INVALID_PARAMETER;
    if (mk_mode_now() == MK_OVERLAY)
        return REAL(dcmi_get_device_phyid_from_logicid, own_physical_of_logic, logic, physical);
    int npu = npu_of_logic(logic);
    if (npu < 0) return DCMI_DEVICE_NOT_EXIST;
    *physical = (unsigned)npu;
    return DCMI_OK;
}

int own_logic_of_physical(unsigned physical, unsigned *logic) {
    if (logic == NULL) return DCMI_INVALID_PARAMETER;
    if (mk_mode_now() == MK_OVERLAY)
        return REAL(dcmi_get_device_logicid_from_phyid, own_logic_of_physical, physical, logic);
    if (physical >= mk_npu_count() || !dcmi_visible(physical)) return DCMI_DEVICE_NOT_EXIST;
    *logic = (unsigned)dcmi_logic_id(physical);
    return DCMI_OK;
}

static int place_of(int npu, int *card, int *device) {
    if (npu < 0) return DCMI_DEVICE_NOT_EXIST;
    *card = dcmi_id_of((unsigned)npu, MK_NPU_CARD);
    *device = dcmi_id_of((unsigned)npu, MK_NPU_DEVICE);
    return DCMI_OK;
}

int own_place_of_logic(int *card, int *device, unsigned logic) {
    if (card == NULL || device == NULL) return DCMI_INVALID_PARAMETER;
    if (mk_mode_now() == MK_OVERLAY)
        return REAL(dcmi_get_card_id_device_id_from_logicid, own_place_of_logic, card, device,
                    logic);
    return place_of(npu_of_logic(logic), card, device);
}

int own_place_of_physical(int *card, int *device, unsigned physical) {
    if (card == NULL || device == NULL) return DCMI_INVALID_PARAMETER;
    if (mk_mode_now() == MK_OVERLAY)
        return REAL(dcmi_get_card_id_device_id_from_phyid, own_place_of_physical, card, device,
                    physical);
    bool there = physical < mk_npu_count() && dcmi_visible(physical);
    return place_of(there ? (int)physical : -1, card, device);
}

/* ---- versions and the driver ------------------------------------------------------------- */

/* A version that the mock sets, else the driver's answer. */
static int version(mk_node_property property, char *text, unsigned size, int real) {
    char own[MK_STRING_BYTES];
    if (!mk_node_text(property, own, sizeof own)) return real;
    if (own[0] == 0) return DCMI_NOT_SUPPORTED;
    dcmi_copy(text, size, own);
    return DCMI_OK;
}

int own_dcmi_version(char *text, unsigned size) {
    if (text == NULL || size == 0) return DCMI_INVALID_PARAMETER;
    int real = REAL(dcmi_get_dcmi_version, own_dcmi_version, text, size);
    return version(MK_NODE_DCMI_VERSION, text, size, real);
}

int own_driver_version(char *text, unsigned size) {
    if (text == NULL || size == 0) return DCMI_INVALID_PARAMETER;
    int real = REAL(dcmi_get_driver_version, own_driver_version, text, size);
    return version(MK_NODE_NPU_DRIVER_VERSION, text, size, real);
}

int own_device_version(int card, int device, char *text, unsigned size, int *length) {
    unsigned npu;
    int status = dcmi_place(card, device, text, &npu);
    if (status == DCMI_INVALID_PARAMETER || length == NULL || size == 0)
        return DCMI_INVALID_PARAMETER;
    if (status == DCMI_DEVICE_NOT_EXIST) return status;
    int real = REAL(dcmi_get_version, own_device_version, card, device, text, size, length);
    if (status == DCMI_ELSEWHERE) return real;
    status = version(MK_NODE_NPU_DRIVER_VERSION, text, size, real);
    for (*length = 0; status == DCMI_OK && (unsigned)*length < size && text[*length] != 0;)
        ++*length;
    return status;
}

int own_driver_health(unsigned *health) {
    if (health == NULL) return DCMI_INVALID_PARAMETER;
    if (mk_mode_now() == MK_OVERLAY) return REAL(dcmi_get_driver_health, own_driver_health, health);
    *health = 0;
    return DCMI_OK;
}

int own_driver_codes(int *count, unsigned *list, unsigned length) {
    if (count == NULL || list == NULL || length == 0) return DCMI_INVALID_PARAMETER;
    if (mk_mode_now() == MK_OVERLAY)
        return REAL(dcmi_get_driver_errorcode, own_driver_codes, count, list, length);
    *count = 0;
    return DCMI_OK;
}
