"""Make the golden vectors: ``python tests/testing/make_vectors.py`` writes the file anew, bit for bit.

With ``--check`` it only compares, and fails if the file is another.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mvgauss.testing import (
    Vector,
    cov_bound,
    distance_bound,
    exact_cov,
    exact_gaussian,
    exact_mahalanobis,
    exact_pinv,
    mean_bound,
    pinv_bound,
)
from mvgauss.testing._cases import LONGLEY, THREE, aweights, covariances, fweights, rotated, smls, table
from mvgauss.testing._gaussian_laws import inverse_bound, patches, score_bound
from mvgauss.testing._inverse_laws import longley
from mvgauss.testing._vectors import FILE, FORMAT, PARTS, VERSION

DOUBLE = np.dtype(np.float64)


def made() -> list[Vector]:
    """Return all vectors, computed anew."""
    return [*_covariances(), *_inverses(), *_distances(), *_fits()]


def main(arguments: list[str]) -> int:
    """Write the file, or compare it with ``--check``; return the exit code."""
    path, text = Path(str(FILE)), dumped(made())
    if "--check" not in arguments:
        path.write_text(text, encoding="utf-8", newline="\n")
        return 0
    same = path.read_text(encoding="utf-8") == text
    print("vectors.json is what the script makes" if same else "vectors.json differs: regenerate it")
    return 0 if same else 1


def _cov(name: str, observations: Any, **arguments: Any) -> Vector:
    """Return a vector of `cov`."""
    x = np.asarray(observations)
    answer = np.asarray(exact_cov(x, **arguments))
    return Vector(
        f"cov: {name}",
        "cov",
        {"observations": x, **arguments},
        {"covariance": answer},
        {"covariance": _above(cov_bound(x, **arguments))},
    )


def _covariances() -> Iterator[Vector]:
    """Yield covariances: every divisor, every shape, every scale, and what is refused."""
    three, x, f, a = THREE, table(6, 3) / 7, fweights(THREE.repeat(2, 0)), aweights(THREE.repeat(2, 0))
    yield _cov("three samples of two features", three)
    yield _cov("numbers that fill the format", x)
    yield _cov("samples in columns", np.ascontiguousarray(x.T), rowvar=True)
    for ddof in (0.0, 1.0, 2.0, -1.0, 0.5, 1.5):
        yield _cov(f"ddof = {ddof:g}", x, ddof=ddof)
        yield _cov(f"fweights, ddof = {ddof:g}", x, ddof=ddof, fweights=f)
        yield _cov(f"aweights, ddof = {ddof:g}", x, ddof=ddof, aweights=a)
        yield _cov(f"both weights, ddof = {ddof:g}", x, ddof=ddof, aweights=a, fweights=f)
    yield _cov("bias", x, bias=True)
    yield _cov("ddof wins over bias", x, bias=True, ddof=1.0)
    yield _cov("aweights that are scaled", x, aweights=a * 2.0**-20)
    yield _cov("fweights that are scaled", x, fweights=10 * f)
    yield _cov("rows instead of fweights", np.repeat(x, f, axis=0))
    yield _cov("an aweight of zero", x, aweights=a * (np.arange(6) != 2))
    yield _cov("all aweights equal", x, aweights=np.full(6, 3.0))
    yield _cov("the row with all the weight", x, aweights=np.eye(6)[2])
    yield _cov("a vector", x[:, 0])
    yield _cov("one feature", x[:, :1])
    yield _cov("one feature, in a row", np.ascontiguousarray(x[:, :1].T), rowvar=True)
    yield _cov("a scalar", np.array(2.0))
    yield _cov("one sample", x[:1])
    yield _cov("one sample, ddof = 0", x[:1], ddof=0.0)
    yield _cov("one sample of many features", table(1, 5))
    yield _cov("no degrees of freedom", three, ddof=3.0)
    yield _cov("negative degrees of freedom", three, ddof=7.0)
    yield _cov("no samples", np.zeros((0, 2)))
    yield _cov("no features", np.zeros((3, 0)))
    yield _cov("fewer samples than features", table(3, 5) / 7)
    yield _cov("duplicated rows", np.repeat(x, 3, axis=0))
    yield _cov("a constant feature", np.column_stack([x[:, 0], np.full(6, 3.0)]))
    for name, scale, offset in (
        ("scale 1e-6", 1e-6, 0.0),
        ("scale 1e6", 1e6, 0.0),
        ("mean 1000", 1.0, 1e3),
        ("mean 1e8", 1.0, 1e8),
    ):
        yield _cov(name, x * scale + offset)
        yield _cov(f"{name}, aweights", x * scale + offset, aweights=a)
    yield _cov("SmLs07 of NIST, three treatments", next(smls(DOUBLE)))
    yield _cov("data of Longley", LONGLEY)
    yield _cov("single precision is widened", (x + 1000).astype(np.float32))
    yield _cov("half precision is widened", x.astype(np.float16))
    yield _cov("whole numbers", table(6, 3).astype(np.int32))
    yield _cov("bytes", (table(6, 2) + 200).astype(np.uint8))
    yield _cov("truth values", table(6, 2) > 0)
    yield _cov("complex", x + 1j * table(6, 3, 3))
    yield _cov("complex, both weights", x + 1j * table(6, 3, 3), aweights=a, fweights=f)
    yield _cov("complex in single precision", (x + 1j * table(6, 3, 3)).astype(np.complex64))
    bad = x.copy()
    bad[1, 2] = np.nan
    yield _cov("NaN", bad)
    bad[1, 2] = np.inf
    yield _cov("infinity", bad)
    stack = np.stack([x, x * 2 + 20, x[::-1] - 40])
    yield _cov("a stack", stack)
    yield _cov("a stack of two axes", np.stack([stack, stack + 1]))
    yield _cov("a stack of one", stack[:1])
    yield _cov("a stack of one feature", stack[..., :1])
    yield _cov("a stack of one sample", stack[:, :1], ddof=0.0)
    yield _cov("a stack, weights for all", stack, aweights=a, fweights=f)
    yield _cov("a stack, weights for each", stack, aweights=np.stack([a, a[::-1], a + 1]))
    for name, wrong in (
        ("a negative aweight", {"aweights": np.array([1.0, -1.0, 1.0])}),
        ("a negative fweight", {"fweights": np.array([1, -1, 1])}),
        ("a fractional fweight", {"fweights": np.array([1.0, 1.5, 1.0])}),
        ("aweights that are all zero", {"aweights": np.zeros(3)}),
        ("fweights that are all zero", {"fweights": np.zeros(3, np.int64)}),
        ("too many aweights", {"aweights": np.ones(4)}),
        ("too few fweights", {"fweights": np.ones(2, np.int64)}),
    ):
        yield Vector(f"cov: {name}, refused", "cov", {"observations": three, **wrong}, {}, {})


def _pinv(name: str, covariance: Any, rank: Any) -> Vector:
    """Return a vector of `pinv`."""
    s, ranks = np.asarray(covariance), np.asarray(rank)
    return Vector(
        f"pinv: {name}",
        "pinv",
        {"covariance": s},
        {"inv_covariance": exact_pinv(s), "rank": ranks},
        {"inv_covariance": _above(pinv_bound(s, rank=ranks)), "rank": np.zeros(ranks.shape)},
    )


def _inverses() -> Iterator[Vector]:
    """Yield pseudo-inverses: regular, singular, scaled, stacked, and what is refused."""
    for number, (s, rank) in enumerate(covariances(DOUBLE)):
        yield _pinv(f"number {number}, {len(s)} x {len(s)} of rank {rank}", s, rank)
    s = rotated((1.0, 0.5, 2.0**-20, 0.0), DOUBLE)
    yield _pinv("condition 2^20, rank 3", s, 3)
    yield _pinv("small, singular", 2.0**-40 * s, 3)
    yield _pinv("large, singular", 2.0**40 * s, 3)
    yield _pinv("correlations of Longley's data", longley(DOUBLE), 7)
    stack = np.stack([np.eye(4), rotated((1.0, 0.5, 0.0, 0.0), DOUBLE), np.zeros((4, 4))])
    yield _pinv("a stack of ranks 4, 2 and 0", stack, [4, 2, 0])
    yield _pinv("a stack of one", stack[1:2], [2])
    yield _pinv("a stack of one feature", np.array([[[4.0]], [[0.0]]]), [1, 0])
    for name, wrong in (
        ("not square", np.ones((2, 3))),
        ("not symmetric", np.array([[1.0, 0.5], [0.0, 1.0]])),
        ("NaN", np.array([[1.0, 0.0], [0.0, np.nan]])),
        ("negative", np.array([[1.0, 0.0], [0.0, -0.5]])),
    ):
        yield Vector(f"pinv: {name}, refused", "pinv", {"covariance": wrong}, {}, {})


def _mahalanobis(name: str, x: Any, mean: Any, inverse: Any, **how: Any) -> Vector:
    """Return a vector of `mahalanobis`."""
    given = np.asarray(x), np.asarray(mean), np.asarray(inverse)
    return Vector(
        f"mahalanobis: {name}",
        "mahalanobis",
        {"x": given[0], "mean": given[1], "inv_covariance": given[2], **how},
        {"distances": np.asarray(exact_mahalanobis(*given, **how))},
        {"distances": _above(distance_bound(*given, **how))},
    )


def _distances() -> Iterator[Vector]:
    """Yield distances: roots, squares, singular matrices, stacks."""
    x, mean, p = table(5, 4) / 7, table(1, 4)[0] / 3, rotated((4.0, 1.0, 0.5, 0.25), DOUBLE)
    yield _mahalanobis("Euclid", [[3.0, 4.0], [0.0, 2.0], [0.0, 0.0]], [0.0, 0.0], np.eye(2))
    yield _mahalanobis("roots", x, mean, p)
    yield _mahalanobis("squares", x, mean, p, squared=True)
    yield _mahalanobis("one feature", x[:, :1], mean[:1], [[2.0]])
    yield _mahalanobis("one sample", x[0], mean, p)
    yield _mahalanobis("a singular matrix", x, mean, rotated((1.0, 0.5, 0.0, 0.0), DOUBLE))
    yield _mahalanobis("far from zero", x + 1e8, mean + 1e8, p)
    stack = np.stack([x, 2 * x]), np.stack([mean, -mean]), np.stack([p, np.eye(4)])
    yield _mahalanobis("a stack", *stack)
    yield _mahalanobis("a stack of one", *(v[:1] for v in stack))


def _fit(name: str, embedding: np.ndarray, scored: np.ndarray, ridge: float) -> Vector:
    """Return a vector of a fit and the distances of other images from it."""
    fit = exact_gaussian(embedding, ridge)
    return Vector(
        f"fit: {name}",
        "fit",
        {"embedding": embedding, "reg_covar": ridge, "scored": scored},
        {"mean": fit.mean, "inv_covariance": fit.inv_covariance, "distances": fit.mahalanobis(scored)},
        {
            "mean": _above(mean_bound(patches(embedding)).T),
            "inv_covariance": _above(inverse_bound(embedding, ridge, DOUBLE)),
            "distances": _above(score_bound(embedding, scored, ridge, DOUBLE)),
        },
    )


def _fits() -> Iterator[Vector]:
    """Yield fits of grids: 0.01 is the ridge of anomalib 1, 0.01001 that of anomalib 2."""
    x, y = table(6, 12).reshape(6, 3, 2, 2) / 7, table(2, 12, 5).reshape(2, 3, 2, 2) / 5
    yield _fit("a grid of 2 x 2", x, y, 0.01)
    yield _fit("a grid of 2 x 2, ridge of anomalib 2", x, y, 0.01001)
    yield _fit("a grid of 1 x 3", table(4, 6).reshape(4, 2, 1, 3), table(1, 6, 1).reshape(1, 2, 1, 3), 0.01)
    yield _fit("a doubled ridge", x, y, 0.02)
    yield _fit("a moved mean", x + np.array([1.0, -2, 3])[:, None, None], y, 0.01)
    yield _fit("one image", x, y[:1], 0.01)
    yield _fit("many images, some of them fitted", x, np.concatenate([y, x, 3 * y]), 0.01)
    yield _fit("fewer samples than features", x[:2], y, 0.01)
    yield _fit("far from zero", x + 1000, y + 1000, 0.01)
    yield _fit("one feature that is constant", np.full((3, 1, 1, 1), 0.1), np.full((1, 1, 1, 1), 0.3), 0.01)


def dumped(vectors: list[Vector]) -> str:
    """Return the text of the file: one line for each vector."""
    entries = []
    for v in vectors:
        parts = {part: {k: encoded(w) for k, w in getattr(v, part).items()} for part in PARTS}
        given = {part: values for part, values in parts.items() if values}
        entries.append(json.dumps({"name": v.name, "function": v.function, **given}))
    head = f'{{"format": {json.dumps(FORMAT)}, "version": {VERSION}, "vectors": ['
    return head + "\n" + ",\n".join(entries) + "\n]}\n"


def encoded(value: Any) -> Any:
    """Return a bool, a number (as hex float) or an array for JSON."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if not isinstance(value, np.ndarray):
        return float(value).hex()
    flat = value.ravel()
    if flat.dtype.kind == "c":
        flat = flat.view(flat.real.dtype)
    data = [v if isinstance(v, int) else v.hex() for v in flat.tolist()]
    return {"shape": list(value.shape), "dtype": str(value.dtype), "data": data}


def _above(bound: np.ndarray) -> np.ndarray:
    """Round up to four bits, so that the last bits of one machine's arithmetic do not show.

    The factor keeps round numbers away from the edge at which they would be rounded one way or the
    other.
    """
    mantissa, exponent = np.frexp(np.asarray(bound, np.float64) * (1 + 2.0**-8))
    return np.asarray(np.ldexp(np.ceil(16 * mantissa) / 16, exponent))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
