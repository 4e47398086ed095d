"""Servers that bring their own: ``python asyncio_servers.py NAME PORT``, on uvloop."""

from __future__ import annotations

import asyncio
import sys

import uvloop


async def serve_aiohttp(port):
    from aiohttp import WSMsgType, web

    async def echo(request):
        ws = web.WebSocketResponse(compress=False)
        await ws.prepare(request)
        async for message in ws:
            if message.type is WSMsgType.TEXT:
                await ws.send_str(message.data)
            elif message.type is WSMsgType.BINARY:
                await ws.send_bytes(message.data)
        return ws

    app = web.Application()
    app.add_routes([web.get("/", echo)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()


async def serve_websockets(port):
    from websockets.asyncio.server import serve

    async def echo(ws):
        async for message in ws:
            await ws.send(message)

    await serve(echo, "127.0.0.1", port, compression=None)


async def serve_picows(port):
    from picows import WSListener, WSMsgType, ws_create_server

    class Echo(WSListener):
        def on_ws_frame(self, transport, frame):
            if frame.msg_type == WSMsgType.CLOSE:
                transport.disconnect()
            else:
                transport.send(frame.msg_type, frame.get_payload_as_bytes())

    server = await ws_create_server(lambda _: Echo(), "127.0.0.1", port)
    await server.start_serving()


async def serve_tornado(port):
    from tornado.web import Application
    from tornado.websocket import WebSocketHandler

    class Echo(WebSocketHandler):
        def on_message(self, message):
            self.write_message(message, binary=isinstance(message, bytes))

        def check_origin(self, origin):
            return True

    Application([("/", Echo)]).listen(port, "127.0.0.1")


async def main():
    await globals()[f"serve_{sys.argv[1]}"](int(sys.argv[2]))
    await asyncio.Event().wait()


uvloop.run(main())
