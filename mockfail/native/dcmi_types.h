/* The part of DCMI's interface that dcmi.c answers, in declarations of our own.
 *
 * Layouts, numbers and units after the interface header in Ascend/mind-cluster (Apache-2.0) and the
 * DCMI reference of the Ascend 910B; names of members are ours.
 */
#ifndef MOCKFAIL_DCMI_TYPES_H
#define MOCKFAIL_DCMI_TYPES_H

#include <stdint.h>

enum {
    DCMI_OK = 0,
    DCMI_INVALID_PARAMETER = -8001,
    DCMI_TIME_OUT = -8006,
    DCMI_DEVICE_NOT_EXIST = -8008,
    DCMI_NOT_READY = -8012,
    DCMI_RESOURCE_OCCUPIED = -8020,
    DCMI_NOT_SUPPORTED = -8255,
};

enum { DCMI_UNIT_NPU, DCMI_UNIT_MCU, DCMI_UNIT_CPU };

typedef struct {
    unsigned char type[32], name[32], version[32];
    unsigned aicore_count;
} dcmi_chip;

typedef struct {
    dcmi_chip chip;
    unsigned char npu_name[32];
} dcmi_chip_v2;

typedef struct {
    unsigned device_id, vendor_id, subvendor_id, subdevice_id;
    unsigned device, bus, function;
} dcmi_pcie;

typedef struct {
    unsigned vendor_id, subvendor_id, device_id, subdevice_id;
    int domain;
    unsigned bus, device, function;
    unsigned char reserved[32];
} dcmi_pcie_v2;

typedef struct {
    unsigned word[5];
} dcmi_die;

enum { DCMI_DIE_N, DCMI_DIE_V };

typedef struct {
    int enabled;
    unsigned single_bit, double_bit;             /* since start */
    unsigned single_bit_total, double_bit_total; /* over the card's life */
    unsigned isolated_single_bit, isolated_double_bit;
    unsigned next_isolated_single_bit, next_isolated_double_bit;
} dcmi_ecc;

enum { DCMI_MEMORY_DDR, DCMI_MEMORY_SRAM, DCMI_MEMORY_HBM, DCMI_MEMORY_NPU };

typedef struct {
    unsigned long long size_mib;
    unsigned clock_mhz;
    unsigned long long used_mib;
    int temperature_c;
    unsigned bandwidth_percent;
} dcmi_hbm;

typedef struct {
    unsigned long long size_mib, available_mib;
    unsigned clock_mhz;
    unsigned long huge_page_kib, huge_pages, huge_pages_free;
    unsigned used_percent;
    unsigned char reserved[60];
} dcmi_memory_v3;

typedef struct {
    unsigned long long size_mib;
    unsigned clock_mhz, used_percent;
} dcmi_memory;

typedef struct {
    unsigned cube_percent, vector_percent, aicore_percent, npu_percent;
    unsigned reserved[8];
} dcmi_utilization;

typedef struct {
    int pid;
    unsigned long used_bytes;
} dcmi_process;

typedef struct {
    unsigned board_id, pcb_id, bom_id, slot_id;
} dcmi_board;

enum {
    DCMI_CLOCK_HBM = 6,
    DCMI_CLOCK_AICORE = 7,
};

enum {
    DCMI_USE_AICORE = 2,
    DCMI_USE_AICPU = 3,
    DCMI_USE_CONTROL_CPU = 4,
    DCMI_USE_HBM = 6,
    DCMI_USE_HBM_BANDWIDTH = 10,
    DCMI_USE_VECTOR = 12,
    DCMI_USE_NPU = 13,
};

enum { DCMI_BOOT_FINISHED = 16 };

enum { DCMI_PATH_SELF = 0, DCMI_PATH_HCCS = 3 };

/* Events: the code itself, and what is in it. */
typedef struct {
    unsigned code;
    unsigned short device; /* logic id */
    unsigned char node_type, node, sub_node_type, sub_node;
    unsigned char severity;  /* 0 notice, 1 minor, 2 major, 3 critical */
    unsigned char assertion; /* 0 over, 1 begun, 2 happened once */
    int serial, notification;
    unsigned long long raised_s; /* Unix time */
    char name[256];
    char more[32];
    unsigned char reserved[32];
} dcmi_fault;

typedef struct {
    int type; /* 0 is a fault, the only one there is */
    dcmi_fault fault;
} dcmi_event;

enum {
    DCMI_FILTER_CODE = 1 << 0,
    DCMI_FILTER_SEVERITY = 1 << 1,
    DCMI_FILTER_NODE_TYPE = 1 << 2,
};

typedef struct {
    unsigned long long by;
    unsigned code;
    unsigned char severity, node_type;
    unsigned char reserved[32];
} dcmi_filter;

typedef void (*dcmi_handler)(dcmi_event *event);

_Static_assert(sizeof(dcmi_pcie_v2) == 64, "as DCMI has it");
_Static_assert(sizeof(dcmi_hbm) == 32, "as DCMI has it");
_Static_assert(sizeof(dcmi_fault) == 352, "as DCMI has it");
_Static_assert(sizeof(dcmi_event) == 360, "as DCMI has it");
_Static_assert(sizeof(dcmi_filter) == 48, "as DCMI has it");

#endif
