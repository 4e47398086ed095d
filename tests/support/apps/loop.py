"""Hide uvloop on import unless ``LOOP`` is "uvloop", so that both event loops are tested."""

from __future__ import annotations

import os
import sys

if os.environ.get("LOOP") != "uvloop":
    sys.modules["uvloop"] = None
