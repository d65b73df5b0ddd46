"""Measure all works, print the table, write it as Markdown: ``python -m benchmarks --help``."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine, report, rows
from benchmarks.measure import Comparison, compare

PAGE = Path("docs/benchmarks.md")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 if an answer is wrong, 2 if nothing is asked for."""
    given = _arguments(arguments)
    plain = machine.plain_environment()
    if len(plain) < len(os.environ):  # OpenBLAS has read its settings: another process does without them
        print(f"Measured without {', '.join(sorted(os.environ.keys() - plain.keys()))}.", flush=True)
        command = [sys.executable, "-m", "benchmarks", *(sys.argv[1:] if arguments is None else arguments)]
        return subprocess.run(command, env=plain).returncode
    works = [w for w in rows.works(given.quick) if _asked(w, given.only)]
    if not works:
        keys = ", ".join(w.key for w in rows.works(True))
        print(f"--only: expected a part of one of {keys}, got {given.only}", file=sys.stderr)
        return 2
    start, load = time.perf_counter(), machine.load()
    for side in (s for w in works for s in w.peers):
        machine.missing(side.needs)  # imported now, so that their thread pools are listed
    limits = machine.limits(given.quick)
    description = machine.description(limits)
    _say(description)
    print("\n" + report.text_line(report.HEADER))
    found: list[Comparison] = []
    table = []
    for work in works:
        for line in compare(work, given.quick):
            found.append(line)
            table.append(report.cells(line, limits, given.quick))
            print(report.text_line(table[-1]), flush=True)
    took = f"Measured in {time.perf_counter() - start:.0f} s"
    loads = f"load average {load} before, {machine.load()} after"
    remarks = [*report.notes(found), f"{took}; {loads}."]
    print()
    _say([*remarks, *report.LEGEND])
    page = given.markdown or (None if given.quick or given.only else PAGE)
    if page:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(report.markdown(table, [*remarks, *report.LEGEND, *description], _command(given)))
    return int(any(line.wrong for line in found))


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__.split(":")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes: only that everything runs")
    parser.add_argument("--only", metavar="PART", default="", help="works with this in their name")
    parser.add_argument(
        "--markdown", metavar="PATH", type=Path, help=f"the page to write (of a full run {PAGE})"
    )
    return parser.parse_args(arguments)


def _asked(work: rows.Work, part: str) -> bool:
    """Return whether a work is asked for by a part of its name."""
    return any(part.lower() in name.lower() for name in (work.key, *(side.name for side in work.ours)))


def _command(given: argparse.Namespace) -> str:
    """Return the command that was given."""
    quick, only = " --quick" * given.quick, f" --only {given.only}" * bool(given.only)
    return f"python -m benchmarks{quick}{only}"


def _say(texts: Sequence[str]) -> None:
    """Print paragraphs as wide as the table."""
    for text in texts:
        print(textwrap.fill(text, report.COLUMNS, subsequent_indent="  "))


if __name__ == "__main__":
    sys.exit(main())
