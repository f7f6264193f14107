/* What an NPU is: its chip, its place on the bus, its board. */
#include "dcmi.h"

static void put_chip(unsigned npu, dcmi_chip *chip) {
    char name[MK_STRING_BYTES];
    if (mk_mode_now() == MK_STANDALONE) {
        dcmi_copy(chip->type, sizeof chip->type, "Ascend");
        dcmi_copy(chip->version, sizeof chip->version, "V1");
    }
    if (mk_npu_text(npu, MK_NPU_NAME, name, sizeof name))
        dcmi_copy(chip->name, sizeof chip->name, name);
    PUT(chip->aicore_count, npu, MK_NPU_AICORE_COUNT, 1);
}

int own_chip(int card, int device, dcmi_chip *out) {
    unsigned npu = 0;
    START(dcmi_get_device_chip_info, own_chip, npu, out, card, device, out);
    put_chip(npu, out);
    return DCMI_OK;
}

int own_chip_v2(int card, int device, dcmi_chip_v2 *out) {
    char name[MK_STRING_BYTES];
    unsigned npu = 0;
    START(dcmi_get_device_chip_info_v2, own_chip_v2, npu, out, card, device, out);
    put_chip(npu, &out->chip);
    if (mk_npu_text(npu, MK_NPU_NAME, name, sizeof name))
        dcmi_copy(out->npu_name, sizeof out->npu_name, name);
    return DCMI_OK;
}

int own_type(int card, int device, int *type) {
    unsigned npu;
    int status = dcmi_place(card, device, type, &npu);
    if (status == DCMI_ELSEWHERE) return REAL(dcmi_get_device_type, own_type, card, device, type);
    if (status == DCMI_OK) *type = DCMI_UNIT_NPU;
    return status;
}

/* The next hexadecimal number of a text, or false at its end. */
static bool next_number(const char **at, unsigned *number) {
    static const char digits[] = "0123456789abcdef";
    const char *found = NULL;
    for (; **at != 0; ++*at)
        if ((found = memchr(digits, **at | 0x20, 16)) != NULL) break;
    if (found == NULL) return false;
    for (*number = 0; **at != 0 && (found = memchr(digits, **at | 0x20, 16)) != NULL; ++*at)
        *number = *number << 4 | (unsigned)(found - digits);
    return true;
}

/* domain, bus, device and function of the address that the mock gives. */
static bool address(unsigned npu, unsigned part[4]) {
    char text[MK_STRING_BYTES];
    const char *at = text;
    if (!mk_npu_text(npu, MK_NPU_PCI_BUS_ID, text, sizeof text)) return false;
    for (int each = 0; each < 4; each++)
        if (!next_number(&at, &part[each])) return false;
    return true;
}

static bool identity(unsigned npu, unsigned *vendor, unsigned *device) {
    int64_t id;
    if (!mk_npu(npu, MK_NPU_PCIE_DEVICE_ID, &id) || id == MK_NOT_SUPPORTED) return false;
    *vendor = (unsigned)id & 0xFFFF;
    *device = (unsigned)id >> 16 & 0xFFFF;
    return true;
}

int own_pcie_v2(int card, int device, dcmi_pcie_v2 *out) {
    unsigned npu = 0, part[4];
    START(dcmi_get_device_pcie_info_v2, own_pcie_v2, npu, out, card, device, out);
    identity(npu, &out->vendor_id, &out->device_id);
    if (address(npu, part)) {
        out->domain = (int)part[0];
        out->bus = part[1], out->device = part[2], out->function = part[3];
    }
    return DCMI_OK;
}

int own_pcie(int card, int device, dcmi_pcie *out) {
    unsigned npu = 0, part[4];
    START(dcmi_get_device_pcie_info, own_pcie, npu, out, card, device, out);
    identity(npu, &out->vendor_id, &out->device_id);
    if (address(npu, part)) out->bus = part[1], out->device = part[2], out->function = part[3];
    return DCMI_OK;
}

static void put_die(unsigned npu, dcmi_die *out) {
    char text[MK_STRING_BYTES];
    const char *at = text;
    if (mk_npu_text(npu, MK_NPU_DIE_ID, text, sizeof text))
        for (int each = 0; each < 5 && next_number(&at, &out->word[each]); each++);
}

int own_die(int card, int device, dcmi_die *out) {
    unsigned npu = 0;
    START(dcmi_get_device_die, own_die, npu, out, card, device, out);
    put_die(npu, out);
    return DCMI_OK;
}

int own_die_v2(int card, int device, int type, dcmi_die *out) {
    unsigned npu = 0;
    if (type != DCMI_DIE_N && type != DCMI_DIE_V) return DCMI_INVALID_PARAMETER;
    START(dcmi_get_device_die_v2, own_die_v2, npu, out, card, device, type, out);
    put_die(npu, out);
    return DCMI_OK;
}

/* The board ids of an Atlas 800T A2, which carries eight 910B. */
int own_board(int card, int device, dcmi_board *out) {
    unsigned npu = 0;
    START(dcmi_get_device_board_info, own_board, npu, out, card, device, out);
    if (mk_mode_now() == MK_STANDALONE) {
        out->board_id = 0x30;
        out->slot_id = npu;
    }
    return DCMI_OK;
}

int own_product(int card, int device, char *text, int size) {
    unsigned npu;
    int status = dcmi_place(card, device, text, &npu);
    if (status < 0 || size <= 0) return status < 0 ? status : DCMI_INVALID_PARAMETER;
    if (status == DCMI_ELSEWHERE || mk_mode_now() == MK_OVERLAY)
        return REAL(dcmi_get_product_type, own_product, card, device, text, size);
    dcmi_copy(text, (size_t)size, "Atlas 800T A2");
    return DCMI_OK;
}

int own_boot(int card, int device, int *stage) {
    unsigned npu;
    int status = dcmi_place(card, device, stage, &npu);
    if (status < 0) return status;
    if (status == DCMI_ELSEWHERE || mk_mode_now() == MK_OVERLAY)
        return REAL(dcmi_get_device_boot_status, own_boot, card, device, stage);
    *stage = DCMI_BOOT_FINISHED;
    return DCMI_OK;
}

int own_processes(int card, int device, dcmi_process *list, int *count) {
    unsigned npu;
    int status = dcmi_place(card, device, list, &npu);
    if (status < 0 || count == NULL) return status < 0 ? status : DCMI_INVALID_PARAMETER;
    if (status == DCMI_ELSEWHERE || mk_mode_now() == MK_OVERLAY)
        return REAL(dcmi_get_device_resource_info, own_processes, card, device, list, count);
    *count = 0;
    return DCMI_OK;
}

/* On an Atlas 800T A2 every NPU has a link to each of the seven others. */
int own_path(int card, int device, int other_card, int other_device, int *path) {
    unsigned npu, other;
    int status = dcmi_place(card, device, path, &npu);
    if (status == DCMI_OK) status = dcmi_place(other_card, other_device, path, &other);
    if (status < 0) return status;
    if (status == DCMI_ELSEWHERE || mk_mode_now() == MK_OVERLAY)
        return REAL(dcmi_get_topo_info_by_device_id, own_path, card, device, other_card,
                    other_device, path);
    *path = npu == other ? DCMI_PATH_SELF : DCMI_PATH_HCCS;
    return DCMI_OK;
}
