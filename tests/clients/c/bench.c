// Sessions, watchers and claims for the cases; see bench.h.
#include "bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>

const char *hosts;
bool kills;
char root[PATH_MAX_LEN];
jmp_buf case_end;
char case_why[512];
bool case_interrupted;

static zhandle_t *open_handles[64];
// The session that the handle has to keep; 0 for one behind a proxy, which may be meant to lose it.
static int64_t open_sessions[64];
static int open_count;

void note_return(int64_t got) { case_interrupted = kills && got == ZCONNECTIONLOSS; }

_Noreturn void fail(const char *file, int line, const char *format, ...) {
    const char *slash = strrchr(file, '/');
    int used = snprintf(case_why, sizeof case_why, "%s:%d ", slash ? slash + 1 : file, line);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(case_why + used, sizeof case_why - used, format, arguments);
    va_end(arguments);
    longjmp(case_end, 1);
}

int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

void pause_ms(int ms) {
    struct timespec span = {ms / 1000, ms % 1000 * 1000000L};
    nanosleep(&span, NULL);
}

// Never freed: a late event of a closing session may still come to it.
struct events *events_new(void) {
    struct events *events = calloc(1, sizeof *events);
    if (!events) abort();
    pthread_mutex_init(&events->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&events->news, &attributes);
    return events;
}

void on_event(zhandle_t *zh, int type, int state, const char *path, void *context) {
    (void)zh;
    struct events *events = context;
    if (!events) return;
    pthread_mutex_lock(&events->lock);
    if (type == ZOO_SESSION_EVENT) {
        if (events->state == ZOO_CONNECTED_STATE && state != ZOO_CONNECTED_STATE) events->disconnects++;
        events->state = state;
    } else if (events->count < (int)(sizeof events->list / sizeof *events->list)) {
        struct event *event = &events->list[events->count++];
        event->type = type;
        snprintf(event->path, sizeof event->path, "%s", path);
    }
    pthread_cond_broadcast(&events->news);
    pthread_mutex_unlock(&events->lock);
}

static const char *type_name(int type) {
    return type == ZOO_CREATED_EVENT ? "created" : type == ZOO_DELETED_EVENT ? "deleted" : type == ZOO_CHANGED_EVENT ? "changed"
           : type == ZOO_CHILD_EVENT ? "child" : type == ZOO_NOTWATCHING_EVENT ? "not watching" : "?";
}

void expect(struct events *events, int type, const char *path) {
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += PATIENCE_MS / 1000;
    pthread_mutex_lock(&events->lock);
    int late = 0;
    while (events->taken == events->count && !late) late = pthread_cond_timedwait(&events->news, &events->lock, &end);
    struct event got = {0};
    if (events->taken < events->count) got = events->list[events->taken++];
    pthread_mutex_unlock(&events->lock);
    if (!got.type) fail(__FILE__, __LINE__, "no event came, wanted %s %s", type_name(type), path);
    if (got.type != type || strcmp(got.path, path) != 0)
        fail(__FILE__, __LINE__, "event: expected %s %s, got %s %s", type_name(type), path, type_name(got.type), got.path);
}

static void fenced(int rc, const char *value, const void *data) {
    (void)value;
    __atomic_store_n((int *)data, rc == ZOK ? 1 : rc, __ATOMIC_RELEASE);
}

void fence(zhandle_t *zh) {
    static int flags[256];
    static int next;
    int *flag = &flags[next++ % 256];
    *flag = 0;
    EQ(ZOK, zoo_async(zh, "/", fenced, flag));
    UNTIL(__atomic_load_n(flag, __ATOMIC_ACQUIRE) != 0);
    EQ(1, *flag);
}

void expect_none(zhandle_t *zh, struct events *events) {
    fence(zh);
    pthread_mutex_lock(&events->lock);
    int left = events->count - events->taken;
    struct event first = left ? events->list[events->taken] : (struct event){0};
    pthread_mutex_unlock(&events->lock);
    if (left) fail(__FILE__, __LINE__, "%d more events, the first: %s %s", left, type_name(first.type), first.path);
}

int state_of(struct events *events) {
    pthread_mutex_lock(&events->lock);
    int state = events->state;
    pthread_mutex_unlock(&events->lock);
    return state;
}

zhandle_t *dial(const char *where, int timeout_ms, const clientid_t *id, struct events *events) {
    zhandle_t *zh = zookeeper_init(where, on_event, timeout_ms, id, events ? events : events_new(), 0);
    THAT(zh != NULL && open_count < 64);
    open_sessions[open_count] = 0;
    open_handles[open_count++] = zh;
    return zh;
}

zhandle_t *join_at(const char *where, int timeout_ms, const clientid_t *id, struct events *events) {
    zhandle_t *zh = dial(where, timeout_ms, id, events);
    UNTIL(zoo_state(zh) == ZOO_CONNECTED_STATE);
    if (where == hosts) open_sessions[open_count - 1] = zoo_client_id(zh)->client_id;
    fence(zh);
    return zh;
}

void sessions_are_kept(void) {
    for (int i = 0; i < open_count; i++) {
        zhandle_t *zh = open_handles[i];
        if (!zh || !open_sessions[i] || zoo_state(zh) == ZOO_AUTH_FAILED_STATE) continue;
        UNTIL(zoo_state(zh) == ZOO_CONNECTED_STATE);
        EQ(open_sessions[i], zoo_client_id(zh)->client_id);
    }
}

zhandle_t *join(void) { return join_at(hosts, TIMEOUT_MS, NULL, NULL); }

void leave(zhandle_t *zh) {
    for (int i = 0; i < open_count; i++) {
        if (open_handles[i] == zh) open_handles[i] = NULL;
    }
    zookeeper_close(zh);
}

void leave_all(void) {
    while (open_count > 0) {
        if (open_handles[--open_count]) zookeeper_close(open_handles[open_count]);
    }
}

const char *at(const char *name) {
    static char buffers[32][2 * PATH_MAX_LEN];
    static int next;
    char *buffer = buffers[next++ % 32];
    snprintf(buffer, sizeof buffers[0], "%s/%s", root, name);
    return buffer;
}

void make(zhandle_t *zh, const char *path, const char *data, int mode) {
    EQ(ZOK, zoo_create(zh, path, data, strlen(data), &ZOO_OPEN_ACL_UNSAFE, mode, NULL, 0));
}

const char *read_text(zhandle_t *zh, const char *path) {
    static char buffers[8][1024];
    static int next;
    char *buffer = buffers[next++ % 8];
    int length = sizeof buffers[0] - 1;
    EQ(ZOK, zoo_get(zh, path, 0, buffer, &length, NULL));
    buffer[length < 0 ? 0 : length] = 0;
    return buffer;
}
