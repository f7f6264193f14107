/* An NVML client in C that knows nothing of mocks; for each line on stdin it reads the node.
 *
 *   client            linked with -DLINKED against libnvidia-ml.so.1
 *   client NAME       opens the library under this name
 *   client NAME deep  opens it with RTLD_DEEPBIND
 *   client NAME apart opens it in a namespace of its own
 *
 * A line it prints: what nvmlInit_v2 and nvmlDeviceGetCount_v2 returned, the number of GPUs, then
 * for each its temperature, or the code of the error as "!15".
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef LINKED
int nvmlInit_v2(void);
int nvmlShutdown(void);
int nvmlDeviceGetCount_v2(unsigned *count);
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device);
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *celsius);
#define LOOK_UP(name) name
#else
static void *library;
static void *look_up(const char *name) {
    void *found = dlsym(library, name);
    if (found == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(4);
    }
    return found;
}
#define LOOK_UP(name) look_up(#name)
#endif

static void read_node(void) {
    int (*get_count)(unsigned *) = LOOK_UP(nvmlDeviceGetCount_v2);
    int (*get_handle)(unsigned, void **) = LOOK_UP(nvmlDeviceGetHandleByIndex_v2);
    int (*get_temperature)(void *, int, unsigned *) = LOOK_UP(nvmlDeviceGetTemperature);
    unsigned count = 0, celsius = 0;
    printf(" %d", get_count(&count));
    printf(" %u", count);
    for (unsigned i = 0; i < count; i++) {
        void *device = NULL;
        int error = get_handle(i, &device);
        if (error == 0) error = get_temperature(device, 0, &celsius);
        if (error == 0)
            printf(" %u", celsius);
        else
            printf(" !%d", error);
    }
}

int main(int words, char **word) {
    char line[64];
#ifndef LINKED
    const char *how = words > 2 ? word[2] : "";
    int deep = strcmp(how, "deep") == 0 ? RTLD_DEEPBIND : 0;
    library = strcmp(how, "apart") == 0 ? dlmopen(LM_ID_NEWLM, word[1], RTLD_NOW)
                                        : dlopen(word[1], RTLD_NOW | deep);
    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 3;
    }
#else
    (void)words, (void)word;
#endif
    int (*init)(void) = LOOK_UP(nvmlInit_v2);
    int (*shut_down)(void) = LOOK_UP(nvmlShutdown);
    while (fgets(line, sizeof line, stdin)) {
        int error = init();
        printf("%d", error);
        if (error == 0) read_node();
        printf("\n");
        fflush(stdout);
        if (error == 0) shut_down();
    }
    return 0;
}
