"""Classes by name, each imported when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Registry(dict[str, tuple[str, str]]):
    """The module and the class behind each name: ``registry["nats"] = ("mysite.nats", "Broker")``.

    A class is imported when it is first loaded, since it may need a library that isn't installed.
    """

    def load(self, name: str) -> Any:
        """Return the class that is registered as *name*.

        :raises KeyError: if none is.
        :raises ModuleNotFoundError: if a library isn't installed.
        """
        module, class_name = self[name]
        return getattr(import_module(module), class_name)
