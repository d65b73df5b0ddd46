"""The chart of the page: how many times faster mvgauss is, one line for each comparison, as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import log

from benchmarks.measure import Comparison

LEFT, WIDTH, STEP, TOP = 400, 720, 20, 24
HEAD = """<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d"><style>
text { font: 12px sans-serif; fill: #444 } line { stroke: #8888 } .one { stroke: #888; stroke-width: 2 }
.bar { stroke: #2a6f97; stroke-width: 5 } circle { fill: #2a6f97 }
@media (prefers-color-scheme: dark) { text { fill: #ccc } .bar { stroke: #61a5c2 } circle { fill: #61a5c2 } }
</style>"""


def draw(lines: Sequence[Comparison]) -> str:
    """Return a picture with a logarithmic axis."""
    lines = [line for line in lines if line.timed]
    ratios = [line.ratio for line in lines]
    least, most = min([1.0, *ratios]), max([10.0, *ratios])

    def x(ratio: float) -> float:
        return round(LEFT + (WIDTH - LEFT - 50) * log(ratio / least) / log(most / least), 1)

    bottom = TOP + STEP * len(lines)
    parts = [HEAD % (WIDTH, bottom + 8)]
    for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200):
        if least <= tick <= most:
            kind = ' class="one"' if tick == 1 else ""
            parts.append(f'<line{kind} x1="{x(tick)}" x2="{x(tick)}" y1="{TOP}" y2="{bottom}"/>')
            parts.append(f'<text x="{x(tick)}" y="16" text-anchor="middle">{tick:g}x</text>')
    for line, y in zip(lines, range(TOP + STEP // 2, bottom, STEP), strict=True):
        name, end = escape(f"{line.row.name} / {line.theirs.side.name}"), x(line.ratio)
        parts.append(f'<text x="{LEFT - 12}" y="{y + 4}" text-anchor="end">{name}</text>')
        parts.append(f'<line class="bar" x1="{x(1)}" x2="{end}" y1="{y}" y2="{y}"/>')
        parts.append(f'<circle cx="{end}" cy="{y}" r="5"/>')
        parts.append(f'<text x="{max(end, x(1)) + 9}" y="{y + 4}">{line.ratio:.2g}</text>')
    return "\n".join([*parts, "</svg>", ""])
