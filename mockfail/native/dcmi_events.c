/* Fault events: an NPU's code that becomes active or ends, told to whoever asked.
 *
 * Whoever subscribes is called from a thread of ours, which looks at the codes ten times a second.
 * As with the driver, a process subscribes once.
 */
#include "dcmi.h"
#include "state.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

enum { LOOK_EVERY_MS = 100, FOR_EVER = -1, LONGEST_WAIT_MS = 30000, ALL_DEVICES = -1 };

/* The codes of one NPU as its reader last saw them. */
typedef struct {
    uint32_t code[MK_MAX_CODES];
    unsigned count;
} seen_codes;

typedef struct {
    seen_codes npus[MK_MAX_NPUS];
    int serial;
} watch;

static bool contains(const seen_codes *codes, uint32_t code) {
    for (unsigned at = 0; at < codes->count; at++)
        if (codes->code[at] == code) return true;
    return false;
}

/* ---- one event --------------------------------------------------------------------------- */

static bool wanted(const dcmi_filter *filter, const dcmi_fault *fault) {
    if ((filter->by & DCMI_FILTER_CODE) && fault->code != filter->code) return false;
    if ((filter->by & DCMI_FILTER_SEVERITY) && fault->severity < filter->severity) return false;
    return !(filter->by & DCMI_FILTER_NODE_TYPE) || fault->node_type == filter->node_type;
}

static unsigned char severity_of(unsigned npu) {
    enum { MAJOR = 2, CRITICAL = 3 };
    int64_t health;
    bool said = mk_npu(npu, MK_NPU_HEALTH, &health) && health > 0 && health <= CRITICAL;
    return said ? (unsigned char)health : MAJOR;
}

static void describe(dcmi_event *event, unsigned npu, uint32_t code, bool begun, int serial) {
    int logic = dcmi_logic_id(npu);
    memset(event, 0, sizeof *event);
    event->fault.code = code;
    event->fault.device = (unsigned short)(logic < 0 ? (int)npu : logic);
    event->fault.node_type = (unsigned char)(code >> 17); /* see diagnose/data/ascend_codes.toml */
    event->fault.severity = severity_of(npu);
    event->fault.assertion = begun;
    event->fault.serial = event->fault.notification = serial;
    event->fault.raised_s = (unsigned long long)time(NULL);
    dcmi_copy(event->fault.name, sizeof event->fault.name, "Simulated fault");
}

/* Finds one change since the last look that the filter lets through, and notes it; false when
 * there is none. A code that ended is told before one that began. */
static bool next_change(watch *state, unsigned npu, const dcmi_filter *filter, dcmi_event *event) {
    seen_codes *old = &state->npus[npu], now = {.count = 0};
    if (!mk_codes(npu, now.code, &now.count)) now.count = 0;
    for (unsigned at = old->count; at-- > 0;) {
        uint32_t code = old->code[at];
        if (contains(&now, code)) continue;
        old->code[at] = old->code[--old->count];
        describe(event, npu, code, false, ++state->serial);
        if (wanted(filter, &event->fault)) return true;
    }
    for (unsigned at = 0; at < now.count && old->count < MK_MAX_CODES; at++) {
        if (contains(old, now.code[at])) continue;
        old->code[old->count++] = now.code[at];
        describe(event, npu, now.code[at], true, ++state->serial);
        if (wanted(filter, &event->fault)) return true;
    }
    return false;
}

static void nap(int milliseconds) {
    struct timespec left = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
    while (nanosleep(&left, &left) != 0 && errno == EINTR);
}

/* NPUs that a call on (card, device) is about: all, one, or none. */
static int range(int card, int device, unsigned *first, unsigned *end) {
    *first = 0;
    *end = MK_MAX_NPUS;
    if (card == ALL_DEVICES && device == ALL_DEVICES) return DCMI_OK;
    int status = dcmi_place(card, device, first, first);
    *end = *first + 1;
    return status;
}

/* ---- waiting ----------------------------------------------------------------------------- */

static atomic_flag waiting_state_taken = ATOMIC_FLAG_INIT;
static watch waiting_state;

