"""The files in deploy/, by the real programs: nginx and HAProxy in front of uWSGI."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme
import websocket
import yaml
from support import browser, servers
from support.engines import ASYNCIO, BLOCKING, GEVENT
from support.paths import DEPLOY
from support.raw import RawClient
from support.servers import BIN, Server, free_port, poll
from websocket import WebSocket, WebSocketBadStatusException
from websockets.frames import Opcode

from flask_wsviews.servers.uwsgi.binary import wheel_interpreter

HOST = "127.0.0.1"
TIMEOUT = 20.0
TEXT, BINARY = Opcode.TEXT, Opcode.BINARY
ENGINES = {"blocking": BLOCKING, "gevent": GEVENT, "asyncio": ASYNCIO}
PROXIES = {"nginx.conf": "nginx", "nginx-uwsgi-pass.conf": "nginx", "haproxy.cfg": "haproxy"}
PROXY_FIX = {"PROXY_FIX": "1"}

# What conf.d/ is included from. The temporary folders are the test's own.
NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
{main}
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/wsviews.conf;
}}
"""


def shipped(name: str, changes: dict[str, str]) -> str:
    """A file of deploy/ with *changes*, each of which has to be possible."""
    text = (DEPLOY / name).read_text()
    for old, new in changes.items():
        assert old in text, f"{name} has no {old!r}"
        text = text.replace(old, new)
    return text


def tell(process: subprocess.Popen[bytes], signum: signal.Signals) -> None:
    """Send a signal once the program handles it: before, HAProxy ignores it, and others die."""

    def is_caught() -> bool:
        status = Path(f"/proc/{process.pid}/status").read_text()
        caught = re.search(r"^SigCgt:\s*(\w+)$", status, re.MULTILINE)
        return caught is not None and bool(int(caught[1], 16) >> (signum - 1) & 1)

    poll(is_caught, TIMEOUT)
    process.send_signal(signum)


class Upstream(Server):
    """uWSGI with a shipped ini file: one worker, on both of its sockets."""

    def __init__(self, folder: Path, engine: str, **env: str) -> None:
        self.http_port, self.uwsgi_port = free_port(), free_port()
        self.ini = folder / f"uwsgi-{engine}.ini"
        changes = {
            "/srv/app/venv": sys.prefix,
            "/srv/app": str(servers.APPS),
            "app:app": "deployed:app",
            f"{HOST}:8000": f"{HOST}:{self.http_port}",
            f"; socket = {HOST}:8001": f"socket = {HOST}:{self.uwsgi_port}",
            "processes = 4": "processes = 1",
            # What this machine may not have.
            "max-fd = 65536": "max-fd = 1024",
            "listen = 1024": "listen = 100",
        }
        self.ini.write_text(shipped(self.ini.name, changes))
        command = [str(BIN / "uwsgi"), "--ini", str(self.ini)]
        if interpreter := wheel_interpreter(command[0]):
            command += ["--binary-path", interpreter]
        super().__init__(command, self.http_port, folder / "uwsgi.log", {**ENGINES[engine], **env})

    def reload(self) -> None:
        tell(self.process, signal.SIGHUP)


