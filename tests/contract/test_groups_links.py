"""Groups over networks: cables that are cut, and TLS."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme
from support import namespaces
from support.group_talk import ask, instance, listen, publish, published, talk
from support.namespaces import Cable, Host
from support.redis_server import redis_server
from support.servers import Server, poll
from support.tls import TlsFront
from websockets.sync.client import ClientConnection

from flask_wsviews import BrokerUnavailable, Publisher
from flask_wsviews.config import Settings
from flask_wsviews.groups import Delivery, History, Publication, make_broker

no_namespaces = namespaces.why_not()


class Site:
    """Three hosts: Redis, and two with an instance each. One of them may lose its cable."""

    def __init__(self, stack: ExitStack, engine: str, folder: Path, **settings: str) -> None:
        near, far, redis_host = (stack.enter_context(Host()) for _ in range(3))
        Cable(near, redis_host, ("10.203.0.1", "10.203.0.2"))
        self.cable = Cable(far, redis_host, ("10.203.0.5", "10.203.0.6"))
        everywhere = ("--bind", "0.0.0.0", "--protected-mode", "no")
        redis = redis_host.run(lambda: stack.enter_context(redis_server(folder, *everywhere)))

        def start(host: Host, address: str) -> tuple[Server, ClientConnection]:
            url = redis.url.replace("127.0.0.1", address)
            log = folder / address
            server = stack.enter_context(instance(engine, url, log, workers=1, **settings))
            ws = stack.enter_context(talk(server))
            for group in ("kept:team", "plain"):
                ask(ws, "join", group)
            return server, ws

        self.far_server, self.far = far.run(lambda: start(far, "10.203.0.6"))
        near_server, self.near = near.run(lambda: start(near, "10.203.0.2"))
        self.publish = lambda *what: near.run(lambda: publish(near_server, *what))
        self.publish_far = lambda *what: far.run(lambda: published(self.far_server, *what))


@pytest.mark.skipif(no_namespaces is not None, reason=str(no_namespaces))
@pytest.mark.parametrize("engine", ["gevent", "coroutines"])
def test_the_cable_to_redis_is_cut(engine: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        site = Site(stack, engine, tmp_path)
        near, far = site.near, site.far
        site.publish("kept:team", "before")
        assert listen(near) == listen(far) == ["before"]
        with site.cable.cut():
            site.publish("kept:team", "missed")
            site.publish("plain", "never comes")
            assert listen(near, 2) == ["missed", "never comes"]
            poll(lambda: "fails: " in site.far_server.log, 20)
            assert ask(far, "broadcast", "plain", "not sent")["error"] == "BrokerUnavailable"
            # The connection goes on, and it is still a member.
            assert sorted(ask(far, "groups")) == ["kept:team", "plain"]
        site.publish_far("kept:team", "mended")
        assert listen(far, 2) == ["missed", "mended"]
        assert listen(near) == ["mended"]
        site.publish("plain", "for all")
        assert listen(near) == listen(far) == ["for all"]
        assert site.far_server.log.count("fails: ") == 1
        assert site.far_server.log.count("works again") == 1


@pytest.mark.skipif(no_namespaces is not None, reason=str(no_namespaces))
def test_a_short_cut_loses_nothing_at_all(tmp_path: Path) -> None:
    with ExitStack() as stack:
        # Long enough for the network to try again before anybody gives up.
        site = Site(stack, "threads", tmp_path, SET_BROKER_TIMEOUT="15.0")
        with site.cable.cut():
            for group in ("plain", "kept:team"):
                site.publish(group, f"to {group}")
            assert listen(site.near, 2) == ["to plain", "to kept:team"]
        assert listen(site.far, 2) == ["to plain", "to kept:team"]


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    made = trustme.CA()
    made.cert_pem.write_to_path(tmp_path / "ca.pem")
    return made


@pytest.fixture
def url(tmp_path: Path, authority: trustme.CA) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with redis_server(tmp_path) as redis:
        front = TlsFront(redis, context)
        try:
            yield f"rediss://127.0.0.1:{front.port}/0"
        finally:
            front.close()


def test_messages_and_history_through_tls(url: str, tmp_path: Path) -> None:
    heard: list[Delivery] = []
    arrived = threading.Event()

    def hear(delivery: Delivery) -> None:
        heard.append(delivery)
        if len(heard) == 2:
            arrived.set()

    broker = make_broker(Settings(broker_url=f"{url}?ssl_ca_certs={tmp_path / 'ca.pem'}"))
    broker.start(hear)
    try:
        broker.ping()
        broker.subscribe("team", History(10))
        start = broker.replay("team", None, History(10)).position
        large = "x" * 300_000
        broker.publish(Publication("team", "small", history=History(10)))
        broker.publish(Publication("team", large, history=History(10)))
        assert arrived.wait(20)
        assert [delivery.body for delivery in heard] == ["small", large]
        replay = broker.replay("team", start, History(10))
        assert [delivery.body for delivery in replay.deliveries] == ["small", large]
    finally:
        broker.close()


@pytest.mark.parametrize("engine", ["gevent", "threads", "asyncio"])
def test_a_site_whose_redis_speaks_tls(engine: str, url: str, tmp_path: Path) -> None:
    trusting = f"{url}?ssl_ca_certs={tmp_path / 'ca.pem'}"
    with instance(engine, trusting, tmp_path / "log") as server, ExitStack() as stack:
        members = [stack.enter_context(talk(server)) for _ in range(4)]
        for ws in members:
            ask(ws, "join", "kept:team")
        publish(server, "kept:team", "by TLS")
        for ws in members:
            assert listen(ws) == ["by TLS"]
    assert "Traceback" not in server.log


def test_a_certificate_that_nobody_vouches_for(
    url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    with Publisher(f"{url}?ssl_ca_certs={other}") as publisher:
        for _ in range(3):
            with pytest.raises(BrokerUnavailable, match=r"nothing was sent.*certificate"):
                publisher.broadcast("team", "in confidence")
    assert caplog.text.count("fails: ") == 1
