/* bare: the least that a server can do, as the ceiling of what the clients measure.
 *
 *   bare PORT
 *
 * One thread with epoll echoes, and on /fanout sends each message to all that connected there. It
 * knows the one key that the clients send and takes every path: this is no server for anything
 * else.
 */
#include "client.h"
#include <poll.h>

#define MEMBERS 65536

struct peer {
    int fd, open, member;
    size_t got, room;
    unsigned char *data;
};

static struct peer *members[MEMBERS];
static int member_count;

static const char accepted[] =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/* A client that has gone is noticed when it is read. */
static void send_all(int fd, const void *data, size_t size)
{
    for (size_t sent = 0; sent < size;) {
        ssize_t n = send(fd, (const char *)data + sent, size - sent, MSG_NOSIGNAL);
        struct pollfd writable = {.fd = fd, .events = POLLOUT};
        if (n > 0)
            sent += n;
        else if (errno != EAGAIN)
            return;
        else
            poll(&writable, 1, -1);
    }
}

static void drop(struct peer *peer)
{
    for (int i = 0; peer->member && i < member_count; i++)
        if (members[i] == peer)
            members[i] = members[--member_count];
    close(peer->fd);
    free(peer->data);
    free(peer);
}

/* The bytes that were taken of `data`, 0 if more are needed. */
static size_t answer_request(struct peer *peer)
{
    unsigned char *end = memmem(peer->data, peer->got, "\r\n\r\n", 4);
    if (!end)
        return 0;
    peer->open = 1;
    if (!strncmp((char *)peer->data, "GET /fanout ", 12) && member_count < MEMBERS) {
        peer->member = 1;
        members[member_count++] = peer;
    }
    send_all(peer->fd, accepted, sizeof accepted - 1);
    return end + 4 - peer->data;
}

/* As above. What is sent is the frame itself: unmasked in its place, with a head in front of it. */
static size_t answer_frame(struct peer *peer, unsigned char *data, size_t got)
{
    if (got < 2)
        return 0;
    uint64_t size = data[1] & 127;
    size_t head = size < 126 ? 2 : size == 126 ? 4 : 10;
    if (got < head + 4)
        return 0;
    if (head > 2)
        size = 0;
    for (size_t i = 2; i < head; i++)
        size = size << 8 | data[i];
    if (got < head + 4 + size)
        return 0;
    unsigned char *mask = data + head, *payload = mask + 4;
    uint32_t word, masks;
    memcpy(&masks, mask, 4);
    uint64_t i = 0;
    for (; i + 4 <= size; i += 4) {
        memcpy(&word, payload + i, 4);
        word ^= masks;
        memcpy(payload + i, &word, 4);
    }
    for (; i < size; i++)
        payload[i] ^= mask[i % 4];
    data[1] &= 127;
    memmove(data + 4, data, head);
    if (peer->member && data[4] != 0x88)
        for (int m = 0; m < member_count; m++)
            send_all(members[m]->fd, data + 4, head + size);
    else
        send_all(peer->fd, data + 4, head + size);
    return head + 4 + size;
}

/* 0 once the client has gone. */
static int serve(struct peer *peer)
{
    if (peer->got == peer->room)
        peer->data = realloc(peer->data, peer->room = peer->room ? peer->room * 2 : 4096);
    ssize_t n = read(peer->fd, peer->data + peer->got, peer->room - peer->got);
    if (n <= 0)
        return n < 0 && errno == EAGAIN;
    peer->got += n;
    size_t taken = peer->open ? 0 : answer_request(peer), more = taken;
    while (peer->open && (more = answer_frame(peer, peer->data + taken, peer->got - taken)))
        taken += more;
    memmove(peer->data, peer->data + taken, peer->got -= taken);
    return 1;
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = local(argc == 2 ? atoi(argv[1]) : 0);
    struct epoll_event event = {.events = EPOLLIN}, events[256];
    int one = 1, queue = epoll_create1(0), door = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (argc != 2) {
        fprintf(stderr, "usage: bare PORT\n");
        return 2;
    }
    setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(door, (struct sockaddr *)&address, sizeof address) || listen(door, 100))
        die("listen");
    epoll_ctl(queue, EPOLL_CTL_ADD, door, &event);
    for (;;) {
        int ready = epoll_wait(queue, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            struct peer *peer = events[i].data.ptr;
            if (!peer) {
                int fd = accept4(door, NULL, NULL, SOCK_NONBLOCK);
                if (fd < 0)
                    continue;
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                peer = event.data.ptr = calloc(1, sizeof *peer);
                peer->fd = fd;
                epoll_ctl(queue, EPOLL_CTL_ADD, fd, &event);
            } else if (!serve(peer)) {
                drop(peer);
            }
        }
    }
}
