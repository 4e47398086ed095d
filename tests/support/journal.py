"""The contract application's journal of its connections."""

from __future__ import annotations

import json

from support.raw import RawClient
from support.servers import Server, poll


def journal(server: Server, key: str, until: str | None = None, times: int = 1) -> list:
    """Return the journal of a connection, once it has an entry *until*."""

    def read() -> list:
        entries = json.loads(server.get(f"/journal/{key}"))
        if until is None or sum(entry[0] == until for entry in entries) >= times:
            return entries
        return []

    return poll(read)


def without_teardown(entries: list) -> list:
    return [entry for entry in entries if entry[0] != "teardown"]


def of_kind(server: Server, key: str, kind: str) -> list:
    return [entry[1:3] for entry in journal(server, key) if entry[0] == kind]


def opened(server: Server, key: str, host: str = "127.0.0.1") -> RawClient:
    """Open a connection to the view with a journal, and receive its greeting."""
    client = RawClient(server, host=host).open(f"/views/all/bob?key={key}")
    assert client.recv_message() == b"hello bob"
    return client
