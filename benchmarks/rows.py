"""The rows of the benchmark: what is computed, from what, beside whom, and what is asked of it."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from benchmarks import agreement, cost, peers
from benchmarks.agreement import Array
from benchmarks.cost import Cost
from mvgauss import MultiVariateGaussian, cov, pinv

Shape = tuple[int, int, int, int]

ORIGINAL = "anomalib's formulas"
BATCHED = "torch: bmm, linalg.inv"
ALONE = "the same alone"
IN_MEMORY = "the same in memory"
EXPORTED = "the exported file"

#: How many times as long a computation may take beside so many busy Python threads as alone.
BUSY = {1: 5, 2: 8}

#: A loop costs the same for every item: the slowest peer does one of so many, and counts so many times.
SHARE = 16


def unchanged(value: Any) -> Any:
    """Return the value."""
    return value


@dataclass(frozen=True)
class Side:
    """One way to an answer. Only `run` is timed."""

    name: str
    run: Callable[[Any], Any]
    prepare: Callable[[Any], Any] = unchanged  #: from the data to the argument of `run`
    read: Callable[[Any], Any] = np.asarray  #: from the result of `run` to an array
    needs: tuple[str, ...] = ()  #: modules that may be missing
    every: int = 1  #: 16 for a loop that does each 16th item only


@dataclass(frozen=True)
class Row:
    """One computation: its data, our way and others' ways to do it, and how far apart answers may be."""

    key: str
    group: str
    name: str
    make: Callable[[], Any]
    run: Callable[[Any], Any]
    allowed: Callable[[Any, Array], Array | float]
    cost: Cost
    peers: tuple[Side, ...] = ()
    read: Callable[[Any], Any] = np.asarray
    kept: Callable[[Any], int] | None = None  #: from the result to the bytes of the model
    floors: Mapping[str, float] = field(default_factory=dict)  #: how many times faster than each peer
    most_kept: float | None = None  #: bytes of the model over those of the inverses that anomalib keeps
    inverses: int = 0  #: those bytes
    most_of_old: float = 1.1  #: time over that of an older checkout
    prepare: Callable[[Any], Any] = unchanged

    @property
    def sides(self) -> tuple[Side, ...]:
        """Return all ways, ours first."""
        return (Side("mvgauss", self.run, self.prepare, self.read), *self.peers)


def rows(quick: bool = False) -> list[Row]:
    """Return all rows, at their full sizes or at small ones that only show that everything runs."""
    usual = (20, 8, 4, 4) if quick else (200, 100, 56, 56)
    middle = (20, 8, 4, 4) if quick else (200, 100, 28, 28)
    stack = (16, 40, 8) if quick else (3136, 200, 100)
    few: dict[str, tuple[Shape, float, float]] = {
        "200": ((12, 24, 2, 2) if quick else (200, 550, 14, 14), 10, 0.7),
        "60": ((5, 24, 2, 2) if quick else (60, 550, 14, 14), 25, 0.2),
        "1792": ((6, 40, 2, 2) if quick else (100, 1792, 7, 7), 40, 0.1),
    }
    busy_shapes = [(count, middle) for count in BUSY]
    return [
        fit("fit-100", "The usual case", usual, {BATCHED: 1.7}, None, most_of_old=0.95),
        score("score-32", "The usual case", 32, usual, {ORIGINAL: 4}, most_of_old=0.85),
        score("score-1", "The usual case", 1, usual, {ORIGINAL: 1}, most_of_old=0.75),
        partial_fit("partial-256", (20, 16, 2, 2) if quick else (140, 256, 14, 14), most_of_old=0.25),
        *(fit(f"few-fit-{k}", "Few samples", s, {ORIGINAL: f}, most) for k, (s, f, most) in few.items()),
        *(
            score(f"few-score-{k}-{m}", "Few samples", m, s, {})
            for k, (s, _, _) in few.items()
            for m in (32, 1)
        ),
        tall_cov(*((2000, 8) if quick else (1_000_000, 100))),
        stacked_cov(*stack),
        inverses("pinv", stack[0], stack[2], False, 10),
        inverses("pinv-deficient", stack[0], stack[2], True, 5),
        mapped_fit("memmap-200", middle),
        mapped_fit("memmap-800", (4 * middle[0], *middle[1:])),
        *(beside(count, fit("fit", "", shape, {}, None)) for count, shape in busy_shapes),
        *(beside(count, score("score-32", "", 32, shape, {})) for count, shape in busy_shapes),
        *(beside(count, score("score-1", "", 1, shape, {})) for count, shape in busy_shapes),
        exported(middle),
    ]


