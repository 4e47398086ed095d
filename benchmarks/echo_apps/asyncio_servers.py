"""Servers that bring their own: ``python asyncio_servers.py NAME PORT``, on uvloop.

Each echoes, and on /fanout sends what it gets to all that connected there.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop

FANOUT = "/fanout"


async def serve_aiohttp(port):
    from aiohttp import WSMsgType, web

    members = set()

    async def connect(request):
        ws = web.WebSocketResponse(compress=False)
        await ws.prepare(request)
        return ws

    async def echo(request):
        ws = await connect(request)
        async for message in ws:
            if message.type is WSMsgType.TEXT:
                await ws.send_str(message.data)
            elif message.type is WSMsgType.BINARY:
                await ws.send_bytes(message.data)
        return ws

    async def fanout(request):
        ws = await connect(request)
        members.add(ws)
        try:
            async for message in ws:
                for member in members:
                    await member.send_str(message.data)
        finally:
            members.discard(ws)
        return ws

    app = web.Application()
    app.add_routes([web.get("/", echo), web.get(FANOUT, fanout)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()


async def serve_websockets(port):
    from websockets.asyncio.server import broadcast, serve

    members = set()

    async def echo(ws):
        async for message in ws:
            await ws.send(message)

    async def fanout(ws):
        members.add(ws)
        try:
            async for message in ws:
                broadcast(members, message)
        finally:
            members.discard(ws)

    async def handle(ws):
        await (fanout if ws.request.path == FANOUT else echo)(ws)

    await serve(handle, "127.0.0.1", port, compression=None)


async def serve_picows(port):
    from picows import WSListener, WSMsgType, ws_create_server

    members = set()

    class Echo(WSListener):
        def on_ws_frame(self, transport, frame):
            if frame.msg_type == WSMsgType.CLOSE:
                transport.disconnect()
            else:
                transport.send(frame.msg_type, frame.get_payload_as_bytes())

    class Fanout(WSListener):
        def on_ws_connected(self, transport):
            members.add(transport)

        def on_ws_disconnected(self, transport):
            members.discard(transport)

        def on_ws_frame(self, transport, frame):
            if frame.msg_type == WSMsgType.CLOSE:
                transport.disconnect()
                return
            payload = frame.get_payload_as_bytes()
            for member in members:
                member.send(frame.msg_type, payload)

    def listener(request):
        return Fanout() if request.path.decode() == FANOUT else Echo()

    server = await ws_create_server(listener, "127.0.0.1", port)
    await server.start_serving()


async def serve_tornado(port):
    from tornado.web import Application
    from tornado.websocket import WebSocketHandler

    members = set()

    class Echo(WebSocketHandler):
        def on_message(self, message):
            self.write_message(message, binary=isinstance(message, bytes))

        def check_origin(self, origin):
            return True

    class Fanout(Echo):
        def open(self):
            members.add(self)

        def on_close(self):
            members.discard(self)

        def on_message(self, message):
            for member in members:
                member.write_message(message)

    Application([("/", Echo), (FANOUT, Fanout)]).listen(port, "127.0.0.1")


async def main():
    await globals()[f"serve_{sys.argv[1]}"](int(sys.argv[2]))
    await asyncio.Event().wait()


uvloop.run(main())
