"""The README's first example does what the README says."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import servers
from raw import RawClient
from websockets.frames import Opcode
from websockets.sync.client import connect

README = Path(__file__).parent.parent / "README.md"


def test_the_first_example(tmp_path):
    code = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL).group(1)
    app = tmp_path / "app.py"
    app.write_text(code.replace("gevent=100", "gevent=100, port=int(__import__('sys').argv[1])"))

    def command(port: int) -> list[str]:
        return [sys.executable, str(app), str(port)]

    with servers.running(command, tmp_path / "log") as server:
        lobby = f"ws://localhost:{server.port}/chat/lobby"
        with connect(lobby) as one, connect(lobby) as two:
            for ws in (one, two):
                assert ws.recv(timeout=10) == "You are in lobby, stranger."
            with RawClient(server).open("/chat/other") as elsewhere:
                elsewhere.recv()
                two.send("hello")
                assert one.recv(timeout=10) == two.recv(timeout=10) == "hello"
                elsewhere.send(Opcode.TEXT, "nobody here")
                assert elsewhere.recv_message() == b"nobody here"
            two.close()
            one.send("still here")
            assert one.recv(timeout=10) == "still here"
