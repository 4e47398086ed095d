/* What the clients share: time, one masked frame to send, and opening handshakes.
 * They speak only as much of RFC 6455, and of Socket.IO, as measuring takes. */
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

static unsigned char *frame;
static size_t frame_size, answer_size;

static inline double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static inline void die(const char *what)
{
    perror(what);
    exit(1);
}

/* Socket.IO is known by where it is served: there it is told from a plain WebSocket. */
static inline int is_socketio(const char *path)
{
    return !strncmp(path, "/socket.io/", 11);
}

/* Make `frame`, with so many bytes of payload; the answer has no mask. As a Socket.IO event, the
 * payload is its one argument. */
static inline void make_frame(size_t bytes, int binary, const char *event)
{
    static const unsigned char mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    char before[64] = "";
    const char *after = event ? "\"]" : "";
    if (event)
        snprintf(before, sizeof before, "42[\"%s\",\"", event);
    size_t lead = strlen(before), size = lead + bytes + strlen(after);
    size_t head = size < 126 ? 2 : size < 65536 ? 4 : 10;
    frame_size = head + 4 + size;
    answer_size = head + size;
    frame = malloc(frame_size);
    frame[0] = binary ? 0x82 : 0x81;
    if (size < 126) {
        frame[1] = 0x80 | size;
    } else if (size < 65536) {
        frame[1] = 0x80 | 126;
        frame[2] = size >> 8;
        frame[3] = size & 255;
    } else {
        frame[1] = 0x80 | 127;
        for (int i = 0; i < 8; i++)
            frame[2 + i] = (uint64_t)size >> (56 - 8 * i) & 255;
    }
    memcpy(frame + head, mask, 4);
    unsigned char *payload = frame + head + 4;
    memcpy(payload, before, lead);
    for (size_t i = 0; i < bytes; i++)
        payload[lead + i] = binary ? i & 255 : 'a' + i % 26;
    memcpy(payload + lead + bytes, after, strlen(after));
    for (size_t i = 0; i < size; i++)
        payload[i] ^= mask[i % 4];
}

static inline void read_exactly(int fd, void *buffer, size_t size)
{
    for (size_t got = 0; got < size;) {
        ssize_t n = read(fd, (char *)buffer + got, size - got);
        if (n <= 0)
            die("handshake");
        got += n;
    }
}

/* A short frame that has to be a text which begins with `expected`. */
static inline void expect_text(int fd, const char *expected)
{
    unsigned char head[4];
    char text[65536];
    read_exactly(fd, head, 2);
    size_t size = head[1];
    if (size == 126) {
        read_exactly(fd, head + 2, 2);
        size = head[2] << 8 | head[3];
    }
    read_exactly(fd, text, size);
    if (head[0] != 0x81 || strncmp(text, expected, strlen(expected))) {
        fprintf(stderr, "no Socket.IO: %.*s\n", (int)size, text);
        exit(1);
    }
}

/* Engine.IO says how it is ("0"), the client connects to the namespace ("40"). */
static inline void begin_socketio(int fd)
{
    static const unsigned char connect_frame[] = {0x81, 0x82, 0, 0, 0, 0, '4', '0'};
    expect_text(fd, "0");
    if (write(fd, connect_frame, sizeof connect_frame) != sizeof connect_frame)
        die("write");
    expect_text(fd, "40");
}

static inline size_t make_request(
    char *request, size_t size, int port, const char *path, const char *headers)
{
    return snprintf(request, size,
        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n",
        path, port, headers);
}

static inline struct sockaddr_in local(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

/* An open WebSocket, whose socket doesn't block any more. */
static inline int dial(int port, const char *path)
{
    char request[1024], answer[4096];
    struct sockaddr_in address = local(port);
    size_t got = 0;
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    struct linger reset = {.l_onoff = 1};
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address))
        die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    /* Thousands in TIME-WAIT would expire at once, a minute later, in another's measurement. */
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    ssize_t size = make_request(request, sizeof request, port, path, "");
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
    if (is_socketio(path))
        begin_socketio(fd);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

/* How much of the next answer has been read. */
struct answer {
    size_t got, skip;
    int in_ping;
};

static inline void pong(int fd)
{
    static const unsigned char empty[] = {0x8a, 0x80, 0, 0, 0, 0};
    if (write(fd, empty, sizeof empty) < 0 && errno != EAGAIN)
        die("write");
}

/* The number of answers that end in `data`. uWSGI's own API and what builds on it send a Ping each
 * time that there is nothing to receive for them, and want it answered. */
static inline size_t take_answers(
    int fd, struct answer *answer, const unsigned char *data, size_t size)
{
    size_t whole = 0;
    while (size) {
        size_t step = 1;
        if (answer->in_ping) {
            answer->in_ping = 0;
            answer->skip = *data;
            pong(fd);
        } else if (answer->skip) {
            step = size < answer->skip ? size : answer->skip;
            answer->skip -= step;
        } else if (answer->got == 0 && *data == 0x89) {
            answer->in_ping = 1;
        } else if (answer->got == 0 && *data != frame[0]) {
            fprintf(stderr, "that is no answer: it begins with %02x\n", *data);
            exit(1);
        } else {
            size_t left = answer_size - answer->got;
            step = size < left ? size : left;
            whole += step == left;
            answer->got = step == left ? 0 : answer->got + step;
        }
        data += step;
        size -= step;
    }
    return whole;
}

/* "begin" and "end" are for who reads the server's CPU time. */
static inline void say(const char *word)
{
    printf("%s\n", word);
    fflush(stdout);
}
