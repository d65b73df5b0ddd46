"""Few samples of many features, PaDiM's usual case: times, and what a model keeps.

The embeddings have a component that is common to all features, so that covariances are far from round.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import agreement, cost, machine, peers
from benchmarks.rows import (
    ORIGINAL,
    Array,
    Fitted,
    Ours,
    Pictures,
    Side,
    Work,
    fit_and_score,
    mapped_fit,
    pictures,
    size,
    torch_side,
)
from mvgauss import FewSamplesWarning, MultiVariateGaussian

warnings.simplefilter("ignore", FewSamplesWarning)  # few samples are what is measured here

#: The key of what models keep.
KEPT = "few-kept"

SQUARE = "the square form"

#: How many times faster than the square form it has to be to score 32 images, and one.
SCORING = {32: 1 / 1.1, 1: 1.0}


class Case(NamedTuple):
    """An embedding, and what is asked of a model of it."""

    key: str
    shape: tuple[int, int, int, int]
    floor: float | None  #: how many times faster than the original's formulas
    fitted: float | None  #: most bytes, as a share of the inverses that the original keeps
    scoring: float  #: the same without the moments


CASES = (
    Case("200", (200, 550, 14, 14), 10, 0.9, 0.5),
    Case("60", (60, 550, 14, 14), 25, 0.3, 0.15),
    Case("1792", (100, 1792, 7, 7), 40, 0.2, 0.1),
)
MANY = Case("many", (200, 100, 56, 56), None, None, 0.55)


def cases(quick: bool, *, many: bool = False) -> Iterator[Case]:
    """Return the cases, and if asked for the one of more samples than features."""
    small = {"200": (12, 24, 2, 2), "60": (5, 24, 2, 2), "1792": (6, 40, 2, 2), "many": (20, 8, 4, 4)}
    for case in (*CASES, MANY) if many else CASES:
        yield case._replace(shape=small[case.key]) if quick else case


def works(quick: bool) -> list[Work]:
    """Return the works."""
    found = []
    for case in cases(quick):
        found += [fit(case), *(score(case, images) for images in SCORING)]
        found.append(mapped_fit(f"few-memmap-{case.key}", case.shape, inverted))
    return found


def embeddings(shape: tuple[int, ...]) -> Pictures:
    """Return random float32 embeddings with a common component."""
    train, image = pictures(shape)
    rng = np.random.default_rng(2)
    for x in (train, image):
        x += rng.standard_normal((len(x), 1, *shape[2:]), np.float32)
    return Pictures(train, image)


def inverted(data: Pictures | Fitted, distances: Array) -> Array:
    """Allow for inverses of matrices that are off by eps in single precision: condition times eps.

    The condition is that of a few patches. The smallest eigenvalue is the ridge, as samples are fewer than
    features.
    """
    n, c = data.train.shape[:2]
    vectors = data.train.reshape(n, c, -1)
    some = np.moveaxis(vectors[:, :, agreement.some(vectors.shape[2])], 2, 0).astype(np.float64)
    some -= some.mean(axis=1, keepdims=True)
    largest = np.linalg.eigvalsh(np.matmul(some, some.swapaxes(1, 2)))[:, -1].max() / (n - 1)
    return np.asarray((1 + largest / peers.RIDGE) * np.finfo(np.float32).eps * distances)


def fit(case: Case) -> Work:
    """Fit an embedding and score one image."""
    n, c, h, w = case.shape
    ours = Ours(
        f"fit {size(case.shape)}",
        fit_and_score(None),
        cost=cost.fit(n, c, h * w),
        floors={} if case.floor is None else {ORIGINAL: case.floor},
        keeps=cost.state_bytes(n, c, h * w),
    )
    theirs = torch_side(ORIGINAL, peers.original_fit)
    return Work(f"few-fit-{case.key}", lambda: embeddings(case.shape), (ours,), (theirs,), inverted)


def fitted(case: Case, images: int) -> Fitted:
    """Return a model of an embedding, and images to score."""
    train, _ = embeddings(case.shape)
    others = np.random.default_rng(1).standard_normal((images, *case.shape[1:]), np.float32)
    return Fitted(MultiVariateGaussian().fit(train), train, others)


def squared(data: Fitted) -> Fitted:
    """Return the model of the same inverse covariances, which keeps square factors."""
    return data._replace(model=MultiVariateGaussian.from_parameters(*data.model))


class Exported(NamedTuple):
    """A model as an ONNX file that is open, and images to score."""

    session: Any
    images: Array


def exported(data: Fitted) -> Exported:
    """Write the model as an ONNX file, and open it with as many threads as there are CPUs."""
    import onnxruntime

    from mvgauss.onnx import export

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = machine.cpus()
    with tempfile.TemporaryDirectory() as folder:
        export(data.model, Path(folder, "model.onnx"), check=False)
        session = onnxruntime.InferenceSession(Path(folder, "model.onnx"), options)
    return Exported(session, data.images)


def run_exported(data: Exported) -> Array:
    """Return the distances that the file gives."""
    return np.asarray(data.session.run(["distances"], {"embedding": data.images})[0])


def score(case: Case, images: int) -> Work:
    """Score images with a model that is fitted, with the same in the square form, and as an ONNX file."""
    n, c, h, w = case.shape

    def run(data: Fitted) -> Array:
        return data.model.mahalanobis(data.images)

    ours = Ours(
        f"score {images}, {size(case.shape)}",
        run,
        cost=cost.score(images, c, h * w, n),
        floors={SQUARE: SCORING[images]},
    )
    theirs = Side(SQUARE, run, prepare=squared)
    file = Side("the exported file", run_exported, prepare=exported, needs="mvgauss.onnx", package="onnx")
    key = f"few-score-{case.key}-{images}"
    return Work(key, lambda: fitted(case, images), (ours,), (theirs, file), inverted)


class Kept(NamedTuple):
    """What a model keeps."""

    name: str
    bytes: int
    share: float  #: of the inverses that the original keeps, P C C numbers in single precision
    most: float | None

    @property
    def met(self) -> bool:
        """Whether it is no more than it may be."""
        return self.most is None or self.share <= self.most


def kept(quick: bool) -> Iterator[Kept]:
    """Fit models, and return what they keep, with the moments and without."""
    for case in cases(quick, many=True):
        _, c, h, w = case.shape
        inverses = h * w * c * c * 4
        model = MultiVariateGaussian().fit(embeddings(case.shape).train)
        with tempfile.TemporaryDirectory() as folder:
            model.save(Path(folder, "model.npz"), resumable=False)
            loaded = MultiVariateGaussian.load(Path(folder, "model.npz"))
        for text, one, most in (
            ("after fit", model, case.fitted),
            ("resumable=False, loaded", loaded, case.scoring),
        ):
            yield Kept(f"{size(case.shape)}, {text}", one.nbytes, one.nbytes / inverses, most)
