"""Whether the package is compiled."""

from __future__ import annotations

from ...protocol import frames
from .finding import Finding


def is_compiled() -> bool:
    """Return whether the hot-path modules are compiled."""
    return not str(frames.__file__).endswith(".py")


def check_build() -> Finding:
    """Report whether the modules are compiled. Neither is a problem."""
    text = "compiled" if is_compiled() else "not compiled, so somewhat slower"
    return Finding("modules", text)
