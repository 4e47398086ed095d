"""Clients whose cable is cut: nobody is told, and the server finds out by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support import namespaces, servers
from support.engines import MODES
from support.journal import journal, of_kind, opened
from support.namespaces import Cable, Host
from support.raw import VANISHING, RawClient
from support.servers import Server, poll

no_namespaces = namespaces.why_not()
pytestmark = pytest.mark.skipif(no_namespaces is not None, reason=str(no_namespaces))

FAR = "10.203.0.2"
SETTINGS = {"WSVIEWS_PING_INTERVAL": 0.2, "WSVIEWS_PING_TIMEOUT": 0.5}


class Site:
    """A server, and clients on another host."""

    def __init__(self, stack: ExitStack, mode: str, folder: Path) -> None:
        near, self.far = (stack.enter_context(Host()) for _ in range(2))
        self.cable = Cable(near, self.far, ("10.203.0.1", FAR))
        command, env = MODES[mode]
        env = {**env, "SETTINGS": json.dumps(SETTINGS)}

        def everywhere(port: int) -> list[str]:
            return [part.replace("127.0.0.1", "0.0.0.0") for part in command(port)]

        def start() -> Server:
            return stack.enter_context(servers.running(everywhere, folder / "log", env))

        self.near = near
        self.server = near.run(start)

    def client(self, key: str) -> RawClient:
        """One on the other host."""
        return self.far.run(lambda: opened(self.server, key, "10.203.0.1"))

    def of_kind(self, key: str, kind: str) -> list:
        return self.near.run(lambda: of_kind(self.server, key, kind))

    def wait_for_close(self, key: str) -> None:
        self.near.run(lambda: journal(self.server, key, until="close"))


@pytest.fixture(params=["uwsgi-gevent", "uwsgi-threads", "uwsgi-asyncio", "uwsgi-gevent-router"])
def site(request, tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(stack, request.param, tmp_path)


def test_a_cable_is_cut(site, key):
    keys = {state: f"{key}-{number}" for number, state in enumerate(VANISHING)}
    with ExitStack() as stack:
        clients = {state: stack.enter_context(site.client(keys[state])) for state in VANISHING}
        for state, client in clients.items():
            client.sock.sendall(VANISHING[state])
        with site.cable.cut():
            for state in VANISHING:
                site.wait_for_close(keys[state])
                assert site.of_kind(keys[state], "close") == [[1006, ""]], state
                assert site.of_kind(keys[state], "message") == [], state
    # Nothing of them is left, and the cable is of use again.
    with site.client(f"{key}-later") as client:
        client.send(1, "back")
        assert client.recv_message() == b"back"


def test_a_cable_is_cut_while_much_is_sent(site, key):
    with site.client(key) as client:
        client.send(1, "begin")
        assert client.recv_message() == b"begin"
        with site.cable.cut():
            # More than is kept for a client that doesn't take it.
            site.near.run(lambda: site.server.get(f"/push/{key}?size=100000&count=100"))
            site.wait_for_close(key)
            [[code, reason]] = site.of_kind(key, "close")
            assert (code, reason) in [(1006, ""), (1008, "the client is too slow")]


def test_a_short_cut_costs_nothing(tmp_path: Path, key):
    with ExitStack() as stack:
        site = Site(stack, "uwsgi-gevent", tmp_path)
        with site.client(key) as client:
            with site.cable.cut():
                client.send(1, "meanwhile")
            # The network tries again by itself.
            assert client.recv_message() == b"meanwhile"
        poll(lambda: site.of_kind(key, "message") == [["meanwhile", 1]])
