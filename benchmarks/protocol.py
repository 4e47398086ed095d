"""What the protocol costs for a message: each way from received bytes to the bytes of an echo.

``python benchmarks/protocol.py [-r ROUNDS]`` feeds connections in this process, without a socket,
and prints microseconds for each message, and bytes for each idle connection.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc

from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode

from flask_wsviews.config import Settings
from flask_wsviews.protocol import frames
from flask_wsviews.protocol.connection import Connection

REPEAT = 20_000
IDLE = 20_000
PAYLOAD = b"x" * 32
SETTINGS = Settings(max_control_frames=10**9, compression_min_size=0)


def frame(opcode: Opcode, payload: bytes, *, fin: bool = True) -> bytes:
    return bytes(Frame(opcode, payload, fin).serialize(mask=True))


PLAIN = frame(Opcode.TEXT, PAYLOAD)
DEFLATED = Frame(Opcode.TEXT, PAYLOAD).serialize(
    mask=True, extensions=[PerMessageDeflate(True, True, 12, 12)]
)

#: By name: the reads that bring a message, and whether plain frames take the shortcut.
WAYS: dict[str, tuple[list[bytes], bool]] = {
    "plain": ([PLAIN], True),
    "plain, without the shortcut": ([PLAIN], False),
    "plain, in two reads": ([PLAIN[:10], PLAIN[10:]], True),
    "in two fragments": (
        [frame(Opcode.TEXT, PAYLOAD[:16], fin=False) + frame(Opcode.CONT, PAYLOAD[16:])],
        True,
    ),
    "compressed": ([DEFLATED], True),
    "Ping": ([frame(Opcode.PING, b"12345678")], True),
}


def microseconds(reads: list[bytes], *, takes_plain: bool) -> float:
    # Without context takeover each message can be the same bytes.
    deflate = PerMessageDeflate(True, True, 12, 12)
    extensions = [deflate] if reads[0] is DEFLATED else []
    connection = Connection(SETTINGS, 0.0, extensions=extensions)
    connection.takes_plain = takes_plain
    began = time.perf_counter()
    for _ in range(REPEAT):
        for data in reads:
            connection.receive_data(data, 1.0)
        while (message := connection.next_message()) is not None:
            connection.send(message)
        while output := connection.output():
            connection.output_written(len(output), 1.0)
    return (time.perf_counter() - began) / REPEAT * 1e6


def idle_bytes() -> float:
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    connections = []
    for _ in range(IDLE):
        connection = Connection(SETTINGS, 0.0)
        for data in (PLAIN, frame(Opcode.PONG, b"")):
            connection.receive_data(data, 1.0)
            connection.next_message()
        connections.append(connection)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return grown / len(connections)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-r", "--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    print(f"compiled: {not str(frames.__file__).endswith('.py')}")
    for name, (reads, takes_plain) in WAYS.items():
        best = min(microseconds(reads, takes_plain=takes_plain) for _ in range(rounds))
        print(f"{name:30}{best:6.2f} us")
    print(f"{'an idle connection':30}{idle_bytes():6.0f} bytes")


if __name__ == "__main__":
    main()
