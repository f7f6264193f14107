/* The real library: where it is, its functions, and what an init cycle runs on. */
#define _GNU_SOURCE
#include "state.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#define ABSENT ((void *)-1)

/* Names of glibc before 2.34, where they had a library of their own, so that one build runs on old
 * and new. Weak: without that library nobody can open anything, and neither need we. */
#if defined(__x86_64__)
__asm__(".symver dlsym, dlsym@GLIBC_2.2.5");
#elif defined(__aarch64__)
__asm__(".symver dlsym, dlsym@GLIBC_2.17");
#endif
extern void *dlsym(void *handle, const char *name) __attribute__((weak));

static void *_Atomic handle;              /* stays open: clients keep its functions */
static void *_Atomic functions[FN_COUNT]; /* NULL until asked for */
static _Atomic bool searched;             /* in vain, since the last init */
static _Atomic int initialised;           /* inits without their shutdown */
static _Atomic int cycle_mode;            /* of this init cycle */

void *mk_symbol(const char *name) { return dlsym == NULL ? NULL : dlsym(RTLD_NEXT, name); }

/* What failed here is no business of a client that calls dlerror() later. */
static void forget_error(void) {
    char *(*last_error)(void) = (char *(*)(void))mk_symbol("dlerror");
    if (last_error != NULL) last_error();
}

/* ---- finding it ---------------------------------------------------------------------------- */

#ifndef MK_STAND_IN
static void *open_path(const char *path) {
    void *(*open_library)(const char *, int) = (void *(*)(const char *, int))mk_symbol("dlopen");
    void (*close_library)(void *) = (void (*)(void *))mk_symbol("dlclose");
    if (open_library == NULL || close_library == NULL || access(path, R_OK) != 0) return NULL;
    void *opened = open_library(path, RTLD_NOW | RTLD_LOCAL);
    if (opened != NULL && dlsym(opened, "aibrixctl_mock") != NULL) { /* ourselves, or a copy */
        close_library(opened);
        return NULL;
    }
    forget_error();
    return opened;
}

static void *open_in(const char *folder, size_t length) {
    char path[PATH_MAX];
    if (length == 0 || folder[0] != '/') return NULL;
    if (length + 1 + strlen(mk_file_name) >= sizeof path) return NULL;
    memcpy(path, folder, length);
    path[length] = '/';
    strcpy(path + length + 1, mk_file_name);
    return open_path(path);
}

static void *search(const mk_snapshot *snapshot) {
#ifdef MK_DCMI
    (void)snapshot; /* the path that a state names is NVML's */
#else
    if (snapshot != NULL && snapshot->header->real_library != 0)
        return open_path(snapshot->texts + snapshot->header->real_library);
#endif
    const char *at = mk_search_path;
    while (*at != '\0') {
        size_t length = strcspn(at, ":;");
        void *opened = open_in(at, length);
        if (opened != NULL) return opened;
        at += length + (at[length] != '\0');
    }
    char cached[PATH_MAX];
    if (mk_cached_path(cached, sizeof cached)) {
        void *opened = open_path(cached);
        if (opened != NULL) return opened;
    }
    for (const char *const *path = mk_real_paths; *path != NULL; path++) {
        void *opened = open_in(*path, strlen(*path));
        if (opened != NULL) return opened;
    }
    return NULL;
}
#else
static void *search(const mk_snapshot *snapshot) { return (void)snapshot, NULL; }
#endif

static bool opened(void *library) {
    void *none = NULL;
    atomic_compare_exchange_strong(&handle, &none, library); /* twice open is the same library */
    return true;
}

bool mk_open_real(void) {
    if (atomic_load(&handle) != NULL) return true;
    if (dlsym == NULL || atomic_load(&searched)) return false;
    int before = errno;
    void *library = search(mk_current());
    errno = before;
    if (library != NULL) return opened(library);
    atomic_store(&searched, true);
    return false;
}

void *mk_real(mk_function function) {
    void *found = atomic_load_explicit(&functions[function], memory_order_relaxed);
    if (found == NULL) {
        if (!mk_open_real()) return NULL;
        found = dlsym(atomic_load(&handle), mk_function_name(function));
        if (found == NULL) {
            forget_error();
            found = ABSENT;
        }
        atomic_store_explicit(&functions[function], found, memory_order_relaxed);
    }
    return found == ABSENT ? NULL : found;
}

/* ---- init cycles --------------------------------------------------------------------------- */

/* What a new init cycle would run on. */
static mk_mode fresh_mode(void) {
    const mk_snapshot *snapshot = mk_current();
    if (snapshot == NULL) return MK_PASS;
    if (snapshot->header->mode == MK_MODE_STANDALONE) return MK_STANDALONE;
    if (mk_open_real()) return MK_OVERLAY;
    if (snapshot->header->mode == MK_MODE_AUTO) return MK_STANDALONE;
    mk_complain("an overlay is asked for, and the real library can't be opened");
    return MK_PASS;
}

/* Within a cycle the real library is in the game or it isn't: a client's handles depend on it. */
static mk_mode mode_of_cycle(const mk_snapshot *snapshot) {
    if (snapshot == NULL) return MK_PASS;
    if (atomic_load_explicit(&cycle_mode, memory_order_relaxed) == MK_STANDALONE)
        return MK_STANDALONE;
    return snapshot->header->mode == MK_MODE_STANDALONE ? MK_PASS : MK_OVERLAY;
}

mk_mode mk_mode_now(void) {
    const mk_snapshot *snapshot = mk_current();
    return mk_is_initialised() ? mode_of_cycle(snapshot) : fresh_mode();
}

mk_mode mk_begin(void) {
    if (!mk_is_initialised()) atomic_store(&searched, false);
    return mk_mode_now();
}

void mk_initialised(mk_mode mode) {
    if (!mk_is_initialised()) atomic_store(&cycle_mode, mode);
    atomic_fetch_add(&initialised, 1);
}

bool mk_shut_down(void) {
    int now = atomic_load(&initialised);
    while (now > 0)
        if (atomic_compare_exchange_strong(&initialised, &now, now - 1)) return true;
    return false;
}

bool mk_cycle_is_standalone(void) {
    return mk_is_initialised() && atomic_load(&cycle_mode) == MK_STANDALONE;
}

bool mk_is_initialised(void) { return atomic_load(&initialised) > 0; }
