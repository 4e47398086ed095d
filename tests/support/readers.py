"""Clients that reconnect and resume while Redis fails and workers are replaced."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal

import pytest
from websockets.frames import Frame, Opcode

from flask_wsviews import BrokerUnavailable, Publisher
from support.group_talk import workers_of
from support.redis_server import RedisServer
from support.servers import Server, poll


def request(path: str, port: int) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()


# What the server sends in its frames: which are text, and short.
FOUND = re.compile(
    rb'"message_id": "([0-9-]+)", "type": "number", "number": ([0-9]+)}'
    rb'|"type": "joined", "at": "([0-9-]+)", "lost": (true|false)}'
)


class Reader:
    """A client that reconnects, resumes, and records the numbers it receives."""

    def __init__(self, server: Server, count: int) -> None:
        self.server = server
        self.count = count
        self.numbers: list[int] = []
        self.position: str | None = None
        self.joined = asyncio.Event()
        self.lost = False
        self.connections = 0
        self.joins: list[tuple[str, int]] = []  # where it joined, and after how many numbers

    async def run(self) -> None:
        while len(self.numbers) < self.count:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self.converse()
            await asyncio.sleep(0.05)

    async def converse(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        try:
            writer.write(request("/numbers", self.server.port))
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 101 " not in head:
                return
            self.connections += 1
            writer.write(
                Frame(Opcode.TEXT, json.dumps(self.position).encode()).serialize(mask=True)
            )
            rest = b""
            while len(self.numbers) < self.count:
                data = await reader.read(65536)
                if not data:
                    return
                rest = self.take(rest + data)
        finally:
            writer.close()

    def difference(self, expected: list[int]) -> str:
        """Return what is wrong with the numbers, or an empty string."""
        if self.numbers == expected:
            return ""
        pairs = zip(self.numbers, expected, strict=False)
        place = next((i for i, (one, two) in enumerate(pairs) if one != two), -1)
        around = self.numbers[max(0, place - 3) : place + 5]
        return f"{len(self.numbers)} numbers, {around} at {place}, {self.joins}"

    def take(self, data: bytes) -> bytes:
        """Record the messages in *data*, and return an incomplete rest."""
        end = 0
        for found in FOUND.finditer(data):
            position, number, at, lost = found.groups()
            if number is not None:
                self.numbers.append(int(number))
                self.position = position.decode()
            else:
                self.lost = self.lost or lost == b"true"
                self.position = self.position or at.decode()
                self.joins.append((at.decode(), len(self.numbers)))
                self.joined.set()
            end = found.end()
        return data[end:]


async def publish_all(redis: RedisServer, server: Server, count: int) -> None:
    """Publish the numbers in order while Redis fails and the workers are replaced."""
    loop = asyncio.get_running_loop()
    replaced: set[int] = set()
    with Publisher(redis.url, timeout=5) as publisher:
        for number in range(count):
            if number == count // 3:
                redis.kill()
                with pytest.raises(BrokerUnavailable):
                    await asyncio.to_thread(publish_number, publisher, number)
                await asyncio.to_thread(redis.start)
            if number == 2 * count // 3:
                replaced.update(workers_of(server))
                assert len(replaced) == 2
                for pid in replaced:
                    os.kill(pid, signal.SIGHUP)
            if number == count - 1:
                # Readers that have everything must reconnect as well.
                await asyncio.to_thread(poll, lambda: replaced.isdisjoint(workers_of(server)), 60)
            deadline = loop.time() + 20
            while True:
                try:
                    await asyncio.to_thread(publish_number, publisher, number)
                except BrokerUnavailable:
                    assert loop.time() < deadline
                    await asyncio.sleep(0.05)
                else:
                    break


def publish_number(publisher: Publisher, number: int) -> None:
    publisher.send_message("kept:numbers", "number", {"number": number})
