/* A completions server that knows its own send times, to hold a load client against.
 *
 *   cc -O2 -o paced_server paced_server.c
 *   ./paced_server PORT TTFT_MS ITL_MS      (ITL_MS 0: each answer goes out at full speed)
 *
 * Answers POST on any path with a stream of `max_tokens` events of about 200 bytes, one token
 * each, then usage and [DONE]. GET /log gives, as JSON Lines, when each request had been read
 * and when each of its tokens was handed to the kernel (CLOCK_MONOTONIC seconds), and forgets
 * them. One thread, epoll, absolute deadlines; Linux only.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { MOST_STREAMS = 8192, MOST_IN = 1 << 20 };

typedef struct {
    int fd, used;
    char *in;
    size_t in_len, in_cap;
    char *out;
    size_t out_len, out_at, out_cap;
    int streaming, tokens, sent, prompt_tokens, want_write;
    double received, due;
    long log;
} Stream;

typedef struct {
    double received;
    int tokens, sent;
    double *at;
} Log;

static Stream streams[MOST_STREAMS];
static Log *logs;
static long log_len, log_cap;
static double ttft_s, itl_s;
static int epoll_fd, timer_fd, listen_fd, highest;
static volatile sig_atomic_t stopping;

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void stop(int signal_number) {
    (void)signal_number;
    stopping = 1;
}

static void *must(void *pointer) {
    if (!pointer) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return pointer;
}

static void drop(Stream *s) {
    close(s->fd);
    s->used = 0;
    s->streaming = 0;
    s->in_len = s->out_len = s->out_at = 0;
    s->want_write = 0;
}

static void append(Stream *s, const char *data, size_t len) {
    if (s->out_at == s->out_len) s->out_at = s->out_len = 0;
    if (s->out_len + len > s->out_cap) {
        s->out_cap = (s->out_len + len) * 2;
        s->out = must(realloc(s->out, s->out_cap));
    }
    memcpy(s->out + s->out_len, data, len);
    s->out_len += len;
}

static void want_write(Stream *s, int on) {
    if (s->want_write == on) return;
    struct epoll_event e = {.events = EPOLLIN | (on ? EPOLLOUT : 0), .data.ptr = s};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, s->fd, &e);
    s->want_write = on;
}

static void flush_out(Stream *s) {
    while (s->out_at < s->out_len) {
        ssize_t n = send(s->fd, s->out + s->out_at, s->out_len - s->out_at, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN) {
                want_write(s, 1);
                return;
            }
            drop(s);
            return;
        }
        s->out_at += n;
    }
    want_write(s, 0);
}

static void chunk(Stream *s, const char *event, int len) {
    char head[16];
    append(s, head, sprintf(head, "%x\r\n", len));
    append(s, event, len);
    append(s, "\r\n", 2);
}

static void token(Stream *s) {
    char event[512];
    int len = sprintf(
        event,
        "data: {\"id\":\"cmpl-%08ld0123456789abcdef\",\"object\":\"text_completion\","
        "\"created\":1700000000,\"model\":\"m\",\"choices\":[{\"index\":0,\"text\":\" w%d\","
        "\"logprobs\":null,\"finish_reason\":null,\"stop_reason\":null}]}\n\n",
        s->log, s->sent);
    chunk(s, event, len);
    if (itl_s > 0 && s->log >= 0) logs[s->log].at[s->sent] = now_s();
    s->sent++;
}

static void end_answer(Stream *s) {
    char event[512];
    int len = sprintf(
        event,
        "data: {\"id\":\"cmpl\",\"object\":\"text_completion\",\"created\":1700000000,"
        "\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":%d,\"total_tokens\":%d,"
        "\"completion_tokens\":%d}}\n\n",
        s->prompt_tokens, s->prompt_tokens + s->tokens, s->tokens);
    chunk(s, event, len);
    chunk(s, "data: [DONE]\n\n", 14);
    append(s, "0\r\n\r\n", 5);
    s->streaming = 0;
    if (s->log >= 0) logs[s->log].sent = s->sent;
}

static void plain(Stream *s, const char *body, size_t len) {
    char head[160];
    append(s, head, sprintf(head,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n", len));
    append(s, body, len);
    flush_out(s);
}

static void send_log(Stream *s) {
    size_t cap = 64, len = 0;
    for (long i = 0; i < log_len; i++) cap += 64 + 20 * (size_t)logs[i].tokens;
    char *text = must(malloc(cap));
    for (long i = 0; i < log_len; i++) {
        len += sprintf(text + len, "{\"received\":%.7f,\"sent\":[", logs[i].received);
        for (int k = 0; itl_s > 0 && k < logs[i].sent; k++)
            len += sprintf(text + len, k ? ",%.7f" : "%.7f", logs[i].at[k]);
        len += sprintf(text + len, "]}\n");
        free(logs[i].at);
    }
    log_len = 0;
    plain(s, text, len);
    free(text);
}

static void start_answer(Stream *s, const char *body, size_t len) {
    s->tokens = 16;
    const char *most = memmem(body, len, "\"max_tokens\":", 13);
    if (most) s->tokens = atoi(most + 13);
    s->prompt_tokens = 1;
    const char *prompt = memmem(body, len, "\"prompt\":\"", 10);
    if (prompt)
        for (const char *c = prompt + 10; c < body + len && *c != '"'; c++)
            s->prompt_tokens += *c == ' ';
    s->sent = 0;
    s->received = now_s();
    s->streaming = 1;
    if (log_len == log_cap) {
        log_cap = log_cap ? log_cap * 2 : 1024;
        logs = must(realloc(logs, log_cap * sizeof *logs));
    }
    s->log = log_len++;
    logs[s->log] = (Log){.received = s->received, .tokens = s->tokens};
    if (itl_s > 0) logs[s->log].at = must(malloc(sizeof(double) * (s->tokens + 1)));
    static const char head[] =
        "HTTP/1.1 200 OK\r\nServer: paced\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
        "Transfer-Encoding: chunked\r\n\r\n";
    append(s, head, sizeof head - 1);
    s->due = s->received + ttft_s;
    if (itl_s > 0) {
        flush_out(s);
        return;
    }
    while (s->sent < s->tokens) token(s);
    end_answer(s);
    flush_out(s);
}

/* Serve one whole request in the buffer; return its length, 0 when it is incomplete. */
static size_t request(Stream *s) {
    char *end = memmem(s->in, s->in_len, "\r\n\r\n", 4);
    if (!end) return 0;
    size_t head = end + 4 - s->in, body = 0;
    char *length = memmem(s->in, head, "ontent-Length: ", 15);
    if (length) body = strtoul(length + 15, NULL, 10);
    if (s->in_len < head + body) return 0;
    static const char models[] = "{\"object\":\"list\",\"data\":[{\"id\":\"m\",\"owned_by\":\"paced\"}]}";
    if (!memcmp(s->in, "POST", 4)) start_answer(s, s->in + head, body);
    else if (!memcmp(s->in, "GET /log", 8)) send_log(s);
    else plain(s, models, sizeof models - 1);
    return head + body;
}

