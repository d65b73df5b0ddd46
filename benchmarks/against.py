"""The times of this code over those of an older checkout: ``python -m benchmarks --against FOLDER``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import Comparison, compare
from benchmarks.rows import Row

HEADER = ("computation", "new", "old", "new/old", "rounds", "at most", "met", "new", "old", "error")
WIDTHS = (38, 8, 8, 7, 11, 7, 4, 7, 7, 5)


def run(rows: Sequence[Row], folder: Path, rounds: int, quick: bool) -> bool:
    """Print a line for each row, all rounds alternated; return whether an answer was wrong."""
    print(_line(HEADER))
    wrong = False
    for row in rows:
        line = compare(row, quick, folder.resolve(), rounds)[0]
        wrong |= line.wrong
        print(_line(_cells(line, quick)), flush=True)
    print(
        "\nnew, old: medians of the rounds; rounds: the smallest and largest ratio of the two times of one "
        "round;\nnew, old (MB): peak of memory of the first call; error: of the first answers, as a share of "
        "the bound of\nbenchmarks/agreement.py (more than 1 is a failure)."
    )
    return wrong


def _cells(line: Comparison, quick: bool) -> tuple[str, ...]:
    """Return the cells of one line."""
    new, old = line.ours, line.theirs
    if not line.timed:
        return (line.row.name, f"{new.trouble or '-'}, {old.trouble or '-'}", *"-" * 8)
    ratio = 1 / line.ratio
    ratios = [a / b for a, b in zip(new.times, old.times, strict=False)]
    most = line.row.most_of_old
    return (
        line.row.name,
        f"{new.seconds:.4f}",
        f"{old.seconds:.4f}",
        f"{ratio:.2f}",
        f"{min(ratios):.2f}-{max(ratios):.2f}",
        "-" if quick else f"{most:g}",
        "-" if quick else "yes" if ratio <= most else "NO",
        *("-" if m.peak is None else f"{m.peak / 1e6:.0f} MB" for m in (new, old)),
        "-" if line.error is None else f"{line.error:.2g}",
    )


def _line(cells: Sequence[str]) -> str:
    """Return a line of the table."""
    numbers = " ".join(cell.rjust(width) for cell, width in zip(cells[1:], WIDTHS[1:], strict=True))
    return f"{cells[0].ljust(WIDTHS[0])} {numbers}"
