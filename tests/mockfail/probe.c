/* The core of the native library in a program of its own, so that tests reach every reading of a
 * state and load many states a second, under the sanitizers too.
 *
 *   probe read            for each line "SCOPE INDEX LINK PROPERTY TYPE" on stdin: what the mock says;
 *                         for "event" the next one, for "processes GPU" and "codes NPU" the list
 *   probe load            for each path on stdin: load it, read all of it, say whether it was good
 *   probe hammer SECONDS  eight threads read and fork while somebody else rewrites the state
 */
#include "snapshot.c"

#include <pthread.h>
#include <stdio.h>
#include <sys/wait.h>

void *const mk_own[FN_COUNT] = {0};

/* ---- read ---------------------------------------------------------------------------------- */

/* Scopes: n node, g GPU, l link, u NPU. */
static bool number(char scope, unsigned index, unsigned link, unsigned property, int64_t *value) {
    switch (scope) {
    case 'n': return mk_node((mk_node_property)property, value);
    case 'g': return mk_gpu(index, (mk_gpu_property)property, value);
    case 'l': return mk_link(index, link, (mk_link_property)property, value);
    default: return mk_npu(index, (mk_npu_property)property, value);
    }
}

static bool text(char scope, unsigned index, unsigned link, unsigned property, char *out) {
    switch (scope) {
    case 'n': return mk_node_text((mk_node_property)property, out, MK_STRING_BYTES);
    case 'g': return mk_gpu_text(index, (mk_gpu_property)property, out, MK_STRING_BYTES);
    case 'l': return mk_link_text(index, link, (mk_link_property)property, out, MK_STRING_BYTES);
    default: return mk_npu_text(index, (mk_npu_property)property, out, MK_STRING_BYTES);
    }
}

static void answer_reading(const char *line) {
    char scope, kind, out[MK_STRING_BYTES] = "";
    unsigned index, link, property;
    int64_t value = 0;
    if (sscanf(line, "%c %u %u %u %c", &scope, &index, &link, &property, &kind) != 5) exit(2);
    if (kind == 's' && text(scope, index, link, property, out))
        printf("%s", out);
    else if (kind != 's' && number(scope, index, link, property, &value))
        printf("%lld", (long long)value);
    else
        printf("-");
}

static void answer_event(void) {
    mk_event event;
    if (!mk_event_due(0, &event)) return;
    printf("%u %llu %llu", event.gpu, (unsigned long long)event.type,
           (unsigned long long)event.data);
    if (!mk_event_take(event.id) || mk_event_take(event.id)) exit(3); /* once */
}

static void answer_processes(unsigned gpu) {
    mk_process list[MK_MAX_PROCESSES];
    unsigned count;
    if (!mk_processes(gpu, list, &count)) printf("-");
    for (unsigned i = 0; i < count; i++)
        printf("%u:%llu:%u ", list[i].pid, (unsigned long long)list[i].used_bytes,
               list[i].graphics);
}

static void answer_codes(unsigned npu) {
    uint32_t list[MK_MAX_CODES];
    unsigned count;
    if (!mk_codes(npu, list, &count)) printf("-");
    for (unsigned i = 0; i < count; i++) printf("%08X ", list[i]);
}

static void answer_line(const char *line) {
    unsigned index;
    mk_enter();
    if (strcmp(line, "event\n") == 0)
        answer_event();
    else if (sscanf(line, "processes %u", &index) == 1)
        answer_processes(index);
    else if (sscanf(line, "codes %u", &index) == 1)
        answer_codes(index);
    else
        answer_reading(line);
    printf("\n");
    fflush(stdout);
}

static int read_lines(void) {
    char line[256];
    while (fgets(line, sizeof line, stdin)) answer_line(line);
    return 0;
}

/* ---- load ---------------------------------------------------------------------------------- */

