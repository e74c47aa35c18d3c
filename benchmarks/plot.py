"""A plot as SVG, with nothing but the standard library.

What lives here: lines over time, one panel below another. What does not: what is plotted. Called by
`soak.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Panel", "svg"]

_WIDTH, _PANEL, _LEFT, _RIGHT, _TOP, _GAP = 760, 96, 88, 16, 28, 34
_GREY, _LINE, _TEXT = "#8884", "#3f6fd1", "#888"


@dataclass(frozen=True, slots=True)
class Panel:
    """One line over time.

    Args:
        title: What it shows, with its unit.
        values: One value per moment.
    """

    title: str
    values: Sequence[float]


def svg(title: str, times: Sequence[float], panels: Sequence[Panel]) -> str:
    """Return panels over one axis of time, in seconds, as an SVG document."""
    height = _TOP + len(panels) * (_PANEL + _GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img"',
        f' font-family="sans-serif" font-size="12" fill="{_TEXT}">',
        f"<title>{escape(title)}</title>",
    ]
    end = max(times[-1], 1e-9)
    for number, panel in enumerate(panels):
        parts += _panel(panel, times, end, _TOP + number * (_PANEL + _GAP))
    middle = _LEFT + (_WIDTH - _LEFT - _RIGHT) / 2
    parts.append(f'<text x="{_LEFT}" y="{height - 6}">0 s</text>')
    parts.append(f'<text x="{middle}" y="{height - 6}" text-anchor="middle">{end / 2:.0f} s</text>')
    parts.append(
        f'<text x="{_WIDTH - _RIGHT}" y="{height - 6}" text-anchor="end">{end:.0f} s</text>'
    )
    return "\n".join([*parts, "</svg>\n"])


def _panel(panel: Panel, times: Sequence[float], end: float, top: float) -> list[str]:
    highest = max(*panel.values, 1e-9) * 1.1
    width = _WIDTH - _LEFT - _RIGHT
    points = " ".join(
        f"{_LEFT + width * time / end:.1f},{top + _PANEL * (1 - value / highest):.1f}"
        for time, value in zip(times, panel.values, strict=True)
    )
    bottom, middle = top + _PANEL, _LEFT + width / 2
    return [
        f'<text x="{_LEFT}" y="{top - 8:.0f}">{escape(panel.title)}</text>',
        f'<path d="M{_LEFT} {top}V{bottom}H{_WIDTH - _RIGHT}" fill="none" stroke="{_GREY}"/>',
        f'<path d="M{middle} {top}V{bottom}" stroke="{_GREY}" stroke-dasharray="4 4"/>',
        f'<text x="{_LEFT - 6}" y="{top + 8}" text-anchor="end">{highest:,.0f}</text>',
        f'<text x="{_LEFT - 6}" y="{bottom}" text-anchor="end">0</text>',
        f'<polyline points="{points}" fill="none" stroke="{_LINE}" stroke-width="1.5"/>',
    ]
