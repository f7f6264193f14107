/* The layout of the state file, little-endian, as mockfail/state.py writes it.
 *
 *     header | cells | rules | calls | events | GPU lists | NPU lists | processes | codes | texts
 *
 * The sections follow each other without gaps; the counts in the header give their places. A cell
 * is one reading of one device: first those of the node, then of each GPU slot its properties and
 * those of its link slots, then of each NPU slot. The header says how many slots there are: as many
 * as the simulated node has devices, or more where an overlay's faults name more.
 */
#ifndef MOCKFAIL_STATE_H
#define MOCKFAIL_STATE_H

#include <stdatomic.h>

#include "mock.h"

#define MK_MAGIC "MKSTATE\n"
#define MK_LAYOUT 1u
#define MK_MAX_RULES 1024u
#define MK_MAX_FILE_BYTES (8u << 20)
#define MK_ALWAYS UINT32_MAX
#define MK_NO_ERROR INT32_MIN

enum { MK_MODE_AUTO, MK_MODE_OVERLAY, MK_MODE_STANDALONE };

typedef struct {
    char magic[8];
    uint32_t layout;
    uint32_t header_bytes;
    uint64_t total_bytes;
    uint32_t digest;   /* of the list of properties */
    uint32_t checksum; /* CRC-32 of all that follows this field */
    uint64_t generation;
    int64_t started_ns; /* CLOCK_BOOTTIME from which every condition counts */
    int64_t expires_ns; /* CLOCK_BOOTTIME; INT64_MAX is never */
    uint32_t mode;
    uint32_t gpus, npus; /* simulated */
    uint32_t gpu_slots, npu_slots, link_slots;
    uint32_t rules, calls, events, processes, codes;
    uint32_t text_bytes;
    uint32_t real_library; /* in texts; 0 is to look for it */
    uint32_t reserved;
} mk_header;

typedef struct {
    int64_t value; /* of a string: its place in texts */
    uint32_t rule; /* number of its first rule, from 1; 0 is none */
    uint32_t set;  /* by a fault, so that it counts in an overlay too */
} mk_cell;

typedef struct {
    int64_t start_ns, end_ns; /* since started_ns; INT64_MAX is for ever */
    int64_t ramp_ns;
    uint64_t after_calls;
    uint32_t chance; /* of 2^32; MK_ALWAYS is always */
    uint32_t reserved;
} mk_when;

typedef struct {
    mk_when when;
    int64_t value;
    uint32_t next; /* number of the cell's next rule, always a later one; 0 is none */
    uint32_t reserved;
} mk_rule;

typedef struct {
    mk_when when;
    uint32_t function; /* its name, in texts */
    uint32_t key;      /* the same as long as the fault is the same */
    int32_t device;    /* -1 is any */
    int32_t error;     /* MK_NO_ERROR is to go on */
    uint32_t hang_ms;
    uint32_t reserved;
} mk_call_fault;

typedef struct {
    mk_when when;
    uint64_t type, data;
    uint32_t gpu;
    uint32_t key;
} mk_event_fault;

typedef struct {
    uint32_t first, count;
    uint32_t set;
    uint32_t reserved;
} mk_list;

_Static_assert(sizeof(mk_header) == 112, "mockfail/state.py packs 112 bytes");
_Static_assert(sizeof(mk_cell) == 16, "mockfail/state.py packs 16 bytes");
_Static_assert(sizeof(mk_when) == 40, "mockfail/state.py packs 40 bytes");
_Static_assert(sizeof(mk_rule) == 56, "mockfail/state.py packs 56 bytes");
_Static_assert(sizeof(mk_call_fault) == 64, "mockfail/state.py packs 64 bytes");
_Static_assert(sizeof(mk_event_fault) == 64, "mockfail/state.py packs 64 bytes");
_Static_assert(sizeof(mk_list) == 16, "mockfail/state.py packs 16 bytes");
_Static_assert(sizeof(mk_process) == 16, "mockfail/state.py packs 16 bytes");

