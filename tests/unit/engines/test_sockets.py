"""The calls of a socket, in C or not: neither raises when there is nothing to do."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator

import pytest
from support.servers import poll

from flask_wsviews.engines.sockets import READ_SIZE, WAIT_SIZE, receive, send, wait_and_receive

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two ends, of which the first waits by itself."""
    ours, peers = socket.socketpair()
    with ours, peers:
        peers.settimeout(10)
        yield ours, peers


# A descriptor says that its bytes are sent as they are; without one the socket itself is asked.
@pytest.fixture(params=["descriptor", "socket"])
def fd(request: pytest.FixtureRequest, pair: Pair) -> int:
    if request.param == "socket":
        pair[0].setblocking(False)
        return -1
    return pair[0].fileno()


def test_receiving(pair: Pair, fd: int) -> None:
    ours, peers = pair
    assert receive(ours, fd) is None
    peers.send(b"one")
    peers.send(b"two")
    assert receive(ours, fd) == b"onetwo"
    assert receive(ours, fd) is None
    peers.send(b"last")
    peers.shutdown(socket.SHUT_WR)
    assert [receive(ours, fd) for _ in range(3)] == [b"last", b"", b""]


def test_receiving_no_more_than_is_asked_for(pair: Pair, fd: int) -> None:
    ours, peers = pair
    data = os.urandom(READ_SIZE + 10)
    sender = threading.Thread(target=peers.sendall, args=[data])
    sender.start()
    received = b""
    while len(received) < len(data):
        part = receive(ours, fd)
        assert part is None or 0 < len(part) <= READ_SIZE
        received += part or b""
    sender.join()
    assert received == data


@pytest.mark.parametrize("data", [b"some", memoryview(b"not some")[4:], b""])
def test_sending(pair: Pair, fd: int, data: bytes | memoryview) -> None:
    ours, peers = pair
    assert send(ours, fd, data, False) == len(data)
    assert send(ours, fd, b" more", True) == 5
    assert peers.recv(100) == bytes(data) + b" more"


@pytest.mark.parametrize("size", [1000, 100_000])
def test_sending_what_there_is_room_for(pair: Pair, fd: int, size: int) -> None:
    ours, peers = pair
    counts = []
    while (count := send(ours, fd, bytes(size), False)) is not None:
        counts.append(count)
    assert counts
    assert all(0 < count <= size for count in counts)
    left = sum(counts)
    while left:
        left -= len(peers.recv(left))
    assert send(ours, fd, b"again", False) == 5


def test_a_peer_that_is_gone(pair: Pair, fd: int) -> None:
    ours, peers = pair
    peers.close()
    assert receive(ours, fd) == b""
    with pytest.raises(BrokenPipeError):
        send(ours, fd, b"x", False)


def test_what_is_no_socket_any_more(pair: Pair) -> None:
    ours, _ = pair
    fd = ours.detach()
    os.close(fd)
    for closed in (fd, -1):
        with pytest.raises(OSError, match="Bad file descriptor"):
            receive(ours, closed)
        with pytest.raises(OSError, match="Bad file descriptor"):
            send(ours, closed, b"x", False)
    with pytest.raises(OSError, match="Bad file descriptor"):
        wait_and_receive(ours, fd)


def test_waiting_for_bytes(pair: Pair) -> None:
    ours, peers = pair
    received: list[bytes | None] = []

    def wait() -> None:
        while part := wait_and_receive(ours, ours.fileno()):
            received.append(part)
        received.append(part)

    waiter = threading.Thread(target=wait)
    waiter.start()
    # A thread that waits keeps nobody else from working.
    peers.send(b"one")
    assert poll(lambda: received == [b"one"])
    peers.send(b"x" * WAIT_SIZE + b"y")
    assert poll(lambda: received[1:] == [b"x" * WAIT_SIZE, b"y"])
    peers.shutdown(socket.SHUT_WR)
    waiter.join(10)
    assert received[-1] == b""


def test_waiting_ends_when_somebody_else_cuts_the_stream(pair: Pair) -> None:
    ours, _ = pair
    received: list[bytes | None] = []
    waiter = threading.Thread(target=lambda: received.append(wait_and_receive(ours, ours.fileno())))
    waiter.start()
    ours.shutdown(socket.SHUT_RDWR)
    waiter.join(10)
    assert received == [b""]


def test_a_signal_whose_handler_meets_an_error_of_its_own(pair: Pair) -> None:
    """Its errno is not that of the call that it interrupts."""
    ours, peers = pair

    def handle(signum: int, frame: object) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.stat("/nowhere/at/all")
        peers.send(b"late")

    def interrupt() -> None:
        # Until the main thread waits: what it does before isn't interrupted.
        while not interrupted.wait(0.02):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    interrupted = threading.Event()
    before = signal.signal(signal.SIGUSR1, handle)
    other = threading.Thread(target=interrupt)
    try:
        other.start()
        received = [wait_and_receive(ours, ours.fileno()) for _ in range(3)]
    finally:
        interrupted.set()
        other.join()
        signal.signal(signal.SIGUSR1, before)
    assert all(part is None or set(part.split(b"late")) == {b""} for part in received)
