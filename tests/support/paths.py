"""Where things are in the repository."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).parent.parent
ROOT = TESTS.parent
APPS = TESTS / "support" / "apps"
DEPLOY = ROOT / "deploy"
EXAMPLES = ROOT / "examples"
