/* load: echoes through WebSockets as fast as the server answers, one message in flight per
 * connection, from one thread with epoll. It speaks only as much of RFC 6455 as that takes.
 *
 *   load PORT PATH CONNECTIONS BYTES text|binary SECONDS
 *
 * Waits for all handshakes, warms up for a quarter of the time, then prints one line:
 * messages, seconds, and the median and the 99th percentile of the round trips in microseconds.
 * At its beginning and its end it writes "begin" and "end" lines, for who reads the server's CPU.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct peer {
    int fd;
    size_t sent, got;
    double began;
};

static unsigned char *frame, *sink;
static size_t frame_size, answer_size;
static double *trips;
static size_t trip_count, trip_room;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void make_frame(size_t bytes, int binary)
{
    size_t head = bytes < 126 ? 2 : bytes < 65536 ? 4 : 10;
    static const unsigned char mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    frame_size = head + 4 + bytes;
    answer_size = head + bytes;
    frame = malloc(frame_size);
    frame[0] = binary ? 0x82 : 0x81;
    if (bytes < 126) {
        frame[1] = 0x80 | bytes;
    } else if (bytes < 65536) {
        frame[1] = 0x80 | 126;
        frame[2] = bytes >> 8;
        frame[3] = bytes & 255;
    } else {
        frame[1] = 0x80 | 127;
        for (int i = 0; i < 8; i++)
            frame[2 + i] = (uint64_t)bytes >> (56 - 8 * i) & 255;
    }
    memcpy(frame + head, mask, 4);
    for (size_t i = 0; i < bytes; i++)
        frame[head + 4 + i] = (binary ? i & 255 : 'a' + i % 26) ^ mask[i % 4];
}

static int dial(int port, const char *path)
{
    char request[1024], answer[4096];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    size_t got = 0;
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address))
        die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    int size = snprintf(request, sizeof request,
        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        path, port);
    if (write(fd, request, size) != size)
        die("write");
    while (got < 4 || !memmem(answer, got, "\r\n\r\n", 4)) {
        ssize_t n = read(fd, answer + got, 1); /* so that nothing of a frame is taken along */
        if (n <= 0 || ++got == sizeof answer)
            die("handshake");
    }
    if (!memmem(answer, got, " 101 ", 5)) {
        fprintf(stderr, "refused: %.*s\n", (int)got, answer);
        exit(1);
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static void send_some(struct peer *peer)
{
    while (peer->sent < frame_size) {
        ssize_t n = write(peer->fd, frame + peer->sent, frame_size - peer->sent);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0)
            die("write");
        peer->sent += n;
    }
}

static void begin(struct peer *peer)
{
    peer->sent = peer->got = 0;
    peer->began = now();
    send_some(peer);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    if (argc != 7) {
        fprintf(stderr, "usage: load PORT PATH CONNECTIONS BYTES text|binary SECONDS\n");
        return 2;
    }
    int count = atoi(argv[3]), counting = 0, queue = epoll_create1(0);
    double seconds = atof(argv[6]), start, limit;
    struct peer *peers = calloc(count, sizeof *peers);
    struct epoll_event events[256];
    make_frame(strtoul(argv[4], NULL, 10), !strcmp(argv[5], "binary"));
    sink = malloc(answer_size + 1);
    trip_room = 1 << 16;
    trips = malloc(trip_room * sizeof *trips);
    for (int i = 0; i < count; i++) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = peers + i};
        peers[i].fd = dial(atoi(argv[1]), argv[2]);
        if (epoll_ctl(queue, EPOLL_CTL_ADD, peers[i].fd, &event))
            die("epoll_ctl");
    }
    for (int i = 0; i < count; i++)
        begin(peers + i);
    start = now();
    limit = start + seconds / 4;
    for (;;) {
        int ready = epoll_wait(queue, events, 256, 1000);
        double t = now();
        if (t >= limit && !counting) {
            counting = 1;
            start = t;
            limit = t + seconds;
            printf("begin\n");
            fflush(stdout);
        } else if (t >= limit) {
            break;
        }
        if (ready == 0) {
            fprintf(stderr, "no answer for a second\n");
            return 1;
        }
        for (int i = 0; i < ready; i++) {
            struct peer *peer = events[i].data.ptr;
            if (peer->sent < frame_size)
                send_some(peer);
            for (;;) {
                ssize_t n = read(peer->fd, sink, answer_size - peer->got);
                if (n < 0 && errno == EAGAIN)
                    break;
                if (n <= 0)
                    die("read");
                if (peer->got == 0 && sink[0] != frame[0]) {
                    fprintf(stderr, "that is no echo: it begins with %02x\n", sink[0]);
                    return 1;
                }
                peer->got += n;
                if (peer->got < answer_size)
                    continue;
                if (counting) {
                    if (trip_count == trip_room)
                        trips = realloc(trips, (trip_room *= 2) * sizeof *trips);
                    trips[trip_count++] = now() - peer->began;
                }
                begin(peer);
            }
        }
    }
    printf("end\n");
    fflush(stdout);
    double took = now() - start;
    qsort(trips, trip_count, sizeof *trips, by_size);
    printf("%zu %.6f %.1f %.1f\n", trip_count, took, trips[trip_count / 2] * 1e6,
        trips[trip_count * 99 / 100] * 1e6);
    return 0;
}