static uint64_t read_everything(void) {
    mk_process processes[MK_MAX_PROCESSES];
    uint32_t codes[MK_MAX_CODES];
    char out[MK_STRING_BYTES];
    uint64_t sum = 0;
    int64_t value;
    unsigned count;
    mk_event event;
    mk_enter();
    for (int p = 0; p < MK_NODE_PROPERTIES; p++)
        sum += mk_node(p, &value) + mk_node_text(p, out, sizeof out);
    for (unsigned i = 0; i <= MK_MAX_GPUS; i += 9) {
        for (int p = 0; p < MK_GPU_PROPERTIES; p++)
            sum += mk_gpu(i, p, &value) + mk_gpu_text(i, p, out, sizeof out);
        for (int p = 0; p < MK_LINK_PROPERTIES; p++)
            for (unsigned link = 0; link <= MK_MAX_LINKS; link++)
                sum += mk_link(i, link, p, &value) + mk_link_text(i, link, p, out, sizeof out);
        for (int p = 0; p < MK_NPU_PROPERTIES; p++)
            sum += mk_npu(i, p, &value) + mk_npu_text(i, p, out, sizeof out);
        if (mk_processes(i, processes, &count) && count > 0) sum += processes[count - 1].pid;
        if (mk_codes(i, codes, &count) && count > 0) sum += codes[count - 1];
    }
    for (unsigned n = 0; mk_event_due(n, &event); n++) sum += event.data;
    for (int f = 0; f < FN_COUNT; f++) sum += mk_gate(f, (uintptr_t)&sum, 0).answer != 0;
    return sum;
}

static int load_paths(void) {
    char line[PATH_MAX + 2];
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = '\0';
        strcpy(state_path, line);
        look();
        looked = true;
        next_check_ns = INT64_MAX;
        take_current(clock_ns(CLOCK_MONOTONIC_COARSE));
        bool good = atomic_load(&current) != NULL;
        read_everything();
        printf("%s\n", good ? "good" : "refused");
        fflush(stdout);
    }
    return 0;
}

/* ---- hammer -------------------------------------------------------------------------------- */

static atomic_bool stopping;

/* A writer keeps temperature and memory temperature equal: one call never sees them differ. */
static void *hammer(void *forks) {
    uint64_t *broken = calloc(1, sizeof *broken);
    for (unsigned round = 0; !stopping; round++) {
        int64_t core, memory;
        mk_enter();
        if (mk_gpu(0, MK_GPU_TEMPERATURE_C, &core) &&
            mk_gpu(0, MK_GPU_MEMORY_TEMPERATURE_C, &memory))
            *broken += core != memory;
        if (round % 64 == 0) read_everything();
        if (forks != NULL && round % 256 == 0) {
            pid_t child = fork();
            if (child == 0) _exit((read_everything(), 0));
            int status = 0;
            if (child > 0 && (waitpid(child, &status, 0) < 0 || status != 0)) (*broken)++;
        }
    }
    return broken;
}

static int hammer_for(int seconds) {
    pthread_t threads[8];
    uint64_t broken = 0;
    for (int i = 0; i < 8; i++)
        pthread_create(&threads[i], NULL, hammer, i == 0 ? &stopping : NULL);
    nanosleep(&(struct timespec){.tv_sec = seconds}, NULL);
    stopping = true;
    for (int i = 0; i < 8; i++) {
        void *of_thread;
        pthread_join(threads[i], &of_thread);
        broken += *(uint64_t *)of_thread;
        free(of_thread);
    }
    printf("%llu broken, %llu published\n", (unsigned long long)broken,
           (unsigned long long)published);
    return broken != 0;
}

int main(int count, char **words) {
    if (count == 2 && strcmp(words[1], "read") == 0) return read_lines();
    if (count == 2 && strcmp(words[1], "load") == 0) return load_paths();
    if (count == 3 && strcmp(words[1], "hammer") == 0) return hammer_for(atoi(words[2]));
    return 2;
}
