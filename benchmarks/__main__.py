"""Compare times and memory with other ways: ``python -m benchmarks --help``."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine, report
from benchmarks.measure import ROUNDS, Comparison, compare
from benchmarks.rows import rows

PAGE = Path("docs/benchmarks.md")


def main(*arguments: str) -> int:
    """Run the benchmark; return 1 if an answer is wrong, 2 if nothing is asked for."""
    given = _arguments(arguments)
    plain = machine.plain_environment()
    if len(plain) < len(os.environ):  # libraries have read their settings: another process does without
        print(f"Measured without {', '.join(sorted(os.environ.keys() - plain.keys()))}.", flush=True)
        return subprocess.run([sys.executable, "-m", "benchmarks", *arguments], env=plain).returncode
    parts = given.only.lower().split(",")
    asked = [row for row in rows(given.quick) if any(p in f"{row.key} {row.name}".lower() for p in parts)]
    if not asked:
        keys = ", ".join(row.key for row in rows(True))
        print(f"--only: expected parts of {keys}, got {given.only}", file=sys.stderr)
        return 2
    warnings.simplefilter("ignore")  # few samples are what is measured here
    start, limits = time.perf_counter(), machine.measured(given.quick)
    notes = machine.description(limits)
    print("\n".join(notes), flush=True)
    print(report.text_line(report.AGAINST if given.against else report.HEADER))
    found: list[Comparison] = []
    for row in (row for row in asked if given.against or len(row.sides) > 1):
        for line in compare(row, given.quick, given.rounds or (3 if given.quick else ROUNDS), given.against):
            found.append(line)
            cells = report.cells(line, limits, given.quick, bool(given.against))
            print(report.text_line(cells), flush=True)
    notes += [*report.remarks(found), f"Measured in {time.perf_counter() - start:.0f} s."]
    print("\n".join(notes[4:]))
    page = given.page or (None if given.quick or given.only or given.against else PAGE)
    if page:
        (page.parent / "images").mkdir(parents=True, exist_ok=True)
        (page.parent / "images" / "benchmarks.svg").write_text(report.chart(found))
        page.write_text(report.page(found, limits, given.quick, " ".join(arguments), notes))
    return int(any(line.wrong for line in found))


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__.split(":")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes: only that everything runs")
    parser.add_argument("--only", metavar="NAME", default="", help="rows with a or b in their name, for a,b")
    parser.add_argument("--page", metavar="PATH", type=Path, help=f"page to write (of a full run {PAGE})")
    parser.add_argument("--against", metavar="FOLDER", type=Path, help="compare with an older checkout")
    parser.add_argument("--rounds", metavar="N", type=int, help=f"calls of each side, {ROUNDS} if not given")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
