/* The types of NVML calls that the mock answers itself.
 *
 * Own declarations of a public binary interface; layouts and numbers as in nvidia-ml-py (BSD).
 */
#ifndef MOCKFAIL_NVML_TYPES_H
#define MOCKFAIL_NVML_TYPES_H

#include <stdint.h>

typedef struct nvml_device *nvmlDevice_t;
typedef struct nvml_event_set *nvmlEventSet_t;
typedef unsigned long long nvml_u64;

typedef enum {
    NVML_SUCCESS = 0,
    NVML_UNINITIALIZED = 1,
    NVML_INVALID_ARGUMENT = 2,
    NVML_NOT_SUPPORTED = 3,
    NVML_NO_PERMISSION = 4,
    NVML_NOT_FOUND = 6,
    NVML_INSUFFICIENT_SIZE = 7,
    NVML_TIMEOUT = 10,
    NVML_LIBRARY_NOT_FOUND = 12,
    NVML_FUNCTION_NOT_FOUND = 13,
    NVML_CORRUPTED_INFOROM = 14,
    NVML_MEMORY = 20,
    NVML_ARGUMENT_VERSION_MISMATCH = 25,
    NVML_UNKNOWN = 999,
} nvmlReturn_t;

/* A versioned structure says its size and version in its first word. */
#define NVML_VERSION_OF(type, number) ((unsigned)(sizeof(type) | (unsigned)(number) << 24))

#define NVML_NO_INSTANCE 0xFFFFFFFFu /* not on a MIG instance */

/* -- identity ---------------------------------------------------------------------------------- */

typedef struct {
    char bus_id_legacy[16];
    unsigned domain, bus, device, pci_device_id;
} nvml_pci_v1;

typedef struct {
    char bus_id_legacy[16];
    unsigned domain, bus, device, pci_device_id, pci_subsystem_id;
    unsigned reserved[4];
} nvml_pci_v2;

typedef struct {
    char bus_id_legacy[16];
    unsigned domain, bus, device, pci_device_id, pci_subsystem_id;
    char bus_id[32];
} nvml_pci_v3;

typedef struct {
    unsigned version, domain, bus, device, pci_device_id, pci_subsystem_id, base_class, sub_class;
    char bus_id[32];
} nvml_pci_ext;

typedef struct {
    unsigned version, type; /* 1: text, 2: the 16 bytes */
    union {
        char text[41];
        unsigned char bytes[16];
    } value;
} nvml_uuid;

typedef struct {
    unsigned version;
    char branch[80];
} nvml_driver_branch;

enum { NVML_INFOROM_OEM, NVML_INFOROM_ECC, NVML_INFOROM_POWER };

/* -- memory and processes ---------------------------------------------------------------------- */

typedef struct {
    nvml_u64 total, free, used;
} nvml_memory;

typedef struct {
    unsigned version;
    nvml_u64 total, reserved, free, used;
} nvml_memory_v2;

typedef struct {
    unsigned pid;
    nvml_u64 used_bytes;
} nvml_process_v1;

typedef struct {
    unsigned pid;
    nvml_u64 used_bytes;
    unsigned gpu_instance, compute_instance;
} nvml_process_v2;

typedef struct {
    unsigned pid;
    nvml_u64 used_bytes;
    unsigned gpu_instance, compute_instance;
    nvml_u64 protected_bytes;
} nvml_process_detail;

typedef struct {
    unsigned version, mode; /* 0 compute, 1 graphics, 2 MPS, 3 all */
    unsigned count;
    nvml_process_detail *list;
} nvml_process_details;

typedef struct {
    unsigned gpu, memory;
} nvml_utilization;

typedef union {
    double real;
    unsigned u32;
    unsigned long ulong;
    nvml_u64 u64;
    long long i64;
    int i32;
} nvml_value;

enum { NVML_VALUE_U32 = 1, NVML_VALUE_ULONG = 2, NVML_VALUE_U64 = 3, NVML_VALUE_I32 = 5 };

typedef struct {
    nvml_u64 time_us;
    nvml_value value;
} nvml_sample;

enum {
    NVML_SAMPLES_POWER,
    NVML_SAMPLES_GPU,
    NVML_SAMPLES_MEMORY,
    NVML_SAMPLES_ENCODER,
    NVML_SAMPLES_DECODER,
    NVML_SAMPLES_CLOCK,
    NVML_SAMPLES_MEMORY_CLOCK,
    NVML_SAMPLES_MODULE_POWER,
    NVML_SAMPLES_JPEG,
    NVML_SAMPLES_OFA,
};