# ---------------------------------------------------------------------------------------------------------
# fitting


class Pictures(NamedTuple):
    """Embeddings to fit, and others to score."""

    train: Any
    images: Any


class Fitted(NamedTuple):
    """A model, the embeddings that it was fitted to, and others to score."""

    model: Any
    train: Array
    images: Array


def pictures(shape: tuple[int, ...], images: int = 1) -> Pictures:
    """Return random float32 embeddings whose features have a component in common, as those of networks."""
    found = []
    for seed, length in enumerate((shape[0], images)):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((length, *shape[1:]), np.float32)
        x += rng.standard_normal((length, 1, *shape[2:]), np.float32)
        found.append(x)
    return Pictures(*found)


def fit_and_score(data: Pictures) -> tuple[Any, Array]:
    """Construct a model, fit it and score the images; return the model and the distances."""
    model = MultiVariateGaussian().fit(data.train)
    return model, model.mahalanobis(data.images)


def original_fit_and_score(fit: Callable[[Any], tuple[Any, Any]], data: tuple[Any, Any]) -> Any:
    """Fit, and score the images, by other formulas."""
    return peers.original_score(data[1], *fit(data[0]))


def distances_allowed(data: Pictures | Fitted, distances: Array) -> Array:
    """Return how far apart the distances may be."""
    return agreement.of_distances(data.train, distances)


def fit(
    key: str,
    group: str,
    shape: Shape,
    floors: Mapping[str, float],
    most_kept: float | None,
    *,
    most_of_old: float = 1.1,
) -> Row:
    """Fit an embedding and score one image."""
    n, c, h, w = shape
    ways = [Side(ORIGINAL, partial(original_fit_and_score, peers.original_fit), lambda d: peers.arrays(*d))]
    if BATCHED in floors:
        run = partial(original_fit_and_score, peers.batched_fit)
        ways.append(Side(BATCHED, run, lambda d: peers.arrays(*d), needs=("torch",)))
    return Row(
        key,
        group,
        f"fit {size(shape)}",
        lambda: pictures(shape),
        fit_and_score,
        distances_allowed,
        cost.fit(n, c, h * w),
        tuple(ways),
        read=lambda result: result[1],
        kept=lambda result: int(result[0].nbytes),
        floors=floors,
        most_kept=most_kept,
        inverses=4 * h * w * c * c,
        most_of_old=most_of_old,
    )


def partial_fit(key: str, shape: Shape, most_of_old: float) -> Row:
    """Add one image to the moments of a model; its distances are compared, not timed."""
    n, c, h, w = shape
    return Row(
        key,
        "The usual case",
        f"partial_fit 1, {size(shape)}",
        lambda: fitted(1, shape),
        lambda data: (data.model.partial_fit(data.images), data.images),
        distances_allowed,
        cost.update(c, h * w),
        read=lambda result: result[0].mahalanobis(result[1]),
        most_of_old=most_of_old,
    )


def mapped_fit(key: str, shape: Shape) -> Row:
    """Fit a memory map, beside the same in memory: its peak of memory does not grow with N."""
    n, c, h, w = shape
    same = Side(
        IN_MEMORY,
        fit_and_score,
        lambda data: data._replace(train=np.array(data.train)),
        lambda result: result[1],
    )
    return Row(
        key,
        "Memory",
        f"fit memory map {size(shape)}",
        lambda: mapped_pictures(shape),
        fit_and_score,
        distances_allowed,
        cost.fit(n, c, h * w),
        (same,),
        read=lambda result: result[1],
    )


