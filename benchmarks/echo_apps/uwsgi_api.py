"""uWSGI's own WebSocket API, as its documentation shows it."""

from __future__ import annotations

from collections import deque

import uwsgi
from gevent import get_hub
from gevent.event import Event


def app(environ, start_response):
    uwsgi.websocket_handshake()
    if environ["PATH_INFO"] == "/fanout":
        fanout()
    while True:
        uwsgi.websocket_send(uwsgi.websocket_recv())


members = set()


class Member:
    """Only the greenlet of a connection may send on it, so that others leave it their messages."""

    def __init__(self):
        self.messages = deque()
        self.woken = Event()

    def take(self, message):
        self.messages.append(message)
        self.woken.set()


def fanout():
    member = Member()
    members.add(member)
    watcher = get_hub().loop.io(uwsgi.connection_fd(), 1)
    watcher.start(member.woken.set)
    try:
        while True:
            member.woken.wait()
            member.woken.clear()
            while message := uwsgi.websocket_recv_nb():
                for each in members:
                    each.take(message)
            while member.messages:
                uwsgi.websocket_send(member.messages.popleft())
    finally:
        watcher.close()
        members.discard(member)
