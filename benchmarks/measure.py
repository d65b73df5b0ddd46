"""First calls, whose answers are compared, then all sides of a work in turn, again and again."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import agreement
from benchmarks.machine import missing
from benchmarks.process import FailedError, Process
from benchmarks.rows import Array, Ours, Side, Work

SLOW = 3.0  #: seconds, from which on fewer calls are measured
SHORT_RUNS, SLOW_RUNS = 7, 2


@dataclass(eq=False)
class Measured:
    """What was found about one side of a work."""

    side: Side
    answer: Array | None = None
    first: float = 0.0  #: seconds of the first call in its process
    times: list[float] = field(default_factory=list)
    peak: float | None = None  #: bytes
    remarks: list[str] = field(default_factory=list)
    trouble: str = ""  #: why there is no answer

    @property
    def seconds(self) -> float:
        """Return the median time, of all items."""
        return statistics.median(self.times) * self.side.every


@dataclass
class Comparison:
    """One line of the table: one of our ways beside one of others'."""

    ours: Measured
    theirs: Measured
    side: Ours
    error: float | None = None  #: of the answers, as a share of what is allowed

    @property
    def ratio(self) -> float:
        """Return how many times faster ours is."""
        return self.theirs.seconds / self.ours.seconds

    @property
    def first_ratio(self) -> float:
        """Return how many times faster ours is when it is called once, in a new process."""
        return self.theirs.first * self.theirs.side.every / self.ours.first

    @property
    def floor(self) -> float | None:
        """Return how many times faster ours has to be, where that is laid down."""
        return self.side.floors.get(self.theirs.side.name)

    @property
    def wrong(self) -> bool:
        """Return whether ours failed, theirs failed though installed, or the answers differ."""
        failed = bool(self.ours.trouble) or self.theirs.trouble.startswith("failed")
        return failed or (self.error is not None and self.error > 1)


def compare(work: Work, quick: bool) -> list[Comparison]:
    """Compare the answers of all sides of a work, then their times and their memory."""
    found = [Measured(s, trouble=f"no {s.package}" if missing(s.needs) else "") for s in work.sides]
    n = len(work.ours)
    lines = [Comparison(o, t, s) for o, s in zip(found, work.ours, strict=False) for t in found[n:]]
    with TemporaryDirectory() as folder, ExitStack() as stack:
        sides = {
            m: stack.enter_context(closing(Process(work, m.side, quick))) for m in found if not m.trouble
        }
        data = work.make()
        for m, process in sides.items():
            with _failure_of(m):
                process.wait()
        for i, (m, process) in enumerate(sides.items()):
            if not m.trouble:
                with _failure_of(m):
                    _first(m, process, Path(folder, f"{i}.npy"))
        for line in lines:
            if line.ours.answer is not None and line.theirs.answer is not None:
                line.error = _error(
                    work, data, line.ours.answer[:: line.theirs.side.every], line.theirs.answer
                )
        for m in found:
            m.answer = None
        del data
        _time_in_turn({m: process for m, process in sides.items() if not m.trouble}, quick)
    return lines


@contextmanager
def _failure_of(m: Measured) -> Iterator[None]:
    """Note that a side failed: a peer that breaks is a line of the table, not the end of it."""
    try:
        yield
    except FailedError as error:
        m.trouble = f"failed: {error}"


def _first(m: Measured, process: Process, file: Path) -> None:
    """Let a side answer for the first time."""
    m.first, peak = process.watched_call()
    m.peak = None if peak is None else peak * m.side.every
    m.answer = process.answer(file)
    m.remarks = process.remarks()


def _error(work: Work, data: Any, ours: Array, theirs: Array) -> float:
    """Return the largest difference of two answers as a share of what is allowed."""
    if theirs.shape != ours.shape:
        return float("inf")
    return agreement.error(ours, theirs, work.allowed(data, theirs))


def _time_in_turn(sides: Mapping[Measured, Process], quick: bool) -> None:
    """Time all sides in turn, a slow one fewer times."""
    left = {m: SLOW_RUNS if m.first > SLOW else 3 if quick else SHORT_RUNS for m in sides}
    for turn in range(max(left.values(), default=0)):
        for m, process in sides.items():
            if turn < left[m] and not m.trouble:
                with _failure_of(m):
                    m.times.append(process.call())
