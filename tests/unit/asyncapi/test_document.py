"""AsyncAPI documents: what they say of an application's WebSockets."""

from __future__ import annotations

import gzip
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from flask import Flask, abort
from flask.testing import FlaskClient
from marshmallow import Schema, fields, validate
from support import asyncapi_documents

from flask_wsviews import (
    AsyncAPI,
    Blueprint,
    ConfigError,
    RegistrationError,
    WebSocket,
    WebSocketView,
    message,
)
from flask_wsviews.asyncapi.channel import CLOSE_CODES
from flask_wsviews.asyncapi.document import VERSIONS, document


class Author(Schema):
    id = fields.Int(dump_only=True, required=True)
    name = fields.Str(required=True)


class Say(Schema):
    text = fields.Str(required=True, validate=validate.Length(1, 500))
    author = fields.Nested(Author)


class Said(Say):
    """What somebody said."""


class Query(Schema):
    since = fields.Int()


class Typed(Schema):
    kind = fields.Constant("typed")
    ref = fields.Int()


bp = Blueprint("chat", __name__, url_prefix="/chat")


@bp.websocket("/<any(lobby, music):room>/<int(min=1, max=9):seat>")
class Chat(WebSocketView):
    """Talk in a room.

    One connection for each visitor.
    """

    security = ("session", "bearer")
    query_schema = Query
    headers_schema = Query
    emits = {"joined": Said, "say": Said}

    @message("say", schema=Say, reply=Said, reply_type="said")
    def say(self, ws: Any, data: Any) -> Any:
        """Say something.

        Everybody hears it.
        """

    @message("leave it/be")
    def leave(self, ws: Any, data: Any) -> None: ...


class Whole(WebSocketView):
    message_schema = Say
    binary = False


class Kept(WebSocketView):
    groups = ["kept"]
    history = 10
    emits = {"joined": Said}


class Kinds(WebSocketView):
    discriminator = "kind"
    security = ({"key": {"type": "httpApiKey", "in": "query", "name": "key"}},)

    @message("typed", schema=Typed, reply=Typed)
    def typed(self, ws: Any, data: Any) -> Any: ...


def raw(ws: Any, **view_args: Any) -> None:
    """Anything goes."""


def make_app() -> Flask:
    app = Flask("site")
    websocket = WebSocket(app)
    app.register_blueprint(bp)
    websocket.add_url_rule("/whole", view_func=Whole.as_view("whole"))
    websocket.add_url_rule("/again", view_func=Whole)
    websocket.add_url_rule("/many", "many", raw, message_schema=Say(many=True))
    websocket.add_url_rule("/kinds", view_func=Kinds)
    websocket.add_url_rule("/kept", view_func=Kept)
    rules = "<uuid:a>/<path:b>/<float(max=2.5):c>/<string(length=2):d>/<int:e>"
    websocket.add_url_rule(f"/raw/{rules}", "raw", raw, defaults={"f": 1})
    websocket.add_url_rule("/raw", "raw", raw)
    websocket.add_url_rule("/f", "f", raw, emits={"joined": Said}, security=["session"])
    app.add_url_rule("/page", "page", lambda: "page")
    return app


DOCUMENT = document(make_app(), title="Chat", version="2.0", description="*All* of it")


def follow(pointer: str) -> Any:
    found: Any = DOCUMENT
    for part in pointer.removeprefix("#/").split("/"):
        found = found[part]
    return found


def payload(operation: str, where: str = "messages") -> Any:
    found = DOCUMENT["operations"][operation]
    [message] = found[where]["messages"] if where == "reply" else found[where]
    return follow(follow(message["$ref"])["$ref"])["payload"]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_official_schemas_accept_it(version: str) -> None:
    made = document(
        make_app(),
        asyncapi_version=version,
        servers={"main": {"host": "example.org", "protocol": "wss"}},
    )
    assert made["asyncapi"] == version
    assert made["info"] == {"title": "site", "version": "1.0.0"}
    asyncapi_documents.validate(made)


def test_channels_are_the_websocket_rules() -> None:
    assert DOCUMENT["info"] == {"title": "Chat", "version": "2.0", "description": "*All* of it"}
    addresses = {name: channel["address"] for name, channel in DOCUMENT["channels"].items()}
    assert addresses == {
        "chat.Chat": "/chat/{room}/{seat}",
        "whole": "/whole",
        "Whole": "/again",
        "many": "/many",
        "Kinds": "/kinds",
        "Kept": "/kept",
        "raw": "/raw/{a}/{b}/{c}/{d}/{e}",
        "raw-2": "/raw",
        "f": "/f",
    }


