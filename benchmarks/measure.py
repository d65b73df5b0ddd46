"""Answers first, then times: all sides of a work in turn, again and again, medians."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks import agreement, memory
from benchmarks.machine import missing
from benchmarks.rows import Array, Ours, Side, Work

SLOW = 3.0  #: seconds, from which on a call is measured three times
SHORT_RUNS, SLOW_RUNS = 7, 3


@dataclass(eq=False)
class Measured:
    """What was found about one side of a work."""

    side: Side
    answer: Array | None = None
    times: list[float] = field(default_factory=list)
    peak: float | None = None  #: bytes
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
    found = [_beginning(side) for side in work.sides]
    data = work.make()
    given = [None if m.trouble else m.side.prepare(data) for m in found]
    first = [_answer(m, value) for m, value in zip(found, given, strict=True)]
    n = len(work.ours)
    lines = [Comparison(o, t, s) for o, s in zip(found, work.ours, strict=False) for t in found[n:]]
    for line in lines:
        if line.ours.answer is not None and line.theirs.answer is not None:
            line.error = _error(work, data, line.ours.answer[:: line.theirs.side.every], line.theirs.answer)
    for m in found:
        m.answer = None
    del data
    _time_in_turn(found, given, first, quick)
    del given
    for m in found:
        m.peak = None if m.trouble else memory.peak(work, m.side, quick)
    return lines


def _beginning(side: Side) -> Measured:
    """Return a side of which nothing is known but whether it is installed."""
    return Measured(side, trouble=f"no {side.package}" if missing(side.needs) else "")


def _error(work: Work, data: Any, ours: Array, theirs: Array) -> float:
    """Return the largest difference of two answers as a share of what is allowed."""
    if theirs.shape != ours.shape:
        return float("inf")
    return agreement.error(ours, theirs, work.allowed(data, theirs))


def _answer(m: Measured, given: Any) -> float:
    """Let a side answer once, and return how long it took; failures are noted, not raised."""
    if m.trouble:
        return 0.0
    start = time.perf_counter()
    try:
        answer = m.side.run(given)
        took = time.perf_counter() - start
        m.answer = np.asarray(m.side.read(answer), np.float64)
    except Exception as error:  # a peer that breaks is a line of the table, not the end of it
        m.trouble = f"failed: {type(error).__name__}"
        return 0.0
    return took


def _time_in_turn(
    found: Sequence[Measured], given: Sequence[Any], first: Sequence[float], quick: bool
) -> None:
    """Time all sides in turn; a slow one fewer times, and its first answer, little warmer, counts."""
    left = []
    for m, took in zip(found, first, strict=True):
        slow = took > SLOW
        m.times = [took] if slow else []
        runs = (1 if quick else SLOW_RUNS - 1) if slow else (3 if quick else SHORT_RUNS)
        left.append(0 if m.trouble else runs)
    for turn in range(max(left)):
        for m, value, runs in zip(found, given, left, strict=True):
            if turn < runs:
                m.times.append(_seconds(m.side, value))


def _seconds(side: Side, given: Any) -> float:
    """Time one call, without the garbage of others."""
    gc.collect()
    start = time.perf_counter()
    answer = side.run(given)
    took = time.perf_counter() - start
    del answer
    return took