static inline size_t mk_gpu_cells(const mk_header *header) {
    return MK_GPU_PROPERTIES + (size_t)header->link_slots * MK_LINK_PROPERTIES;
}

static inline size_t mk_cell_count(const mk_header *header) {
    return MK_NODE_PROPERTIES + header->gpu_slots * mk_gpu_cells(header) +
           (size_t)header->npu_slots * MK_NPU_PROPERTIES;
}

/* A state file as this process read it; never changes after it is published. */
typedef struct mk_snapshot {
    const mk_header *header;
    const mk_cell *cells;
    const mk_rule *rules;
    const mk_call_fault *calls;
    const mk_event_fault *events;
    const mk_list *gpu_lists, *npu_lists;
    const mk_process *processes;
    const uint32_t *codes;
    const char *texts;
    size_t mapped_bytes;
    bool counts;                      /* something depends on the number of calls or on chance */
    uint64_t failing;                 /* by bit: devices that may be lost, reset or hung */
    uint16_t first_call[FN_COUNT];    /* number of a function's first fault, from 1 */
    uint16_t next_call[MK_MAX_RULES]; /* by fault: the function's next */
} mk_snapshot;

/* The client's call that runs in this thread; mk_refresh() sets it. */
typedef struct {
    const mk_snapshot *snapshot;
    uint64_t published; /* number of the publication, from 1; 0 is none yet */
    int64_t now_ns;     /* CLOCK_MONOTONIC, the same throughout */
    uint64_t number;    /* of the call in this process, from when a state first counted */
} mk_call;

extern _Thread_local mk_call mk_this_call;

/* snapshot.c */
void mk_enter(void);                 /* mk_refresh() at the start of a client's call */
const mk_snapshot *mk_current(void); /* of this thread's call; NULL is pass through */
uint64_t mk_calls(void);             /* of this process, from when a state first counted */
int64_t mk_now_ns(const mk_snapshot *snapshot); /* of this call, since the mock's start */
extern _Atomic uint64_t mk_seed;
extern char mk_search_path[]; /* LD_LIBRARY_PATH at the start, as the loader took it */

/* check.c */
bool mk_plausible(const mk_header *header);                /* the head alone */
bool mk_lay_out(mk_snapshot *snapshot, const char *bytes); /* all of a file whose head is */

/* values.c */
uint64_t mk_failing_devices(const mk_snapshot *snapshot);
bool mk_holds(const mk_snapshot *snapshot, const mk_when *when, uint64_t calls);
void mk_forget_events(void); /* those that this process has had */

/* real.c */
mk_mode mk_begin(void);            /* decide what an init cycle runs on */
void mk_initialised(mk_mode mode); /* one more init succeeded */
bool mk_shut_down(void);           /* one fewer; false when there was none */
bool mk_is_initialised(void);
bool mk_cycle_is_standalone(void);
void *mk_symbol(const char *name); /* behind us in the search order: of libc */

/* cache.c */
bool mk_cached_path(char *path, size_t size);

/* gate.c */
typedef struct {
    void *target;    /* where the trampoline jumps; NULL is back to the client */
    intptr_t answer; /* with this */
} mk_jump;
mk_jump mk_gate(mk_function function, uintptr_t first, uintptr_t second);
void mk_hang(bool (*value)(unsigned, int64_t *), unsigned device); /* value: how long, in ms */

/* redirect.c */
typedef struct {
    const char *name; /* what to open */
    void *real;       /* the dlopen behind us */
} mk_redirection;
mk_redirection mk_redirect(const char *name);
mk_redirection mk_redirect_namespace(const char *name);

/* nvml_library.c, dcmi_library.c: what only this library has */
extern const char *const mk_file_name;    /* its SONAME */
extern const char *const mk_real_paths[]; /* where drivers put it; the last is NULL */
extern const int mk_no_library, mk_not_initialised, mk_no_function, mk_not_supported;
bool mk_needs_init(mk_function function);
bool mk_device_of(uintptr_t first, uintptr_t second, unsigned *device);
void *mk_always(mk_function function); /* our answer in every mode, or NULL */

#endif