def test_a_channel_tells_of_its_handshake() -> None:
    channel = DOCUMENT["channels"]["chat.Chat"]
    assert channel["summary"] == "Talk in a room."
    assert channel["description"].endswith("One connection for each visitor.")
    assert channel["parameters"] == {
        "room": {"enum": ["lobby", "music"]},
        "seat": {"description": "An integer from 1 up to 9.", "examples": ["1"]},
    }
    query = {"type": "object", "properties": {"since": {"type": "integer"}}}
    assert channel["bindings"]["ws"] == {
        "method": "GET",
        "bindingVersion": "0.1.0",
        "query": query,
        "headers": query,
    }
    assert channel["x-close-codes"] == CLOSE_CODES
    parameters = DOCUMENT["channels"]["raw"]["parameters"]
    assert parameters["a"]["description"] == "A UUID."
    assert parameters["b"]["description"] == "A path; it may contain slashes."
    assert parameters["c"]["description"] == "A number up to 2.5."
    assert parameters["d"] == {}
    assert parameters["e"]["description"] == "An integer."


def test_what_handlers_take_and_reply() -> None:
    say = payload("chat.Chat.receive.say")
    assert say["properties"]["type"] == {"type": "string", "const": "say"}
    assert say["required"] == ["type", "text"]
    assert say["additionalProperties"] is False
    assert "ref" in say["properties"]
    assert say["properties"]["author"] == {"$ref": "#/components/schemas/AuthorInput"}
    operation = DOCUMENT["operations"]["chat.Chat.receive.say"]
    assert (operation["action"], operation["summary"]) == ("receive", "Say something.")
    assert operation["description"] == "Say something.\n\nEverybody hears it."
    said = payload("chat.Chat.receive.say", "reply")
    assert said["properties"]["type"] == {"type": "string", "const": "said"}
    assert "ref" in said["properties"]
    assert said["properties"]["author"] == {"$ref": "#/components/schemas/Author"}
    assert "reply" not in DOCUMENT["operations"]["chat.Chat.receive.leave_it_be"]
    assert payload("chat.Chat.receive.leave_it_be")["properties"]["type"]["const"] == "leave it/be"


def test_what_a_view_sends_by_itself() -> None:
    joined = payload("chat.Chat.send.joined")
    assert joined["properties"]["type"] == {"type": "string", "const": "joined"}
    assert "ref" not in joined["properties"]
    # The type that goes both ways.
    assert payload("chat.Chat.send.say") != payload("chat.Chat.receive.say")
    assert payload("chat.Chat.send.error")["required"] == ["type", "code", "errors"]


def test_what_goes_to_groups_with_a_history_has_an_id() -> None:
    assert payload("Kept.send.joined")["properties"]["message_id"]["type"] == "string"
    assert "message_id" not in payload("chat.Chat.send.joined")["properties"]


def test_components() -> None:
    components = DOCUMENT["components"]
    assert list(components["schemas"]) == ["Author", "AuthorInput"]
    assert list(components["schemas"]["AuthorInput"]["properties"]) == ["name"]
    # The rules of one class share its messages.
    assert sorted(name for name in components["messages"] if name.startswith("Whole")) == [
        "Whole.error",
        "Whole.message",
    ]
    assert components["messages"]["Chat.joined"]["summary"] == "What somebody said."
    schemes = components["securitySchemes"]
    assert schemes["session"]["name"] == "session"
    assert schemes["bearer"]["scheme"] == "bearer"
    assert schemes["key"]["in"] == "query"
    assert DOCUMENT["operations"]["Kinds.receive.typed"]["security"] == [
        {"$ref": "#/components/securitySchemes/key"}
    ]


def test_a_message_schema() -> None:
    assert "ref" in payload("whole.receive.message")["properties"]
    assert "type" not in payload("whole.receive.message")["properties"]
    assert payload("many.receive.message")["type"] == "array"


def test_a_discriminator_that_the_schemas_have_as_well() -> None:
    typed = payload("Kinds.receive.typed")
    assert typed["properties"]["kind"] == {"type": "string", "const": "typed"}
    assert typed["properties"]["ref"] == {"type": "integer"}
    assert payload("Kinds.send.error")["properties"]["kind"]["const"] == "error"


def test_views_without_schemas() -> None:
    names = [name for name in DOCUMENT["operations"] if name.startswith("raw.")]
    assert names == ["raw.receive.text", "raw.receive.binary", "raw.send.text", "raw.send.binary"]
    assert payload("raw.receive.text") == {"type": "string"}
    assert DOCUMENT["components"]["messages"]["binary"]["contentType"] == "application/octet-stream"
    assert "whole.receive.binary" not in DOCUMENT["operations"]
    sends = [name for name in DOCUMENT["operations"] if name.startswith("f.send")]
    assert sends == ["f.send.joined"]


def test_an_error_schema_of_the_application() -> None:
    class Problem(Schema):
        type = fields.Constant("problem")
        what = fields.Dict(attribute="errors")

    app = Flask("site")
    websocket = WebSocket(app, error_schema=Problem)
    websocket.add_url_rule("/whole", view_func=Whole.as_view("whole"))
    found = document(app)["components"]["messages"]["Whole.error"]["payload"]["properties"]
    assert found["type"] == {"const": "problem"}
    assert list(found) == ["type", "what"]


