"""Measure the accuracy of mvgauss and of NumPy against the exact answers, in units of the bounds.

python docs/accuracy.py                    # print the table
python docs/accuracy.py docs/testing.md    # put it into the page, between its two markers
"""

import sys
from pathlib import Path

import numpy as np

import mvgauss
from mvgauss.testing import (
    cov_bound,
    distance_bound,
    exact_cov,
    exact_mahalanobis,
    exact_pinv,
    pinv_bound,
)

BEGIN, END = "<!-- accuracy: begin -->", "<!-- accuracy: end -->"
REPEATS = 20


def ratio(got, want, bound):
    """Return the largest error in units of the bound."""
    off = np.abs(np.asarray(got) - want)
    return float(np.max(np.where(off == 0, 0, off / np.where(bound > 0, bound, 1))))


def numpy_cov(x, **weights):
    """Return the covariance of samples in rows by NumPy."""
    return np.cov(x, rowvar=False, **weights)


def numpy_pinv(s):
    """Return the pseudo-inverse by NumPy, with the cut-off of the dtype."""
    return np.linalg.pinv(s, rtol=None, hermitian=True)


def numpy_distance(x, mean, p):
    """Return distances by the quadratic form: NumPy has no function for them."""
    z = x - mean
    return np.sqrt(np.maximum(np.einsum("ni,ij,nj->n", z, p, z), 0))


def covariances(rng):
    """Yield names of data sets, samples and weights."""
    draw = rng.standard_normal
    yield "20 x 4, standard normal", lambda: (draw((20, 4)), {})
    yield "200 x 4", lambda: (draw((200, 4)), {})
    yield "4 x 8, fewer samples than features", lambda: (draw((4, 8)), {})
    yield "mean 1000", lambda: (draw((20, 4)) + 1e3, {})
    yield "mean 1e8", lambda: (draw((20, 4)) + 1e8, {})
    yield "scale 1e-6", lambda: (draw((20, 4)) * 1e-6, {})
    yield "`aweights`", lambda: (draw((20, 4)), {"aweights": rng.uniform(0.1, 2, 20)})
    yield "`fweights`", lambda: (draw((20, 4)), {"fweights": rng.integers(1, 5, 20)})
    yield "`aweights`, mean 1000", lambda: (draw((20, 4)) + 1e3, {"aweights": rng.uniform(0.1, 2, 20)})
    yield "complex", lambda: (draw((20, 4)) + 1j * draw((20, 4)), {})


def matrix(rng, c, condition, rank=None):
    """Return a covariance of a condition, of whole numbers if it is singular."""
    if rank is not None:
        f = rng.integers(-3, 4, (c, rank)).astype(float)
        return f @ f.T
    q = np.linalg.qr(rng.standard_normal((c, c)))[0]
    s = q * np.geomspace(1, 1 / condition, c) @ q.T
    return (s + s.T) / 2


def inverses(rng):
    """Yield names of matrices, what makes one, and its rank."""
    for exponent in (0, 3, 6, 9, 12):
        yield f"6 x 6, condition 1e{exponent}", lambda e=exponent: matrix(rng, 6, 10.0**e), 6
    yield "6 x 6 of rank 3", lambda: matrix(rng, 6, 1, rank=3), 3


def largest(cases):
    """Return the largest ratios of some measurements, column by column."""
    return [max(column) for column in zip(*cases, strict=True)]


def rows():
    """Yield function, data, and the largest error of mvgauss, of NumPy, and of NumPy in single precision."""
    rng = np.random.default_rng(20201117)
    for name, make in covariances(rng):
        cases = []
        for _ in range(REPEATS):
            x, w = make()
            want, bound = exact_cov(x, **w), cov_bound(x, **w)
            single = x.astype(np.complex64 if x.dtype.kind == "c" else np.float32)
            answers = mvgauss.cov(x, **w), numpy_cov(x, **w), numpy_cov(single, **w, dtype=single.dtype)
            cases.append([ratio(got, want, bound) for got in answers])
        yield "`cov`", name, *largest(cases)
    for name, make, rank in inverses(rng):
        cases = []
        for _ in range(REPEATS):
            s = make()
            want, bound = exact_pinv(s), pinv_bound(s, rank=rank)
            answers = mvgauss.pinv(s), numpy_pinv(s), numpy_pinv(s.astype(np.float32))
            cases.append([ratio(got, want, bound) for got in answers])
        yield "`pinv`", name, *largest(cases)
    for exponent in (0, 3, 6, 9, 12):
        cases = []
        for _ in range(REPEATS):
            p, mean = matrix(rng, 6, 10.0**exponent), rng.standard_normal(6)
            p = p + np.eye(6) * 1e-15  # rounding may not make it indefinite
            x = mean + rng.standard_normal((10, 6))
            want, bound = exact_mahalanobis(x, mean, p), distance_bound(x, mean, p)
            single = numpy_distance(*(v.astype(np.float32) for v in (x, mean, p)))
            answers = mvgauss.mahalanobis(x, mean, p), numpy_distance(x, mean, p), single
            cases.append([ratio(got, want, bound) for got in answers])
        yield "`mahalanobis`", f"6 features, condition 1e{exponent}", *largest(cases)


def written(value):
    """Write a number down with one digit, rounded up."""
    if value == 0:
        return "0"
    exponent = int(np.floor(np.log10(value)))
    digit = int(np.ceil(value / 10.0**exponent))
    digit, exponent = (1, exponent + 1) if digit == 10 else (digit, exponent)
    if -3 < exponent < 2:
        return f"{digit * 10.0**exponent:.{max(0, -exponent)}f}"
    return f"{digit}e{exponent}"


def table():
    """Return the table as Markdown."""
    lines = ["| | data | mvgauss | NumPy | NumPy in single precision |", "| --- | --- | --- | --- | --- |"]
    for function, name, *ratios in rows():
        lines.append(f"| {function} | {name} | {' | '.join(map(written, ratios))} |")
    return "\n".join(lines)


def main(arguments):
    """Print the table, or put it into a page."""
    if not arguments:
        print(table())
        return
    page = Path(arguments[0])
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
