/* A host that does to itself what hosts do: prints what an NVML call returns before and after.
 *
 *   host close|descriptors|memory|chroot|errno|signal|fork
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int (*init)(void);
static int (*get_count)(unsigned *);

static int ask(void) {
    unsigned count;
    return get_count(&count);
}

/* Longer than the interval at which the state is looked at. */
static void wait_for_a_look(void) { nanosleep(&(struct timespec){.tv_nsec = 250000000}, NULL); }

static void limit(int resource, rlim_t most) {
    struct rlimit old;
    getrlimit(resource, &old);
    setrlimit(resource, &(struct rlimit){most, old.rlim_max});
}

static void use_up_memory(void) { limit(RLIMIT_AS, 0); /* not one page more */ }

static volatile sig_atomic_t rings;
static void on_alarm(int number) {
    (void)number;
    rings++;
    ask();
}

static void ring_all_the_time(void) {
    struct sigaction action = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &(struct itimerval){{0, 500}, {0, 500}}, NULL);
    for (time_t end = time(NULL) + 2; time(NULL) < end;) ask();
    setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
}

static int in_a_child(void) {
    int status = 255;
    pid_t child = fork();
    if (child == 0) {
        wait_for_a_look();
        _exit(ask());
    }
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -status;
}

int main(int words, char **word) {
    void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW);
    const char *what = words > 1 ? word[1] : "";
    if (library == NULL) return 3;
    init = (int (*)(void))dlsym(library, "nvmlInit_v2");
    get_count = (int (*)(unsigned *))dlsym(library, "nvmlDeviceGetCount_v2");
    int started = init();
    printf("%d %d", started, ask());
    fflush(stdout);
    if (strcmp(what, "close") == 0)
        for (int i = 3; i < 256; i++) close(i);
    if (strcmp(what, "descriptors") == 0) limit(RLIMIT_NOFILE, 3);
    if (strcmp(what, "memory") == 0) use_up_memory();
    if (strcmp(what, "chroot") == 0 && (chroot(word[2]) != 0 || chdir("/") != 0)) return 5;
    if (strcmp(what, "signal") == 0) ring_all_the_time();
    if (strcmp(what, "fork") == 0) {
        printf(" %d\n", in_a_child());
        return 0;
    }
    if (words > 2 && strcmp(what, "rewritten") == 0) { /* lets the test change the state now */
        printf("\n");
        fflush(stdout);
        if (getchar() == EOF) return 6;
    }
    wait_for_a_look();
    errno = 77;
    int after = ask();
    int kept = errno;
    limit(RLIMIT_AS, RLIM_INFINITY);
    printf(" %d errno=%d rings=%d\n", after, kept, rings > 0);
    return 0;
}