def test_what_can_not_be_written() -> None:
    with pytest.raises(LookupError, match="no WebSocket"):
        document(Flask("site"))
    with pytest.raises(ValueError, match=r"2\.6\.0 isn't one of 3\.0\.0, 3\.1\.0"):
        document(make_app(), asyncapi_version="2.6.0")
    app = Flask("site")
    WebSocket(app).add_url_rule("/x", "x", raw, security=["password"])
    with pytest.raises(RegistrationError, match="security 'password': use 'session', 'bearer'"):
        document(app)


# -- the extension ------------------------------------------------------------------------------


def get(client: FlaskClient, path: str) -> Any:
    with client.get(path) as response:
        assert response.status_code == 200
        return response.get_json() if path.endswith("json") else yaml.safe_load(response.text)


def test_the_document_is_served() -> None:
    app = make_app()
    AsyncAPI(app, title="Chat", version="2.0", description="*All* of it")
    client = app.test_client()
    assert get(client, "/docs/ws/asyncapi.json") == DOCUMENT
    assert get(client, "/docs/ws/asyncapi.yaml") == DOCUMENT


def test_the_page_and_what_it_loads() -> None:
    app = make_app()
    AsyncAPI(app, title="<Chat>")
    client = app.test_client()
    with client.get("/docs/ws/") as page:
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "connect-src 'self' ws://localhost wss://localhost" in policy
        assert "<h1>&lt;Chat&gt; <small>1.0.0</small></h1>" in page.text
        loaded = re.findall(r'(?:src|href|data-document)="(/[^"]+)"', page.text)
    assert "/docs/ws/renderer.js" in loaded
    for path in [*loaded, "/docs/ws/static/console.js", "/docs/ws/static/sample.js"]:
        with client.get(path) as response:
            assert (path, response.status_code) == (path, 200)
    with client.get("/docs/ws/renderer.js", headers={"Accept-Encoding": "gzip"}) as response:
        assert b"AsyncApiStandalone" in gzip.decompress(response.data)


def test_a_factory_and_another_url() -> None:
    asyncapi = AsyncAPI(url="/sockets", asyncapi_version="3.1.0")
    app = make_app()
    asyncapi.init_app(app)
    assert get(app.test_client(), "/sockets/asyncapi.json")["asyncapi"] == "3.1.0"


def test_a_guard() -> None:
    app = make_app()
    AsyncAPI(app, guard=lambda: abort(403))
    for name in ("", "asyncapi.json", "asyncapi.yaml", "renderer.js", "static/page.js"):
        assert app.test_client().get(f"/docs/ws/{name}").status_code == 403


def test_without_its_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "flask_wsviews.asyncapi.output", raising=False)
    monkeypatch.setitem(sys.modules, "yaml", None)
    result = run(make_app())
    assert result.exit_code == 1
    assert "need yaml: pip install 'flask-wsviews[asyncapi]'" in result.output


def test_a_version_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match=r"AsyncAPI '4\.0' isn't supported"):
        AsyncAPI(make_app(), asyncapi_version="4.0")


# -- the command --------------------------------------------------------------------------------


def run(app: Flask, *arguments: str) -> Any:
    return app.test_cli_runner().invoke(args=["ws", "asyncapi", *arguments])


def test_the_command_prints_and_writes(tmp_path: Path) -> None:
    app = make_app()
    printed = run(app)
    assert printed.exit_code == 0
    assert yaml.safe_load(printed.output)["info"]["title"] == "site"
    AsyncAPI(app, title="Chat", version="2.0", description="*All* of it")
    written = tmp_path / "chat.yml"
    assert run(app, "-o", str(written)).exit_code == 0
    assert yaml.safe_load(written.read_text()) == DOCUMENT
    assert "&id" not in written.read_text()
    options = ["--format", "json", "--version", "3.1.0", "--title", "Other"]
    made = yaml.safe_load(run(app, *options).output)
    assert (made["asyncapi"], made["info"]["title"]) == ("3.1.0", "Other")
    assert run(app, "--format", "yaml").output.startswith("asyncapi: 3.0.0\n")


def test_the_command_fails_clearly(tmp_path: Path) -> None:
    app = make_app()
    missing = run(app, "-o", str(tmp_path / "no" / "file.json"))
    assert missing.exit_code == 1
    assert "can't be written: No such file or directory" in missing.output
    WebSocket(app := Flask("other")).add_url_rule("/x", "x", raw, security=["password"])
    wrong = run(app)
    assert (wrong.exit_code, wrong.output[:24]) == (1, "Error: security 'passwor")
    assert run(app, "--version", "9").exit_code == 2
