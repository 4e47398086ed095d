"""The engines of one extension, which its applications share."""

from __future__ import annotations

from ..config import Settings
from . import make_engine
from .base import Engine


class SharedEngines:
    """The engines of one extension. Applications with equal settings share an engine.

    :param default: the name of the engine for applications that don't configure one.
    :raises EngineError: if that engine doesn't exist, or its library isn't installed.
    """

    def __init__(self, default: str) -> None:
        self.default = default
        # "auto" is resolved later: the server is known once an application is set up.
        self._unused = {} if default == "auto" else {default: make_engine(default)}
        self._used: dict[tuple[str, int], Engine] = {}

    def unused(self, name: str | None) -> Engine:
        """Return an engine that no application uses yet.

        :param name: ``None`` for the default.
        :raises EngineError: if there is no such engine, or its library isn't installed.
        """
        name = name or self.default
        if name not in self._unused:
            self._unused[name] = make_engine(name)
        return self._unused[name]

    def prepared(self, settings: Settings) -> Engine:
        """Return an unused engine, prepared for *settings*.

        :raises EngineError: if it can't run in this process.
        """
        engine = self.unused(settings.engine)
        engine.prepare(settings)
        engine.check()
        return engine

    def use(self, settings: Settings) -> Engine:
        """Return the engine for an application whose settings are final.

        :raises EngineError: if it can't run in this process.
        """
        name = settings.engine or self.default
        key = (name, settings.threads)
        if key not in self._used:
            self._used[key] = self.prepared(settings)
            del self._unused[name]
        return self._used[key]

    def stop(self) -> None:
        """Stop the threads of all engines in this process."""
        for engine in (*self._unused.values(), *self._used.values()):
            engine.stop()
