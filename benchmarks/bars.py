"""Bars as SVG, with nothing but the standard library.

What lives here: one bar below another. What does not: what they show. Called by `page.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Bar", "bars"]

_WIDTH, _LEFT, _RIGHT, _TOP, _STEP, _THICK = 760, 190, 80, 34, 26, 16
_OWN, _OTHER, _TEXT = "#3f6fd1", "#8888", "#888"


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar.

    Args:
        title: Whose it is.
        value: How long it is.
        own: Whether it is ours.
    """

    title: str
    value: float
    own: bool = False


def bars(title: str, rows: Sequence[Bar]) -> str:
    """Return bars on one scale from zero, as an SVG document."""
    height = _TOP + len(rows) * _STEP + 8
    longest = max((row.value for row in rows), default=0.0) or 1.0
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img"',
        f' font-family="sans-serif" font-size="12" fill="{_TEXT}">',
        f"<title>{escape(title)}</title>",
        f'<text x="{_LEFT}" y="18" font-size="14">{escape(title)}</text>',
    ]
    for number, row in enumerate(rows):
        y = _TOP + number * _STEP
        length = max(1.0, row.value / longest * (_WIDTH - _LEFT - _RIGHT))
        colour = _OWN if row.own else _OTHER
        parts += [
            f'<text x="{_LEFT - 8}" y="{y + 12}" text-anchor="end">{escape(row.title)}</text>',
            f'<rect x="{_LEFT}" y="{y}" width="{length:.1f}" height="{_THICK}" fill="{colour}"/>',
            f'<text x="{_LEFT + length + 6:.1f}" y="{y + 12}">{row.value:,.0f}</text>',
        ]
    return "\n".join([*parts, "</svg>\n"])