class Proxy(Server):
    """A proxy with its shipped file. Its port is that of TLS."""

    def __init__(
        self,
        name: str,
        folder: Path,
        upstream: Upstream,
        changes: dict[str, str] | None = None,
        main: str = "",
    ) -> None:
        self.plain_port, port = free_port(), free_port()
        self._file = folder / f"{PROXIES[name]}.conf"
        self.context = ssl.create_default_context()
        authority = trustme.CA()
        authority.configure_trust(self.context)
        certificate = authority.issue_cert(HOST)
        if PROXIES[name] == "haproxy":
            certificate.private_key_and_cert_chain_pem.write_to_path(folder / "all.pem")
            self._config = self._file
            changes = {
                "    user haproxy\n    group haproxy\n": "",
                # It takes two open files for each.
                "maxconn 20000": "maxconn 100",
                "bind :80\n": f"bind {HOST}:{self.plain_port}\n",
                "bind :443 ": f"bind {HOST}:{port} ",
                "/etc/ssl/wsviews": str(folder),
                f"{HOST}:8000": f"{HOST}:{upstream.http_port}",
                **(changes or {}),
            }
            command = ["haproxy", "-W", "-f", str(self._file)]
            self._reload_signal = signal.SIGUSR2
        else:
            certificate.private_key_pem.write_to_path(folder / "privkey.pem")
            for blob in certificate.cert_chain_pems:
                blob.write_to_path(folder / "fullchain.pem", append=True)
            self._config = folder / "wsviews.conf"
            changes = {
                "listen 80;": f"listen {HOST}:{self.plain_port};",
                "listen 443 ": f"listen {HOST}:{port} ",
                # As the comment there says, for this is another port.
                "$host;": "$host:$server_port;",
                "/etc/ssl/wsviews": str(folder),
                **upstream_of(name, upstream),
                **(changes or {}),
            }
            self._file.write_text(NGINX.format(folder=folder, main=main))
            command = ["nginx", "-e", "stderr", "-p", str(folder), "-c", str(self._file)]
            self._reload_signal = signal.SIGHUP
        self._config.write_text(shipped(name, changes))
        super().__init__(command, port, folder / "proxy.log", {})

    def request(
        self, path: str, headers: dict[str, str] | None = None, *, plain: bool = False
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Ask for a page; returns status, headers and body."""
        connection: http.client.HTTPConnection
        if plain:
            connection = http.client.HTTPConnection(HOST, self.plain_port, timeout=TIMEOUT)
        else:
            connection = http.client.HTTPSConnection(
                HOST, self.port, timeout=TIMEOUT, context=self.context
            )
        try:
            connection.request("GET", path, headers=headers or {})
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    @contextmanager
    def connect(self, path: str, client: str = HOST, **options: Any) -> Iterator[WebSocket]:
        """A WebSocket from the address *client*.

        Not by a client with a thread for reading: over TLS its handshakes hung now and then, with
        the request on no wire. An SSL object isn't for two threads at once.
        """
        url = f"wss://{HOST}:{self.port}{path}"
        sock = socket.create_connection((HOST, self.port), TIMEOUT, (client, 0))
        with self.context.wrap_socket(sock, server_hostname=HOST) as secured:
            yield websocket.create_connection(url, TIMEOUT, socket=secured, **options)

    def refusal(self, path: str, client: str = HOST, **options: Any) -> int:
        """The status with which a WebSocket is refused."""
        with (
            pytest.raises(WebSocketBadStatusException) as caught,
            self.connect(path, client, **options),
        ):
            pass
        return int(caught.value.status_code)

    def wait_ready(self, path: str = "/") -> None:
        def answers() -> bool:
            assert self.process.poll() is None, self.log
            try:
                return self.request(path)[0] == 200
            except OSError:
                return False

        poll(answers, TIMEOUT)

    def reload(self) -> None:
        """Reload with another status of its redirect, and wait until that is in force."""
        self._config.write_text(re.sub(r"\b301\b", "308", self._config.read_text()))
        tell(self.process, self._reload_signal)

        def is_new() -> bool:
            try:
                return self.request("/", plain=True)[0] == 308
            except OSError:
                return False

        poll(is_new, TIMEOUT)


def upstream_of(name: str, upstream: Upstream) -> dict[str, str]:
    """What an nginx file says of the server behind it."""
    if name == "nginx.conf":
        return {f"{HOST}:8000": f"{HOST}:{upstream.http_port}"}
    built = subprocess.run(["nginx", "-V"], capture_output=True, text=True, timeout=10).stderr
    found = re.search(r"--conf-path=(\S+)/", built)
    folder = found[1] if found else "/etc/nginx"
    return {
        f"{HOST}:8001": f"{HOST}:{upstream.uwsgi_port}",
        # Beside nginx's own configuration, which this one isn't.
        "include uwsgi_params": f"include {folder}/uwsgi_params",
    }


class SecureClient(RawClient):
    """The client that does as it is told, over TLS."""

    def __init__(self, proxy: Proxy) -> None:
        super().__init__(proxy, TIMEOUT)
        self.sock = proxy.context.wrap_socket(self.sock, server_hostname=HOST)

    def echo(self, text: str) -> None:
        self.send(Opcode.TEXT, text)
        assert self.recv_message() == text.encode()


@dataclass(frozen=True)
class Site:
    """A proxy, and uWSGI behind it."""

    upstream: Upstream
    proxy: Proxy

    def open(self, stack: ExitStack) -> tuple[SecureClient, int]:
        """A WebSocket, and the pid of its worker."""
        client = stack.enter_context(SecureClient(self.proxy))
        client.open("/known")
        return client, int(json.loads(client.recv_message())["pid"])

    def new_pid(self, pid: int) -> bool:
        """Whether another worker answers."""
        try:
            status, _, body = self.proxy.request("/known")
        except OSError:
            return False
        return status == 200 and json.loads(body)["pid"] != pid


class Upstreams:
    """Starts uWSGI for each engine and environment that is asked for; all run until the end."""

    def __init__(self, make_folder: Callable[[str], Path]) -> None:
        self._make_folder = make_folder
        self._running: dict[tuple[str, ...], Upstream] = {}

    def get(self, engine: str = "gevent", **env: str) -> Upstream:
        key = (engine, *map("=".join, sorted(env.items())))
        if key not in self._running:
            upstream = Upstream(self._make_folder("uwsgi"), engine, **env)
            self._running[key] = upstream
            upstream.wait_ready()
        return self._running[key]

    def stop(self) -> None:
        with ExitStack() as stack:
            for upstream in self._running.values():
                stack.callback(upstream.stop)
        for upstream in self._running.values():
            assert "Traceback" not in upstream.log


@pytest.fixture(scope="module")
def upstreams(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstreams]:
    made = Upstreams(tmp_path_factory.mktemp)
    yield made
    made.stop()


@contextmanager
def behind(
    name: str,
    folder: Path,
    upstream: Upstream,
    changes: dict[str, str] | None = None,
    main: str = "",
) -> Iterator[Site]:
    """The proxy with the file *name* in front of uWSGI.

    :param changes: to that file.
    :param main: more of nginx's main configuration.
    """
    proxy = Proxy(name, folder, upstream, changes, main)
    try:
        proxy.wait_ready()
        yield Site(upstream, proxy)
    finally:
        proxy.stop()


def why_not(name: str) -> pytest.MarkDecorator:
    program = PROXIES[name]
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} isn't installed")


each_proxy = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=why_not(name)) for name in PROXIES]
)


@pytest.mark.parametrize("engine", ENGINES)
@each_proxy
def test_upgrade(name, engine, upstreams, tmp_path):
    with behind(name, tmp_path, upstreams.get(engine, **PROXY_FIX)) as site:
        proxy = site.proxy
        origin = f"https://{HOST}:{proxy.port}"
        with proxy.connect("/echo", origin=origin) as one, proxy.connect("/echo") as two:
            for message in ("Grüße 🙂", "", b"\x00\xff", "x" * 100_000):
                for ws in (one, two):
                    ws.send(message, BINARY if isinstance(message, bytes) else TEXT)
                assert one.recv() == two.recv() == message
        for foreign in ("https://elsewhere.example", f"http://{HOST}:{proxy.port}"):
            assert proxy.refusal("/echo", origin=foreign) == 403


@each_proxy
def test_plain_http_is_sent_to_tls(name, upstreams, tmp_path):
    with behind(name, tmp_path, upstreams.get(**PROXY_FIX)) as site:
        status, headers, _ = site.proxy.request("/echo?x=1", plain=True)
        assert status == 301
        assert re.fullmatch(rf"https://{HOST}(:\d+)?/echo\?x=1", headers["Location"])


FORGED = {
    "X-Forwarded-For": "192.0.2.1",
    "X-Forwarded-Proto": "http",
    "X-Forwarded-Host": "elsewhere.example",
}
ONE_EACH = {"SET_MAX_CONNECTIONS_PER_ADDRESS": "1"}


def known(ws: WebSocket) -> tuple[str, str]:
    """What the application takes the client's address and its own origin for."""
    told = json.loads(ws.recv())
    return told["address"], told["origin"]


@each_proxy
def test_with_proxy_fix_the_application_sees_its_real_clients(name, upstreams, tmp_path):
    with behind(name, tmp_path, upstreams.get(**PROXY_FIX, **ONE_EACH)) as site:
        proxy, one, two = site.proxy, *addresses(name)
        origin = f"https://{HOST}:{proxy.port}"
        with proxy.connect("/known", one, header=FORGED) as ws:
            assert known(ws) == (one, origin)
            with proxy.connect("/known", two) as other:
                assert known(other) == (two, origin)
            assert proxy.refusal("/known", one, header=FORGED) == 429


@each_proxy
def test_without_proxy_fix_all_clients_are_the_proxy(name, upstreams, tmp_path):
    with behind(name, tmp_path, upstreams.get(**ONE_EACH)) as site, ExitStack() as stack:
        proxy, one, two = site.proxy, *addresses(name)
        if name == "nginx-uwsgi-pass.conf":
            # Not by uwsgi_pass, which carries the address itself.
            for address in (one, two):
                ws = stack.enter_context(proxy.connect("/known", address, header=FORGED))
                assert known(ws) == (address, f"https://{HOST}:{proxy.port}")
            return

        def enter() -> WebSocket | None:
            try:
                return stack.enter_context(proxy.connect("/known", one))
            except WebSocketBadStatusException as error:
                if error.status_code != 429:
                    raise
                return None

        # The connection of another proxy's test may just be going.
        # uWSGI's http-socket reads X-Forwarded-Proto itself, but nothing of the address.
        assert known(poll(enter, TIMEOUT)) == (HOST, f"https://{HOST}:{proxy.port}")
        assert proxy.refusal("/known", two) == 429


def addresses(name: str) -> tuple[str, str]:
    """Two of this machine's, which no test of another proxy has."""
    number = 10 * (1 + list(PROXIES).index(name))
    return f"127.0.0.{number}", f"127.0.0.{number + 1}"


IDLE = {
    "nginx.conf": "proxy_read_timeout 60s",
    "nginx-uwsgi-pass.conf": "uwsgi_read_timeout 60s",
    "haproxy.cfg": "timeout tunnel 60s",
}


def idle_for(name: str, seconds: int) -> dict[str, str]:
    """What makes the proxy cut connections that are silent for so long."""
    return {IDLE[name]: IDLE[name].replace("60s", f"{seconds}s")}


HTTP_2 = {"alpn http/1.1": "alpn h2,http/1.1"}

#: What a WebSocket of a page gets until it is closed, after it has sent a message.
CONVERSATION = """new Promise(resolve => {
    const got = [], socket = new WebSocket(`wss://${location.host}/known`);
    socket.onmessage = ({data}) => {
        got.push(data);
        got.length === 1 ? socket.send("over HTTP/2") : socket.close();
    };
    socket.onclose = ({wasClean}) => resolve([...got, wasClean]);
})"""


@why_not("haproxy.cfg")
@pytest.mark.skipif(browser.find() is None, reason="Chromium isn't installed")
def test_http_2(upstreams, tmp_path):
    """A WebSocket as a stream of the connection that the page came over (RFC 8441)."""
    upstream = upstreams.get(**PROXY_FIX)
    with (
        behind("haproxy.cfg", tmp_path, upstream, HTTP_2) as site,
        browser.chromium(ignore_https_errors=True) as page,
    ):
        page.go(f"https://{HOST}:{site.proxy.port}/known")
        assert page.js("performance.getEntriesByType('navigation')[0].nextHopProtocol") == "h2"
        told, echoed, is_clean = page.js(CONVERSATION)
        assert json.loads(told)["origin"] == f"https://{HOST}:{site.proxy.port}"
        assert (echoed, is_clean) == ("over HTTP/2", True)
        poll(lambda: re.search(r' 101 .*"GET https://\S+/known HTTP/2', site.proxy.log), TIMEOUT)
        # A client without HTTP/2 on the same port.
        with ExitStack() as stack:
            client, _ = site.open(stack)
            client.echo("over HTTP/1.1")


@each_proxy
def test_a_connection_without_pings_is_cut(name, upstreams, tmp_path):
    upstream = upstreams.get(**PROXY_FIX, SET_PING_INTERVAL="null")
    with behind(name, tmp_path, upstream, idle_for(name, 1)) as site, ExitStack() as stack:
        client, _ = site.open(stack)
        assert client.at_eof()


@each_proxy
def test_pings_keep_an_idle_connection_open(name, upstreams, tmp_path):
    upstream = upstreams.get(**PROXY_FIX, SET_PING_INTERVAL="0.25")
    with behind(name, tmp_path, upstream, idle_for(name, 5)) as site, ExitStack() as stack:
        client, _ = site.open(stack)
        # Each comes after a quarter of a second of silence: all of them after more than 5 s.
        for _ in range(24):
            ping = client.recv()
            assert ping.opcode is Opcode.PING
            client.send(Opcode.PONG, bytes(ping.data))
        client.echo("still there")


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        *(pytest.param(name, "gevent", marks=why_not(name)) for name in PROXIES),
        pytest.param("nginx.conf", "blocking", marks=why_not("nginx.conf")),
        pytest.param("nginx.conf", "asyncio", marks=why_not("nginx.conf")),
    ],
)
def test_reload_of_uwsgi(name, engine, upstreams, tmp_path):
    upstream = upstreams.get(engine, **PROXY_FIX)
    with behind(name, tmp_path, upstream) as site, ExitStack() as stack:
        client, pid = site.open(stack)
        upstream.reload()
        assert client.recv_close().code == 1012
        poll(lambda: site.new_pid(pid), TIMEOUT)
        client, _ = site.open(stack)
        client.echo("back again")


