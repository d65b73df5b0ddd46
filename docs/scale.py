"""The tables of docs/explanation/scale.md: ``python docs/scale.py [--quick]``.

What a fit on Dask takes for each chunk and each merge, on one thread (CPU seconds, the least of some runs),
and what that predicts for many workers.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable, Iterable
from math import ceil, log
from typing import Any, NamedTuple

import numpy as np

from mvgauss import MultiVariateGaussian

STORAGE = 200e6  #: bytes per second that one worker reads, uncompressed: an assumption
NETWORK = 1e9  #: bytes per second between two machines: an assumption
SCHEDULER = 0.8e-3  #: seconds of Dask's scheduler for each task: an assumption


class Work(NamedTuple):
    """An embedding and its chunks."""

    n_samples: int
    n_features: int
    n_patches: int
    chunk_samples: int
    chunk_patches: int

    @property
    def read(self) -> int:
        """Return the bytes of one chunk in single precision."""
        return self.chunk_samples * self.n_features * self.chunk_patches * 4

    @property
    def state(self) -> int:
        """Return the bytes of the moments of one chunk of many images, in double precision."""
        c = self.n_features
        return self.chunk_patches * (c + c * (c + 1) // 2) * 8

    @property
    def runs(self) -> int:
        """Return how many chunks there are along the samples."""
        return ceil(self.n_samples / self.chunk_samples)

    @property
    def columns(self) -> int:
        """Return how many chunks there are along the patches."""
        return ceil(self.n_patches / self.chunk_patches)

    def tree(self, split_every: int) -> tuple[int, int]:
        """Return how many tasks merge the chunks of the same patches, and how many states they take."""
        tasks = states = 0
        left = self.runs
        while left > 1:
            alone = left % split_every == 1  # goes on as it is
            states += left - alone
            left = ceil(left / split_every)
            tasks += left - alone
        return tasks, states


def least(prepare: Callable[[], Any], task: Callable[[Any], Any], runs: int) -> float:
    """Return the least CPU seconds of a task on this thread."""
    times = []
    for _ in range(runs):
        given, start = prepare(), time.thread_time()
        task(given)
        times.append(time.thread_time() - start)
    return min(times)


def costs(work: Work, runs: int) -> tuple[float, float, float]:
    """Return the seconds of the moments of a chunk, of a merge of two, and of the factors of its patches."""
    shape = (work.chunk_samples, work.n_features, work.chunk_patches)
    x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    part = MultiVariateGaussian(n_jobs=1).partial_fit(x)
    return (
        least(lambda: MultiVariateGaussian(n_jobs=1), lambda model: model.partial_fit(x), runs),
        least(lambda: copy.deepcopy(part), lambda model: model.merge(part), runs),
        least(lambda: copy.deepcopy(part), lambda model: model.rank, runs),
    )


def size(count: float) -> str:
    """Write bytes."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def span(seconds: float) -> str:
    """Write seconds."""
    for limit, unit, text in ((0.1, 1e-3, "ms"), (100, 1, "s"), (5400, 60, "min")):
        if seconds < limit:
            return f"{seconds / unit:.3g} {text}"
    return f"{seconds / 3600:.3g} h"


def table(head: str, rows: Iterable[Iterable[str]]) -> None:
    """Print a Markdown table."""
    print(f"| {head} |\n|{' ---: |' * (head.count('|') + 1)}")
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)
    print()


def forecast(w: Work, chunk: float, merge: float, workers: int, split_every: int = 4) -> float:
    """Return the seconds of a fit on so many workers of one thread."""
    tasks, states = w.tree(split_every)
    leaves = w.runs * w.columns * (w.read / STORAGE + chunk)
    merges = (w.runs - 1) * w.columns * merge + states * w.columns * w.state / NETWORK
    # when the last chunks are done, the merges above them are done one after another
    levels = ceil(log(w.runs, split_every)) if w.runs > 1 else 0
    tail = levels * (split_every - 1) * (merge + w.state / NETWORK)
    return max((leaves + merges) / workers + tail, w.columns * (w.runs + tasks) * SCHEDULER)


def main(quick: bool) -> None:
    """Measure, and print the tables."""
    usual = [(100, n, p) for n, p in ((100, 3136), (400, 784), (1600, 196), (2800, 112))]
    large = [(550, n, p) for n, p in ((550, 112), (2048, 28), (8192, 7))]
    chunks = [(20, 64, 196), (20, 256, 49)] if quick else [*usual, *large]
    works = [Work(1_000_000, c, 3136, n, p) for c, n, p in chunks]
    measured = [(w, *costs(w, 1 if quick else 3)) for w in works]
    names = [(f"{w.n_features}", f"{w.chunk_samples} x {w.chunk_patches}") for w in works]
    table(
        "C | chunk n x p | read | moments | chunk | merge two | factors",
        (
            (*name, size(w.read), size(w.state), *map(span, seconds))
            for name, (w, *seconds) in zip(names, measured, strict=True)
        ),
    )
    print("A million images at 56 x 56 patches\n")
    table(
        "C | chunk n x p | tasks | moved, at most | 10 workers | 100 workers | 1000 workers",
        (
            (
                *name,
                f"{w.columns * (w.runs + w.tree(4)[0]):,}",
                size(w.tree(4)[1] * w.columns * w.state),
                *(span(forecast(w, chunk, merge, workers)) for workers in (10, 100, 1000)),
            )
            for name, (w, chunk, merge, _) in zip(names, measured, strict=True)
        ),
    )


if __name__ == "__main__":
    main("--quick" in sys.argv)