typedef struct {
    unsigned field_id, scope_id;
    int64_t timestamp_us, latency_us;
    unsigned value_type, result;
    nvml_value value;
} nvml_field;

typedef struct {
    unsigned sessions, average_fps, average_latency_us;
} nvml_capture;

/* -- errors ------------------------------------------------------------------------------------ */

enum { NVML_CORRECTED, NVML_UNCORRECTED };
enum { NVML_VOLATILE, NVML_AGGREGATE };
enum {
    NVML_L1,
    NVML_L2,
    NVML_DRAM,
    NVML_REGISTER_FILE,
    NVML_TEXTURE,
    NVML_TEXTURE_SHARED,
    NVML_CBU,
    NVML_SRAM,
    NVML_LOCATIONS
};

typedef struct {
    nvml_u64 l1, l2, device_memory, register_file;
} nvml_ecc_counts;

typedef struct {
    unsigned version;
    nvml_u64 aggregate_parity, aggregate_secded, aggregate_corrected;
    nvml_u64 volatile_parity, volatile_secded, volatile_corrected;
    nvml_u64 bucket_l2, bucket_sm, bucket_pcie, bucket_mcu, bucket_other;
    unsigned threshold_exceeded;
} nvml_sram_errors;

typedef struct {
    unsigned corrected_active, corrected_inactive, uncorrected_active, uncorrected_inactive;
    unsigned pending, failure;
} nvml_remapped_rows;

typedef struct {
    unsigned max, high, partial, low, none;
} nvml_remap_histogram;

/* -- heat, power, clocks ----------------------------------------------------------------------- */

typedef struct {
    unsigned version, sensor;
    int celsius;
} nvml_temperature;

typedef struct {
    unsigned version;
    int celsius;
} nvml_margin;

typedef struct {
    unsigned count;
    struct {
        int controller, lowest, highest, now, target;
    } sensor[3];
} nvml_thermal_settings;

enum { NVML_SHUTDOWN, NVML_SLOWDOWN, NVML_MEMORY_MAX, NVML_GPU_MAX };

typedef struct {
    unsigned version, fan, rpm;
} nvml_fan_speed;

typedef struct {
    nvml_u64 reference_us, violation_ns;
} nvml_violation;

enum { NVML_CLOCK_GRAPHICS, NVML_CLOCK_SM, NVML_CLOCK_MEMORY, NVML_CLOCK_VIDEO, NVML_CLOCKS };
enum { NVML_CLOCK_NOW, NVML_CLOCK_APPLICATION, NVML_CLOCK_DEFAULT, NVML_CLOCK_HIGHEST };

/* -- links ------------------------------------------------------------------------------------- */

typedef struct {
    unsigned char cluster[16];
    unsigned status, clique, state;
} nvml_fabric_v1;

typedef struct {
    unsigned version;
    unsigned char cluster[16];
    unsigned status, clique, state, health_mask;
} nvml_fabric_v2;

typedef struct {
    unsigned version;
    unsigned char cluster[16];
    unsigned status, clique, state, health_mask;
    unsigned char health_summary;
} nvml_fabric_v3;

typedef struct {
    unsigned char cluster[16];
    unsigned status;
    struct {
        unsigned char type; /* 0: unicast pointers, which the older versions show */
        unsigned id;
    } cliques[64];
    unsigned clique_count;
    unsigned char state;
    unsigned health_mask;
    unsigned char health_summary;
} nvml_fabric_v4;

enum { NVML_LINK_REPLAY, NVML_LINK_RECOVERY, NVML_LINK_CRC_FLIT, NVML_LINK_CRC_DATA };

/* -- events ------------------------------------------------------------------------------------ */

typedef struct {
    nvmlDevice_t device;
    nvml_u64 type, data;
} nvml_event_v1;

typedef struct {
    nvmlDevice_t device;
    nvml_u64 type, data;
    unsigned gpu_instance, compute_instance;
} nvml_event_v2;

/* -- licences, which no simulated card has ------------------------------------------------------ */

typedef struct {
    int supported;
    unsigned count;
} nvml_licences;

#endif
