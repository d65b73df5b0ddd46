"""Compare times and memory with other ways: ``python -m benchmarks --help``."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from benchmarks import against, machine
from benchmarks.measure import ROUNDS
from benchmarks.rows import Row, rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 if an answer is wrong, 2 if nothing is asked for."""
    given = _arguments(arguments)
    plain = machine.plain_environment()
    if len(plain) < len(os.environ):  # OpenBLAS has read its settings: another process does without them
        print(f"Measured without {', '.join(sorted(os.environ.keys() - plain.keys()))}.", flush=True)
        command = [sys.executable, "-m", "benchmarks", *(sys.argv[1:] if arguments is None else arguments)]
        return subprocess.run(command, env=plain).returncode
    asked = [row for row in rows(given.quick) if _asked(row, given.only)]
    if not asked:
        keys = ", ".join(row.key for row in rows(True))
        print(f"--only: expected parts of {keys}, got {given.only}", file=sys.stderr)
        return 2
    warnings.simplefilter("ignore")  # few samples are what is measured here
    print("\n".join(machine.description(machine.limits(given.quick))), flush=True)
    return int(against.run(asked, given.against, given.rounds, given.quick))


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__.split(":")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes: only that everything runs")
    parser.add_argument("--only", metavar="NAME", default="", help="rows with a or b in their name, for a,b")
    parser.add_argument(
        "--against", metavar="FOLDER", type=Path, help="compare with an older checkout instead"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"calls of each side, {ROUNDS} by default")
    return parser.parse_args(arguments)


def _asked(row: Row, parts: str) -> bool:
    """Return whether a row is asked for by parts of its key or name."""
    return any(part.lower() in name.lower() for part in parts.split(",") for name in (row.key, row.name))


if __name__ == "__main__":
    sys.exit(main())
