"""Horizontal bars as SVG, readable on light and dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LABEL_WIDTH, VALUE_WIDTH = 760, 260, 90
ROW, TOP = 24, 40

# The background is drawn as well: a page may be dark where the system is light.
STYLE = """
  .page { fill: #fff }
  text { font: 13px system-ui, sans-serif; fill: #222 }
  .title { font-weight: 600 }
  .ours { font-weight: 600 }
  .bar { fill: #9aa5b1 }
  .bar.ours { fill: #1f77b4 }
  @media (prefers-color-scheme: dark) {
    .page { fill: #16191d }
    text { fill: #ddd }
    .bar { fill: #6b7683 }
    .bar.ours { fill: #4aa3df }
  }
"""


@dataclass(frozen=True)
class Bar:
    """One subject: what it is called, how long its bar is, what stands beside it."""

    label: str
    value: float
    text: str
    is_ours: bool


def bars(title: str, drawn: Sequence[Bar]) -> str:
    """A picture of *drawn*, from top to bottom; its description has all figures."""
    longest = max(bar.value for bar in drawn)
    room = WIDTH - LABEL_WIDTH - VALUE_WIDTH
    height = TOP + ROW * len(drawn) + 8
    said = "; ".join(f"{bar.label}: {bar.text}" for bar in drawn)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" role="img" aria-labelledby="title desc">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="desc">{escape(said)}</desc>',
        f"<style>{STYLE}</style>",
        '<rect class="page" width="100%" height="100%" rx="6"/>',
        f'<text class="title" x="8" y="22">{escape(title)}</text>',
    ]
    for index, bar in enumerate(drawn):
        y = TOP + ROW * index
        kind = " ours" if bar.is_ours else ""
        length = max(1.0, bar.value / longest * room)
        lines += [
            f'<text class="label{kind}" x="{LABEL_WIDTH - 8}" y="{y + 14}" text-anchor="end">'
            f"{escape(bar.label)}</text>",
            f'<rect class="bar{kind}" x="{LABEL_WIDTH}" y="{y + 2}" width="{length:.1f}" '
            'height="16" rx="2"/>',
            f'<text class="value{kind}" x="{LABEL_WIDTH + length + 6:.1f}" y="{y + 14}">'
            f"{escape(bar.text)}</text>",
        ]
    return "\n".join([*lines, "</svg>", ""])
