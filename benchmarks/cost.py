"""The least that a computation takes: bytes that must move, flops of the textbook algorithm.

N samples, C features, P patches, M scored samples, n = N - 1. Flops count additions and multiplications
alike; bytes count every input and every result once, as if caches were boundless.

- centring: a sum and a difference, 2 N C; one triangle of a self-product: N C (C + 1)
- Cholesky C^3/3; inverse of its triangle C^3/3; self-product of that triangle C^3/3
- eigenvectors of a symmetric matrix: reduction to a tridiagonal 4 C^3/3, transformation back 2 C^3
- a distance by a triangle: difference C, product C (C + 1), squares 2 C
- of few samples: the triangle of the products of n rows, n (n + 1) C; Cholesky and inverse of n x n; a
  distance: products with the rows and back, 4 n C, and with a triangle and back, 2 n (n + 1)
"""

from __future__ import annotations

from typing import NamedTuple

from benchmarks.machine import Limits


class Cost(NamedTuple):
    """The least that a computation takes."""

    bytes: float
    flops: float

    def seconds(self, limits: Limits) -> float:
        """Return the roofline: the larger of the time to move the bytes and that of the flops in double."""
        return max(self.bytes / limits.copy, self.flops / limits.gemm["float64"])


def moments(n: int, c: int) -> float:
    """Return the flops of the covariance of one sample."""
    return 2 * n * c + n * c * (c + 1)


def factor_bytes(n: int, c: int) -> float:
    """Return the bytes of the smaller factor of one patch in single precision: triangle, or rows and triangle."""
    return 4 * min(c * (c + 1) / 2, n * c + n * n / 2)


def score(m: int, n: int, c: int, p: int) -> Cost:
    """Return the cost of scoring M images: images, means, factors and distances."""
    flops = 3 * c + min(c * (c + 1), 4 * (n - 1) * c + 2 * (n - 1) * n)
    return Cost(p * (4 * m * (c + 1) + 8 * c + factor_bytes(n, c)), m * p * flops)


def fit(n: int, c: int, p: int) -> Cost:
    """Return the cost of fitting float32 images and scoring one."""
    one = score(1, n, c, p)
    few = 2 * n * c + (n - 1) * n * c + 2 * (n - 1) ** 3 / 3
    flops = min(moments(n, c) + 2 * c**3 / 3, few)
    return Cost(p * (4 * n * c + 8 * c + factor_bytes(n, c)) + one.bytes, p * flops + one.flops)


def update(c: int, p: int) -> Cost:
    """Return the cost of adding one float32 image to moments in double: triangles read and written."""
    return Cost(p * (4 * c + 2 * 8 * (c + c * (c + 1) / 2)), p * (3 * c + c * (c + 1)))


def cov(n: int, c: int, p: int) -> Cost:
    """Return the cost of P covariances in double: data and results once."""
    return Cost(8 * p * (n * c + c * c), p * moments(n, c))


def pinv(c: int, p: int, deficient: int) -> Cost:
    """Return the cost of P pseudo-inverses in double, `deficient` of them from eigenvectors."""
    eigen = 4 * c**3 / 3 + 2 * c**3 + c * c * (c + 1)
    return Cost(2 * 8 * p * c * c, (p - deficient) * c**3 + deficient * eigen)
