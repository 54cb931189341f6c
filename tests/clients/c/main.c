// Cases on the C client: prints "ok NAME" or "FAIL NAME: why" a case and "N passed, N failed" at the end.
#include "bench.h"

#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

extern jmp_buf case_end;
extern char case_why[];
extern bool case_interrupted;

static void handshake(void) {
    struct events *events = events_new();
    zhandle_t *zh = join_at(hosts, TIMEOUT_MS, NULL, events);
    UNTIL(state_of(events) == ZOO_CONNECTED_STATE);
    THAT(zoo_client_id(zh)->client_id != 0);
    EQ(TIMEOUT_MS, zoo_recv_timeout(zh));
    EQ(4000, zoo_recv_timeout(join_at(hosts, 1000, NULL, NULL)));
    EQ(40000, zoo_recv_timeout(join_at(hosts, 100000, NULL, NULL)));
}

static void create_get_set(void) {
    zhandle_t *zh = join();
    char path[PATH_MAX_LEN];
    struct Stat stat, read;
    EQ(ZOK, zoo_create2(zh, at("n"), "abc", 3, &ZOO_OPEN_ACL_UNSAFE, 0, path, sizeof path, &stat));
    TEXT(at("n"), path);
    EQ(3, stat.dataLength);
    EQ(stat.czxid, stat.mzxid);
    TEXT("abc", read_text(zh, at("n")));
    EQ(ZOK, zoo_set2(zh, at("n"), "defg", 4, 0, &stat));
    EQ(1, stat.version);
    EQ(ZBADVERSION, zoo_set(zh, at("n"), "x", 1, 0));
    char buffer[16];
    int length = sizeof buffer;
    EQ(ZOK, zoo_get(zh, at("n"), 0, buffer, &length, &read));
    EQ(4, length);
    EQ(stat.mzxid, read.mzxid);
    EQ(ZNODEEXISTS, zoo_create(zh, at("n"), "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0));
    EQ(ZNONODE, zoo_create(zh, at("no/n"), "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0));
    EQ(ZNONODE, zoo_get(zh, at("no"), 0, buffer, &length, NULL));
    EQ(ZNONODE, zoo_set(zh, at("no"), "", 0, -1));
    // Data that is absent, and data that is empty.
    EQ(ZOK, zoo_create(zh, at("null"), NULL, -1, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0));
    length = sizeof buffer;
    EQ(ZOK, zoo_get(zh, at("null"), 0, buffer, &length, NULL));
    EQ(-1, length);
    EQ(ZOK, zoo_set(zh, at("null"), "", 0, -1));
    length = sizeof buffer;
    EQ(ZOK, zoo_get(zh, at("null"), 0, buffer, &length, NULL));
    EQ(0, length);
}

static void create_modes(void) {
    zhandle_t *zh = join();
    struct Stat stat;
    char path[PATH_MAX_LEN];
    EQ(ZOK, zoo_create(zh, at("e"), "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_EPHEMERAL, NULL, 0));
    EQ(ZOK, zoo_exists(zh, at("e"), 0, &stat));
    EQ(zoo_client_id(zh)->client_id, stat.ephemeralOwner);
    EQ(ZNOCHILDRENFOREPHEMERALS, zoo_create(zh, at("e/c"), "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0));
    EQ(ZOK, zoo_create(zh, at("s-"), "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT_SEQUENTIAL, path, sizeof path));
    TEXT(at("s-0000000001"), path);
    EQ(ZOK, zoo_create(zh, at("es-"), "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_EPHEMERAL_SEQUENTIAL, path, sizeof path));
    TEXT(at("es-0000000002"), path);
    EQ(ZOK, zoo_create(zh, at("c"), "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_CONTAINER, NULL, 0));
    EQ(ZOK, zoo_create_ttl(zh, at("t"), "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT_WITH_TTL, 300, NULL, 0));
    EQ(ZOK, zoo_create2_ttl(zh, at("ts-"), "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT_SEQUENTIAL_WITH_TTL, 60000, path, sizeof path, &stat));
    TEXT(at("ts-0000000005"), path);
    make(zh, at("c/child"), "", 0);
    EQ(ZOK, zoo_delete(zh, at("c/child"), -1));
    UNTIL(zoo_exists(zh, at("t"), 0, &stat) == ZNONODE);
    UNTIL(zoo_exists(zh, at("c"), 0, &stat) == ZNONODE);
    EQ(ZOK, zoo_exists(zh, path, 0, &stat));
}

static void exists_delete_children(void) {
    zhandle_t *zh = join();
    struct Stat stat;
    EQ(ZNONODE, zoo_exists(zh, at("n"), 0, &stat));
    make(zh, at("n"), "", 0);
    make(zh, at("n/a"), "", 0);
    make(zh, at("n/b"), "", 0);
    EQ(ZOK, zoo_exists(zh, at("n"), 0, &stat));
    EQ(2, stat.numChildren);
    EQ(2, stat.cversion);
    struct String_vector names;
    EQ(ZOK, zoo_get_children(zh, at("n"), 0, &names));
    EQ(2, names.count);
    deallocate_String_vector(&names);
    EQ(ZOK, zoo_get_children2(zh, at("n"), 0, &names, &stat));
    EQ(2, names.count);
    EQ(2, stat.numChildren);
    deallocate_String_vector(&names);
    EQ(ZNOTEMPTY, zoo_delete(zh, at("n"), -1));
    EQ(ZBADVERSION, zoo_delete(zh, at("n/a"), 5));
    EQ(ZOK, zoo_delete(zh, at("n/a"), 0));
    EQ(ZOK, zoo_delete(zh, at("n/b"), -1));
    EQ(ZOK, zoo_delete(zh, at("n"), -1));
    EQ(ZNONODE, zoo_delete(zh, at("n"), -1));
    EQ(ZNONODE, zoo_get_children(zh, at("n"), 0, &names));
    EQ(ZBADARGUMENTS, zoo_exists(zh, "no-slash", 0, &stat));
}

static void watches(void) {
    zhandle_t *zh = join(), *other = join();
    struct events *data = events_new(), *exists = events_new(), *children = events_new();
    struct String_vector names;
    struct Stat stat;
    char buffer[16];
    int length = sizeof buffer;
    make(zh, at("n"), "", 0);
    EQ(ZOK, zoo_wget(zh, at("n"), on_event, data, buffer, &length, NULL));
    EQ(ZNONODE, zoo_wexists(zh, at("n/later"), on_event, exists, &stat));
    EQ(ZOK, zoo_wget_children(zh, at("n"), on_event, children, &names));
    deallocate_String_vector(&names);
    EQ(ZOK, zoo_set(other, at("n"), "1", 1, -1));
    EQ(ZOK, zoo_set(other, at("n"), "2", 1, -1));
    expect(data, ZOO_CHANGED_EVENT, at("n"));
    expect_none(zh, data);
    expect_none(zh, children);
    make(other, at("n/later"), "", 0);
    expect(exists, ZOO_CREATED_EVENT, at("n/later"));
    expect(children, ZOO_CHILD_EVENT, at("n"));
    EQ(ZOK, zoo_wexists(zh, at("n/later"), on_event, exists, &stat));
    EQ(ZOK, zoo_wget(zh, at("n/later"), on_event, exists, buffer, &length, NULL));
    EQ(ZOK, zoo_delete(other, at("n/later"), -1));
    expect(exists, ZOO_DELETED_EVENT, at("n/later"));
}

static void watch_default(void) {
    struct events *events = events_new();
    zhandle_t *zh = join_at(hosts, TIMEOUT_MS, NULL, events);
    struct Stat stat;
    EQ(ZNONODE, zoo_exists(zh, at("n"), 1, &stat));
    make(zh, at("n"), "", 0);
    expect(events, ZOO_CREATED_EVENT, at("n"));
    expect_none(zh, events);
}

static void watch_remove(void) {
    zhandle_t *zh = join();
    struct events *events = events_new(), *other = events_new();
    char buffer[16];
    int length = sizeof buffer;
    make(zh, at("n"), "", 0);
    EQ(ZOK, zoo_wget(zh, at("n"), on_event, events, buffer, &length, NULL));
    EQ(ZNOWATCHER, zoo_remove_watches(zh, at("n"), ZWATCHTYPE_DATA, on_event, other, 0));
    EQ(ZOK, zoo_remove_watches(zh, at("n"), ZWATCHTYPE_DATA, on_event, events, 0));
    EQ(ZOK, zoo_set(zh, at("n"), "x", 1, -1));
    expect_none(zh, events);
    EQ(ZOK, zoo_wget(zh, at("n"), on_event, events, buffer, &length, NULL));
    EQ(ZOK, zoo_remove_all_watches(zh, at("n"), ZWATCHTYPE_ANY, 0));
    EQ(ZOK, zoo_set(zh, at("n"), "y", 1, -1));
    expect_none(zh, events);
    EQ(ZNOWATCHER, zoo_remove_all_watches(zh, at("n"), ZWATCHTYPE_ANY, 0));
}

static void multi_ok(void) {
    zhandle_t *zh = join();
    zoo_op_t ops[4];
    zoo_op_result_t results[4];
    char path[PATH_MAX_LEN];
    struct Stat set, stat;
    make(zh, at("old"), "", 0);
    zoo_create_op_init(&ops[0], at("s-"), "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT_SEQUENTIAL, path, sizeof path);
    zoo_set_op_init(&ops[1], root, "data", 4, 0, &set);
    zoo_check_op_init(&ops[2], root, 1);
    zoo_delete_op_init(&ops[3], at("old"), 0);
    EQ(ZOK, zoo_multi(zh, 4, ops, results));
    for (int i = 0; i < 4; i++) EQ(ZOK, results[i].err);
    TEXT(at("s-0000000001"), path);
    EQ(1, set.version);
    EQ(ZOK, zoo_exists(zh, path, 0, &stat));
    EQ(set.mzxid, stat.czxid);
    EQ(ZNONODE, zoo_exists(zh, at("old"), 0, &stat));
}

static void multi_fails(void) {
    zhandle_t *zh = join();
    zoo_op_t ops[4];
    zoo_op_result_t results[4];
    struct Stat stat;
    zoo_create_op_init(&ops[0], at("a"), "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0);
    zoo_check_op_init(&ops[1], root, 0);
    zoo_set_op_init(&ops[2], root, "data", 4, 9, NULL);
    zoo_delete_op_init(&ops[3], at("a"), -1);
    EQ(ZBADVERSION, zoo_multi(zh, 4, ops, results));
    EQ(ZOK, results[0].err);
    EQ(ZOK, results[1].err);
    EQ(ZBADVERSION, results[2].err);
    EQ(ZRUNTIMEINCONSISTENCY, results[3].err);
    EQ(ZNONODE, zoo_exists(zh, at("a"), 0, &stat));
    EQ(ZOK, zoo_exists(zh, root, 0, &stat));
    EQ(0, stat.version);
}

struct answer {
    int rc, version, done;
};

static void authenticated(int rc, const void *data) {
    struct answer *answer = (struct answer *)data;
    answer->rc = rc;
    __atomic_store_n(&answer->done, 1, __ATOMIC_RELEASE);
}

static int authenticate(zhandle_t *zh, const char *scheme, const char *who) {
    static struct answer answers[16];
    static int next;
    struct answer *answer = &answers[next++ % 16];
    *answer = (struct answer){0};
    EQ(ZOK, zoo_add_auth(zh, scheme, who, strlen(who), authenticated, answer));
    UNTIL(__atomic_load_n(&answer->done, __ATOMIC_ACQUIRE));
    return answer->rc;
}

static void auth_and_acl(void) {
    zhandle_t *ann = join(), *nobody = join();
    struct Stat stat;
    struct ACL_vector acl;
    char buffer[16];
    int length = sizeof buffer;
    EQ(ZOK, authenticate(ann, "digest", "ann:secret"));
    EQ(ZOK, zoo_create(ann, at("n"), "x", 1, &ZOO_CREATOR_ALL_ACL, 0, NULL, 0));
    EQ(ZOK, zoo_get_acl(ann, at("n"), &acl, &stat));
    EQ(1, acl.count);
    TEXT("digest", acl.data[0].id.scheme);
    THAT(strncmp(acl.data[0].id.id, "ann:", 4) == 0);
    EQ(ZOO_PERM_ALL, acl.data[0].perms);
    deallocate_ACL_vector(&acl);
    fence(nobody);
    EQ(ZNOAUTH, zoo_get(nobody, at("n"), 0, buffer, &length, NULL));
    EQ(ZNOAUTH, zoo_set(nobody, at("n"), "y", 1, -1));
    EQ(ZINVALIDACL, zoo_create(nobody, at("m"), "", 0, &ZOO_CREATOR_ALL_ACL, 0, NULL, 0));
    EQ(ZBADVERSION, zoo_set_acl(ann, at("n"), 3, &ZOO_READ_ACL_UNSAFE));
    EQ(ZOK, zoo_set_acl(ann, at("n"), 0, &ZOO_READ_ACL_UNSAFE));
    fence(nobody);
    TEXT("x", read_text(nobody, at("n")));
    EQ(ZNOAUTH, zoo_set(nobody, at("n"), "y", 1, -1));
}

static void auth_failed(void) {
    zhandle_t *zh = join();
    EQ(ZAUTHFAILED, authenticate(zh, "no-such-scheme", "x"));
    UNTIL(zoo_state(zh) == ZOO_AUTH_FAILED_STATE);
    THAT(is_unrecoverable(zh) != ZOK);
}

static void ephemeral_and_close(void) {
    zhandle_t *zh = join(), *other = join();
    struct events *events = events_new();
    struct Stat stat;
    make(zh, at("e"), "", ZOO_EPHEMERAL);
    make(zh, at("p"), "", 0);
    fence(other);
    EQ(ZOK, zoo_wexists(other, at("e"), on_event, events, &stat));
    leave(zh);
    expect(events, ZOO_DELETED_EVENT, at("e"));
    EQ(ZNONODE, zoo_exists(other, at("e"), 0, &stat));
    EQ(ZOK, zoo_exists(other, at("p"), 0, &stat));
}

enum { PIPELINED = 1000 };
static struct answer pipeline[2 * PIPELINED];
static int pipeline_order[2 * PIPELINED];
static int pipeline_done;

static void piped(int rc, const struct Stat *stat, const void *data) {
    struct answer *answer = (struct answer *)data;
    answer->rc = rc;
    answer->version = stat ? stat->version : -1;
    pipeline_order[pipeline_done] = answer - pipeline;
    __atomic_add_fetch(&pipeline_done, 1, __ATOMIC_RELEASE);
}

static void async_pipeline(void) {
    zhandle_t *zh = join();
    make(zh, at("n"), "", 0);
    pipeline_done = 0;
    for (int i = 0; i < PIPELINED; i++) {
        EQ(ZOK, zoo_aset(zh, at("n"), "x", 1, i, piped, &pipeline[2 * i]));
        EQ(ZOK, zoo_aexists(zh, at("n"), 0, piped, &pipeline[2 * i + 1]));
    }
    UNTIL(__atomic_load_n(&pipeline_done, __ATOMIC_ACQUIRE) == 2 * PIPELINED);
    for (int i = 0; i < 2 * PIPELINED; i++) {
        EQ(i, pipeline_order[i]);
        EQ(ZOK, pipeline[i].rc);
        EQ(i / 2 + 1, pipeline[i].version);
    }
}

static void attach(void) {
    struct proxy *proxy = proxy_new();
    zhandle_t *first = join_at(proxy_address(proxy), TIMEOUT_MS, NULL, NULL), *other = join();
    make(first, at("e"), "", ZOO_EPHEMERAL);
    clientid_t id = *zoo_client_id(first);
    proxy_cut(proxy);
    UNTIL(zoo_state(first) != ZOO_CONNECTED_STATE);
    zhandle_t *second = join_at(hosts, TIMEOUT_MS, &id, NULL);
    EQ(id.client_id, zoo_client_id(second)->client_id);
    struct Stat stat;
    EQ(ZOK, zoo_exists(second, at("e"), 0, &stat));
    EQ(id.client_id, stat.ephemeralOwner);
    int64_t left = now_ms();
    leave(second);
    // The library does not wait for the answer; but it is the close that ends the session, and not its timeout.
    UNTIL(zoo_exists(other, at("e"), 0, &stat) == ZNONODE);
    THAT(now_ms() - left < TIMEOUT_MS / 2 || kills);
}

static void attach_refused(void) {
    zhandle_t *zh = join();
    make(zh, at("e"), "mine", ZOO_EPHEMERAL);
    clientid_t id = *zoo_client_id(zh);
    id.passwd[5] ^= 1;
    struct events *events = events_new();
    dial(hosts, TIMEOUT_MS, &id, events);
    UNTIL(state_of(events) == ZOO_EXPIRED_SESSION_STATE);
    // ZooKeeper may cut the owner's connection over this; the session and what it owns stay.
    struct Stat stat;
    UNTIL(zoo_exists(zh, at("e"), 0, &stat) == ZOK);
    EQ(id.client_id, stat.ephemeralOwner);
}

static void expiry(void) {
    struct proxy *proxy = proxy_new();
    struct events *states = events_new(), *deleted = events_new();
    zhandle_t *zh = join_at(proxy_address(proxy), SHORT_MS, NULL, states), *other = join();
    struct Stat stat;
    make(zh, at("e"), "", ZOO_EPHEMERAL);
    fence(other);
    EQ(ZOK, zoo_wexists(other, at("e"), on_event, deleted, &stat));
    proxy_cut(proxy);
    expect(deleted, ZOO_DELETED_EVENT, at("e"));
    proxy_mend(proxy);
    UNTIL(state_of(states) == ZOO_EXPIRED_SESSION_STATE);
    EQ(ZINVALIDSTATE, zoo_exists(zh, root, 0, &stat));
}

static void set_watches(void) {
    struct proxy *proxy = proxy_new();
    struct events *states = events_new();
    zhandle_t *zh = join_at(proxy_address(proxy), TIMEOUT_MS, NULL, states), *other = join();
    struct events *data = events_new(), *created = events_new(), *children = events_new(), *quiet = events_new();
    struct String_vector names;
    struct Stat stat;
    char buffer[16];
    int length = sizeof buffer;
    make(zh, at("n"), "", 0);
    make(zh, at("quiet"), "", 0);
    EQ(ZOK, zoo_wget(zh, at("n"), on_event, data, buffer, &length, NULL));
    EQ(ZOK, zoo_wget_children(zh, at("n"), on_event, children, &names));
    deallocate_String_vector(&names);
    EQ(ZNONODE, zoo_wexists(zh, at("later"), on_event, created, &stat));
    EQ(ZOK, zoo_wget(zh, at("quiet"), on_event, quiet, buffer, &length, NULL));
    proxy_cut(proxy);
    UNTIL(kills ? states->disconnects >= 1 : states->disconnects == 1);
    EQ(ZOK, zoo_set(other, at("n"), "x", 1, -1));
    make(other, at("n/c"), "", 0);
    make(other, at("later"), "", 0);
    proxy_mend(proxy);
    expect(data, ZOO_CHANGED_EVENT, at("n"));
    expect(children, ZOO_CHILD_EVENT, at("n"));
    expect(created, ZOO_CREATED_EVENT, at("later"));
    expect_none(zh, quiet);
    EQ(ZOK, zoo_set(other, at("quiet"), "x", 1, -1));
    expect(quiet, ZOO_CHANGED_EVENT, at("quiet"));
}

static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
    {"handshake", handshake},
    {"create-get-set", create_get_set},
    {"create.modes", create_modes},
    {"exists-delete-children", exists_delete_children},
    {"watches", watches},
    {"watch.default", watch_default},
    {"watch.remove", watch_remove},
    {"watch.after-reconnect", set_watches},
    {"multi.ok", multi_ok},
    {"multi.fails", multi_fails},
    {"auth-and-acl", auth_and_acl},
    {"auth.failed", auth_failed},
    {"session.ephemeral-and-close", ephemeral_and_close},
    {"session.attach", attach},
    {"session.attach-refused", attach_refused},
    {"session.expires", expiry},
    {"async.pipeline", async_pipeline},
};

// How often an interrupted case may begin.
enum { BEGINNINGS = 5 };

static volatile const char *running;
static volatile int passed, failed;

// The synchronous calls of the library know no time limit: a server that never answers ends the suite here.
static void hung(int signal) {
    (void)signal;
    char text[256];
    int length = snprintf(text, sizeof text, "FAIL %s: no end after 40 s, and the rest was not run\n%d passed, %d failed\n",
                          (const char *)running, passed, failed + 1);
    if (write(STDOUT_FILENO, text, length) < 0) _exit(2);
    _exit(1);
}

static char run[64];

// Makes the node that `root` names, and the one above it.
static void prepare(void) {
    zhandle_t *zh = join();
    int rc = zoo_create(zh, run, "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0);
    if (rc != ZNODEEXISTS) EQ(ZOK, rc);
    make(zh, root, "", 0);
    leave(zh);
}

static bool attempt(void (*body)(void)) {
    case_interrupted = false;
    if (setjmp(case_end) != 0) return false;
    body();
    return true;
}

static bool begin(void (*body)(void)) {
    alarm(40);
    bool good = attempt(prepare) && attempt(body);
    if (kills && (good || case_interrupted)) {
        bool interrupted = case_interrupted;
        if (!attempt(sessions_are_kept)) {
            good = false;
        } else {
            case_interrupted = interrupted;
        }
    }
    leave_all();
    alarm(0);
    return good;
}

static bool run_one(const char *name, void (*body)(void)) {
    running = name;
    snprintf(root, sizeof root, "%s/%s", run, name);
    bool good = begin(body);
    for (int i = 2; !good && case_interrupted && i <= BEGINNINGS; i++) {
        printf("again %s: %s\n", name, case_why);
        snprintf(root, sizeof root, "%s/%s-%d", run, name, i);
        good = begin(body);
    }
    if (good) {
        printf("ok %s\n", name);
    } else {
        printf("FAIL %s: %s\n", name, case_why);
    }
    fflush(stdout);
    return good;
}

static bool wanted(int count, char **words, const char *name) {
    for (int i = 1; i < count; i++) {
        if (strstr(name, words[i])) return true;
    }
    return count == 1;
}

// Rubbish under a unique prefix harms nobody, so what cannot be deleted stays.
static void remove_below(zhandle_t *zh, const char *path) {
    struct String_vector names;
    if (zoo_get_children(zh, path, 0, &names) == ZOK) {
        for (int i = 0; i < names.count; i++) {
            char child[2 * PATH_MAX_LEN];
            snprintf(child, sizeof child, "%s/%s", path, names.data[i]);
            remove_below(zh, child);
        }
        deallocate_String_vector(&names);
    }
    zoo_delete(zh, path, -1);
}

static void remove_run(void) { remove_below(join(), run); }

int main(int count, char **words) {
    hosts = getenv("ZK_HOSTS");
    if (!hosts) {
        fprintf(stderr, "ZK_HOSTS: host:port,... of the servers under test\n");
        return 64;
    }
    kills = getenv("ZK_KILLS") && *getenv("ZK_KILLS");
    zoo_set_debug_level(getenv("CLIENT_LOG") ? ZOO_LOG_LEVEL_DEBUG : (ZooLogLevel)0);
    signal(SIGALRM, hung);
    signal(SIGPIPE, SIG_IGN);
    snprintf(run, sizeof run, "/clients-c-%llx-%x", (unsigned long long)now_ms(), (unsigned)getpid());
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (!wanted(count, words, cases[i].name)) continue;
        if (run_one(cases[i].name, cases[i].run)) {
            passed++;
        } else {
            failed++;
        }
    }
    alarm(10);
    running = "cleaning up";
    attempt(remove_run);
    leave_all();
    printf("%d passed, %d failed\n", passed, failed);
    return failed || !passed;
}
