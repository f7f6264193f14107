/* Reads the state file, checks all of it, and keeps what it said.
 *
 * The file is never mapped: another process may cut it at any time, and that would kill the host.
 * It is read whole into memory of our own, no descriptor stays open, and readers only ever load one
 * pointer. What has been published stays readable for the next MK_KEPT publications, which are
 * CHECK_NS apart, so longer than any reader looks at it.
 */
#define _GNU_SOURCE
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define CHECK_NS 100000000 /* how often the file is looked at */
#define MK_KEPT 128u       /* snapshots, so at least 12.8 s */
#define TRUSTED_FOR 32u    /* publications that a call may trust its own snapshot for */
#define NODE_WIDE "/run/aibrixctl/mock/node-wide/state"
#ifdef MK_STAND_IN
#define VARIABLE "AIBRIXCTL_TEST_REAL_DIR"
#else
#define VARIABLE "AIBRIXCTL_MOCK_DIR"
#endif

_Thread_local mk_call mk_this_call;
_Atomic uint64_t mk_seed;

char mk_search_path[2 * PATH_MAX];
static char state_path[PATH_MAX];
static int32_t known_process; /* which this was when the state was last looked at */
static bool seed_given;
static _Atomic(const mk_snapshot *) current;
static mk_snapshot *kept[MK_KEPT];
static _Atomic uint64_t published;
static _Atomic int64_t next_check_ns;
static _Atomic int32_t reader; /* process whose thread reads the file now; 0 is none */
static _Atomic bool looked;    /* at the file, at least once */
static _Atomic int64_t boottime_minus_monotonic_ns;
static _Atomic uint64_t counted_calls;

/* ---- clocks and places --------------------------------------------------------------------- */

static int64_t clock_ns(clockid_t clock) {
    struct timespec now;
    if (clock_gettime(clock, &now) != 0) return 0;
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

int64_t mk_now_ns(const mk_snapshot *snapshot) {
    int64_t offset = atomic_load_explicit(&boottime_minus_monotonic_ns, memory_order_relaxed);
    return mk_this_call.now_ns + offset - snapshot->header->started_ns;
}

/* A process that was forked gets the events that its parent has had already, and draws other
 * numbers, unless the user asked for some. */
static void know_process(int32_t process) {
    if (process == known_process) return;
    if (known_process != 0) mk_forget_events();
    known_process = process;
    if (!seed_given)
        atomic_store(&mk_seed, (uint64_t)clock_ns(CLOCK_MONOTONIC) ^ ((uint64_t)process << 40));
}

static void remember_seed(const char *given) {
    seed_given = given != NULL;
    if (seed_given) atomic_store(&mk_seed, strtoull(given, NULL, 10));
    know_process(getpid());
}

static bool fits(const char *text, size_t size) { return text != NULL && strlen(text) < size; }

/* The environment is read here, before the host's threads can change it. */
__attribute__((constructor)) static void remember_environment(void) {
    bool trusted = getauxval(AT_SECURE) == 0;
    const char *folder = trusted ? getenv(VARIABLE) : NULL;
    const char *search = trusted ? getenv("LD_LIBRARY_PATH") : NULL;
    strcpy(state_path, NODE_WIDE);
    if (fits(folder, sizeof state_path - sizeof "/state") && *folder != '\0') {
        strcpy(state_path, folder);
        strcat(state_path, "/state");
    }
    if (fits(search, sizeof mk_search_path)) strcpy(mk_search_path, search);
    remember_seed(getenv("AIBRIXCTL_MOCK_SEED"));
}

/* ---- the file's bytes ---------------------------------------------------------------------- */

static uint32_t crc32_of(const unsigned char *bytes, size_t count) {
    static uint32_t table[256]; /* filled again to the same each time, by one thread at a time */
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t value = i;
        for (int bit = 0; bit < 8; bit++) value = (value >> 1) ^ (value & 1 ? 0xEDB88320u : 0);
        table[i] = value;
    }
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < count; i++) crc = (crc >> 8) ^ table[(crc ^ bytes[i]) & 0xFF];
    return ~crc;
}

static bool read_whole(int file, void *bytes, size_t count) {
    size_t done = 0;
    while (done < count) {
        ssize_t got = pread(file, (char *)bytes + done, count - done, (off_t)done);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        done += (size_t)got;
    }
    return true;
}

/* ---- from file to snapshot ----------------------------------------------------------------- */

/* UNREADABLE: this process can't, for want of descriptors, memory or rights; it keeps what it has.
 * GONE: there is none, or its time is over, or it started before the last reboot. */
typedef enum { GONE, UNREADABLE, MALFORMED, SAME, NEW } verdict;

static verdict refuse(const char *why) {
    mk_complain(why);
    return MALFORMED;
}

