"""Names of groups, and patterns for names, such as ``"room:{room}"``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property, lru_cache
from string import Formatter
from typing import Any
from uuid import UUID

from ..exceptions import GroupError, RegistrationError

#: The longest name of a group, in bytes of UTF-8.
MAX_NAME = 255


def check_group(name: Any) -> str:
    """Check the name of a group, and return it.

    :raises GroupError: unless it is a ``str`` of 1 to 255 bytes of printable text, without braces,
        which are for patterns, and without spaces at the ends.
    """
    if not isinstance(name, str):
        raise GroupError(f"a group's name must be a str, not {name!r}", code=1008)
    printable = name.isprintable() and not set("{}") & set(name) and name == name.strip()
    if not name or not printable or len(name.encode()) > MAX_NAME:
        raise GroupError(
            f"{name!r} isn't a valid group name: use 1 to {MAX_NAME} bytes of printable text, "
            "without braces and without spaces at the ends",
            code=1008,
        )
    return name


class Pattern:
    """A pattern for names of groups, with URL variables.

    The punctuation next to a variable is a separator, which no variable may contain. So only one
    set of variables makes a name, and ``room:{room}`` never makes ``room:7:staff``.

    :param text: the pattern, such as ``"lobby"`` or ``"room:{room}"``.
    :raises RegistrationError: if it can't make a valid name, or nothing separates two variables.
    """

    def __init__(self, text: Any) -> None:
        if not isinstance(text, str):
            raise RegistrationError(f"a group's name must be a str, not {text!r}")
        self.text = text
        try:
            literals, variables = _parse(text)
            #: A name that matches.
            self.example = check_group(_PLACE.join(literals))
            self._separators = _separators(literals)
        except ValueError as error:
            raise RegistrationError(f"{text!r} isn't a valid pattern for groups: {error}") from None
        #: The names of its URL variables.
        self.variables = frozenset(variables)
        #: Equal for patterns that only differ in the names of their variables.
        self.shape = "{}".join(literals)
        #: The text before the first variable.
        self.prefix = literals[0]
        self._sample = _PLACEHOLDER.join(literals)
        self._literals = literals

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        return re.compile(".+".join(re.escape(literal) for literal in self._literals))

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"

    def matches(self, group: str) -> bool:
        """Return whether the name *group* matches."""
        return self._regex.fullmatch(group) is not None

    def covers(self, other: Pattern) -> bool:
        """Return whether every name that matches *other* matches this pattern, too."""
        return self._regex.fullmatch(other._sample) is not None

    def fill(self, view_args: Mapping[str, Any]) -> str:
        """Return the name for these URL variables.

        :raises GroupError: if a variable is missing or contains a separator, or if the result
            isn't a valid name.
        """
        try:
            for variable in self.variables:
                self._check_value(variable, view_args[variable])
            return check_group(self.text.format_map(view_args))
        except KeyError as error:
            raise GroupError(f"{self.text!r}: the rule has no variable {error}") from None

    def _check_value(self, variable: str, value: Any) -> None:
        text = str(value)
        # Numbers and UUIDs have one form only, so their punctuation can't be mistaken.
        found = set() if isinstance(value, _FIXED_FORMS) else self._separators & set(text)
        if found:
            characters = " ".join(sorted(found))
            raise GroupError(
                f"{self.text!r}: the URL variable {variable!r} contains the pattern's separator "
                f"{characters!r}: {text!r}",
                code=1008,
            )
        if not text:
            raise GroupError(f"{self.text!r}: the URL variable {variable!r} is empty", code=1008)


def pattern_of(text: Any) -> Pattern:
    """Return the pattern for *text*. Each connection needs the same few, so they are cached."""
    return _cached_pattern(text) if isinstance(text, str) else Pattern(text)


_cached_pattern = lru_cache(maxsize=1024)(Pattern)

# Replace the variables in an example, and where two patterns are compared. The second one isn't
# printable, so no pattern's own text contains it.
_PLACE, _PLACEHOLDER = "x", "\ue000"

# The types of converted URL variables that have one text form only.
_FIXED_FORMS = (int, float, UUID)


def _parse(text: str) -> tuple[list[str], list[str]]:
    """Return the literal parts of a pattern and its variables, which are one fewer."""
    literals = [""]
    variables = []
    for literal, variable, form, conversion in Formatter().parse(text):
        check_group(f"-{literal}-")
        literals[-1] += literal
        if variable is not None:
            if not variable.isidentifier() or form or conversion:
                raise ValueError(f"{variable!r} isn't a URL variable")
            variables.append(variable)
            literals.append("")
    return literals, variables


def _separators(literals: list[str]) -> frozenset[str]:
    """Return the punctuation nearest to each variable, on both sides."""
    found = set()
    for number, literal in enumerate(literals):
        punctuation = [character for character in literal if not character.isalnum()]
        is_between = 0 < number < len(literals) - 1
        if is_between and not punctuation:
            raise ValueError("two variables need punctuation between them, such as a colon")
        if punctuation and number > 0:
            found.add(punctuation[0])
        if punctuation and number < len(literals) - 1:
            found.add(punctuation[-1])
    return frozenset(found)
