"""First calls, whose answers are compared, then all sides of a row in turn, again and again."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
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
    first: float = 0.0  #: seconds of the first call in its process
    times: list[float] = field(default_factory=list)
    peak: float | None = None  #: bytes
    kept: int | None = None  #: bytes of the model

    @property
    def seconds(self) -> float:
        """Return the median time, of all items."""
        return statistics.median(self.times) * self.side.every


@dataclass
class Comparison:
    """One line of the table: our way beside one of others'."""

    row: Row
    ours: Measured
    theirs: Measured
    error: float | None = None  #: of the answers, as a share of the bound

    @property
    def timed(self) -> bool:
        """Whether both sides were timed."""
        return bool(self.ours.times and self.theirs.times)

    @property
    def ratio(self) -> float:
        """Return how many times faster ours is."""
        return self.theirs.seconds / self.ours.seconds

    @property
    def wrong(self) -> bool:
        """Return whether ours failed, theirs failed though installed, or the answers differ."""
        failed = bool(self.ours.trouble) or self.theirs.trouble.startswith("failed")
        return failed or (self.error is not None and self.error > 1)


def compare(row: Row, quick: bool, against: Path | None = None, rounds: int = ROUNDS) -> list[Comparison]:
    """Compare the answers of all sides of a row, or of two checkouts, then their times and their memory."""
    ours = Measured(row.sides[0])
    if against is None:
        others = [Measured(side, _absent(side)) for side in row.peers]
        places = [(m, i, ROOT) for i, m in enumerate((ours, *others))]
    else:
        others = [Measured(row.sides[0])]
        places = [(ours, 0, ROOT), (others[0], 0, against)]
    lines = [Comparison(row, ours, theirs) for theirs in others]
    with TemporaryDirectory() as folder, ExitStack() as stack:
        sides = {
            m: stack.enter_context(closing(Process(row, i, quick, place)))
            for m, i, place in places
            if not m.trouble
        }
        data = row.make()
        for m, process in sides.items():
            with _failure_of(m):
                process.ready()
        for i, (m, process) in enumerate(sides.items()):
            with _failure_of(m):
                _first(m, process, Path(folder, f"{i}.npy"))
        for line in lines:
            if line.ours.answer is not None and line.theirs.answer is not None:
                line.error = _error(row, data, line)
        for m in sides:
            m.answer = None
        del data
        _time_in_turn(sides, 3 if quick else rounds, rounds if against else SLOW_ROUNDS)
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


def _first(m: Measured, process: Process, file: Path) -> None:
    """Let a side answer for the first time."""
    if m.trouble:
        return
    m.first, peak = process.watched_call()
    m.peak = None if peak is None else peak * m.side.every
    m.answer, m.kept = process.answer(file)


def _error(row: Row, data: Any, line: Comparison) -> float:
    """Return the largest difference of two answers as a share of the bound."""
    assert line.ours.answer is not None
    assert line.theirs.answer is not None
    ours, theirs = line.ours.answer[:: line.theirs.side.every], line.theirs.answer
    if theirs.shape != ours.shape:
        return float("inf")
    return agreement.error(ours, theirs, row.allowed(data, theirs))


def _time_in_turn(sides: Mapping[Measured, Process], rounds: int, slow_rounds: int) -> None:
    """Time all sides in turn, a slow one fewer times, every second time in the opposite order."""
    order = list(sides.items())
    left = {m: min(rounds, slow_rounds) if m.first > SLOW else rounds for m in sides}
    for turn in range(rounds):
        for m, process in order if turn % 2 == 0 else order[::-1]:
            if turn < left[m] and not m.trouble:
                with _failure_of(m):
                    m.times.append(process.call())
