"""Middlewares that treat responses as PEP 3333 allows, and some that violate it.

A request chooses those around the extension by ``?around=``, those within it by ``?within=``.
"""

from __future__ import annotations

from urllib.parse import parse_qs

from werkzeug.middleware.profiler import ProfilerMiddleware


class BrokenMiddleware(Exception):
    """The error that a middleware raises."""


def late(app):
    """Calls the server's start_response when the application has returned."""

    def wrapped(environ, start_response):
        answers = []

        def note(*answer):
            answers.append(answer)
            return lambda data: None

        body = app(environ, note)
        start_response(*answers[-1])
        return body

    return wrapped


def no_write(app):
    """Its start_response returns nothing."""

    def wrapped(environ, start_response):
        def answer(*arguments):
            start_response(*arguments)

        return app(environ, answer)

    return wrapped


def raises(app):
    def wrapped(environ, start_response):
        def answer(*arguments):
            raise BrokenMiddleware("in start_response")

        return app(environ, answer)

    return wrapped


def generator(app):
    """Calls the application when the server asks for the body."""

    def wrapped(environ, start_response):
        body = app(environ, start_response)
        try:
            yield from body
        finally:
            getattr(body, "close", lambda: None)()

    return wrapped


def lazy(app):
    """As :func:`generator`, with what it makes of each part."""

    def wrapped(environ, start_response):
        return (bytes(part) for part in app(environ, start_response) or ())

    return wrapped


def adds(app):
    """Appends to the body of every response."""

    def wrapped(environ, start_response):
        yield from app(environ, start_response)
        yield b"<!-- served by me -->"

    return wrapped


def number(app):
    """Adds a header that isn't text."""

    def wrapped(environ, start_response):
        def answer(status, headers, *more):
            return start_response(status, [*headers, ("X-Number", 5)], *more)

        return app(environ, answer)

    return wrapped


def silent(app):
    """Never calls the server's start_response for a 101."""

    def wrapped(environ, start_response):
        def answer(status, *more):
            if not status.startswith("101"):
                return start_response(status, *more)
            return lambda data: None

        return app(environ, answer)

    return wrapped


def profiler(app):
    return ProfilerMiddleware(app, stream=None)


MIDDLEWARES = {
    one.__name__: one
    for one in (profiler, late, no_write, raises, generator, lazy, adds, number, silent)
}


class Chosen:
    """Wraps an application in the middleware that a request names."""

    def __init__(self, app, parameter):
        self._app = app
        self._parameter = parameter

    def __call__(self, environ, start_response):
        names = parse_qs(environ.get("QUERY_STRING", "")).get(self._parameter, ())
        app = self._app
        for name in names:
            app = MIDDLEWARES[name](app)
        return app(environ, start_response)
