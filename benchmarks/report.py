"""The lines of the benchmark, and the page with them: chart, five sentences, terms, tables, details."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from math import log

from benchmarks import peers
from benchmarks.machine import Limits
from benchmarks.measure import Comparison
from benchmarks.rows import ALONE, BUSY, FEW, MAPPED, ORIGINAL, STACKS

HEADER = ("computation", "compared with", "mvgauss", "other", "mvgauss is", "asked for")
DETAILS = ("computation", "compared with", "memory", "memory, other", "model", "difference")
AGAINST = ("computation", "new/old of single rounds", "new", "old", "new/old", "asked for")
WIDTHS = (34, 26, 8, 8, 12, 28)
NONE = "-"

TERMS = """\
- **mvgauss, other**: the median of repeated calls in turn, each side in a process of its own, on as many
  threads as CPUs on both sides. A fit is: construct, fit, score one image. 200x100x56x56 is 200 images of 100
  features at 56 x 56 patches.
- **anomalib's formulas**: the loop over patches of its MultiVariateGaussian and the scores of its anomaly
  maps, in single precision, in {framework}.
- **asked for**: a floor, how many times faster a computation has to be at full size. Some have a share of the
  roofline instead: of the shortest time in which this machine could read the data, write the result and do
  the arithmetic, by its measured speed of copying and of NumPy's matrix product.
- **beside 1, beside 2**: so many other Python threads of the process compute meanwhile, as in a server or a
  training script, and take the interpreter's lock in turn.
"""

LEGEND = """\
- memory: the peak of anonymous memory in the first call above what was there before, results included.
- model: its bytes over those of inverse covariances in single precision, which anomalib keeps.
- difference: that of the first two answers, compared before any time is taken, as a share of what rounding
  allows (`benchmarks/agreement.py`). More than 1 is a failure.
- numpy.linalg.pinv: with `hermitian=True` and the cut-off of mvgauss, `rtol = C eps`; its own keeps rounding
  errors.
"""

REPRODUCE = """
This page is written by the benchmark. To reproduce it, in a checkout:

