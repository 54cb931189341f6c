// A TCP proxy between a session and the servers that a case can cut. While it is cut it accepts and closes at once:
// to the client the server is away, and the port stays ours. Of several servers each new connection goes to the next one,
// so that whoever comes back comes back elsewhere. One thread each, and they live as long as the program.
#include "bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_PAIRS = 16 };

struct proxy {
    int listener;
    char address[64];
    pthread_mutex_t lock;
    bool cut;
    int client[MAX_PAIRS], server[MAX_PAIRS];
    int pairs;
    const char *next; // in hosts
};

static int call_server(struct proxy *proxy) {
    char host[128];
    int length = strcspn(proxy->next, ",");
    snprintf(host, sizeof host, "%.*s", length, proxy->next);
    proxy->next = proxy->next[length] ? proxy->next + length + 1 : hosts;
    char *colon = strrchr(host, ':');
    if (!colon) return -1;
    *colon = 0;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    if (getaddrinfo(host, colon + 1, &hints, &found)) return -1;
    int fd = socket(found->ai_family, SOCK_STREAM, 0);
    if (fd >= 0 && connect(fd, found->ai_addr, found->ai_addrlen) != 0) {
        close(fd);
        fd = -1;
    }
    freeaddrinfo(found);
    return fd;
}

// With the lock held.
static void end_pair(struct proxy *proxy, int i) {
    close(proxy->client[i]);
    close(proxy->server[i]);
    proxy->pairs--;
    proxy->client[i] = proxy->client[proxy->pairs];
    proxy->server[i] = proxy->server[proxy->pairs];
}

static bool forward(int from, int to) {
    char buffer[16384];
    ssize_t got = recv(from, buffer, sizeof buffer, 0);
    for (ssize_t sent = 0; sent < got;) {
        ssize_t n = send(to, buffer + sent, got - sent, MSG_NOSIGNAL);
        if (n <= 0) return false;
        sent += n;
    }
    return got > 0;
}

static void admit(struct proxy *proxy) {
    int client = accept(proxy->listener, NULL, NULL);
    if (client < 0) return;
    int server = proxy->cut || proxy->pairs == MAX_PAIRS ? -1 : call_server(proxy);
    if (server < 0) {
        close(client);
        return;
    }
    int one = 1;
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    proxy->client[proxy->pairs] = client;
    proxy->server[proxy->pairs++] = server;
}

static void *serve(void *context) {
    struct proxy *proxy = context;
    for (;;) {
        struct pollfd fds[1 + 2 * MAX_PAIRS] = {{.fd = proxy->listener, .events = POLLIN}};
        pthread_mutex_lock(&proxy->lock);
        int pairs = proxy->pairs;
        for (int i = 0; i < pairs; i++) {
            fds[1 + 2 * i] = (struct pollfd){.fd = proxy->client[i], .events = POLLIN};
            fds[2 + 2 * i] = (struct pollfd){.fd = proxy->server[i], .events = POLLIN};
        }
        pthread_mutex_unlock(&proxy->lock);
        poll(fds, 1 + 2 * pairs, 10);
        pthread_mutex_lock(&proxy->lock);
        // From the end, because ending a pair moves the last one into its place. A cut meanwhile leaves fewer of them.
        for (int i = (pairs < proxy->pairs ? pairs : proxy->pairs) - 1; i >= 0; i--) {
            bool same = fds[1 + 2 * i].fd == proxy->client[i];
            if (same && ((fds[1 + 2 * i].revents && !forward(proxy->client[i], proxy->server[i])) ||
                         (fds[2 + 2 * i].revents && !forward(proxy->server[i], proxy->client[i]))))
                end_pair(proxy, i);
        }
        if (fds[0].revents) admit(proxy);
        pthread_mutex_unlock(&proxy->lock);
    }
    return NULL;
}

struct proxy *proxy_new(void) {
    struct proxy *proxy = calloc(1, sizeof *proxy);
    if (!proxy) abort();
    pthread_mutex_init(&proxy->lock, NULL);
    proxy->next = hosts;
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof where;
    proxy->listener = socket(AF_INET, SOCK_STREAM, 0);
    THAT(bind(proxy->listener, (struct sockaddr *)&where, length) == 0 && listen(proxy->listener, 16) == 0);
    THAT(getsockname(proxy->listener, (struct sockaddr *)&where, &length) == 0);
    snprintf(proxy->address, sizeof proxy->address, "127.0.0.1:%d", ntohs(where.sin_port));
    pthread_t thread;
    THAT(pthread_create(&thread, NULL, serve, proxy) == 0);
    pthread_detach(thread);
    return proxy;
}

const char *proxy_address(struct proxy *proxy) { return proxy->address; }

void proxy_cut(struct proxy *proxy) {
    pthread_mutex_lock(&proxy->lock);
    proxy->cut = true;
    while (proxy->pairs) end_pair(proxy, 0);
    pthread_mutex_unlock(&proxy->lock);
}

void proxy_mend(struct proxy *proxy) {
    pthread_mutex_lock(&proxy->lock);
    proxy->cut = false;
    pthread_mutex_unlock(&proxy->lock);
}
