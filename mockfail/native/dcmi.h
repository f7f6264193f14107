/* What the parts of our DCMI share.
 *
 * dcmi.c         readings of one NPU, its fault codes, and the table of all our answers
 * dcmi_chip.c    what an NPU is
 * dcmi_ids.c     which cards and NPUs there are, their ids, versions
 * dcmi_events.c  fault events
 */
#ifndef MOCKFAIL_DCMI_H
#define MOCKFAIL_DCMI_H

#include <stddef.h>
#include <string.h>

#include "dcmi_types.h"
#include "mock.h"

/* The driver's answer to the call that `own` answers too; -8255 where there is none. */
#define REAL(name, own, ...) \
    (mk_mode_now() == MK_OVERLAY && mk_real(FN_##name) != NULL \
         ? ((__typeof__(&own))mk_real(FN_##name))(__VA_ARGS__) \
         : DCMI_NOT_SUPPORTED)

/* Where a call goes: DCMI_OK with the NPU, an error, or DCMI_ELSEWHERE for what is no NPU of ours
 * but may be a chip that the driver knows (the board's controller). */
enum { DCMI_ELSEWHERE = 1 };
int dcmi_place(int card, int device, const void *out, unsigned *npu);

/* Fill `out` as the driver does, or with zeros for a simulated NPU; returns early on an error, and
 * with the driver's answer for what is no NPU of ours. */
#define START(name, own, npu, out, ...) \
    do { \
        int place_ = dcmi_place(card, device, out, &(npu)); \
        if (place_ < 0) return place_; \
        if (mk_mode_now() == MK_STANDALONE) { \
            memset(out, 0, sizeof *(out)); \
            break; \
        } \
        int real_ = REAL(name, own, __VA_ARGS__); \
        if (real_ != DCMI_OK || place_ == DCMI_ELSEWHERE) return real_; \
    } while (0)

/* Put a property into a member, unless the NPU has no such reading. */
#define PUT(member, npu, property, unit) \
    do { \
        int64_t now_ = mk_npu_over(npu, property, (int64_t)(member) * (unit)); \
        if (now_ != MK_NOT_SUPPORTED) (member) = (__typeof__(member))(now_ / (unit)); \
    } while (0)

/* Copies as much as fits, with a closing NUL; the rest is cleared. */
void dcmi_copy(void *to, size_t size, const char *text);

/* dcmi_ids.c */
bool dcmi_visible(unsigned npu);
int dcmi_logic_id(unsigned npu); /* -1 of a hidden NPU */
int dcmi_id_of(unsigned npu, mk_npu_property card_or_device);
int own_card_list(int *count, int *cards, int length);
int own_device_num(int card, int *count);
int own_device_ids(int card, int *most, int *mcu, int *cpu);
int own_device_count(int *count);
int own_logic_id(int *logic, int card, int device);
int own_physical_of_logic(unsigned logic, unsigned *physical);
int own_logic_of_physical(unsigned physical, unsigned *logic);
int own_place_of_logic(int *card, int *device, unsigned logic);
int own_place_of_physical(int *card, int *device, unsigned physical);
int own_dcmi_version(char *text, unsigned size);
int own_driver_version(char *text, unsigned size);
int own_device_version(int card, int device, char *text, unsigned size, int *length);
int own_driver_health(unsigned *health);
int own_driver_codes(int *count, unsigned *list, unsigned length);

/* dcmi_chip.c */
int own_chip(int card, int device, dcmi_chip *out);
int own_chip_v2(int card, int device, dcmi_chip_v2 *out);
int own_type(int card, int device, int *type);
int own_pcie_v2(int card, int device, dcmi_pcie_v2 *out);
int own_pcie(int card, int device, dcmi_pcie *out);
int own_die(int card, int device, dcmi_die *out);
int own_die_v2(int card, int device, int type, dcmi_die *out);
int own_board(int card, int device, dcmi_board *out);
int own_product(int card, int device, char *text, int size);
int own_boot(int card, int device, int *stage);
int own_processes(int card, int device, dcmi_process *list, int *count);
int own_path(int card, int device, int other_card, int other_device, int *path);

/* dcmi_events.c */
int own_subscribe(int card, int device, dcmi_filter filter, dcmi_handler handler);
int own_fault_event(int card, int device, int timeout_ms, dcmi_filter filter, dcmi_event *event);

#endif
