"""What is particular to the servers that a WebSocket holds: Werkzeug's and gunicorn's."""

from __future__ import annotations

import re
import signal
import ssl
import sys

import pytest
import trustme
from support import servers
from support.engines import ASYNCIO, BLOCKING, GEVENT
from support.raw import RawClient, close_frame
from support.servers import poll
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect


@pytest.mark.parametrize("engine", [BLOCKING, GEVENT])
def test_flask_run_with_debugger_and_reloader(tmp_path, engine):
    command = servers.flask_run("contract", debug=True)
    with servers.running(command, tmp_path / "log", engine) as server:
        with connect(server.ws("/views/all/bob")) as ws:
            assert ws.recv() == "hello bob"
            ws.send("raise value")
            with pytest.raises(ConnectionClosedError):
                ws.recv()
        poll(lambda: re.search(r"GET /views/all/bob HTTP/1.1\S* 101 ", server.log))
        assert "Debugger is active" in server.log
        assert "Error on request" not in server.log
        assert server.log.count("Traceback") == 1


@pytest.mark.parametrize("mode", ["gunicorn-gthread", "gunicorn-gevent", "werkzeug"])
def test_the_server_logs_no_error_of_its_own(pool, mode):
    server = pool.get(mode)
    before = len(server.log)
    for path in ("/echo", "/returns"):
        with connect(server.ws(path)):
            pass
    assert server.get("/") == "ready"
    assert "Traceback" not in server.log[before:]
    assert "rror" not in server.log[before:]


@pytest.mark.parametrize("server_name", ["werkzeug", "gthread", "gevent"])
def test_tls_ends_in_the_server(tmp_path, server_name):
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key")
    for blob in issued.cert_chain_pems:
        blob.write_to_path(tmp_path / "cert", append=True)
    options = ["--keyfile", str(tmp_path / "key"), "--certfile", str(tmp_path / "cert")]
    if server_name == "werkzeug":
        options = ["--key", str(tmp_path / "key"), "--cert", str(tmp_path / "cert")]
        command = servers.flask_run("contract", *options)
    else:
        logged = ["--access-logfile", "-", *options]
        command = servers.gunicorn("contract:app", "-k", server_name, "--threads", "4", *logged)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    engine = GEVENT if server_name == "gevent" else BLOCKING
    with servers.running(command, tmp_path / "log", engine, ready=None) as server:

        def open_one():
            assert server.process.poll() is None, server.log
            try:
                return connect(f"wss://localhost:{server.port}/echo", ssl=context)
            except OSError:
                return None

        with poll(open_one, 20) as ws:
            for message in ("over TLS", b"x" * 500_000, "the end"):
                ws.send(message)
                assert ws.recv(timeout=10) == message

        def logs_the_end() -> bool:
            # The request is over once the connection is; Werkzeug and gunicorn log it then.
            return "/echo HTTP/1.1" in server.log

        poll(logs_the_end)
        assert "Traceback" not in server.log


def test_a_server_without_a_socket_says_which_have_one(tmp_path):
    program = (
        "import signal, sys\n"
        # Python's own server goes on after a KeyboardInterrupt while it writes a response.
        "signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
        "from wsgiref.simple_server import make_server\n"
        "from contract import app\n"
        "make_server('127.0.0.1', int(sys.argv[1]), app).serve_forever()\n"
    )

    def command(port: int) -> list[str]:
        return [sys.executable, "-c", program, str(port)]

    with servers.running(command, tmp_path / "log", BLOCKING) as server:
        with RawClient(server) as client:
            assert client.request("/echo")[0] == 500
        assert "gives no access to the client's socket" in server.log
        assert server.get("/") == "ready"


@pytest.mark.parametrize("engine", [BLOCKING, ASYNCIO])
def test_the_development_server_says_goodbye(tmp_path, engine):
    with servers.running(servers.flask_run("contract:app"), tmp_path / "log", engine) as server:
        with RawClient(server).open("/views/all/bob") as client:
            client.recv()
            server.process.send_signal(signal.SIGINT)
            assert client.recv_close().code == 1001
            client.sock.sendall(close_frame(1001))
        server.wait_exit()
        assert "Traceback" not in server.log
