/* What the parts of the native libraries share: the state of the mock, and the way to the driver.
 *
 * snapshot.c  reads the state file and keeps what it said      state.h  the file's layout
 * check.c     takes it apart and believes nothing
 * values.c    readings, rules, lists and events of the current snapshot
 * real.c      finds and opens the real library             cache.c  where the loader has it
 * gate.c      what every exported function asks first; the faults of calls
 * entry.S     the exported functions: each asks mk_gate() and jumps on; dlopen (redirect.c)
 * nvml_library.c, dcmi_library.c  what only one library has: its init, handles, error numbers
 * nvml*.c     our own answers to NVML calls;  dcmi.c  to DCMI calls
 *
 * A call runs like this: the exported nvmlDeviceGetName is a trampoline of entry.S. It saves the
 * argument registers and asks mk_gate(FN_nvmlDeviceGetName, handle), which looks for a newer state,
 * applies the faults of the call and of the device, and says where to go: to mk_own[FN_…] when that
 * is not NULL, else to the real function, else back with an error. With no state, or an expired or
 * malformed one, it always goes to the real function.
 *
 * Everything below may be called from any thread, takes no lock and allocates nothing. Within one
 * call of a client every reading comes from the same snapshot, and every rule with a probability
 * or a number of calls holds or does not.
 */
#ifndef MOCKFAIL_MOCK_H
#define MOCKFAIL_MOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "generated.h"

#define MK_NOT_SUPPORTED INT64_MIN
#define MK_UNKNOWN INT64_MAX /* no former value; see mk_gpu_over */

typedef enum { MK_PASS, MK_OVERLAY, MK_STANDALONE } mk_mode;

/* ---- answers: what the libraries' own parts give ----------------------------------------- */

/* Our own answers by function, NULL where there is none: nvml_table.c and dcmi.c fill it, as
 *     void *const mk_own[FN_COUNT] = {[FN_nvmlDeviceGetName] = own_name, …};
 * The functions have the library's own signatures and may be static; in overlay mode they call the
 * real function through mk_real() and change what a fault sets. */
extern void *const mk_own[FN_COUNT];

/* ---- the mode ------------------------------------------------------------------------------ */

/* What holds for this process now. MK_PASS: no state, an expired or a malformed one. An own answer
 * sees MK_OVERLAY or MK_STANDALONE, except for the few that answer without a driver too
 * (nvmlErrorString, nvmlInit). */
mk_mode mk_mode_now(void);

/* Look for a newer state (at most every 100 ms) and let what follows in this thread read it. The
 * gate does it for every call; what waits or polls inside a call does it itself. */
void mk_refresh(void);

/* ---- readings ------------------------------------------------------------------------------ */

/* Numbers of simulated devices (standalone), hidden ones included. */
unsigned mk_gpu_count(void);
unsigned mk_npu_count(void);

/* True when the mock determines the value: always in standalone mode, in an overlay only where a
 * fault sets it. Booleans are 0 or 1; MK_NOT_SUPPORTED where the device has no such reading. */
bool mk_node(mk_node_property property, int64_t *value);
bool mk_gpu(unsigned gpu, mk_gpu_property property, int64_t *value);
bool mk_link(unsigned gpu, unsigned link, mk_link_property property, int64_t *value);
bool mk_npu(unsigned npu, mk_npu_property property, int64_t *value);

/* The value in an overlay: what the mock says, else what the real driver said. A ramp starts from
 * the real value (with mk_gpu() it can't, and jumps to its end). */
int64_t mk_gpu_over(unsigned gpu, mk_gpu_property property, int64_t real);
int64_t mk_link_over(unsigned gpu, unsigned link, mk_link_property property, int64_t real);
int64_t mk_npu_over(unsigned npu, mk_npu_property property, int64_t real);

/* The same for strings: copies at most size bytes with the closing NUL. Empty: not supported. */
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
    uint32_t id; /* of this event, whatever else the state says: a process delivers it once */
    uint32_t gpu;
    uint64_t type; /* NVML event type bit; DCMI: the fault code */
    uint64_t data; /* XID */
} mk_event;

/* The n-th event that is due and not yet taken by this process. mk_event_take() is true for the
 * one caller that may deliver it. */
bool mk_event_due(unsigned n, mk_event *event);
bool mk_event_take(uint32_t id);

/* ---- devices ------------------------------------------------------------------------------- */

/* NVML handles. Standalone: made up, never to be dereferenced. Overlay: the real ones. The gate
 * has applied lost, reset_required and hang_ms of the device to functions whose first argument is
 * a handle; GetHandleBy… ask mk_device_fault(), which sleeps for hang_ms and returns the
 * nvmlReturn_t (0, 15, 16). mk_handle() is NULL for a GPU that there is not, and for one that the
 * real driver counts and gives no handle of, as it is lost or not permitted. */
bool mk_gpu_exists(unsigned gpu);
void *mk_handle(unsigned gpu);
bool mk_handle_index(const void *handle, unsigned *gpu);
int mk_device_fault(unsigned gpu);

/* DCMI: the NPU of (card, device); false when there is none or it is hidden. The gate has applied
 * lost and hang_ms to functions whose first two arguments are these. */
bool mk_npu_index(int card, int device, unsigned *npu);

/* ---- the real library ---------------------------------------------------------------------- */

/* The real function behind an index, NULL where there is none; and the real library itself. */
void *mk_real(mk_function function);
bool mk_open_real(void);

/* The name of a function, such as "nvmlInit_v2". */
const char *mk_function_name(mk_function function);

/* Written once per process and cause, to stderr. */
void mk_complain(const char *what);

#endif