static verdict read_body(int file, const mk_header *header, mk_snapshot **snapshot) {
    size_t bytes = sizeof **snapshot + header->total_bytes;
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return UNREADABLE;
    mk_snapshot *made = (void *)memory;
    char *body = memory + sizeof *made;
    made->mapped_bytes = bytes;
    size_t from = offsetof(mk_header, generation);
    bool good =
        read_whole(file, body, header->total_bytes) && memcmp(body, header, sizeof *header) == 0 &&
        crc32_of((unsigned char *)body + from, header->total_bytes - from) == header->checksum &&
        mk_lay_out(made, body);
    if (!good) {
        munmap(memory, bytes);
        return refuse("the state file is damaged");
    }
    *snapshot = made;
    return NEW;
}

static bool same(const mk_snapshot *snapshot, const mk_header *header) {
    return snapshot != NULL && memcmp(snapshot->header, header, sizeof *header) == 0;
}

static verdict read_state(int file, mk_snapshot **snapshot) {
    mk_header header;
    if (!read_whole(file, &header, sizeof header) || memcmp(header.magic, MK_MAGIC, 8) != 0)
        return refuse("the state file is not one");
    int64_t now = clock_ns(CLOCK_BOOTTIME);
    if (now < header.started_ns || now >= header.expires_ns) return GONE;
    if (same(atomic_load(&current), &header)) return SAME;
    if (header.layout != MK_LAYOUT || header.digest != MK_DIGEST ||
        header.header_bytes != sizeof header)
        return refuse("the state file was written for another version of this library");
    if (!mk_plausible(&header)) return refuse("the state file is damaged");
    return read_body(file, &header, snapshot);
}

static verdict load(mk_snapshot **snapshot) {
    int file = open(state_path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file < 0) return errno == ENOENT || errno == ENOTDIR ? GONE : UNREADABLE;
    verdict result = read_state(file, snapshot);
    close(file);
    return result;
}

/* The slot's former snapshot is freed: MK_KEPT others have been published since. */
static void publish(mk_snapshot *snapshot) {
    uint64_t number = atomic_load(&published);
    mk_snapshot *oldest = kept[number % MK_KEPT];
    if (oldest != NULL) munmap(oldest, oldest->mapped_bytes);
    kept[number % MK_KEPT] = snapshot;
    atomic_store(&current, snapshot);
    atomic_store(&published, number + 1);
}

static void look(void) {
    mk_snapshot *snapshot = NULL;
    verdict result = load(&snapshot);
    bool had_one = atomic_load(&current) != NULL;
    if (result == NEW) publish(snapshot);
    if ((result == GONE || result == MALFORMED) && had_one) publish(NULL);
    if (result == UNREADABLE && !had_one) mk_complain("the state file can't be read");
    atomic_store(&boottime_minus_monotonic_ns,
                 clock_ns(CLOCK_BOOTTIME) - clock_ns(CLOCK_MONOTONIC));
}

/* ---- what the other parts see -------------------------------------------------------------- */

/* One thread looks, the others go on with what there is. A process that was forked while another
 * thread looked finds its parent's number here. */
static bool claim_reading(void) {
    int32_t mine = getpid();
    int32_t holder = atomic_load(&reader);
    return holder != mine && atomic_compare_exchange_strong(&reader, &holder, mine);
}

/* The first answer of a process waits for the first look; at most a second, as a signal handler
 * may have interrupted the very thread that looks. */
static void await_first_look(void) {
    for (int i = 0; i < 1000 && !atomic_load(&looked); i++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

/* A thread that is cancelled while it looks would leave its claim behind. Another may have looked
 * between this one's glance at the clock and its claim. */
static void look_uncancelled(int64_t now) {
    int former;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &former);
    if (now >= atomic_load(&next_check_ns)) {
        know_process(getpid());
        look();
        atomic_store(&next_check_ns, clock_ns(CLOCK_MONOTONIC_COARSE) + CHECK_NS);
        atomic_store(&looked, true);
    }
    atomic_store(&reader, 0);
    pthread_setcancelstate(former, NULL);
}

static void look_when_due(int64_t now) {
    if (now < atomic_load_explicit(&next_check_ns, memory_order_relaxed)) return;
    if (claim_reading())
        look_uncancelled(now);
    else if (!atomic_load(&looked))
        await_first_look();
}

static void take_current(int64_t now) {
    mk_this_call.now_ns = now;
    mk_this_call.published = atomic_load(&published) + 1;
    mk_this_call.snapshot = atomic_load(&current);
}

void mk_refresh(void) {
    int64_t now = clock_ns(CLOCK_MONOTONIC_COARSE);
    look_when_due(now);
    take_current(now);
}

void mk_enter(void) {
    mk_refresh();
    if (mk_this_call.snapshot != NULL && mk_this_call.snapshot->counts)
        mk_this_call.number = atomic_fetch_add(&counted_calls, 1) + 1;
}

uint64_t mk_calls(void) { return atomic_load(&counted_calls); }

const mk_snapshot *mk_current(void) {
    uint64_t age = atomic_load(&published) + 1 - mk_this_call.published;
    if (mk_this_call.published == 0 || age >= TRUSTED_FOR)
        take_current(clock_ns(CLOCK_MONOTONIC_COARSE));
    return mk_this_call.snapshot;
}
