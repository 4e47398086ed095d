"""Documents as text, in the order that they were made in."""

from __future__ import annotations

import json
from typing import Any

import yaml


def to_json(document: dict[str, Any]) -> str:
    """A document as JSON."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def to_yaml(document: dict[str, Any]) -> str:
    """A document as YAML."""
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return text


class _Dumper(yaml.SafeDumper):
    """Writes out what occurs more than once, rather than a name for it."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
