/* Times what bench_native.py asks for, in nanoseconds.
 *
 *   native_client calls LIBRARY ROUNDS    of nvmlDeviceGetTemperature and nvmlDeviceGetBoardId
 *   native_client starts PROGRAM ROUNDS   of a program, from spawn to its end
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#define CALLS 200000

extern char **environ;

static double now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static int calls(const char *path, int rounds) {
    void *library = dlopen(path, RTLD_NOW), *device = NULL;
    if (library == NULL) return fprintf(stderr, "%s\n", dlerror()), 1;
    int (*init)(void) = (int (*)(void))dlsym(library, "nvmlInit_v2");
    int (*handle)(unsigned, void **) =
        (int (*)(unsigned, void **))dlsym(library, "nvmlDeviceGetHandleByIndex_v2");
    int (*temperature)(void *, int, unsigned *) =
        (int (*)(void *, int, unsigned *))dlsym(library, "nvmlDeviceGetTemperature");
    int (*board)(void *, unsigned *) =
        (int (*)(void *, unsigned *))dlsym(library, "nvmlDeviceGetBoardId");
    unsigned out;
    if (init() != 0 || handle(0, &device) != 0 || temperature(device, 0, &out) != 0) return 1;
    for (int round = 0; round < rounds; round++) {
        double started = now_ns();
        for (int i = 0; i < CALLS; i++) temperature(device, 0, &out);
        double between = now_ns();
        for (int i = 0; i < CALLS; i++) board(device, &out);
        printf("%.2f %.2f\n", (between - started) / CALLS, (now_ns() - between) / CALLS);
    }
    return 0;
}

static int starts(char *program, int rounds) {
    char *words[] = {program, NULL};
    for (int round = 0; round < rounds; round++) {
        double started = now_ns();
        pid_t child;
        int status;
        if (posix_spawn(&child, program, NULL, NULL, words, environ) != 0) return 1;
        if (waitpid(child, &status, 0) < 0 || status != 0) return 1;
        printf("%.0f\n", now_ns() - started);
    }
    return 0;
}

int main(int count, char **words) {
    if (count != 4) return 2;
    int rounds = atoi(words[3]);
    return strcmp(words[1], "calls") == 0 ? calls(words[2], rounds) : starts(words[2], rounds);
}
