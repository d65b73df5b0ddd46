"""The table, as text and as Markdown, from the same cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.few import Kept
from benchmarks.machine import Limits
from benchmarks.measure import Comparison

HEADER = (
    *("work", "against", "ours/s", "theirs", "ratio", "floor", "met", "first"),
    *("MB", "theirs", "limit", "error"),
)
LONG_HEADER = (*HEADER[:2], "ours, s", "theirs, s", *HEADER[4:8], "ours, MB", "theirs, MB", *HEADER[10:])
KEPT_HEADER = ("what a model keeps", "MB", "share", "at most", "met")
WIDTHS = (28, 25, 6, 6, 5, 4, 3, 5, 4, 6, 5, 5)
COLUMNS = sum(WIDTHS) + len(WIDTHS) - 1
KEPT_WIDTHS = (50, 8, 7, 7, 4)
NONE = "-"

LEGEND = (
    "ours, theirs: seconds, medians of calls in turn, each side in a process of its own, on as many threads "
    "as CPUs on both sides; of a fit: construct, fit, score one image.",
    "ratio: theirs / ours; floor: what it has to be at least, at full size; first: the same ratio of the "
    "first calls in these processes, each measured once, while its memory is watched: libraries are warm, "
    "but memory is new.",
    "MB: peak of anonymous memory above what was there before the first call, results included (10^6 bytes).",
    "limit: the share of the roofline, the least time for the bytes (at copy speed) or flops (at the speed "
    "of NumPy's matrix product), whichever is larger, over the time of ours; the formulas are in "
    "benchmarks/cost.py.",
    "error: the largest difference of the two first answers, compared before the medians are taken, as a "
    "share of what rounding allows: 4 sqrt(n) eps times the size of a covariance, times the condition for "
    "inverses and distances (half of it, for the root), in the precision of the less precise side "
    "(of few samples: the condition times eps); benchmarks/agreement.py has the reasons. More than 1 is a "
    "failure.",
    "beside 1 or 2 busy: in a process with so many threads that are busy in Python; against the same alone, "
    "a ratio of 0.2 is five times slower.",
    "the square form: a model of the same inverse covariances by from_parameters.",
    "the exported file: the model written by mvgauss.onnx.export, run by onnxruntime on as many threads.",
    "what a model keeps: nbytes; share: of the inverse covariances in single precision, which the original "
    "keeps.",
    "the original's formulas: anomalib's MultiVariateGaussian in torch, float32, a loop over patches. "
    "numpy.linalg.pinv: hermitian=True, with our cut-off rtol = C eps, as its own keeps rounding errors.",
)


def cells(line: Comparison, limits: Limits, quick: bool) -> tuple[str, ...]:
    """Return one line of the table."""
    ours, theirs, floor = line.ours, line.theirs, None if quick else line.floor
    timed = not ours.trouble and not theirs.trouble
    return (
        ours.side.name,
        f"{theirs.side.name} ({theirs.trouble})" if theirs.trouble else theirs.side.name,
        _seconds(ours.times and ours.seconds),
        _seconds(theirs.times and theirs.seconds),
        _times(line.ratio) if timed else NONE,
        f"{floor:g}x" if floor else NONE,
        ("yes" if line.ratio >= floor else "NO") if timed and floor else NONE,
        _times(line.first_ratio) if timed else NONE,
        _megabytes(ours.peak),
        _megabytes(theirs.peak),
        f"{line.side.cost.seconds(limits) / ours.seconds:.0%}" if ours.times else NONE,
        _share(line.error),
    )


def kept_cells(line: Kept, quick: bool) -> tuple[str, ...]:
    """Return one line of the table of what models keep."""
    most = None if quick else line.most
    return (
        line.name,
        _megabytes(line.bytes),
        f"{line.share:.3f}",
        f"{most:g}" if most else NONE,
        ("yes" if line.met else "NO") if most else NONE,
    )


def kept_line(row: Sequence[str]) -> str:
    """Return a line of that table."""
    numbers = " ".join(cell.rjust(width) for cell, width in zip(row[1:], KEPT_WIDTHS[1:], strict=True))
    return f"{row[0].ljust(KEPT_WIDTHS[0])} {numbers}"


def _times(ratio: float) -> str:
    """Return how many times faster in two digits or more."""
    return f"{ratio:.{0 if ratio >= 99.5 else 1}f}x"


def _seconds(value: float | Sequence[float]) -> str:
    """Return seconds with three digits."""
    if not isinstance(value, float):
        return NONE
    return f"{value:.{4 if value < 0.1 else 3 if value < 1 else 2 if value < 10 else 1}f}"


def _share(value: float | None) -> str:
    """Return a share of what is allowed, in five characters."""
    if value is None:
        return NONE
    return "large" if value > 99 else f"{value:.3f}" if 0 < value < 10 else f"{value:.3g}"


def _megabytes(value: float | None) -> str:
    """Return megabytes with two digits or more."""
    if value is None:
        return NONE
    return f"{value / 1e6:.{1 if value < 1e7 else 0}f}"


def text_line(row: Sequence[str]) -> str:
    """Return a line, or two where names are too long."""
    numbers = " ".join(cell.rjust(width) for cell, width in zip(row[2:], WIDTHS[2:], strict=True))
    names = " ".join(cell.ljust(width) for cell, width in zip(row[:2], WIDTHS[:2], strict=True))
    fits = len(names) <= sum(WIDTHS[:2]) + 1
    return f"{names} {numbers}" if fits else f"{names.rstrip()}\n{' ' * (sum(WIDTHS[:2]) + 1)} {numbers}"


def notes(lines: Iterable[Comparison]) -> list[str]:
    """Return what has to be said about these lines: missing peers, failures, what models keep."""
    lines = list(lines)
    absent = sorted({line.theirs.side.package for line in lines if line.theirs.trouble.startswith("no ")})
    keeps = dict.fromkeys(
        f"{line.side.name} {line.side.keeps / 1e6:.3g} MB" for line in lines if line.side.keeps
    )
    out = [f"Not installed, so not measured: {', '.join(absent)}."] if absent else []
    out += [f"What a fitted model keeps of that memory: {'; '.join(keeps)}."] if keeps else []
    out += [
        f"{line.theirs.side.name}: every {line.theirs.side.every}th of the stack, time and memory counted "
        f"{line.theirs.side.every} times."
        for line in lines
        if line.theirs.side.every > 1
    ]
    out += dict.fromkeys(remark for line in lines for m in (line.ours, line.theirs) for remark in m.remarks)
    out += [f"WRONG: {_wrong(line)}" for line in lines if line.wrong]
    return out


def _wrong(line: Comparison) -> str:
    """Say what is wrong about a line."""
    names = f"{line.ours.side.name} / {line.theirs.side.name}"
    troubles = [f"ours {line.ours.trouble}" * bool(line.ours.trouble), line.theirs.trouble]
    said = ", ".join(filter(None, troubles))
    return f"{names}: {said or f'answers differ by {line.error:.3g} times what rounding allows'}"


def markdown(
    rows: Sequence[Sequence[str]], kept: Sequence[Sequence[str]], remarks: Sequence[str], command: str
) -> str:
    """Return the whole report as a page."""
    table = _table(LONG_HEADER, 2, rows) if rows else []
    table += ["", *_table(KEPT_HEADER, 1, kept)] if kept else []
    return "\n".join(
        [
            "# Benchmarks",
            "",
            "This page is written by the benchmark. To reproduce it, in a checkout:",
            "",
            "```sh",
            "pip install . --group bench  # pip 25.1 or later",
            "pip install torch  # for the rows against torch; the group leaves it out for its size",
            command,
            "```",
            "",
            *table,
            "",
            *(f"- {text}" for text in remarks),
            "",
        ]
    )


def _table(header: Sequence[str], names: int, rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table, with so many columns of names before the numbers."""
    bar = ["---"] * names + ["---:"] * (len(header) - names)
    return ["| " + " | ".join(row) + " |" for row in (header, bar, *rows)]
