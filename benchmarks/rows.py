"""The table of works: what is computed, by whom, from what, and how much faster it has to be."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks import agreement, cost, peers
from benchmarks.cost import Cost
from mvgauss import MultiVariateGaussian, cov, pinv

Array = NDArray[Any]

ORIGINAL = "the original's formulas"
BATCHED = "torch: bmm, linalg.inv"

#: A loop costs the same for every item: the slowest peer does one of so many, and counts so many times.
SHARE = 16


def as_given(value: Any) -> Any:
    """Return the value."""
    return value


@dataclass(frozen=True)
class Side:
    """One way to an answer. Only `run` is measured."""

    name: str
    run: Callable[[Any], Any]
    prepare: Callable[[Any], Any] = as_given  #: from the data to what `run` takes
    read: Callable[[Any], Any] = np.asarray  #: from what `run` gives to an array
    needs: str = "numpy"  #: the module it takes
    package: str = "numpy"  #: and what installs that
    every: int = 1  #: which items of a stack are done: every so-manieth, for a loop that takes minutes


@dataclass(frozen=True)
class Ours(Side):
    """Our way, with what it needs at least, and the floors: how many times faster than each peer."""

    cost: Cost = field(kw_only=True)
    floors: Mapping[str, float] = field(kw_only=True)
    keeps: int = 0  #: bytes of a fitted model


@dataclass(frozen=True)
class Work:
    """One work: its data, our ways and others' ways to do it, and how far apart answers may be."""

    key: str
    make: Callable[[], Any]
    ours: tuple[Ours, ...]
    peers: tuple[Side, ...]
    allowed: Callable[[Any, Array], Array | float]

    @property
    def sides(self) -> tuple[Side, ...]:
        """Return all ways, ours first."""
        return (*self.ours, *self.peers)


def works(quick: bool = False) -> list[Work]:
    """Return all works, at their full sizes or at small ones that only show that all runs."""
    from benchmarks import busy  # which is made of what follows

    small, large = ((20, 8, 4, 4), (20, 24, 2, 2)) if quick else ((200, 100, 56, 56), (200, 550, 14, 14))
    stack = (16, 40, 8) if quick else (3136, 200, 100)
    mapped = (8, 4, 4) if quick else (100, 28, 28)
    return [
        fit("fit-100", small, {ORIGINAL: (6, 9), BATCHED: (1.7, 2.5)}),
        fit("fit-550", large, {ORIGINAL: (2, 3)}),
        scores("score-32", 32, small, 4),
        scores("score-1", 1, small, 1),
        tall_cov(*((2000, 8) if quick else (1_000_000, 100))),
        stacked_cov(*stack),
        pinvs("pinv", stack[0], stack[2], False, 10),
        pinvs("pinv-deficient", stack[0], stack[2], True, 5),
        mapped_fit("memmap-200", (20 if quick else 200, *mapped)),
        mapped_fit("memmap-800", (80 if quick else 800, *mapped)),
        *busy.works(quick),
    ]


# ---------------------------------------------------------------------------------------------------------
# fitting


class Pictures(NamedTuple):
    """Embeddings to fit, and one to score."""

    train: Any
    image: Any


def pictures(shape: tuple[int, ...]) -> Pictures:
    """Return random float32 embeddings."""
    rng = np.random.default_rng(0)
    train = rng.standard_normal(shape, np.float32)
    return Pictures(train, rng.standard_normal((1, *shape[1:]), np.float32))


def tensors(data: Pictures) -> Pictures:
    """View the same memory as tensors."""
    peers.probe(data.train.shape[1])
    return Pictures(*(peers.torch().from_numpy(a) for a in data))


def fit_and_score(dtype: str | None) -> Callable[[Pictures], Array]:
    """Return what constructs a model, fits it and scores one image."""
    return lambda data: MultiVariateGaussian(dtype=dtype).fit(data.train).mahalanobis(data.image)


def torch_side(name: str, fit: Callable[[Any], tuple[Any, Any]]) -> Side:
    """Return a way to fit and score one image in PyTorch."""
    return Side(
        name,
        lambda data: peers.original_score(data.image, *fit(data.train)),
        prepare=tensors,
        needs="torch",
        package="torch",
    )


def covariances_of(train: Array) -> Array:
    """Return the regularised covariances of a few patches of an embedding."""
    n, c = train.shape[:2]
    vectors = train.reshape(n, c, -1)
    some = vectors[:, :, agreement.some(vectors.shape[2])]
    ridge = peers.RIDGE * np.eye(c)
    return np.stack([np.cov(some[:, :, i].T) + ridge for i in range(some.shape[2])])


def fitted_distances(data: Pictures, distances: Array) -> Array:
    """Return how far apart the distances may be."""
    return agreement.of_distances(len(data.train), covariances_of(data.train), distances)


def fit(key: str, shape: tuple[int, int, int, int], floors: dict[str, tuple[float, float]]) -> Work:
    """Fit an embedding and score one image; the floors are those of float64 and of float32."""
    n, c, h, w = shape
    fits = {ORIGINAL: peers.original_fit, BATCHED: peers.batched_fit}
    ours = [
        Ours(
            f"fit {size(shape)} in {dtype}",
            # float64 is what a model computes in by itself; its results are stored in float32
            fit_and_score(None if dtype == "float64" else dtype),
            cost=cost.fit(n, c, h * w, dtype),
            floors={name: floor[i] for name, floor in floors.items()},
            keeps=cost.state_bytes(c, h * w, dtype),
        )
        for i, dtype in enumerate(("float64", "float32"))
    ]
    theirs = tuple(torch_side(name, fits[name]) for name in floors)
    return Work(key, lambda: pictures(shape), tuple(ours), theirs, fitted_distances)


