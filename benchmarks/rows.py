"""The rows of the benchmark: what is computed, from what, beside whom, and what is asked of it."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from benchmarks import agreement, peers
from benchmarks.agreement import Array
from mvgauss import MultiVariateGaussian, cov, pinv

Shape = tuple[int, ...]

ORIGINAL, BATCHED, ALONE = "anomalib's formulas", "torch: bmm, linalg.inv", "the same alone"
USUAL, FEW, STACKS = "The usual case", "Few samples of many features", "Covariances and pseudo-inverses"
MAPPED, BUSY, FILE = "Embeddings in a file", "Beside busy threads", "An exported file"

#: How many times as long a computation may take beside so many busy Python threads as alone.
LONGER = {1: 5, 2: 8}


@dataclass(frozen=True)
class Side:
    """One way to an answer. Only `run` is timed."""

    name: str
    run: Callable[[Any], Any]
    prepare: Callable[[Any], Any] = lambda data: data  #: from the data to the argument of `run`
    read: Callable[[Any], Any] = np.asarray  #: from the result of `run` to an array
    needs: tuple[str, ...] = ()  #: modules that may be missing
    floor: float | None = None  #: how many times faster mvgauss has to be


@dataclass(frozen=True)
class Row:
    """One computation: its data, the ways to do it, mvgauss first, and how far apart answers may be."""

    key: str
    group: str
    name: str
    make: Callable[[], Any]
    allowed: Callable[[Any, Array], Array | float]
    sides: tuple[Side, ...]
    cost: tuple[float, float] | None = None  #: bytes to move, and flops of the textbook algorithm
    share: Callable[[Any], float] | None = None  #: bytes of the model over those of anomalib's inverses
    most_share: float | None = None
    most_of_old: float = 1.1  #: time over that of an older checkout


def rows(quick: bool = False) -> list[Row]:
    """Return all rows, at their full sizes or at small ones that only show that everything runs."""
    usual = (20, 8, 4, 4) if quick else (200, 100, 56, 56)
    middle = (20, 8, 4, 4) if quick else (200, 100, 28, 28)
    few: dict[str, tuple[Shape, float, float]] = {
        "few-200": ((12, 24, 2, 2) if quick else (200, 550, 14, 14), 10, 0.7),
        "few-60": ((5, 24, 2, 2) if quick else (60, 550, 14, 14), 25, 0.2),
        "few-1792": ((6, 40, 2, 2) if quick else (100, 1792, 7, 7), 40, 0.1),
    }
    numpy = Side("numpy.cov", partial(np.cov, rowvar=False), floor=2)
    loop = Side("loop of numpy.cov", peers.numpy_cov_loop)
    extra = Side("array-api-extra's cov", peers.extra_cov, needs=("array_api_extra",))
    sklearn = Side("loop: EmpiricalCovariance", peers.sklearn_cov_loop, needs=("sklearn",), floor=100)
    alone = [fit("fit", BUSY, middle), *(score(f"score-{m}", BUSY, m, middle) for m in (32, 1))]
    return [
        replace(fit("fit-100", USUAL, usual, torch_floor=1.7), most_of_old=0.95),
        replace(score("score-32", USUAL, 32, usual, floor=4), most_of_old=0.85),
        replace(score("score-1", USUAL, 1, usual, floor=1), most_of_old=0.75),
        partial_fit("partial-256", (20, 16, 2, 2) if quick else (140, 256, 14, 14), most_of_old=0.25),
        *(replace(fit(f"{k}-fit", FEW, s, floor=f), most_share=most) for k, (s, f, most) in few.items()),
        *(score(f"{k}-score-{m}", FEW, m, s) for k, (s, _, _) in few.items() for m in (32, 1)),
        covariance("cov-tall", (2000, 8) if quick else (1_000_000, 100), numpy),
        covariance("cov-stack", (16, 40, 8) if quick else (3136, 200, 100), loop, extra),
        covariance("cov-small-stack", (4, 40, 8) if quick else (196, 200, 100), sklearn),
        inverses("pinv", (16, 8, 8) if quick else (3136, 100, 100), False, floor=10),
        inverses("pinv-deficient", (16, 8, 8) if quick else (3136, 100, 100), True, floor=5),
        mapped_fit("memmap-200", middle),
        mapped_fit("memmap-800", (4 * middle[0], *middle[1:])),
        *(beside(count, row) for row in alone for count in LONGER),
        exported("onnx", middle),
    ]


class Data(NamedTuple):
    """Embeddings to fit, others to score, and a model of the first where fitting is not timed."""

    train: Any
    images: Any
    model: Any = None


def embeddings(shape: Shape, seed: int, out: Array | None = None) -> Array:
    """Return random float32 embeddings whose features have a component in common, as those of networks."""
    rng = np.random.default_rng(seed)
    x = np.empty(shape, np.float32) if out is None else out
    for image in x:
        image[...] = rng.standard_normal(shape[1:], np.float32) + rng.standard_normal(shape[2:], np.float32)
    return x


def pictures(shape: Shape, images: int = 1) -> Data:
    """Return embeddings to fit, and others to score."""
    return Data(embeddings(shape, 0), embeddings((images, *shape[1:]), 1))


def mapped_pictures(shape: Shape) -> Data:
    """Return the same, those to fit in a memory map of a file that is removed with it."""
    with tempfile.TemporaryFile() as file:
        train = np.memmap(file, np.float32, "w+", shape=shape)
    return Data(embeddings(shape, 0, out=train), embeddings((1, *shape[1:]), 1))


def fitted(shape: Shape, images: int) -> Data:
    """Return the same with a model."""
    data = pictures(shape, images)
    return data._replace(model=MultiVariateGaussian().fit(data.train))


def fit_and_score(data: Data) -> tuple[Any, Array]:
    """Construct a model, fit it and score the images; return the model and the distances."""
    model = MultiVariateGaussian().fit(data.train)
    return model, model.mahalanobis(data.images)


def tensors(data: Data) -> tuple[Any, ...]:
    """Return what other formulas take: the images, and what to fit or the fitted mean and inverses."""
    return peers.arrays(data.images, *(data.model or [data.train]))


def fit(
    key: str, group: str, shape: Shape, floor: float | None = None, torch_floor: float | None = None
) -> Row:
    """Fit an embedding and score one image."""
    n, c, h, w = shape
    sides = [
        Side("mvgauss", fit_and_score, read=itemgetter(1)),
        Side(ORIGINAL, lambda g: peers.original_score(g[0], *peers.original_fit(g[1])), tensors, floor=floor),
    ]
    if torch_floor is not None:
        batched = Side(BATCHED, lambda g: peers.original_score(g[0], *peers.batched_fit(g[1])), tensors)
        sides.append(replace(batched, needs=("torch",), floor=torch_floor))
    # embedding, factors; centring, a triangle of products, a Cholesky factor and its inverse
    cost = 4 * h * w * (n * c + c * (c + 1) / 2), h * w * (2 * n * c + n * c * (c + 1) + 2 * c**3 / 3)
    return Row(
        *(key, group, f"fit {size(shape)}", lambda: pictures(shape), agreement.of_distances, tuple(sides)),
        cost=cost if n > c else None,
        share=lambda result: float(result[0].nbytes / (4 * h * w * c * c)),
    )


def mapped_fit(key: str, shape: Shape) -> Row:
    """Fit a memory map, beside the same in memory: its peak of memory does not grow with N."""
    row = fit(key, MAPPED, shape)
    ours = row.sides[0]
    same = replace(ours, name="the same in memory", prepare=lambda d: d._replace(train=np.array(d.train)))
    return replace(row, name=f"{row.name} mapped", make=lambda: mapped_pictures(shape), sides=(ours, same))


def score(key: str, group: str, images: int, shape: Shape, floor: float | None = None) -> Row:
    """Score images with a model that is fitted."""
    ours = Side("mvgauss", lambda data: data.model.mahalanobis(data.images))
    original = Side(ORIGINAL, lambda given: peers.original_score(*given), tensors, floor=floor)
    name = f"score {images}, {size(shape)}"
    return Row(key, group, name, lambda: fitted(shape, images), agreement.of_distances, (ours, original))


def partial_fit(key: str, shape: Shape, most_of_old: float) -> Row:
    """Add one image to the moments of a model; its distances are compared, not timed."""

    def run(data: Data) -> tuple[Any, Array]:
        return data.model.partial_fit(data.images), data.images

    ours = Side("mvgauss", run, read=lambda result: result[0].mahalanobis(result[1]))
    row, name = score(key, USUAL, 1, shape), f"partial_fit 1, {size(shape)}"
    return replace(row, name=name, sides=(ours,), most_of_old=most_of_old)


def exported(key: str, shape: Shape) -> Row:
    """Score one image, beside the same with the file that the model is exported to."""
    row = score(key, FILE, 1, shape)
    needs = ("mvgauss.onnx", "onnx", "onnxruntime")

    def run(given: tuple[Any, Array]) -> Any:
        return given[0].run(["distances"], {"embedding": given[1]})[0]

    file = Side("the file in onnxruntime", run, peers.session, needs=needs)
    return replace(row, sides=(row.sides[0], file))


def beside(count: int, row: Row) -> Row:
    """Return a computation beside so many threads that compute in Python, compared with the same alone."""
    busy, ours = threading.Event(), row.sides[0]

    def work() -> None:
        while busy.wait():
            sum(i * i for i in range(1000))

    def prepare(data: Any) -> Any:
        for _ in range(count):
            threading.Thread(target=work, daemon=True).start()
        return data

    def run(data: Any) -> Any:
        busy.set()
        try:
            return ours.run(data)
        finally:
            busy.clear()

    floor = None if row.key == "score-1" else 1 / LONGER[count]
    sides = replace(ours, run=run, prepare=prepare), replace(ours, name=ALONE, floor=floor)
    return replace(row, key=f"busy-{count}-{row.key}", name=f"{row.name} beside {count}", sides=sides)


def covariance(key: str, shape: Shape, *others: Side) -> Row:
    """Estimate the covariance of a sample, or those of a stack."""
    n, c = shape[-2:]
    p = int(np.prod(shape[:-2]))
    return Row(
        *(key, STACKS, f"cov of {size(shape)}", lambda: np.random.default_rng(0).standard_normal(shape)),
        *(agreement.of_covariances, (Side("mvgauss", cov), *others)),
        cost=(8 * p * (n * c + c * c), p * (2 * n * c + n * c * (c + 1))),
    )


def inverses(key: str, shape: Shape, deficient: bool, floor: float) -> Row:
    """Pseudo-invert a stack of covariances, every tenth of them of half rank if `deficient`."""
    p, c, _ = shape

    def make() -> Array:
        x = np.random.default_rng(0).standard_normal((p, 2 * c, c))
        x[: p if deficient else 0 : 10, c // 2 :] = 0
        return np.asarray(np.matmul(x.swapaxes(1, 2), x) / (2 * c))

    sides = Side("mvgauss", pinv), Side("numpy.linalg.pinv", peers.numpy_pinv, floor=floor)
    name = f"pinv of {size(shape)}{', 10% deficient' * deficient}"
    return Row(key, STACKS, name, make, agreement.of_inverses, sides)


def size(shape: Shape) -> str:
    """Return a shape as text."""
    return "x".join(map(str, shape))
