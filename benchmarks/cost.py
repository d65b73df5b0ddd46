"""What a work needs at the least: bytes that must move, flops of the textbook algorithm.

The letters are those of `mvgauss`: N samples, C features, P patches, M scored samples; s and w are
the bytes of a stored and of a working number. Flops count additions and multiplications alike:

- centring: a sum and a difference, 2 N C
- syrk, one triangle of a self-product: N C (C + 1)
- Cholesky C^3/3; inverse of its triangle C^3/3; self-product of that triangle C^3/3
- eigenvectors of a symmetric matrix: reduction to a tridiagonal 4 C^3/3, transformation back 2 C^3;
  what lies between counts as nothing, since a divide-and-conquer solver may deflate it away
- distance of one vector by a triangle: difference C, product C (C + 1), squares 2 C
- of few samples, n = N - 1: the triangle of the products of n rows, n (n + 1) C; Cholesky and inverse of
  n x n; a distance: products with the rows and back, 4 n C, and with a triangle and back, 2 n (n + 1)

Bytes count every input once and every result once, as if caches were boundless.
"""

from __future__ import annotations

from typing import NamedTuple

from benchmarks.machine import Limits
from mvgauss._scatter import in_rows


class Cost(NamedTuple):
    """The least that a work needs."""

    bytes: float
    flops: float
    dtype: str  #: whose GEMM peak counts

    def seconds(self, limits: Limits) -> float:
        """Return the roofline: the larger of the time to move the bytes and that of the flops."""
        return max(self.bytes / limits.copy, self.flops / limits.gemm[self.dtype])


def moments(n: int, c: int) -> float:
    """Return the flops of the covariance of one sample: centring and syrk."""
    return 2 * n * c + n * c * (c + 1)


def state_bytes(n: int, c: int, p: int) -> int:
    """Return what a model fitted to float32 data keeps.

    Means and triangles in double precision, few samples and factors in single; a rank, a log
    pseudo-determinant and a shrinkage for each patch; of few samples a shift, a scale and a ridge too.
    """
    if in_rows(n, c):
        return p * (8 * 2 * c + 4 * (n * c + (n - 1) ** 2) + 5 * 8)
    return p * (8 * (c + c * (c + 1) // 2) + 4 * c * c + 3 * 8)


def score(m: int, c: int, p: int, n: int) -> Cost:
    """Return the cost of scoring M images: images, means, factors and distances; products in double."""
    if in_rows(n, c):
        factor, flops = 4 * (n * c + (n - 1) ** 2), 4 * (n - 1) * c + 2 * (n - 1) * n
    else:
        factor, flops = 4 * c * c, c * (c + 1)
    return Cost(p * (4 * m * (c + 1) + 8 * c + factor), m * p * (3 * c + flops), "float64")


def fit(n: int, c: int, p: int) -> Cost:
    """Return the cost of fitting float32 images and scoring one: data, state; moments, factors."""
    one = score(1, c, p, n)
    if in_rows(n, c):
        flops = 2 * n * c + (n - 1) * n * c + 2 * (n - 1) ** 3 / 3
    else:
        flops = moments(n, c) + 2 * c**3 / 3
    return Cost(n * c * p * 4 + state_bytes(n, c, p) + one.bytes, p * flops + one.flops, "float64")


def cov(n: int, c: int, p: int) -> Cost:
    """Return the cost of P covariances in float64: data and results once; moments."""
    return Cost(8 * p * (n * c + c * c), p * moments(n, c), "float64")


def pinv(c: int, p: int, deficient: int) -> Cost:
    """Return the cost of P pseudo-inverses in float64, `deficient` of them from eigenvectors."""
    eigen = 4 * c**3 / 3 + 2 * c**3 + c * c * (c + 1)
    return Cost(2 * 8 * p * c * c, (p - deficient) * c**3 + deficient * eigen, "float64")
