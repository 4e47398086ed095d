"""The groups that an application declares: their patterns and options."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf

from ..exceptions import GroupError, RegistrationError
from .brokers.base import History
from .names import Pattern, pattern_of

# The most groups whose options are cached.
MAX_CACHED = 10_000


@dataclass(frozen=True)
class GroupOptions:
    """The options of the groups that match a pattern.

    :param history: how much is kept for clients that reconnect.
    :param presence: whether the members can be listed.
    """

    history: History | None = None
    presence: bool = False

    def __str__(self) -> str:
        history = self.history
        kept = (
            [] if history is None or history.messages is None else [f"history={history.messages}"]
        )
        if history is not None and history.seconds is not None:
            kept.append(f"history_seconds={history.seconds:g}")
        presence = "presence" if self.presence else "no presence"
        return f"{', '.join(kept) or 'no history'} and {presence}"


def history_of(messages: int | None, seconds: float | None) -> History | None:
    """Return the history for these limits; ``None`` without any.

    :raises RegistrationError: if a limit isn't valid.
    """
    if messages is None and seconds is None:
        return None
    is_int = isinstance(messages, int) and not isinstance(messages, bool)
    if messages is not None and (not is_int or messages < 1):
        raise RegistrationError(
            f"history must be a number of messages, at least 1, not {messages!r}"
        )
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if seconds is not None and (not is_number or not 0 < seconds < inf):
        raise RegistrationError(f"history_seconds must be a number above 0, not {seconds!r}")
    return History(messages, seconds)


@dataclass(frozen=True)
class Group:
    """A group in a view's ``groups`` with its own options, instead of the view's::

        groups = [Group("list:{id}", history=100), Group("typing:{id}", presence=True)]

    :param pattern: the name, with URL variables in braces.
    :param history: how many messages are kept for clients that reconnect; by default none.
    :param history_seconds: for how many seconds they are kept.
    :param presence: whether ``websocket.members()`` and ``websocket.count()`` return its members.
    :raises RegistrationError: if *pattern* or another value isn't valid.
    """

    pattern: str
    history: int | None = field(default=None, kw_only=True)
    history_seconds: float | None = field(default=None, kw_only=True)
    presence: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        """Check the values."""
        pattern_of(self.pattern)
        if not isinstance(self.presence, bool):
            raise RegistrationError(f"presence must be True or False, not {self.presence!r}")
        history_of(self.history, self.history_seconds)

    def __str__(self) -> str:
        return self.pattern

    @property
    def options(self) -> GroupOptions:
        """The options as one object."""
        return GroupOptions(history_of(self.history, self.history_seconds), self.presence)


def declared_pattern(group: str | Group) -> Pattern:
    """Return the pattern of an item of a view's ``groups``.

    :raises RegistrationError: if it isn't valid.
    """
    return pattern_of(group.pattern if isinstance(group, Group) else group)


def narrowest(patterns: list[Pattern]) -> list[Pattern]:
    """Return those of *patterns* that all others cover, or all if there are none."""
    within = [each for each in patterns if all(other.covers(each) for other in patterns)]
    return within or patterns


class Declarations:
    """The patterns of an application's groups, each with its options."""

    def __init__(self) -> None:
        self._options: dict[str, tuple[Pattern, GroupOptions]] = {}
        # By the text before the first variable, so that a name is compared with few patterns.
        self._by_prefix: dict[str, list[Pattern]] = {}
        self._prefix_lengths: list[int] = []
        self._cached: dict[str, GroupOptions] = {}

    def __iter__(self) -> Iterator[tuple[Pattern, GroupOptions]]:
        return iter(self._options.values())

    def add(self, text: str, options: GroupOptions) -> None:
        """Declare the groups of a pattern. The same options may be declared again.

        :raises RegistrationError: if *text* isn't valid, or already has other options.
        """
        pattern = pattern_of(text)
        known = self._options.get(pattern.shape)
        if known is not None:
            first, its_options = known
            if its_options != options:
                also = "" if first.text == text else f" as {first.text!r}"
                raise RegistrationError(
                    f"conflicting options for group {text!r}: first configured{also} with "
                    f"{its_options}, now with {options}. Use the same options, or another name."
                )
            return
        self._options[pattern.shape] = pattern, options
        self._by_prefix.setdefault(pattern.prefix, []).append(pattern)
        length = len(pattern.prefix)
        if length not in self._prefix_lengths:
            insort(self._prefix_lengths, length)
        self._cached.clear()

    def options_of(self, group: str) -> GroupOptions:
        """Return the options of *group*: those of the narrowest pattern that it matches."""
        options = self._cached.get(group)
        if options is None:
            options = self._find_options(group)
            if len(self._cached) >= MAX_CACHED:
                self._cached.clear()
            self._cached[group] = options
        return options

    def check_owner(self, pattern: Pattern, group: str) -> None:
        """Check that a name made from URL variables doesn't match another pattern as well.

        A pattern that covers *pattern*, as ``{name}`` covers ``room:{room}``, is allowed.

        :raises GroupError: if the name matches another pattern.
        """
        for other in self._matching(group):
            if not other.covers(pattern):
                raise GroupError(
                    f"{group!r}, made from {pattern.text!r}, belongs to {other.text!r}", code=1008
                )

    def _matching(self, group: str) -> list[Pattern]:
        return [
            pattern
            for length in self._prefix_lengths
            for pattern in self._by_prefix.get(group[:length], ())
            if pattern.matches(group)
        ]

    def _find_options(self, group: str) -> GroupOptions:
        order = list(self._options)
        found = narrowest(self._matching(group))
        first = min(found, key=lambda pattern: order.index(pattern.shape), default=None)
        return GroupOptions() if first is None else self._options[first.shape][1]
