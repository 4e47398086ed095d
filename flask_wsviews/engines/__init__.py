"""The engines, which drive the connections' I/O."""

from __future__ import annotations

import logging

from ..common.process import choose_engine
from ..common.registry import Registry
from ..exceptions import EngineError
from .base import Engine
from .driver import Driver

logger = logging.getLogger("flask_wsviews")

#: The engines by name. A new one is a module and a line here.
REGISTRY = Registry(
    asyncio=("flask_wsviews.engines.asyncio", "AsyncioEngine"),
    blocking=("flask_wsviews.engines.blocking", "BlockingEngine"),
    gevent=("flask_wsviews.engines.gevent", "GeventEngine"),
)

__all__ = ["REGISTRY", "Driver", "Engine", "make_engine"]


def make_engine(name: str) -> Engine:
    """Make the engine called *name*, or for ``"auto"`` the one that fits the server.

    :raises EngineError: if there is none, or its library isn't installed.
    """
    if name == "auto":
        name = choose_engine()
        logger.info("the %s engine fits this server", name)
    if name not in REGISTRY:
        raise EngineError(f"unknown engine {name!r}: use auto, {', '.join(REGISTRY)}")
    try:
        made: Engine = REGISTRY.load(name)()
    except ModuleNotFoundError as error:
        raise EngineError(
            f"the {name} engine needs {error.name}: pip install 'flask-wsviews[{name}]'"
        ) from error
    return made