```sh
pip install . --group bench  # pip 25.1 or later
pip install torch onnx onnxruntime  # for the rows that need them
python -m benchmarks {command}
```
"""

LEFT, WIDTH, STEP, TOP = 380, 760, 20, 24
SVG = """<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d"><style>
text { font: 12px sans-serif; fill: #444 } line { stroke: #8888 } .one { stroke: #888; stroke-width: 2 }
.bar { stroke: #2a6f97; stroke-width: 5 } circle { fill: #2a6f97 }
@media (prefers-color-scheme: dark) { text { fill: #ccc } .bar { stroke: #61a5c2 } circle { fill: #61a5c2 } }
</style>"""


def cells(line: Comparison, limits: Limits, quick: bool, against: bool = False) -> tuple[str, ...]:
    """Return one line of the table of times."""
    if not line.timed:
        return (line.row.name, _other(line), *[NONE] * 4)
    times = seconds(line.ours.seconds), seconds(line.theirs.seconds)
    if against:
        ratios = [new / old for new, old in zip(line.ours.times, line.theirs.times, strict=True)]
        most = line.row.most_of_old
        asked = f"at most {most:g}{': missed' * (1 / line.ratio > most)}"
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        return (line.row.name, spread, *times, f"{1 / line.ratio:.2f}", NONE if quick else asked)
    return (line.row.name, _other(line), *times, ratio(line.ratio), NONE if quick else _asked(line, limits))


def _asked(line: Comparison, limits: Limits) -> str:
    """Return the floor of a line and whether it is met, or the share of the roofline."""
    floor = line.theirs.side.floor
    if floor:
        bound = f"at least {floor:g}x faster" if floor >= 1 else f"at most {1 / floor:g}x slower"
        return bound if line.ratio >= floor else f"{bound}: missed"
    if line.row.cost:
        moved, flops = line.row.cost
        least = max(moved / limits.copy, flops / limits.gemm)
        return f"{least / line.ours.seconds:.0%} of the roofline"
    return NONE


def details(line: Comparison) -> tuple[str, ...]:
    """Return one line of the table of memory and differences."""
    share, most = line.ours.share, line.row.most_share
    asked = f", at most {most:g}{': missed' * (share > most)}" if share and most else ""
    return (
        line.row.name,
        _other(line),
        *(NONE if not m.peak else f"{m.peak / 1e6:.0f} MB" for m in (line.ours, line.theirs)),
        NONE if share is None else f"{share:.2g}{asked}",
        NONE if line.error is None else f"{line.error:.1g}",
    )


def _other(line: Comparison) -> str:
    """Return the name of the other side, with why it has no time."""
    trouble = line.ours.trouble or line.theirs.trouble
    return line.theirs.side.name + f" ({trouble})" * bool(trouble)


def seconds(value: float) -> str:
    """Return a time with two or three digits."""
    return f"{value * 1e3:.2g} ms" if value < 0.0995 else f"{value:.3g} s"


def ratio(value: float) -> str:
    """Return how many times faster, or slower."""
    times, word = (value, "faster") if value >= 1 else (1 / value, "slower")
    return f"{times:.{0 if times >= 9.95 else 1}f}x {word}"


def text_line(row: Sequence[str]) -> str:
    """Return a line for the terminal."""
    return "  ".join(cell.ljust(width) for cell, width in zip(row, WIDTHS, strict=True)).rstrip()


def remarks(lines: Iterable[Comparison]) -> list[str]:
    """Return which modules are missing, and which answers are wrong."""
    absent = sorted({line.theirs.trouble[3:] for line in lines if line.theirs.trouble.startswith("no ")})
    found = [f"Not installed, so not measured: {', '.join(absent)}."] if absent else []
    for line in (line for line in lines if line.wrong):
        trouble = ", ".join(filter(None, (line.ours.trouble, line.theirs.trouble)))
        trouble = trouble or f"answers differ by {line.error:.3g} times what rounding allows"
        found.append(f"WRONG: {line.row.name} / {line.theirs.side.name}: {trouble}")
    return found


def summary(lines: Sequence[Comparison]) -> list[str]:
    """Return five sentences: the usual case first."""
    timed = [line for line in lines if line.timed]
    to = {line.row.key: line for line in timed if line.theirs.side.name == ORIGINAL}
    few = [line for line in timed if line.row.most_share]
    stacks = [line for line in timed if line.row.group == STACKS]
    busy = [line for line in timed if line.theirs.side.name == ALONE]
    found = []
    if line := to.get("fit-100"):
        took = f"takes {seconds(line.ours.seconds)}; {ORIGINAL} take {seconds(line.theirs.seconds)}"
        found.append(f"**The usual case**, {line.row.name}, {took}: mvgauss is {ratio(line.ratio)}.")
    if "score-32" in to and "score-1" in to:
        many, one = (ratio(to[key].ratio) for key in ("score-32", "score-1"))
        found.append(f"**Scoring** 32 such images is {many}, one image {one}.")
    if few:
        shares = sorted(line.ours.share or 0 for line in few)
        kept = f"the model takes {shares[0]:.2g} to {shares[-1]:.2g} of the bytes"
        found.append(f"**{FEW}**: a fit is {_range(few)}, and {kept}.")
    if stacks:
        found.append(f"**{STACKS}** are {_range(stacks)} than with NumPy and others.")
    if busy:
        found.append(f"**Beside one or two busy Python threads** a call is {_range(busy)} than alone.")
    return found


def _range(lines: Sequence[Comparison]) -> str:
    """Return the ratio that is nearest to one and the one farthest from it."""
    values = sorted((line.ratio for line in lines), key=lambda value: max(value, 1 / value))
    return f"{ratio(values[0])} to {ratio(values[-1])}"


def page(lines: Sequence[Comparison], limits: Limits, quick: bool, command: str, notes: Sequence[str]) -> str:
    """Return the page."""
    framework = "PyTorch" if peers.FRAMEWORK == "torch" else "NumPy, as PyTorch was not installed"
    text = ["# Benchmarks", "", "![How many times faster mvgauss is, by row](images/benchmarks.svg)", ""]
    text += ["Small sizes, which only show that everything runs.\n"] * quick
    text += [f"- {sentence}" for sentence in summary(lines)]
    text += ["", "## How to read the tables", "", TERMS.replace("{framework}", framework).rstrip()]
    for group in dict.fromkeys(line.row.group for line in lines):
        found = [line for line in lines if line.row.group == group]
        text += ["", f"## {group}", "", *_table(HEADER, [cells(line, limits, quick) for line in found])]
    text += ["", "## Details", "", *_table(DETAILS, [details(line) for line in lines]), "", LEGEND.rstrip()]
    text += [f"- {remark}" for remark in notes]
    return "\n".join(text) + "\n" + REPRODUCE.replace(" {command}", f" {command}".rstrip())


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table, numbers to the right."""
    bar = ["---", "---"] + ["---:"] * (len(header) - 2)
    return ["| " + " | ".join(row) + " |" for row in (header, bar, *rows)]


def chart(lines: Sequence[Comparison]) -> str:
    """Return how many times faster mvgauss is, one bar for each comparison with others, as SVG."""
    lines = [line for line in lines if line.timed and line.row.group not in (MAPPED, BUSY)]
    ratios = [line.ratio for line in lines]
    least, most = min([1.0, *ratios]), max([10.0, *ratios])

    def x(times: float) -> float:
        return round(LEFT + (WIDTH - LEFT - 90) * log(times / least) / log(most / least), 1)

    bottom = TOP + STEP * len(lines)
    parts = [SVG % (WIDTH, bottom + 8)]
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
        parts.append(f'<text x="{max(end, x(1)) + 9}" y="{y + 4}">{ratio(line.ratio)}</text>')
    return "\n".join([*parts, "</svg>", ""])
