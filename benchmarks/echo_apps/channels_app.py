"""Channels: an echo, and a group in the memory of the process."""

from __future__ import annotations

import django
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.urls import path

layer = {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"capacity": 10_000}}
settings.configure(ALLOWED_HOSTS=["*"], CHANNEL_LAYERS={"default": layer})
django.setup()


class Echo(AsyncWebsocketConsumer):
    async def receive(self, text_data=None, bytes_data=None):
        await self.send(text_data, bytes_data)


class Fanout(AsyncWebsocketConsumer):
    groups = ("members",)

    async def receive(self, text_data=None, bytes_data=None):
        event = {"type": "member.message", "text": text_data}
        await self.channel_layer.group_send("members", event)

    async def member_message(self, event):
        await self.send(event["text"])


routes = [path("", Echo.as_asgi()), path("fanout", Fanout.as_asgi())]
application = ProtocolTypeRouter({"websocket": URLRouter(routes)})
