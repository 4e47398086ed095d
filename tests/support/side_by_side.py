"""How pytest-xdist distributes tests: which share a process, and in which order they run."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

import pytest

# Paths of examples have engines in their names.
ENGINE = re.compile(r"([^/]*?)(blocking|threads|gevent|asyncio|coroutines)\b")


def scope_of(nodeid: str, shared: Collection[str]) -> str:
    """Return the scope of a test. Tests of one scope run in one process, one after the other.

    For tests on a shared server the scope is the server's mode, so that it starts once. For other
    tests it is the file, or the file and the engine.

    :param nodeid: the test's id.
    :param shared: the modes of the shared servers.
    """
    path, _, name = nodeid.partition("::")
    if is_unit_test(nodeid):
        return path
    parameters = name.partition("[")[2].removesuffix("]")
    modes = [mode for mode in shared if re.match(rf"{re.escape(mode)}(-|$)", parameters)]
    if modes:
        return max(modes, key=len)
    engine = ENGINE.match(parameters)
    return f"{path}[{engine[0]}]" if engine else path


def is_unit_test(nodeid: str) -> bool:
    """Return whether a test runs without a server."""
    return nodeid.startswith("tests/unit/")


def sort(items: list[pytest.Item], shared: Collection[str]) -> None:
    """Put long scopes first and short ones last, so that all processes end at the same time.

    :param items: the tests; sorted in place.
    :param shared: the modes of the shared servers.
    """

    def place(item: pytest.Item) -> int:
        if is_unit_test(item.nodeid):
            return 2
        return int(scope_of(item.nodeid, shared) in shared)

    items.sort(key=place)


def make_scheduler(
    config: pytest.Config, log: Callable[..., None], shared: Collection[str]
) -> object:
    """Return a scheduler that assigns scopes in the order of the tests."""
    from xdist.scheduler import LoadScopeScheduling

    class ByServer(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return scope_of(nodeid, shared)

    config.option.loadscopereorder = False
    return ByServer(config, log)
