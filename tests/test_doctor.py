"""``flask ws doctor`` and ``flask ws routes``."""

from __future__ import annotations

from pathlib import Path

from click.testing import Result
from flask import Flask
from marshmallow import Schema, fields
from redis_server import redis_server
from servers import free_port

from flask_wsviews import Blueprint, WebSocket, WebSocketView, message


def doctor(url: str) -> Result:
    app = Flask(__name__)
    app.config.update(WSVIEWS_BROKER_URL=url, WSVIEWS_BROKER_TIMEOUT=1.0)
    WebSocket(app)
    return app.test_cli_runner().invoke(args=["ws", "doctor"])


def test_groups_in_memory() -> None:
    result = doctor("memory://")
    assert result.exit_code == 0
    assert "memory://: groups are in the memory of a single worker" in result.output


def test_a_broker_that_answers(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--requirepass", "secret") as redis:
        result = doctor(redis.url.replace("//", "//:secret@"))
        assert result.exit_code == 0
        assert f"redis://127.0.0.1:{redis.port}/0 answers" in result.output
        assert "secret" not in result.output
        wrong = doctor(redis.url.replace("//", "//:wrong@"))
        assert wrong.exit_code == 1
        assert "password" in wrong.output


def test_a_broker_that_is_away() -> None:
    result = doctor(f"redis://127.0.0.1:{free_port()}/0")
    assert result.exit_code == 1
    assert "is WSVIEWS_BROKER_URL right?" in result.output


class Say(Schema):
    """Something that is said."""

    text = fields.Str()


def test_routes() -> None:
    app = Flask(__name__)
    app.get("/page")(lambda: "no WebSocket")
    websocket = WebSocket(app)
    bp = Blueprint("chat", __name__, url_prefix="/chat")

    @bp.websocket("/<room>")
    class Chat(WebSocketView):
        groups = ("lobby", "room:{room}")
        allowed_origins = ("https://b.example", "https://a.example")

        @message("say", schema=Say)
        def say(self, ws, data):
            """Does nothing."""

    @websocket.route("/echo", allowed_origins="*", message_schema=Say)
    def echo(ws):
        """Does nothing."""

    app.register_blueprint(bp)
    result = app.test_cli_runner().invoke(args=["ws", "routes"])
    assert result.exit_code == 0
    lines = [line.split("  ") for line in result.output.splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert cells[0] == ["Rule", "Endpoint", "View", "Messages", "Groups", "Origins"]
    assert cells[2:4] == [
        [
            *("/chat/<room>", "chat.Chat", "Chat", "say", "lobby, room:{room}"),
            "https://a.example, https://b.example",
        ],
        ["/echo", "echo", "echo", "by schema", "-", "*"],
    ]
    assert cells[-1] == ["engine: blocking"]


def test_there_are_no_routes() -> None:
    app = Flask(__name__)
    WebSocket(app)
    result = app.test_cli_runner().invoke(args=["ws", "routes"])
    assert result.output == "There are no WebSocket rules.\n"