def mapped_pictures(shape: Shape) -> Pictures:
    """Return random float32 embeddings in a file that is removed with them."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryFile() as file:
        train = np.memmap(file, np.float32, "w+", shape=shape)
    for sample in train:
        sample[...] = rng.standard_normal(shape[1:], np.float32)
    train.flush()
    return Pictures(train, rng.standard_normal((1, *shape[1:]), np.float32))


# ---------------------------------------------------------------------------------------------------------
# scoring


def fitted(images: int, shape: Shape) -> Fitted:
    """Return a model of random embeddings, and others to score."""
    train, others = pictures(shape, images)
    return Fitted(MultiVariateGaussian().fit(train), train, others)


def score(
    key: str,
    group: str,
    images: int,
    shape: Shape,
    floors: Mapping[str, float],
    *,
    most_of_old: float = 1.1,
) -> Row:
    """Score images with a model that is fitted."""
    n, c, h, w = shape
    original = Side(
        ORIGINAL,
        lambda given: peers.original_score(*given),
        lambda data: peers.arrays(data.images, *data.model),
    )
    return Row(
        key,
        group,
        f"score {images}, {size(shape)}",
        lambda: fitted(images, shape),
        lambda data: data.model.mahalanobis(data.images),
        distances_allowed,
        cost.score(images, n, c, h * w),
        (original,),
        floors=floors,
        most_of_old=most_of_old,
    )


def exported(shape: Shape) -> Row:
    """Score one image, beside the same with the file that the model is exported to."""

    def run(given: tuple[Any, Array]) -> Any:
        session, image = given
        return session.run(["distances"], {"embedding": image})[0]

    def prepare(data: Fitted) -> tuple[Any, Array]:
        with tempfile.TemporaryDirectory() as folder:
            return peers.exported(data.model, folder), data.images

    side = Side(EXPORTED, run, prepare, needs=("mvgauss.onnx", "onnx", "onnxruntime"))
    row = score("onnx", "An exported file", 1, shape, {})
    return replace(row, peers=(side,))


# ---------------------------------------------------------------------------------------------------------
# beside busy threads


class BusyThreads:
    """Threads that compute in Python inside of a ``with`` statement."""

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


def beside(count: int, row: Row) -> Row:
    """Return a computation beside so many busy threads, compared with the same alone."""

    def run(given: tuple[Any, BusyThreads]) -> Any:
        data, threads = given
        with threads:
            return row.run(data)

    return replace(
        row,
        key=f"busy-{count}-{row.key}",
        group="Beside busy threads",
        name=f"{row.name} beside {count}",
        run=run,
        prepare=lambda data: (row.prepare(data), BusyThreads(count)),
        peers=(Side(ALONE, row.run, row.prepare, row.read),),
        floors={} if "score-1" in row.key else {ALONE: 1 / BUSY[count]},
        kept=None,
    )


# ---------------------------------------------------------------------------------------------------------
# covariances and pseudo-inverses


def tall_cov(n: int, c: int) -> Row:
    """Estimate the covariance of one long sample."""
    return Row(
        "cov-tall",
        "Covariances and pseudo-inverses",
        f"cov of {n}x{c}",
        lambda: np.random.default_rng(0).standard_normal((n, c)),
        cov,
        lambda _, covariance: agreement.of_covariances(n, covariance),
        cost.cov(n, c, 1),
        (Side("numpy.cov", peers.numpy_cov),),
        floors={"numpy.cov": 2.0},
    )


def stacked_cov(p: int, n: int, c: int) -> Row:
    """Estimate a stack of covariances."""
    loop = Side(
        "loop: EmpiricalCovariance",
        peers.sklearn_cov_loop,
        lambda stack: stack[::SHARE],
        lambda covariances: np.stack(covariances) * (n / (n - 1)),
        ("sklearn",),
        every=SHARE,
    )
    return Row(
        "cov-stack",
        "Covariances and pseudo-inverses",
        f"cov of {size((p, n, c))}",
        lambda: np.random.default_rng(0).standard_normal((p, n, c)),
        cov,
        lambda _, covariances: agreement.of_covariances(n, covariances),
        cost.cov(n, c, p),
        (
            Side("loop of numpy.cov", peers.numpy_cov_loop),
            Side("array-api-extra's cov", peers.extra_cov, needs=("array_api_extra",)),
            loop,
        ),
        floors={loop.name: 100},
    )


def inverses(key: str, p: int, c: int, deficient: bool, floor: float) -> Row:
    """Pseudo-invert a stack of covariances, every tenth of them of half rank if `deficient`."""
    tenth = slice(0, p if deficient else 0, 10)

    def make() -> Array:
        x = np.random.default_rng(0).standard_normal((p, 2 * c, c))
        x[tenth, c // 2 :] = 0
        return np.asarray(np.matmul(x.swapaxes(1, 2), x) / (2 * c))

    return Row(
        key,
        "Covariances and pseudo-inverses",
        f"pinv of {size((p, c, c))}{', a tenth deficient' * deficient}",
        make,
        pinv,
        lambda stack, _: agreement.of_inverses(stack),
        cost.pinv(c, p, len(range(p)[tenth])),
        (Side("numpy.linalg.pinv", peers.numpy_pinv),),
        floors={"numpy.linalg.pinv": floor},
    )


def size(shape: tuple[int, ...]) -> str:
    """Return a shape as text."""
    return "x".join(map(str, shape))
