"""Checks of settings and options: each takes the name and the value, and returns the value.

They raise :class:`ConfigError` for an invalid value. The message names the setting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf, nan
from typing import Any

from ..exceptions import ConfigError
from .origins import NULL, normal_pattern

#: Checks the value of the setting with this name, and returns it in its normal form.
Check = Callable[[str, Any], Any]

#: What to do with a client that is too slow for its groups.
POLICIES = ("close", "drop-oldest", "drop-newest")


def number(
    kind: type[int] | type[float],
    least: float,
    unit: str,
    *,
    most: float = inf,
    optional: bool = False,
) -> Check:
    """Return a check for a number.

    :param unit: what is counted, for the error message.
    :param optional: whether ``None`` is valid.
    """

    def check(key: str, value: Any) -> Any:
        if value is None and optional:
            return None
        is_number = isinstance(value, (int, kind)) and not isinstance(value, bool)
        # No comparison with NaN is true.
        compared: Any = value if is_number else nan
        if not least <= compared < inf or compared > most:
            span = f"at least {least:g}" if most == inf else f"from {least:g} to {most:g}"
            ending = ", or None" if optional else ""
            raise ConfigError(f"{key} must be a number of {unit}, {span}{ending}, not {value!r}")
        return value

    return check


def flag(key: str, value: Any) -> bool:
    """Check a boolean."""
    if not isinstance(value, bool):
        raise ConfigError(f"{key} must be True or False, not {value!r}")
    return value


def text(key: str, value: Any) -> str:
    """Check a text that isn't empty."""
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{key} must be text that isn't empty, not {value!r}")
    return value


def optional_name(key: str, value: Any) -> str | None:
    """Check a name or ``None``."""
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"{key} must be a name or None, not {value!r}")
    return value


def names(key: str, value: Any) -> tuple[str, ...]:
    """Check a list of names."""
    is_list = isinstance(value, Iterable) and not isinstance(value, (str, bytes))
    found: tuple[Any, ...] = tuple(value) if is_list else ()
    if not is_list or not all(isinstance(name, str) and name for name in found):
        raise ConfigError(f'{key} must be a list of names such as ["tenant"], not {value!r}')
    return found


def policy(key: str, value: Any) -> str:
    """Check one of :data:`POLICIES`."""
    if value not in POLICIES:
        raise ConfigError(f"{key} must be one of {', '.join(POLICIES)}, not {value!r}")
    return str(value)


def origins(key: str, value: Any) -> frozenset[str] | str:
    """Check a list of origins, or ``"*"``, and return them as browsers send them (RFC 6454 6.2).

    ``"https://*.example.org"`` matches all subdomains of ``example.org``, at any depth.
    """
    if value == "*":
        return "*"
    if value is None:
        return frozenset()
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ConfigError(f'{key} must be a list of origins or "*", not {value!r}')
    if "*" in value:
        return "*"
    return frozenset(_origin(key, entry) for entry in value)


def _origin(key: str, value: Any) -> str:
    if value == NULL:
        return NULL
    normal = normal_pattern(value) if isinstance(value, str) else None
    if normal is None:
        raise ConfigError(
            f"{key}: {value!r} isn't a valid origin; write it as "
            '"https://example.org", with subdomains as "https://*.example.org"'
        )
    return normal
