"""Hide the passwords in URLs, for output and logs."""

from __future__ import annotations

import re
from urllib.parse import unquote_plus

HIDDEN = "***"

#: Query options whose values are shown. All others are hidden, because they may be passwords.
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

# A shorter secret would be found in other words, too.
_SHORTEST = 3


def shown_url(url: str) -> str:
    """Return a URL without its user, its password and options that may be passwords.

    The URL may be invalid: a password may contain a ``/``, for example.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        # Such as unix:/path, host:6379, or only a password.
        place, question, query = url.partition("?")
        # If there is an @ after the ?, the ? may be part of a password.
        place = HIDDEN if "@" in query else _without_user(place).partition("#")[0]
        return f"{place}{question}{_shown_options(query)}"
    place, question, query = rest.partition("?")
    place = _without_user(place).partition("#")[0]
    hosts, slash, path = place.partition("/")
    if not _HOSTS.fullmatch(hosts):
        hosts, slash, path = HIDDEN, "", ""
    return f"{scheme}://{hosts}{slash}{path}{question}{_shown_options(query)}"


def without_secrets(text: str, url: str) -> str:
    """Return a message without the parts of a URL that :func:`shown_url` hides."""
    text = text.replace(url, shown_url(url))
    for secret in sorted(_secrets(url), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def _without_user(place: str) -> str:
    # A path may contain an @, but it begins with a slash.
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
            # The port may really be a password whose @ is missing.
            found.append(hosts)
    # A secret that isn't escaped is split by libraries that parse the URL.
    found += [part for each in found for part in re.split(r"[:/?#@]", each)]
    found += [unquote_plus(each) for each in found]
    return {each for each in found if len(each) >= _SHORTEST}
