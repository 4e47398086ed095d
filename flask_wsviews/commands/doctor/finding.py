"""What a check returns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    :param subject: what was checked, in one word.
    :param text: the result.
    :param remedy: how to fix it, if it is a problem.
    """

    subject: str
    text: str
    remedy: str | None = None
