/* What the parts of the native libraries share: the state of the mock, and the way to the driver.
 *
 * core.c    reads the state file, keeps snapshots, evaluates rules, finds the real library
 * entry.c   the exported symbols: assembly trampolines that ask gate() and jump on; dlopen
 * nvml*.c   our own answers to NVML calls;  dcmi.c  to DCMI calls
 *
 * The enumerations (MK_GPU_…, MK_LINK_…, MK_NODE_…, MK_NPU_…, FN_…) come from generate.py.
 */
#ifndef MOCKFAIL_MOCK_H
#define MOCKFAIL_MOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "generated.h"

#define MK_NOT_SUPPORTED INT64_MIN

typedef enum { MK_PASS, MK_OVERLAY, MK_STANDALONE } mk_mode;

/* What holds for this process now. MK_PASS: no state, an expired or a malformed one. */
mk_mode mk_mode_now(void);

/* Numbers of simulated devices (standalone), hidden ones included. */
unsigned mk_gpu_count(void);
unsigned mk_npu_count(void);

/* True when the mock determines the value: always in standalone mode, in an overlay only where a
 * fault sets it. Booleans are 0 or 1; MK_NOT_SUPPORTED where the device has no such reading. */
bool mk_node(mk_node_property property, int64_t *value);
bool mk_gpu(unsigned gpu, mk_gpu_property property, int64_t *value);
bool mk_link(unsigned gpu, unsigned link, mk_link_property property, int64_t *value);
bool mk_npu(unsigned npu, mk_npu_property property, int64_t *value);

/* The same for strings: copies at most size bytes with the closing NUL. */
bool mk_node_text(mk_node_property property, char *text, unsigned size);
bool mk_gpu_text(unsigned gpu, mk_gpu_property property, char *text, unsigned size);
bool mk_link_text(unsigned gpu, unsigned link, mk_link_property property, char *text, unsigned size);
bool mk_npu_text(unsigned npu, mk_npu_property property, char *text, unsigned size);

typedef struct {
    uint32_t pid;
    uint32_t graphics; /* 0: compute */
    uint64_t used_bytes;
} mk_process;

/* True when the mock determines the list; *count is at most MK_MAX_PROCESSES. */
bool mk_processes(unsigned gpu, mk_process list[MK_MAX_PROCESSES], unsigned *count);
bool mk_codes(unsigned npu, uint32_t list[MK_MAX_CODES], unsigned *count);

typedef struct {
    uint32_t id; /* its place in the state: a process delivers each event once */
    uint32_t gpu;
    uint64_t type; /* NVML event type bit; DCMI: the fault code */
    uint64_t data; /* XID */
} mk_event;

/* The n-th event that is due and not yet taken by this process; take marks it. */
bool mk_event_due(unsigned n, mk_event *event);
bool mk_event_take(uint32_t id);

/* The real function behind an index, NULL where there is none; and the real library itself. */
void *mk_real(mk_function function);
bool mk_open_real(void);

/* Written once per process and cause, to stderr. */
void mk_complain(const char *what);

#endif
