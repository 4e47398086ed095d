"""URLs with passwords in them, as they may be shown and logged."""

from __future__ import annotations

import re
from urllib.parse import unquote_plus

HIDDEN = "***"

#: Query options that are shown with their values. All others are hidden, whatever they are called.
SHOWN_OPTIONS = frozenset(
    {
        "db",
        "socket_timeout",
        "socket_connect_timeout",
        "socket_keepalive",
        "health_check_interval",
        "ssl_ca_certs",
        "ssl_ca_path",
        "ssl_certfile",
        "ssl_keyfile",
        "ssl_cert_reqs",
        "ssl_check_hostname",
        "ssl_min_version",
        "sentinel_ssl",
    }
)

_HOST = r"(\[[0-9A-Fa-f:.%]*\]|[\w.%-]*)(:\d*)?"
_HOSTS = re.compile(rf"{_HOST}(,{_HOST})*")

# Secrets that are shorter are parts of other words, too.
_SHORTEST = 3


def shown_url(url: str) -> str:
    """Make a URL fit to be shown: no user, no password, no option that may be one.

    It takes URLs as well that are wrong, such as those with a ``/`` in the password.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        # Such as unix:/path, host:6379, or a password and nothing else.
        place, question, query = url.partition("?")
        # Then it isn't known whether the ? belongs to a password.
        place = HIDDEN if "@" in query else _without_user(place).partition("#")[0]
        return f"{place}{question}{_shown_options(query)}"
    place, question, query = rest.partition("?")
    place = _without_user(place).partition("#")[0]
    hosts, slash, path = place.partition("/")
    if not _HOSTS.fullmatch(hosts):
        hosts, slash, path = HIDDEN, "", ""
    return f"{scheme}://{hosts}{slash}{path}{question}{_shown_options(query)}"


def without_secrets(text: str, url: str) -> str:
    """Make a message about a URL fit to be shown: what :func:`shown_url` hides isn't in it."""
    text = text.replace(url, shown_url(url))
    for secret in sorted(_secrets(url), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def _without_user(place: str) -> str:
    # A path may have an @ in it, but then there is no host before it.
    return place if place.startswith("/") else place.rpartition("@")[2]


def _shown_options(query: str) -> str:
    options = query.partition("#")[0]
    return "&".join(map(_shown_option, options.split("&"))) if options else ""


def _shown_option(option: str) -> str:
    name = unquote_plus(option.partition("=")[0])
    return option if name in SHOWN_OPTIONS else HIDDEN


def _secrets(url: str) -> set[str]:
    rest = url.partition("://")[2] or url
    place, _, query = rest.partition("?")
    place, _, fragment = place.partition("#") if "@" not in place else (place, "", "")
    found = [fragment, query.partition("#")[2]]
    for option in query.partition("#")[0].split("&"):
        name, is_named, value = option.partition("=")
        if _shown_option(option) == HIDDEN:
            found.append(value if is_named else name)
    if not place.startswith("/"):
        user, _, password = rest.rpartition("@")[0].partition(":")
        found += [user, password]
        hosts = _without_user(place).partition("/")[0]
        if not _HOSTS.fullmatch(hosts):
            # What stands for a port may be a password without its @.
            found.append(hosts)
    # One that isn't escaped is taken apart by whoever reads the URL.
    found += [part for each in found for part in re.split(r"[:/?#@]", each)]
    found += [unquote_plus(each) for each in found]
    return {each for each in found if len(each) >= _SHORTEST}