@why_not("nginx.conf")
def test_reload_of_uwsgi_by_a_touch(upstreams, tmp_path):
    upstream = upstreams.get(**PROXY_FIX)
    with behind("nginx.conf", tmp_path, upstream) as site, ExitStack() as stack:
        client, pid = site.open(stack)
        written = upstream.ini.stat().st_mtime
        # uWSGI counts in whole seconds.
        os.utime(upstream.ini, (written + 2, written + 2))
        assert client.recv_close().code == 1012
        poll(lambda: site.new_pid(pid), TIMEOUT)


@each_proxy
def test_stop_of_uwsgi(name, tmp_path):
    upstream = Upstream(tmp_path, "gevent", **PROXY_FIX)
    try:
        upstream.wait_ready()
        with behind(name, tmp_path, upstream) as site, ExitStack() as stack:
            client, _ = site.open(stack)
            # As systemd does, with KillMode=mixed: the master alone.
            tell(upstream.process, signal.SIGTERM)
            assert client.recv_close().code == 1001
            upstream.wait_exit()
            assert site.proxy.refusal("/known") in (502, 503)
    finally:
        upstream.stop()


@each_proxy
def test_reload_of_the_proxy(name, upstreams, tmp_path):
    with behind(name, tmp_path, upstreams.get(**PROXY_FIX)) as site, ExitStack() as stack:
        old, _ = site.open(stack)
        site.proxy.reload()
        new, _ = site.open(stack)
        for client in (old, new):
            client.echo("not interrupted")


