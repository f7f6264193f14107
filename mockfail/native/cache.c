/* Where the loader would find the real library: its own list of what ldconfig saw.
 *
 * We can't ask the loader itself, as the name it would look for is the one that we bear. Layout of
 * the file: "new" format of glibc since 2.2, which stands alone or behind an older list.
 */
#define _GNU_SOURCE
#include "state.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MK_LOADER_CACHE
#define MK_LOADER_CACHE "/etc/ld.so.cache"
#endif
#define MAGIC "glibc-ld.so.cache1.1"
#define MAX_CACHE_BYTES (16 << 20)
#if defined(__x86_64__)
#define OUR_FLAGS 0x0303 /* a library of libc 6 for x86-64 */
#else
#define OUR_FLAGS 0x0a03 /* for aarch64 */
#endif

typedef struct {
    char magic[20];
    uint32_t entries, text_bytes;
    uint32_t unused[5];
} cache_header;

typedef struct {
    int32_t flags;
    uint32_t name, path; /* from the start of the header */
    uint32_t os_version;
    uint64_t hardware;
} cache_entry;

/* The file in memory of ours with a closing NUL; the size is 0 when there is none. */
static char *read_file(size_t *size) {
    int file = open(MK_LOADER_CACHE, O_RDONLY | O_CLOEXEC);
    off_t length = file < 0 ? -1 : lseek(file, 0, SEEK_END);
    char *bytes = length <= 0 || length > MAX_CACHE_BYTES ? NULL : malloc((size_t)length + 1);
    *size = 0;
    if (bytes != NULL) {
        ssize_t got = pread(file, bytes, (size_t)length, 0);
        *size = got > 0 ? (size_t)got : 0;
        bytes[*size] = '\0';
    }
    if (file >= 0) close(file);
    return bytes;
}

static bool take(const char *from, size_t length, char *path, size_t size) {
    const cache_header *header = (const void *)from;
    const cache_entry *entries = (const void *)(from + sizeof *header);
    if (length < sizeof *header || header->entries > (length - sizeof *header) / sizeof *entries)
        return false;
    for (uint32_t i = 0; i < header->entries; i++) {
        cache_entry entry;
        memcpy(&entry, &entries[i], sizeof entry); /* the header may stand at any place */
        if (entry.flags != OUR_FLAGS || entry.name >= length || entry.path >= length) continue;
        if (strcmp(from + entry.name, mk_file_name) != 0) continue;
        if (strlen(from + entry.path) >= size) continue;
        strcpy(path, from + entry.path);
        return true;
    }
    return false;
}

bool mk_cached_path(char *path, size_t size) {
    size_t length;
    char *bytes = read_file(&length);
    if (bytes == NULL) return false;
    char *header = memmem(bytes, length, MAGIC, strlen(MAGIC));
    bool found = header != NULL && take(header, length - (size_t)(header - bytes), path, size);
    free(bytes);
    return found;
}
