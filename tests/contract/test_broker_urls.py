"""Why a Redis can't be used: the cause is named, and no password."""

from __future__ import annotations

import re
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import trustme
from flask import Flask
from support.redis_server import RedisServer, redis_server
from support.servers import free_port, poll
from support.tls import TlsFront

from flask_wsviews import BrokerUnavailable, WebSocket
from flask_wsviews.commands.doctor.broker import check_broker
from flask_wsviews.config import Settings
from flask_wsviews.groups import Delivery, History, Publication, make_broker
from flask_wsviews.groups.brokers.redis.broker import RedisBroker

KEPT = History(10)
SECRET = "hush+hush/hush"
ESCAPED = "hush%2Bhush%2Fhush"

#: What a user needs for everything: docs/groups.md has the same.
PERMISSIONS = (
    "resetchannels ~wsviews:* &wsviews:* +ping +time +publish +subscribe +unsubscribe +pubsub "
    "+eval +evalsha +script +@stream +@hash +@sortedset +exists +get +set +del +pexpire +pttl"
)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        users = {
            "granted": PERMISSIONS,
            "noscripts": "~* &* +@all -@scripting",
            "nostreams": "~* &* +@all -xadd",
            "nochannels": "~* resetchannels +@all",
        }
        for name, rules in users.items():
            answer = server.command("ACL", "SETUSER", name, "on", f">{SECRET}", *rules.split())
            assert answer == b"+OK\r\n", answer
        yield server


def url_for(redis: RedisServer, user: str, password: str = ESCAPED) -> str:
    return redis.url.replace("//", f"//{user}:{password}@")


def failure(url: str, timeout: float = 2.0) -> tuple[str, str]:
    """What publishing and joining fail with, each at a broker of its own."""
    texts = []
    for use in (
        lambda broker: broker.publish(Publication("team", "x", history=KEPT)),
        lambda broker: broker.subscribe("team", KEPT),
    ):
        broker = make_broker(Settings(broker_url=url, broker_timeout=timeout))
        broker.start(lambda delivery: None)
        try:
            with pytest.raises(BrokerUnavailable) as caught:
                use(broker)
            texts.append(str(caught.value))
        finally:
            broker.close()
    published, joined = texts
    return published, joined


def findings(url: str) -> str:
    app = Flask("site")
    app.config["WSVIEWS_BROKER_URL"] = url
    return "\n".join(str(finding) for finding in check_broker(WebSocket(app).groups))


