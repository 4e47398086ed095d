"""The engines: who drives a connection's I/O. A new one is a module and a line here."""

from __future__ import annotations

import logging
from importlib import import_module

from ..common.process import choose_engine
from ..exceptions import EngineError
from .base import Driver, Engine

logger = logging.getLogger("flask_wsviews")

#: Engine names, and the module and class behind each. Imported when first used, because each may
#: need a library that isn't installed.
REGISTRY = {
    "asyncio": ("asyncio", "AsyncioEngine"),
    "blocking": ("blocking", "BlockingEngine"),
    "gevent": ("gevent", "GeventEngine"),
}

__all__ = ["REGISTRY", "Driver", "Engine", "make_engine"]


def make_engine(name: str) -> Engine:
    """The engine called *name*; for ``"auto"`` the one that fits the server.

    :raises EngineError: if there is none, or its library isn't installed.
    """
    if name == "auto":
        name = choose_engine()
        logger.info("the %s engine fits this server", name)
    if name not in REGISTRY:
        raise EngineError(f"there is no engine {name!r}; known are auto, {', '.join(REGISTRY)}")
    module, class_name = REGISTRY[name]
    try:
        engine = getattr(import_module(f".{module}", __name__), class_name)
    except ModuleNotFoundError as error:
        raise EngineError(
            f"the {name} engine needs {error.name}: pip install 'flask-wsviews[{name}]'"
        ) from error
    made: Engine = engine()
    return made
