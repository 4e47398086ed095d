/* load: echoes through WebSockets as fast as the server answers, one message in flight per
 * connection, from one thread with epoll.
 *
 *   load PORT PATH CONNECTIONS BYTES text|binary SECONDS [PAUSE IDLE]
 *
 * With a PAUSE in milliseconds, each connection sends at a steady pace and not as soon as it has
 * its answer, and all of them at even distances; a round trip counts from when it was to begin, so
 * that who keeps others waiting has that in the figures. IDLE more connections are open and do
 * nothing.
 *
 * Waits for all handshakes, warms up for a quarter of the time, with a PAUSE for SETTLING at least,
 * measures for SECONDS and for four messages of each connection at least, and prints one line:
 * messages, seconds, and the median and the 99th percentile of the round trips in microseconds.
 * At its beginning and its end it writes "begin" and "end" lines, for who reads the server's CPU.
 */
#include "client.h"

#define PATIENCE 10 /* seconds without any answer */

/* Seconds: for up to two after thousands of connections were made a bare loop stalls, too. */
#define SETTLING 3.0

struct peer {
    int fd;
    size_t sent;
    int waits;
    double began, due;
    struct answer answer;
};

static unsigned char *sink;
static double *trips;
static size_t trip_count, trip_room, answers;

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

static void begin(struct peer *peer, double began)
{
    peer->sent = peer->waits = 0;
    peer->began = began;
    send_some(peer);
}

/* Send for those whose turn it is. */
static void begin_due(struct peer *peers, int count, double pause)
{
    double t = now();
    for (int i = 0; i < count; i++)
        if (peers[i].waits && t >= peers[i].due) {
            begin(peers + i, peers[i].due);
            peers[i].due += pause;
        }
}

/* Somebody who was hung up on didn't take part. */
static void check_open(const int *idle, int count)
{
    char byte;
    for (int i = 0; i < count; i++) {
        ssize_t n = recv(idle[i], &byte, 1, MSG_PEEK);
        if (n == 0 || (n < 0 && errno != EAGAIN)) {
            fprintf(stderr, "idle connections were closed\n");
            exit(1);
        }
    }
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    if (argc != 7 && argc != 9) {
        fprintf(stderr, "usage: load PORT PATH CONNECTIONS BYTES text|binary SECONDS"
                        " [PAUSE IDLE]\n");
        return 2;
    }
    int count = atoi(argv[3]), counting = 0, queue = epoll_create1(0);
    int idle_count = argc == 9 ? atoi(argv[8]) : 0, *idle = calloc(idle_count + 1, sizeof *idle);
    double seconds = atof(argv[6]), pause = argc == 9 ? atof(argv[7]) / 1e3 : 0, start, limit;
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
    for (int i = 0; i < idle_count; i++)
        idle[i] = dial(atoi(argv[1]), argv[2]);
    start = now();
    for (int i = 0; i < count; i++) {
        if (pause) {
            peers[i].waits = 1;
            peers[i].due = start + pause * i / count;
        } else {
            begin(peers + i, now());
        }
    }
    limit = start + (pause && seconds / 4 < SETTLING ? SETTLING : seconds / 4);
    for (;;) {
        begin_due(peers, pause ? count : 0, pause);
        /* With a pace to keep it looks all the time: a timer would have many send at once. */
        int ready = epoll_wait(queue, events, 256, pause ? 0 : PATIENCE * 1000);
        double t = now();
        /* Some servers read from all before they answer anybody: whole rounds count. */
        if (t >= limit && !counting && (answers >= (size_t)count || pause)) {
            counting = 1;
            start = t;
            limit = t + seconds;
            say("begin");
        } else if (t >= limit && counting && (trip_count >= 4 * (size_t)count || pause)) {
            break;
        }
        if (ready == 0 && !pause) {
            fprintf(stderr, "no answer for %d seconds\n", PATIENCE);
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
                answers++;
                if (counting) {
                    if (trip_count == trip_room)
                        trips = realloc(trips, (trip_room *= 2) * sizeof *trips);
                    trips[trip_count++] = now() - peer->began;
                }
                if (pause)
                    peer->waits = 1;
                else
                    begin(peer, now());
            }
        }
    }
    say("end");
    double took = now() - start;
    check_open(idle, idle_count);
    if (!trip_count) {
        fprintf(stderr, "no answer at all\n");
        return 1;
    }
    qsort(trips, trip_count, sizeof *trips, by_size);
    printf("%zu %.6f %.1f %.1f\n", trip_count, took, trips[trip_count / 2] * 1e6,
        trips[trip_count * 99 / 100] * 1e6);
    return 0;
}
