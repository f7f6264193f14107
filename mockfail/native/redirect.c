/* dlopen of the real library under any of its names gets us: what entry.S asks before it jumps. */
#define _GNU_SOURCE
#include "state.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

/* By this name a copy of ours is told from a driver; never use its address, as our two libraries
 * both export it and the first one's stands for both. */
const char aibrixctl_mock[] __attribute__((visibility("default"))) = "mockfail.native";
static const char here;

/* libnvidia-ml.so, libnvidia-ml.so.1 and libnvidia-ml.so.535.309.01 alike. */
static bool is_ours(const char *name) {
    const char *slash = strrchr(name, '/');
    const char *file = slash == NULL ? name : slash + 1;
    size_t stem = (size_t)(strstr(mk_file_name, ".so") - mk_file_name) + 3;
    if (strncmp(file, mk_file_name, stem) != 0) return false;
    return strspn(file + stem, ".0123456789") == strlen(file + stem);
}

/* The name that the loader knows us by, so it needs no file: it may be out of reach in a chroot.
 * It lasts as long as we are loaded. */
static const char *own_path(void) {
    Dl_info about;
    int (*locate)(const void *, Dl_info *) = (int (*)(const void *, Dl_info *))mk_symbol("dladdr");
    return locate != NULL && locate(&here, &about) != 0 ? about.dli_fname : NULL;
}

static mk_redirection redirect(const char *name, void *real) {
    int before = errno;
    if (name != NULL && is_ours(name)) {
        mk_refresh();
        const char *ours = mk_current() == NULL ? NULL : own_path();
        if (ours != NULL) name = ours;
    }
    errno = before;
    return (mk_redirection){name, real};
}

mk_redirection mk_redirect(const char *name) {
    static void *_Atomic real;
    if (real == NULL) real = mk_symbol("dlopen");
    return redirect(name, real);
}

mk_redirection mk_redirect_namespace(const char *name) {
    static void *_Atomic real;
    if (real == NULL) real = mk_symbol("dlmopen");
    return redirect(name, real);
}
