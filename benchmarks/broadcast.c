/* broadcast: members of a group, one of which sends what all of them get.
 *
 *   broadcast PORT PATH MEMBERS BYTES INFLIGHT SECONDS
 *
 * Waits for all handshakes. The first member has INFLIGHT messages under way, and sends another one
 * for each of its own that comes back. Warms up for a quarter of the time, then prints one line:
 * how often a message reached a member, and in how many seconds. Both last for INFLIGHT messages at
 * least: some servers take all of those in before anybody gets one. At its beginning and its end it
 * writes "begin" and "end" lines, for who reads the server's CPU. It fails if somebody gets nothing.
 */
#include "client.h"

#define PATIENCE 60 /* seconds in which nobody gets anything */

struct member {
    int fd;
    size_t got;
    struct answer answer;
};

static struct member *members;
static unsigned char sink[65536];
static size_t deliveries, reached;

static void send_one(void)
{
    if (write(members->fd, frame, frame_size) != (ssize_t)frame_size)
        die("write");
}

static void take(struct member *member)
{
    ssize_t n = read(member->fd, sink, sizeof sink);
    if (n <= 0)
        die("read");
    size_t whole = take_answers(member->fd, &member->answer, sink, n);
    reached += whole && !member->got;
    member->got += whole;
    deliveries += whole;
    for (size_t i = 0; member == members && i < whole; i++)
        send_one();
}

/* Until then, and until there were so many deliveries. */
static void run(int queue, double limit, size_t least)
{
    struct epoll_event events[256];
    while (now() < limit || deliveries < least) {
        int ready = epoll_wait(queue, events, 256, PATIENCE * 1000);
        if (ready == 0) {
            fprintf(stderr, "nobody gets anything\n");
            exit(1);
        }
        for (int i = 0; i < ready; i++)
            take(events[i].data.ptr);
    }
}

int main(int argc, char **argv)
{
    if (argc != 7) {
        fprintf(stderr, "usage: broadcast PORT PATH MEMBERS BYTES INFLIGHT SECONDS\n");
        return 2;
    }
    size_t count = atoi(argv[3]), inflight = atoi(argv[5]);
    int queue = epoll_create1(0);
    double seconds = atof(argv[6]);
    make_frame(strtoul(argv[4], NULL, 10), 0, is_socketio(argv[2]) ? "fanout" : NULL);
    members = calloc(count, sizeof *members);
    for (size_t i = 0; i < count; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = members + i};
        members[i].fd = dial(atoi(argv[1]), argv[2]);
        if (epoll_ctl(queue, EPOLL_CTL_ADD, members[i].fd, &event))
            die("epoll_ctl");
    }
    usleep(200000); /* the last ones may be joining still */
    for (size_t i = 0; i < inflight; i++)
        send_one();
    run(queue, now() + seconds / 4, inflight * count);
    if (reached < count) {
        fprintf(stderr, "only %zu of %zu members get anything\n", reached, count);
        return 1;
    }
    deliveries = 0;
    say("begin");
    double start = now();
    run(queue, start + seconds, inflight * count);
    say("end");
    printf("%zu %.6f\n", deliveries, now() - start);
    return 0;
}
