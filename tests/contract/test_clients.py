"""Other people's clients, on every engine and server."""

from __future__ import annotations

import asyncio

import aiohttp
import websocket


def test_websocket_client(server, key):
    ws = websocket.create_connection(server.ws(f"/views/all/bob?key={key}"), timeout=10)
    try:
        assert ws.recv() == "hello bob"
        ws.send("text")
        assert ws.recv() == "text"
        ws.send_binary(b"\0\xff")
        assert ws.recv() == b"\0\xff"
        ws.ping("payload")
        assert ws.recv_data(control_frame=True) == (websocket.ABNF.OPCODE_PONG, b"payload")
        ws.send_close(4000, b"bye")
        assert ws.recv_data(control_frame=True) == (
            websocket.ABNF.OPCODE_CLOSE,
            b"\x0f\xa0bye",
        )
    finally:
        ws.shutdown()


def test_aiohttp(server):
    async def talk() -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(server.ws("/echo"), timeout=aiohttp.ClientWSTimeout(10)) as ws,
        ):
            await ws.send_json({"a": ["ü", 1]})
            assert await ws.receive_json() == {"a": ["ü", 1]}
            await ws.send_bytes(b"x" * 200_000)
            assert await ws.receive_bytes() == b"x" * 200_000
            await ws.close(code=4001)
            assert ws.close_code == 4001

    asyncio.run(talk())
