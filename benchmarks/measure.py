"""First calls, whose answers are compared, then all sides of a row in turn, again and again."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from benchmarks import agreement
from benchmarks.agreement import Array
from benchmarks.process import ROOT, FailedError, Process
from benchmarks.rows import Row, Side

SLOW = 3.0  #: seconds, from which on fewer calls are timed
ROUNDS, SLOW_ROUNDS = 7, 3


@dataclass(eq=False)
class Measured:
    """The measurements of one side of a row."""

    side: Side
    trouble: str = ""  #: why there is no answer
    times: list[float] = field(default_factory=list)
    peak: float = 0.0  #: bytes, on Linux
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
    places = [(i, ROOT) for i in range(len(row.sides))] if against is None else [(0, ROOT), (0, against)]
    found = [Measured(row.sides[i]) for i, _ in places]
    answers: dict[Measured, Array] = {}
    with ExitStack() as stack:
        processes = {}
        for m, (i, place) in zip(found, places, strict=True):
            absent = [name for name in m.side.needs if find_spec(name) is None]
            m.trouble = f"no {', '.join(absent)}" if absent else ""
            if not absent:
                processes[m] = stack.enter_context(closing(Process(row, i, quick, place)))
        data = row.make()
        for m, process in processes.items():
            with _failure_of(m):
                process.ready()
        slow = set()
        for m, process in processes.items():
            with _failure_of(m):
                first, m.peak = process.call(watched=sys.platform == "linux")
                answers[m], m.share = process.said()
                slow |= {m} if first > SLOW and against is None else set()
        lines = [Comparison(row, found[0], theirs) for theirs in found[1:]]
        for line in lines:
            if line.ours in answers and line.theirs in answers:
                ours, theirs = answers[line.ours], answers[line.theirs]
                line.error = agreement.error(ours, theirs, row.allowed(data, theirs))
                del ours, theirs
        del data, answers  # the memory is for the timed calls
        order = list(processes.items())
        for turn in range(rounds):
            for m, process in order if turn % 2 == 0 else order[::-1]:
                if not m.trouble and (m not in slow or turn < SLOW_ROUNDS):
                    with _failure_of(m):
                        m.times.append(process.call()[0])
    return lines


@contextmanager
def _failure_of(m: Measured) -> Iterator[None]:
    """Note that a side failed: a peer that breaks is a line of the table, not the end of it."""
    try:
        yield
    except FailedError as error:
        m.trouble = m.trouble or f"failed: {error}"
