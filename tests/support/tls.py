"""A TLS proxy for a server without TLS."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading

from support.redis_server import RedisServer


class TlsFront:
    """Terminates TLS in front of a Redis without TLS.

    :param context: a context with the certificate.
    """

    def __init__(self, redis: RedisServer, context: ssl.SSLContext) -> None:
        self._redis = redis
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._socks: list[socket.socket] = [self._listener]
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def close(self) -> None:
        for sock in list(self._socks):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(10)
        for sock in self._socks:
            sock.close()

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._socks.append(client)
            self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        try:
            tls = self._context.wrap_socket(client, server_side=True)
        except OSError:
            return
        self._socks.append(tls)
        server = socket.create_connection(("127.0.0.1", self._redis.port))
        self._socks.append(server)
        self._start(self._copy, server, tls)
        self._copy(tls, server)

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)
