/* What every exported function asks first: where its call goes, and whether it fails. */
#include "state.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define HANG_STEP_MS 50 /* how soon a hung call ends when its fault is cleared */
#define COUNTERS 4096u  /* a power of two */
#define COMPLAINTS 16

/* ---- names and messages -------------------------------------------------------------------- */

#define MK_NAME(name, device) char name[sizeof #name];
static const struct {
    MK_FUNCTIONS(MK_NAME)
} names = {
#undef MK_NAME
#define MK_NAME(name, device) #name,
    MK_FUNCTIONS(MK_NAME)
#undef MK_NAME
};

#define MK_PLACE(name, device) offsetof(__typeof__(names), name),
static const uint16_t name_places[] = {MK_FUNCTIONS(MK_PLACE)};
#undef MK_PLACE

#define MK_TAKES(name, device) device,
static const bool takes_device[] = {MK_FUNCTIONS(MK_TAKES)};
#undef MK_TAKES

const char *mk_function_name(mk_function function) {
    return (const char *)&names + name_places[function];
}

void mk_complain(const char *what) {
    static const char *_Atomic said[COMPLAINTS];
    for (int i = 0; i < COMPLAINTS; i++) {
        const char *there = NULL;
        if (atomic_compare_exchange_strong(&said[i], &there, what)) break;
        if (there == what || i == COMPLAINTS - 1) return;
    }
    char line[256];
    int length = snprintf(line, sizeof line, "aibrixctl mock-fail (%s): %s; passing through\n",
                          mk_file_name, what);
    if (length > 0 && write(STDERR_FILENO, line, (size_t)length) < 0) return;
}

/* ---- faults of calls ----------------------------------------------------------------------- */

/* Calls that matched a fault, under the fault's key, so that a rewritten state goes on counting. */
static uint64_t count_call(uint32_t key) {
    static struct {
        _Atomic uint32_t key;
        _Atomic uint64_t calls;
    } counters[COUNTERS];
    for (uint32_t i = 0; i < COUNTERS; i++) {
        uint32_t slot = (key + i) % COUNTERS, there = 0;
        if (atomic_compare_exchange_strong(&counters[slot].key, &there, key) || there == key)
            return atomic_fetch_add(&counters[slot].calls, 1) + 1;
    }
    return 0;
}

static void sleep_step(void) {
    nanosleep(&(struct timespec){.tv_nsec = HANG_STEP_MS * 1000000L}, NULL);
    mk_refresh();
}

static int64_t monotonic_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* Sleeps for as long as the value says now: a cleared fault lets the call go on. */
void mk_hang(bool (*milliseconds)(unsigned, int64_t *), unsigned device) {
    int64_t most, started = 0;
    while (milliseconds(device, &most) && most > 0) {
        int64_t now = monotonic_ms();
        if (started == 0) started = now;
        if (now - started >= most) return;
        sleep_step();
    }
}

static const mk_call_fault *still_there(uint32_t key) {
    const mk_snapshot *snapshot = mk_current();
    for (unsigned i = 0; snapshot != NULL && i < snapshot->header->calls; i++)
        if (snapshot->calls[i].key == key) return &snapshot->calls[i];
    return NULL;
}

static void hang_for(const mk_call_fault *fault) {
    int64_t started = monotonic_ms();
    uint32_t key = fault->key;
    while (fault != NULL && monotonic_ms() - started < fault->hang_ms) {
        sleep_step();
        fault = still_there(key);
    }
}

/* The last fault of the function that holds decides, as with readings. */
static int failed_call(mk_function function, int device) {
    const mk_snapshot *snapshot = mk_current();
    const mk_call_fault *decisive = NULL;
    if (snapshot == NULL) return 0;
    for (unsigned n = snapshot->first_call[function]; n != 0; n = snapshot->next_call[n - 1]) {
        const mk_call_fault *fault = &snapshot->calls[n - 1];
        if (fault->device >= 0 && fault->device != device) continue;
        uint64_t calls = fault->when.after_calls ? count_call(fault->key) : 0;
        if (mk_holds(snapshot, &fault->when, calls)) decisive = fault;
    }
    if (decisive == NULL) return 0;
    int error = decisive->error;
    hang_for(decisive);
    return error == MK_NO_ERROR ? 0 : error;
}

/* ---- the gate ------------------------------------------------------------------------------ */

static mk_jump back(intptr_t answer) { return (mk_jump){NULL, answer}; }

static mk_jump pass(mk_function function) {
    void *real = mk_real(function);
    if (real != NULL) return (mk_jump){real, 0};
    return back(mk_open_real() ? mk_no_function : mk_not_initialised);
}

/* What the faults make of the call; 0 is to go on. May sleep. A call that none can concern is not
 * even asked for its device. */
static int fault_of(mk_function function, uintptr_t first, uintptr_t second) {
    const mk_snapshot *snapshot = mk_current();
    if (snapshot == NULL) return 0;
    bool fails = snapshot->first_call[function] != 0;
    bool may_fail = fails || snapshot->failing != 0;
    unsigned device;
    bool on_device = may_fail && takes_device[function] && mk_device_of(first, second, &device);
    int error = fails ? failed_call(function, on_device ? (int)device : -1) : 0;
    if (error != 0) return error;
    if (mk_needs_init(function) && !mk_is_initialised()) return mk_not_initialised;
    snapshot = mk_current(); /* the call may have hung for long */
    bool device_fails = on_device && snapshot != NULL && (snapshot->failing >> device & 1);
    return device_fails ? mk_device_fault(device) : 0;
}

static mk_jump route(mk_function function, uintptr_t first, uintptr_t second) {
    mk_enter();
    if (mk_mode_now() != MK_PASS) {
        int error = fault_of(function, first, second);
        if (error != 0) return back(error);
    }
    void *always = mk_always(function);
    if (always != NULL) return (mk_jump){always, 0};
    mk_mode mode = mk_mode_now(); /* a hang may have outlived the mock */
    if (mode == MK_PASS) return pass(function);
    if (mk_own[function] != NULL) return (mk_jump){mk_own[function], 0};
    return mode == MK_STANDALONE ? back(mk_not_supported) : pass(function);
}

mk_jump mk_gate(mk_function function, uintptr_t first, uintptr_t second) {
    int before = errno;
    mk_jump jump = route(function, first, second);
    errno = before;
    return jump;
}