def mapped_fit(key: str, shape: tuple[int, int, int, int]) -> Work:
    """Fit a memory map, beside the same numbers in memory: the memory it takes must not grow with N."""
    n, c, h, w = shape
    run = fit_and_score(None)
    ours = Ours(
        f"fit memory map {size(shape)}",
        run,
        cost=cost.fit(n, c, h * w, "float64"),
        floors={},
        keeps=cost.state_bytes(c, h * w, "float64"),
    )
    theirs = Side("the same in memory", run, prepare=lambda data: data._replace(train=np.array(data.train)))
    return Work(key, lambda: mapped_pictures(shape), (ours,), (theirs,), fitted_distances)


def mapped_pictures(shape: tuple[int, ...]) -> Pictures:
    """Return random float32 embeddings in a file that is gone when they are."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryFile() as file:
        train = np.memmap(file, np.float32, "w+", shape=shape)
    for sample in train:
        sample[...] = rng.standard_normal(shape[1:], np.float32)
    train.flush()
    return Pictures(train, rng.standard_normal((1, *shape[1:]), np.float32))


# ---------------------------------------------------------------------------------------------------------
# scoring


class Fitted(NamedTuple):
    """A model, what it was fitted to, and images to score."""

    model: MultiVariateGaussian
    train: Array
    images: Array


def fitted(images: int, shape: tuple[int, ...]) -> Fitted:
    """Return a model of random float32 embeddings, and others to score."""
    train, _ = pictures(shape)
    others = np.random.default_rng(1).standard_normal((images, *shape[1:]), np.float32)
    return Fitted(MultiVariateGaussian().fit(train), train, others)


def parameters(data: Fitted) -> tuple[Any, Any, Any]:
    """Return what the original's score takes, as tensors: images, mean, inverse covariances."""
    from_numpy = peers.torch().from_numpy
    return from_numpy(data.images), *(from_numpy(a) for a in data.model)


def scores(key: str, images: int, shape: tuple[int, int, int, int], floor: float) -> Work:
    """Score images with a model that is fitted."""
    _, c, h, w = shape
    ours = Ours(
        f"mahalanobis of {images}, {size(shape[1:])}",
        lambda data: data.model.mahalanobis(data.images),
        cost=cost.score(images, c, h * w),
        floors={ORIGINAL: floor},
    )
    theirs = Side(
        ORIGINAL,
        lambda given: peers.original_score(*given),
        prepare=parameters,
        needs="torch",
        package="torch",
    )
    return Work(
        key,
        lambda: fitted(images, shape),
        (ours,),
        (theirs,),
        lambda data, distances: agreement.of_distances(c, covariances_of(data.train), distances),
    )


# ---------------------------------------------------------------------------------------------------------
# covariances and pseudo-inverses


def tall_cov(n: int, c: int) -> Work:
    """Estimate the covariance of one long sample."""
    ours = Ours(f"cov of {n}x{c} float64", cov, cost=cost.cov(n, c, 1), floors={"numpy.cov": 2.5})
    return Work(
        "cov-tall",
        lambda: np.random.default_rng(0).standard_normal((n, c)),
        (ours,),
        (Side("numpy.cov", peers.numpy_cov),),
        lambda _, covariance: agreement.of_covariances(n, covariance),
    )


def stacked_cov(p: int, n: int, c: int) -> Work:
    """Estimate a stack of covariances."""
    theirs = (
        Side("loop of numpy.cov", peers.numpy_cov_loop),
        Side("array-api-extra's cov", peers.extra_cov, needs="array_api_extra", package="array-api-extra"),
        Side(
            "loop: EmpiricalCovariance",
            peers.sklearn_cov_loop,
            prepare=lambda stack: stack[::SHARE],
            read=lambda covariances: np.stack(covariances) * (n / (n - 1)),
            every=SHARE,
            needs="sklearn",
            package="scikit-learn",
        ),
    )
    floors = {side.name: floor for side, floor in zip(theirs, (8.0, 20.0, 100.0), strict=True)}
    return Work(
        "cov-stack",
        lambda: np.random.default_rng(0).standard_normal((p, n, c)),
        (Ours(f"cov of a stack {size((p, n, c))}", cov, cost=cost.cov(n, c, p), floors=floors),),
        theirs,
        lambda _, covariances: agreement.of_covariances(n, covariances),
    )


def pinvs(key: str, p: int, c: int, deficient: bool, floor: float) -> Work:
    """Pseudo-invert a stack of covariances, every tenth of them of half rank if `deficient`."""
    tenth = slice(0, p if deficient else 0, 10)

    def make() -> Array:
        x = np.random.default_rng(0).standard_normal((p, 2 * c, c))
        x[tenth, c // 2 :] = 0
        return np.asarray(np.matmul(x.swapaxes(1, 2), x) / (2 * c))

    name = "numpy.linalg.pinv"
    ours = Ours(
        "pinv, every tenth deficient" if deficient else f"pinv of {size((p, c, c))}",
        pinv,
        cost=cost.pinv(c, p, len(range(p)[tenth])),
        floors={name: floor},
    )
    return Work(
        key,
        make,
        (ours,),
        (Side(name, peers.numpy_pinv),),
        lambda s, _: agreement.of_inverses(s[agreement.some(len(s))]),
    )


def size(shape: tuple[int, ...]) -> str:
    """Return a shape as it is said."""
    return "x".join(map(str, shape))
