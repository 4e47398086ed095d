/* load: echoes through WebSockets as fast as the server answers, one message in flight per
 * connection, from one thread with epoll.
 *
 *   load PORT PATH CONNECTIONS BYTES text|binary SECONDS
 *
 * Waits for all handshakes, warms up for a quarter of the time, then prints one line:
 * messages, seconds, and the median and the 99th percentile of the round trips in microseconds.
 * At its beginning and its end it writes "begin" and "end" lines, for who reads the server's CPU.
 */
#include "client.h"

struct peer {
    int fd;
    size_t sent;
    double began;
    struct answer answer;
};

static unsigned char *sink;
static double *trips;
static size_t trip_count, trip_room;

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
    peer->sent = 0;
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
    make_frame(strtoul(argv[4], NULL, 10), !strcmp(argv[5], "binary"),
        is_socketio(argv[2]) ? "echo" : NULL);
    sink = malloc(answer_size);
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
            say("begin");
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
                ssize_t n = read(peer->fd, sink, answer_size);
                if (n < 0 && errno == EAGAIN)
                    break;
                if (n <= 0)
                    die("read");
                if (!take_answers(peer->fd, &peer->answer, sink, n))
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
    say("end");
    double took = now() - start;
    qsort(trips, trip_count, sizeof *trips, by_size);
    printf("%zu %.6f %.1f %.1f\n", trip_count, took, trips[trip_count / 2] * 1e6,
        trips[trip_count * 99 / 100] * 1e6);
    return 0;
}
