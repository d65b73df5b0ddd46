"""First calls, whose answers are compared, then all sides of a row in turn, again and again."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import agreement
from benchmarks.agreement import Array
from benchmarks.machine import missing
from benchmarks.process import ROOT, FailedError, Process
from benchmarks.rows import Row, Side

SLOW = 3.0  #: seconds, from which on fewer calls are timed
ROUNDS, SLOW_ROUNDS = 7, 3


@dataclass(eq=False)
class Measured:
    """The measurements of one side of a row."""

    side: Side
    trouble: str = ""  #: why there is no answer
    answer: Array | None = None
    times: list[float] = field(default_factory=list)
    peak: float | None = None  #: bytes
    share: float | None = None  #: bytes of the model over those of anomalib's inverses

    @property
    def seconds(self) -> float:
        """Return the median time."""
        return statistics.median(self.times)


@dataclass
class Comparison:
    """One line of the table: mvgauss beside another way."""

    row: Row
    ours: Measured
    theirs: Measured
    error: float | None = None  #: of the answers, as a share of the bound

    @property
    def timed(self) -> bool:
        """Whether both sides were timed."""
        return not self.ours.trouble and not self.theirs.trouble

    @property
    def ratio(self) -> float:
        """Return how many times faster ours is."""
        return self.theirs.seconds / self.ours.seconds

    @property
    def wrong(self) -> bool:
        """Return whether ours failed, theirs failed though installed, or the answers differ."""
        failed = bool(self.ours.trouble) or self.theirs.trouble.startswith("failed")
        return failed or (self.error is not None and self.error > 1)


def compare(row: Row, quick: bool, rounds: int, against: Path | None = None) -> list[Comparison]:
    """Compare the answers of all sides of a row, or of two checkouts, then their times and their memory."""
    sides, places = list(enumerate(row.sides)), [ROOT] * len(row.sides)
    if against is not None:
        sides, places = [(0, row.sides[0])] * 2, [ROOT, against]
    if len(sides) == 1:  # a computation that is compared with older checkouts alone
        return []
    found = [Measured(side, _absent(side)) for _, side in sides]
    lines = [Comparison(row, found[0], theirs) for theirs in found[1:]]
    with ExitStack() as stack:
        processes = {
            m: stack.enter_context(closing(Process(row, index, quick, place)))
            for m, (index, _), place in zip(found, sides, places, strict=True)
            if not m.trouble
        }
        data = row.make()
        for m, process in processes.items():
            with _failure_of(m):
                process.ready()
        slow = set()
        for m, process in processes.items():
            with _failure_of(m):
                first, m.peak = process.watched_call()
                m.answer, m.share = process.ask("answer")
                slow |= {m} if first > SLOW and against is None else set()
        for line in lines:
            line.error = _error(data, line)
        for m in found:
            m.answer = None
        del data
        order = list(processes.items())
        for turn in range(rounds):
            for m, process in order if turn % 2 == 0 else order[::-1]:
                if not m.trouble and (m not in slow or turn < SLOW_ROUNDS):
                    with _failure_of(m):
                        m.times.append(process.call())
    return lines


def _absent(side: Side) -> str:
    """Return which modules of a side are missing."""
    names = [name for name in side.needs if missing(name)]
    return f"no {', '.join(names)}" if names else ""


@contextmanager
def _failure_of(m: Measured) -> Iterator[None]:
    """Note that a side failed: a peer that breaks is a line of the table, not the end of it."""
    try:
        yield
    except FailedError as error:
        m.trouble = m.trouble or f"failed: {error}"


def _error(data: Any, line: Comparison) -> float | None:
    """Return the largest difference of two answers as a share of the bound, where there are two."""
    ours, theirs = line.ours.answer, line.theirs.answer
    if ours is None or theirs is None:
        return None
    if ours.shape != theirs.shape:
        return float("inf")
    return agreement.error(ours, theirs, line.row.allowed(data, theirs))