static void read_in(Stream *s) {
    for (;;) {
        if (s->in_len == s->in_cap) {
            if (s->in_cap >= MOST_IN) {
                drop(s);
                return;
            }
            s->in_cap = s->in_cap ? s->in_cap * 2 : 16384;
            s->in = must(realloc(s->in, s->in_cap));
        }
        ssize_t n = recv(s->fd, s->in + s->in_len, s->in_cap - s->in_len, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN)) {
            drop(s);
            return;
        }
        if (n < 0) break;
        s->in_len += n;
    }
    size_t used;
    while (s->used && (used = request(s))) {
        memmove(s->in, s->in + used, s->in_len - used);
        s->in_len -= used;
    }
}

static void accept_all(void) {
    for (;;) {
        int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) return;
        int i = 0, one = 1;
        while (i < MOST_STREAMS && streams[i].used) i++;
        if (i == MOST_STREAMS) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        streams[i].fd = fd;
        streams[i].used = 1;
        if (i > highest) highest = i;
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = &streams[i]};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e);
    }
}

/* Send every token that is due, and set the timer for the next one. */
static void pace(void) {
    double now = now_s(), next = 0;
    for (int i = 0; i <= highest; i++) {
        Stream *s = &streams[i];
        if (!s->used || !s->streaming) continue;
        if (s->due <= now) {
            token(s);
            s->due += itl_s;
            if (s->sent >= s->tokens) end_answer(s);
            flush_out(s);
        }
        if (s->used && s->streaming && (next == 0 || s->due < next)) next = s->due;
    }
    struct itimerspec t = {0};
    if (next > 0) {
        t.it_value.tv_sec = (time_t)next;
        t.it_value.tv_nsec = (long)((next - (time_t)next) * 1e9);
        if (!t.it_value.tv_sec && !t.it_value.tv_nsec) t.it_value.tv_nsec = 1;
    }
    timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &t, NULL);
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: %s PORT TTFT_MS ITL_MS\n", argv[0]);
        return 2;
    }
    ttft_s = atof(argv[2]) / 1e3;
    itl_s = atof(argv[3]) / 1e3;
    signal(SIGTERM, stop);
    signal(SIGINT, stop);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int one = 1;
    setsockopt(listen_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(listen_fd, (struct sockaddr *)&where, sizeof where) || listen(listen_fd, 1024)) {
        perror("bind");
        return 1;
    }
    socklen_t len = sizeof where;
    getsockname(listen_fd, (struct sockaddr *)&where, &len);
    printf("%d\n", ntohs(where.sin_port));
    fflush(stdout);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listen_fd, &e);
    e.data.ptr = &timer_fd;
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer_fd, &e);
    struct epoll_event events[512];
    while (!stopping) {
        int n = epoll_wait(epoll_fd, events, 512, -1);
        for (int i = 0; i < n; i++) {
            void *who = events[i].data.ptr;
            if (!who) accept_all();
            else if (who == &timer_fd) {
                unsigned long long times;
                if (read(timer_fd, &times, sizeof times) < 0) continue;
            } else {
                Stream *s = who;
                if (s->used && (events[i].events & EPOLLOUT)) flush_out(s);
                if (s->used && (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))) read_in(s);
            }
        }
        if (itl_s > 0) pace();
    }
    return 0;
}
