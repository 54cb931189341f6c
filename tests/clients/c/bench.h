// What the cases share: sessions, watchers that remember, a proxy that cuts, and the claims. A failed claim ends its case.
#ifndef BENCH_H
#define BENCH_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <zookeeper/zookeeper.h>

enum { TIMEOUT_MS = 6000, SHORT_MS = 4000, PATIENCE_MS = 15000, PATH_MAX_LEN = 256 };

struct event {
    int type;
    char path[PATH_MAX_LEN];
};

// A watcher's memory: node events in order, and the last state of the connection.
struct events {
    pthread_mutex_t lock;
    pthread_cond_t news;
    struct event list[4096];
    int count, taken;
    int state;
    int disconnects;
};

struct proxy;

extern const char *hosts;
// Somebody kills a server of the ensemble now and then. A request may then fail with its connection, and its case begins
// again elsewhere in the tree; every session must be there afterwards, and any other failure is one.
extern bool kills;
// The running case's own node: persistent, and new in each run.
extern char root[PATH_MAX_LEN];

// A claim about what a request returned fails: was it only that the request went down with its server?
void note_return(int64_t got);

_Noreturn void fail(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));

#define THAT(condition)                                                     \
    do {                                                                    \
        if (!(condition)) fail(__FILE__, __LINE__, "not so: %s", #condition); \
    } while (0)

#define EQ(expected, got)                                                                           \
    do {                                                                                            \
        int64_t want_ = (expected), have_ = (got);                                                  \
        if (want_ != have_) {                                                                       \
            note_return(have_);                                                                     \
            fail(__FILE__, __LINE__, "%s: expected %lld, got %lld", #got, (long long)want_, (long long)have_); \
        }                                                                                           \
    } while (0)

#define TEXT(expected, got)                                                                       \
    do {                                                                                          \
        const char *want_ = (expected), *have_ = (got);                                           \
        if (strcmp(want_, have_) != 0)                                                            \
            fail(__FILE__, __LINE__, "%s: expected \"%s\", got \"%s\"", #got, want_, have_);       \
    } while (0)

// Polls until it holds; fails after PATIENCE_MS.
#define UNTIL(condition)                                                                            \
    do {                                                                                            \
        int64_t end_ = now_ms() + PATIENCE_MS;                                                      \
        while (!(condition)) {                                                                      \
            if (now_ms() > end_) fail(__FILE__, __LINE__, "not within %d ms: %s", PATIENCE_MS, #condition); \
            pause_ms(5);                                                                            \
        }                                                                                           \
    } while (0)

int64_t now_ms(void);
void pause_ms(int ms);

struct events *events_new(void);
void on_event(zhandle_t *zh, int type, int state, const char *path, void *context);
// The next node event must be this one.
void expect(struct events *events, int type, const char *path);
// No further event is on its way: everything before this call has passed the completion thread.
void expect_none(zhandle_t *zh, struct events *events);
// From now on this session sees what was answered to others.
void fence(zhandle_t *zh);
int state_of(struct events *events);

// A connected session that sees what was answered to others before, closed after the case. `events` may be null.
zhandle_t *join(void);
zhandle_t *join_at(const char *where, int timeout_ms, const clientid_t *id, struct events *events);
// The same without waiting for the connection.
zhandle_t *dial(const char *where, int timeout_ms, const clientid_t *id, struct events *events);
void leave(zhandle_t *zh);
void leave_all(void);
// Whoever has not left still has its session, once it is connected again.
void sessions_are_kept(void);

// "ROOT/name" in one of a few rotating buffers.
const char *at(const char *name);
void make(zhandle_t *zh, const char *path, const char *data, int mode);
// The data as text, in one of a few rotating buffers.
const char *read_text(zhandle_t *zh, const char *path);

struct proxy *proxy_new(void);
const char *proxy_address(struct proxy *proxy);
void proxy_cut(struct proxy *proxy);
void proxy_mend(struct proxy *proxy);

#endif