/* One look for all threads that wait; the state is theirs together, so that each event comes to one
 * of them. */
static bool look(unsigned first, unsigned end, const dcmi_filter *filter, dcmi_event *event) {
    bool found = false;
    if (atomic_flag_test_and_set(&waiting_state_taken)) return false;
    mk_refresh();
    for (unsigned npu = first; npu < end && npu < MK_MAX_NPUS && !found; npu++)
        found = next_change(&waiting_state, npu, filter, event);
    atomic_flag_clear(&waiting_state_taken);
    return found;
}

int own_fault_event(int card, int device, int timeout_ms, dcmi_filter filter, dcmi_event *event) {
    unsigned first, end;
    if (event == NULL || timeout_ms < FOR_EVER || timeout_ms > LONGEST_WAIT_MS)
        return DCMI_INVALID_PARAMETER;
    int status = range(card, device, &first, &end);
    if (status < 0) return status;
    if (status == DCMI_ELSEWHERE || mk_mode_now() == MK_OVERLAY)
        return REAL(dcmi_get_fault_event, own_fault_event, card, device, timeout_ms, filter, event);
    for (int waited_ms = 0;; waited_ms += LOOK_EVERY_MS) {
        if (look(first, end, &filter, event)) return DCMI_OK;
        if (timeout_ms != FOR_EVER && waited_ms >= timeout_ms) return DCMI_TIME_OUT;
        nap(LOOK_EVERY_MS);
    }
}

/* ---- subscription ------------------------------------------------------------------------ */

static struct {
    _Atomic pid_t owner; /* the process that subscribed; a child of fork() has no thread of ours */
    unsigned first, end;
    dcmi_filter filter;
    dcmi_handler handler;
    watch state;
} subscription;

static void *deliver(void *unused) {
    dcmi_event event;
    for (;; nap(LOOK_EVERY_MS)) {
        mk_refresh();
        for (unsigned npu = subscription.first; npu < subscription.end && npu < MK_MAX_NPUS; npu++)
            while (next_change(&subscription.state, npu, &subscription.filter, &event))
                subscription.handler(&event);
    }
    return unused;
}

typedef int (*create_thread)(unsigned long *, const void *, void *(*)(void *), void *);
typedef int (*detach_thread)(unsigned long);

/* Looked up at run time: a program that uses no threads needs no library for them because of us. */
static bool start_thread(void) {
    create_thread create = (create_thread)mk_symbol("pthread_create");
    detach_thread detach = (detach_thread)mk_symbol("pthread_detach");
    unsigned long thread;
    sigset_t all, before;
    if (create == NULL || detach == NULL) return false;
    sigfillset(&all); /* the program's signals are for its own threads */
    sigprocmask(SIG_BLOCK, &all, &before);
    bool started = create(&thread, NULL, deliver, NULL) == 0;
    sigprocmask(SIG_SETMASK, &before, NULL);
    return started && detach(thread) == 0;
}

int own_subscribe(int card, int device, dcmi_filter filter, dcmi_handler handler) {
    unsigned first, end;
    if (handler == NULL) return DCMI_INVALID_PARAMETER;
    int status = range(card, device, &first, &end);
    if (status == DCMI_OK && mk_mode_now() == MK_OVERLAY)
        status = REAL(dcmi_subscribe_fault_event, own_subscribe, card, device, filter, handler);
    else if (status == DCMI_ELSEWHERE)
        return REAL(dcmi_subscribe_fault_event, own_subscribe, card, device, filter, handler);
    if (status != DCMI_OK) return status;
    pid_t before = atomic_load(&subscription.owner), me = getpid();
    if (before == me || !atomic_compare_exchange_strong(&subscription.owner, &before, me))
        return DCMI_RESOURCE_OCCUPIED;
    subscription.first = first;
    subscription.end = end;
    subscription.filter = filter;
    subscription.handler = handler;
    memset(&subscription.state, 0, sizeof subscription.state);
    if (start_thread()) return DCMI_OK;
    atomic_store(&subscription.owner, 0);
    return DCMI_RESOURCE_OCCUPIED;
}