@pytest.mark.parametrize(
    ("form", "cause"),
    [
        ("redis://default:SECRET@HOST/0", "password"),
        ("redis://:SECRET@HOST/0", "password"),
        ("redis://HOST/0?password=SECRET", "password"),
        ("redis://HOST/0?username=nobody&password=SECRET", "password"),
        ("unix://PATH?db=0&password=SECRET", "password"),
        ("unix://nobody:SECRET@PATH", "password"),
        ("redis+sentinel://:SECRET@HOST/main", "main"),
        ("redis+sentinel://HOST/main?sentinel_password=SECRET", "main"),
    ],
)
def test_a_wrong_password_is_named_and_not_shown(
    form: str, cause: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "redis.sock"
    with redis_server(tmp_path, "--requirepass", "right", "--unixsocket", str(path)) as redis:
        url = form.replace("HOST", f"127.0.0.1:{redis.port}").replace("PATH", str(path))
        url = url.replace("SECRET", ESCAPED)
        texts = [*failure(url), findings(url), caplog.text]
    for text in texts:
        assert cause in text
        assert "hush" not in text
    assert "no answer within" not in "".join(texts)


@pytest.mark.parametrize(
    ("scheme", "host", "cause"),
    [
        ("redis", "127.0.0.1:CLOSED", "refused"),
        ("redis", "nowhere.invalid", "(?i)name|resolution|nodename|takes longer"),
        ("rediss", "127.0.0.1:OPEN", "(?i)ssl|tls|timeout|timed out|reset|closed"),
        ("redis+sentinel", "127.0.0.1:CLOSED/main", "No master found|refused"),
    ],
    ids=["refused", "name", "TLS", "sentinel"],
)
def test_the_cause_is_named(redis: RedisServer, scheme: str, host: str, cause: str) -> None:
    host = host.replace("CLOSED", str(free_port())).replace("OPEN", str(redis.port))
    url = f"{scheme}://me:{ESCAPED}@{host}"
    for text in failure(url, timeout=1.0):
        assert re.search(cause, text), text
        assert "no answer within" not in text
        assert "hush" not in text


def test_a_user_without_scripts_is_told_so(redis: RedisServer) -> None:
    url = url_for(redis, "noscripts")
    for text in (*failure(url), findings(url)):
        assert "the user's permission" in text
        assert "'evalsha'" in text
        assert "what is kept" not in text


def test_a_user_who_lacks_a_command_of_a_script_is_told_so(redis: RedisServer) -> None:
    text = findings(url_for(redis, "nostreams"))
    assert "the user's permission" in text
    assert "what is kept" not in text


def test_a_user_without_channels_is_told_so(redis: RedisServer) -> None:
    published, joined = failure(url_for(redis, "nochannels"))
    assert "permissions to access one of the channels" in joined
    assert "channels" in findings(url_for(redis, "nochannels"))
    assert "the user's permission" in published
    assert "what is kept" not in published


def test_the_permissions_that_are_needed(redis: RedisServer) -> None:
    url = url_for(redis, "granted")
    assert "answers, delivers and keeps messages" in findings(url)
    heard: list[Delivery] = []
    broker = make_broker(Settings(broker_url=url))
    broker.start(heard.append)
    broker.subscribe("team", KEPT)
    broker.publish(Publication("team", "x", history=KEPT))
    poll(lambda: [one.body for one in heard] == ["x"])
    broker.unsubscribe("team")
    assert broker.presence is not None
    assert broker.presence.count("team") == 0
    broker.close()


def clients(redis: RedisServer) -> int:
    """How many connections the server has, without the one that asks."""
    return redis.command("CLIENT", "LIST").count(b" addr=") - 1


def test_what_runs_after_close_leaves_no_connection(redis: RedisServer) -> None:
    """Neither a call that has begun, nor one that a thread of the broker had in its queue."""
    poll(lambda: clients(redis) == 0)
    broker = RedisBroker(Settings(broker_url=redis.url))
    broker.start(lambda delivery: None)
    broker.subscribe("team", KEPT)
    gate = threading.Event()
    broker._histories._jobs.submit(gate.wait)
    broker.unsubscribe("team")
    # The server's answer puts the call that lets go of the group's settings into the queue.
    poll(lambda: broker._histories._jobs._queue.qsize() == 1)
    assert redis.command("CLIENT", "PAUSE", "300") == b"+OK\r\n"
    with ThreadPoolExecutor() as threads:
        published = threads.submit(broker.publish, Publication("team", "x", history=KEPT))
        poll(lambda: broker._client._uses == 2)
        broker.close()
        assert published.result() is not None
    gate.set()
    broker._histories._jobs.close(10)
    poll(lambda: clients(redis) == 0)


def test_the_doctor_wants_a_message_back(redis: RedisServer) -> None:
    assert "answers, delivers and keeps messages" in findings(redis.url)
    poll(lambda: redis.command("KEYS", "*check-*:stream") == b"*0\r\n", 30)


def test_sentinels_with_passwords(tmp_path: Path) -> None:
    """That of the sentinels is another one than that of the master."""
    folders = [tmp_path / name for name in ("master", "sentinel")]
    for folder in folders:
        folder.mkdir()
    config = folders[1] / "sentinel.conf"
    with redis_server(folders[0], "--requirepass", "first") as master:
        config.write_text(
            f"sentinel monitor main 127.0.0.1 {master.port} 1\n"
            "sentinel auth-pass main first\nrequirepass other\n"
        )
        with redis_server(folders[1], config=config) as sentinel:
            host = f"127.0.0.1:{sentinel.port}/main"
            good = f"redis+sentinel://:first@{host}?sentinel_password=other"
            assert "answers, delivers and keeps messages" in findings(good)
            for bad in (f"redis+sentinel://:first@{host}", good.replace("other", "wrong")):
                text = findings(bad)
                assert "No master found" in text
                assert "wrong" not in text


def test_sentinels_behind_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    folder = tmp_path / "sentinel"
    folder.mkdir()
    config = folder / "sentinel.conf"
    with redis_server(tmp_path) as master:
        config.write_text(f"sentinel monitor main 127.0.0.1 {master.port} 1\n")
        with redis_server(folder, config=config) as sentinel:
            sentinels = TlsFront(sentinel, context)
            try:
                url = f"rediss+sentinel://127.0.0.1:{sentinels.port}/main"
                broker = make_broker(
                    Settings(broker_url=f"{url}?ssl_ca_certs={tmp_path / 'ca.pem'}")
                )
                manager = broker._client.get().connection_pool.sentinel_manager  # type: ignore[attr-defined]
                assert manager.discover_master("main") == ("127.0.0.1", master.port)
                broker.close()
                # Who isn't trusted isn't asked.
                assert "certificate" in findings(url)
            finally:
                sentinels.close()
