"""Fits and scores beside threads that are busy in Python, as in a server or a training script.

Each release of the interpreter's lock may cost a turn of every such thread. The floors are how much
slower a work may be than the same alone: a ratio of 0.2 is five times.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from benchmarks import agreement, cost, peers
from benchmarks.rows import (
    BATCHED,
    Array,
    Ours,
    Pictures,
    Side,
    Work,
    covariances_of,
    fitted,
    fitted_distances,
    pictures,
    size,
    tensors,
)
from mvgauss import MultiVariateGaussian

AnySide = TypeVar("AnySide", bound=Side)

ALONE = "the same alone"

#: How many times slower than alone a work may be, by the number of busy threads.
SLOWER = {1: 5, 2: 8}


class Neighbours:
    """Threads that are busy in Python while they are let."""

    def __init__(self, count: int) -> None:
        self._busy = threading.Event()
        for _ in range(count):
            threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        number = 0
        while self._busy.wait():
            while self._busy.is_set():
                for i in range(1000):
                    number += i * i

    def __enter__(self) -> None:
        self._busy.set()

    def __exit__(self, *_: object) -> None:
        self._busy.clear()


def beside(count: int, side: AnySide) -> AnySide:
    """Return a side as it runs beside so many busy threads."""

    def run(given: tuple[Any, Neighbours]) -> Any:
        data, neighbours = given
        with neighbours:
            return side.run(data)

    return replace(side, run=run, prepare=lambda data: (side.prepare(data), Neighbours(count)))


def works(quick: bool) -> list[Work]:
    """Return the works, beside one busy thread and two, on all threads and on one."""
    shape = (20, 8, 4, 4) if quick else (200, 100, 28, 28)
    small = (20, 8, 2, 2) if quick else (200, 100, 14, 14)
    return [
        work
        for count in SLOWER
        for jobs in (None, 1)
        for work in (
            fit(shape, count, jobs),
            score(32, shape, count, jobs),
            score(1, shape, count, jobs),
            score(1, small, count, jobs, "-small"),
        )
    ]


def named(text: str, count: int, jobs: int | None) -> str:
    """Return the name of a work."""
    return f"{text} beside {count} busy{', n_jobs=1' if jobs else ''}"


def peers_of(ours: Ours, count: int, others: Sequence[Side] = ()) -> tuple[Side, ...]:
    """Return the same alone, and what others do beside busy threads."""
    return (Side(ALONE, ours.run), *(beside(count, other) for other in others))


def numpy_fit_and_score(data: Pictures) -> Array:
    """Fit and score one image in NumPy, patch after patch."""
    n, c = data.train.shape[:2]
    train, image = data.train.reshape(n, c, -1), data.image.reshape(c, -1)
    scores = np.empty(image.shape[1])
    for i in range(len(scores)):
        inverse = np.linalg.inv(np.cov(train[:, :, i], rowvar=False) + peers.RIDGE * np.eye(c))
        delta = image[:, i] - train[:, :, i].mean(axis=0)
        scores[i] = np.sqrt(delta @ inverse @ delta)
    return scores.reshape(1, *data.image.shape[2:])


OTHERS = (
    Side("loop: numpy.cov, linalg.inv", numpy_fit_and_score),
    Side(
        BATCHED,
        lambda data: peers.original_score(data.image, *peers.batched_fit(data.train)),
        prepare=tensors,
        needs="torch",
        package="torch",
    ),
)


def fit(shape: tuple[int, int, int, int], count: int, jobs: int | None) -> Work:
    """Fit an embedding and score one image."""
    n, c, h, w = shape
    ours = Ours(
        named(f"fit {size(shape)}", count, jobs),
        lambda data: MultiVariateGaussian(n_jobs=jobs).fit(data.train).mahalanobis(data.image),
        cost=cost.fit(n, c, h * w),
        floors={ALONE: 1 / SLOWER[count]},
    )
    return Work(
        f"busy-{count}-fit" + "-1job" * bool(jobs),
        lambda: pictures(shape),
        (beside(count, ours),),
        peers_of(ours, count, () if jobs else OTHERS),
        fitted_distances,
    )


def score(
    images: int, shape: tuple[int, int, int, int], count: int, jobs: int | None, suffix: str = ""
) -> Work:
    """Score images with a model that is fitted; one image of 14 x 14 patches at most 20 ms."""
    n, c, h, w = shape
    ours = Ours(
        named(f"score {images} {size(shape)}", count, jobs),
        lambda data: data.model.set_params(n_jobs=jobs).mahalanobis(data.images),
        cost=cost.score(images, c, h * w, n),
        floors={ALONE: 1 / SLOWER[count]} if images > 1 else {},
    )
    return Work(
        f"busy-{count}-score-{images}{suffix}" + "-1job" * bool(jobs),
        lambda: fitted(images, shape),
        (beside(count, ours),),
        peers_of(ours, count),
        lambda data, distances: agreement.of_distances(c, covariances_of(data.train), distances),
    )
