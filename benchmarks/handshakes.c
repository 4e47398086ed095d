/* handshakes: opens WebSockets and closes them again, as fast as the server lets it.
 *
 *   handshakes PORT PATH ATONCE SECONDS [HEADER]
 *
 * Each one is a new TCP connection: the request, with the HEADER if there is one, the 101, a close
 * frame, and the answer to that or the end of the stream. ATONCE are under way. Warms up for a
 * quarter of the time, then prints one line: how many were done, and in how many seconds. At its
 * beginning and its end it writes "begin" and "end" lines, for who reads the server's CPU.
 */
#include "client.h"

struct peer {
    int fd;
    enum { CONNECTING, OPENING, CLOSING } state;
    size_t got;
    char answer[4096];
};

static struct sockaddr_in address;
static char request[4096];
static size_t request_size, done;

/* A reset when it is closed: a port in TIME_WAIT couldn't be used for a minute. */
static const struct linger at_once = {.l_onoff = 1};

static void start(int queue, struct peer *peer)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = peer};
    peer->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    peer->state = CONNECTING;
    peer->got = 0;
    if (peer->fd < 0 || setsockopt(peer->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once))
        die("socket");
    if (connect(peer->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)
        die("connect");
    if (epoll_ctl(queue, EPOLL_CTL_ADD, peer->fd, &event))
        die("epoll_ctl");
}

static void send_request(struct peer *peer)
{
    peer->state = OPENING;
    if (write(peer->fd, request, request_size) != (ssize_t)request_size)
        die("write");
}

/* Once the head of the answer is there. */
static void send_close(struct peer *peer)
{
    static const unsigned char normal[] = {0x88, 0x82, 0, 0, 0, 0, 1000 >> 8, 1000 & 255};
    char *end = memmem(peer->answer, peer->got, "\r\n\r\n", 4);
    if (!end)
        return;
    if (strncmp(peer->answer, "HTTP/1.1 101 ", 13)) {
        fprintf(stderr, "refused: %.*s\n", (int)peer->got, peer->answer);
        exit(1);
    }
    peer->state = CLOSING;
    if (write(peer->fd, normal, sizeof normal) != sizeof normal)
        die("write");
}

/* Whether it is over. */
static int take(struct peer *peer)
{
    for (;;) {
        ssize_t n = read(peer->fd, peer->answer + peer->got, sizeof peer->answer - peer->got);
        if (n < 0 && errno == EAGAIN)
            return 0;
        if (peer->state == CLOSING)
            return 1;
        if (n <= 0)
            die("handshake");
        peer->got += n;
        send_close(peer);
    }
}

int main(int argc, char **argv)
{
    if (argc != 5 && argc != 6) {
        fprintf(stderr, "usage: handshakes PORT PATH ATONCE SECONDS [HEADER]\n");
        return 2;
    }
    int count = atoi(argv[3]), counting = 0, queue = epoll_create1(0);
    double seconds = atof(argv[4]), began = now(), limit = began + seconds / 4;
    char header[2048] = "";
    struct peer *peers = calloc(count, sizeof *peers);
    struct epoll_event events[256];
    if (argc == 6)
        snprintf(header, sizeof header, "%s\r\n", argv[5]);
    address = local(atoi(argv[1]));
    request_size = make_request(request, sizeof request, atoi(argv[1]), argv[2], header);
    for (int i = 0; i < count; i++)
        start(queue, peers + i);
    for (;;) {
        int ready = epoll_wait(queue, events, 256, 5000);
        double t = now();
        if (t >= limit && counting)
            break;
        if (t >= limit) {
            counting = 1;
            done = 0;
            began = t;
            limit = t + seconds;
            say("begin");
        }
        if (ready == 0) {
            fprintf(stderr, "no answer for five seconds\n");
            return 1;
        }
        for (int i = 0; i < ready; i++) {
            struct peer *peer = events[i].data.ptr;
            if (peer->state == CONNECTING && events[i].events & EPOLLOUT)
                send_request(peer);
            if (take(peer)) {
                close(peer->fd);
                done++;
                start(queue, peer);
            }
        }
    }
    double took = now() - began;
    say("end");
    printf("%zu %.6f\n", done, took);
    return 0;
}
