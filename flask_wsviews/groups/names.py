"""Names of groups, and patterns such as ``"room:{room}"`` that they are made of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from string import Formatter
from typing import Any

from ..exceptions import GroupError, RegistrationError

#: Longest name of a group, in bytes as UTF-8.
MAX_NAME = 255


def check_group(name: Any) -> str:
    """Check the name of a group.

    :raises GroupError: unless it is a ``str`` of 1 to 255 bytes that can be printed and has no
        braces, which are for patterns, nor a space at its ends.
    """
    if not isinstance(name, str):
        raise GroupError(f"a group's name is a str, not {name!r}")
    printable = name.isprintable() and not set("{}") & set(name) and name == name.strip()
    if not name or not printable or len(name.encode()) > MAX_NAME:
        raise GroupError(
            f"{name!r} is no name for a group: 1 to {MAX_NAME} bytes of printable text, without "
            "braces and without spaces at the ends"
        )
    return name


class Pattern:
    """Names of groups with URL variables in them.

    :param text: such as ``"lobby"`` or ``"room:{room}"``.
    :raises RegistrationError: if it can't name a group.
    """

    def __init__(self, text: Any) -> None:
        if not isinstance(text, str):
            raise RegistrationError(f"a group is named by a str, not {text!r}")
        self.text = text
        parts = []
        variables = []
        try:
            for literal, variable, form, conversion in Formatter().parse(text):
                check_group(f"-{literal}-")
                parts.append(re.escape(literal))
                if variable is not None:
                    if not variable.isidentifier() or form or conversion:
                        raise ValueError(f"{variable!r} is no URL variable")
                    parts.append("(?:.+)")
                    variables.append(variable)
            #: A name that it matches.
            self.example = check_group(re.sub(r"\{\w+\}", "x", text))
        except ValueError as error:
            raise RegistrationError(f"{text!r} is no pattern for groups: {error}") from None
        #: The URL variables in it.
        self.variables = frozenset(variables)
        self._regex = re.compile("".join(parts))

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"

    def matches(self, group: str) -> bool:
        """Whether *group* may be one of these."""
        return self._regex.fullmatch(group) is not None

    def fill(self, view_args: Mapping[str, Any]) -> str:
        """The name for these URL variables.

        :raises GroupError: if a variable is missing, or what comes of it is no name.
        """
        try:
            return check_group(self.text.format_map(view_args))
        except KeyError as error:
            raise GroupError(f"{self.text!r}: the rule has no variable {error}") from None