@each_proxy
def test_old_processes_of_the_proxy_end_in_time(name, upstreams, tmp_path):
    changes = {"hard-stop-after 1h": "hard-stop-after 1s"} if name == "haproxy.cfg" else {}
    main = "worker_shutdown_timeout 1s;"
    upstream = upstreams.get(**PROXY_FIX)
    with behind(name, tmp_path, upstream, changes, main) as site, ExitStack() as stack:
        client, _ = site.open(stack)
        site.proxy.reload()
        assert client.at_eof()


def test_the_ini_files_differ_in_their_engine_only():
    texts = [(DEPLOY / f"uwsgi-{engine}.ini").read_text() for engine in ENGINES]
    [common] = {text.partition("; The engine: ")[0].split("[uwsgi]")[1] for text in texts}
    assert "touch-reload = %p" in common


def verify(unit: Path) -> subprocess.CompletedProcess[str]:
    """What systemd thinks of a unit."""
    command = ["systemd-analyze", "verify", str(unit)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd isn't installed")
def test_the_unit_is_one_for_systemd(tmp_path):
    trivial = tmp_path / "trivial.service"
    trivial.write_text("[Service]\nExecStart=/bin/true\n")
    if verify(trivial).returncode:
        pytest.skip("systemd can't check units here")
    changes = {"/srv/app/venv": sys.prefix}
    unit = tmp_path / "wsviews.service"
    unit.write_text(shipped(unit.name, changes))
    result = verify(unit)
    assert result.returncode == 0, result.stderr
    assert unit.name not in result.stderr
    unit.write_text(shipped(unit.name, {**changes, "KillMode=mixed": "KillMode=mixd"}))
    assert unit.name in verify(unit).stderr
    ini = re.search(r"--ini /srv/app/deploy/(\S+)", unit.read_text())
    assert ini is not None
    assert (DEPLOY / ini[1]).exists()


def test_the_container_files_fit_the_others():
    """They can't be run without a registry: their names and commands are checked."""
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    assert set(services) == {"app", "nginx", "redis"}
    for service in services.values():
        assert "build" in service or "image" in service
        assert set(service.get("depends_on", [])) <= set(services)
    mounted = {volume.split(":")[0] for volume in services["nginx"]["volumes"]}
    assert mounted == {"./nginx.conf", "./certs"}
    docker = (DEPLOY / "Dockerfile").read_text()
    for commands, name, address in (
        (docker, "uwsgi-gevent.ini", "http-socket = 0.0.0.0:8000"),
        (services["nginx"]["command"][-1], "nginx.conf", "server app:8000;"),
    ):
        script = re.search(r"sed (?:-i )?'([^']+)'", commands)
        assert script is not None
        changed = subprocess.run(
            ["sed", script[1], str(DEPLOY / name)], capture_output=True, text=True, timeout=10
        ).stdout
        assert address in changed
        assert "127.0.0.1:8000" not in changed
    assert '"--ini", "uwsgi-gevent.ini"' in docker
