"""Additive sums over the samples of a block: weights, mean and scatter.

A maths room: one formula merges the sums of two parts into those of the whole (Chan, Golub & LeVeque
1982), be they runs of rows, parts of a stream or models.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any, Self

import numpy as np

from mvgauss import _blocks
from mvgauss._arguments import Array

#: Long samples are taken in at most so many groups of rows, one after another or on threads.
_GROUPS = 16


@dataclass(eq=False, repr=False)
class Sums:
    """The sums of one sample, or of each sample of a stack; see `Moments`."""

    n_samples: int
    sum_weights: Array
    sum_squared_weights: Array
    mean: Array
    scatter: Array

    def _absorb(self, other: Sums) -> Self:
        """Become the moments of both samples; the scatter, and only it, is changed in place."""
        total = self.sum_weights + other.sum_weights
        # the share of an empty part is 0, not 0/0
        share = other.sum_weights / np.where(total > 0, total, 1)
        delta = other.mean - self.mean
        self.scatter += other.scatter
        d = np.sqrt(self.sum_weights * share)[..., None] * delta
        self.scatter += self_product(d[None].astype(self.scatter.dtype, copy=False))
        kept = np.result_type(self.mean, other.mean)
        self.mean = (self.mean + share[..., None] * delta).astype(kept, copy=False)
        self.sum_weights = total
        self.sum_squared_weights = self.sum_squared_weights + other.sum_squared_weights
        self.n_samples += other.n_samples
        return self


def divisor_of(w: Array, v: Array, ddof: float) -> Array:
    """Return w - ddof v / w; an empty sample has neither, and -ddof degrees of freedom."""
    some = w > 0
    return np.asarray(w - ddof * np.where(some, v, 1) / np.where(some, w, 1))


def of_block(x: Array, *weights: Array, dtype: np.dtype[Any], out: Array | None = None) -> Sums:
    """Return the sums of one block: ``(B, N, C)`` observations, ``(B, N)`` weights w and w a, or none.

    They are computed in `dtype`, half precision in single. The scatter is written to `out` where
    that is given and has this dtype.

    Samples too long for the caches are taken in runs of rows, a fixed number of groups of runs on
    threads where the walk has no other blocks for them.
    """
    working = np.result_type(dtype, np.float32)
    b, n, c = x.shape
    if out is None or out.dtype != working:
        out = np.empty((b, c, c), working)
    # a scatter to add costs as much as some rows
    runs = _blocks.slices(n, b * c * working.itemsize, least=2 * c)
    if len(runs) <= 1:
        return of_run(x, *weights, dtype=working, out=out)
    count = max(1, min(_GROUPS, len(runs), 2 * _blocks.BLOCK_BYTES // max(1, out.nbytes)))
    size = -(-len(runs) // count)
    groups = [runs[i : i + size] for i in range(0, len(runs), size)]
    parts: dict[int, Sums] = {}
    room = [out, *(np.empty_like(out) for _ in groups[1:])]

    def task(g: int) -> None:
        for run in groups[g]:
            first = run is groups[g][0]
            rows = [w[:, run] for w in weights]
            part = of_run(x[:, run], *rows, dtype=working, out=room[g] if first else None)
            parts[g] = part if first else parts[g]._absorb(part)

    _blocks.walk(task, range(len(groups)))
    return reduce(Sums._absorb, (parts[g] for g in range(len(groups))))


def of_run(x: Array, *weights: Array, dtype: np.dtype[Any], out: Array | None) -> Sums:
    """Return the sums of one run of rows: shift, centre, self-product."""
    total, squared, mean, z = centred(x, *weights, dtype=dtype)
    return Sums(x.shape[1], total, squared, mean, self_product(z, out))


def centred(x: Array, *weights: Array, dtype: np.dtype[Any]) -> tuple[Array, Array, Array, Array]:
    """Return sum w, sum w a, the mean, and the rows sqrt(w) (x - mean) as ``(N, B, C)``, in `dtype`."""
    total, squared, mean, offset, z = shifted(x, *weights, dtype=dtype)
    return total, squared, mean, centre(z, offset, *weights)


def centre(z: Array, offset: Array, *weights: Array) -> Array:
    """Return the rows sqrt(w) (z - offset), in place."""
    z -= offset
    if weights:
        z *= np.sqrt(weights[0].T[..., None].astype(z.real.dtype))
    return z


def shifted(x: Array, *weights: Array, dtype: np.dtype[Any]) -> tuple[Array, Array, Array, Array, Array]:
    """Return sum w, sum w a, the mean, and rows ``(N, B, C)`` in `dtype`: their mean, themselves.

    The rows are the samples less one of them, or nothing where sums need no shift. It comes before the
    cast, so that data far from zero lose no digits to it.
    """
    b, n, c = x.shape
    # rows outermost: what leaves the layout of the input costs least, and BLAS takes any row stride
    source = x.swapaxes(0, 1)
    if n == 0:
        zero = np.zeros((b, c), dtype)
        return np.zeros(b), np.zeros(b), zero, zero, np.zeros((0, b, c), dtype)
    z = np.empty((n, b, c), np.result_type(x, dtype))
    z[...] = source
    w = weights[0] if weights else None
    total = np.full(b, float(n)) if w is None else w.sum(axis=1)
    squared = np.full(b, float(n)) if w is None else weights[1].sum(axis=1)
    if w is None and _sums_exactly(x.dtype, z.dtype):
        first = np.zeros((b, c), z.dtype)
    else:
        first = z[0 if w is None else np.argmax(w, axis=1), np.arange(b)]
        z -= first
    z = z.astype(dtype, copy=False)
    if w is None:
        offset = z.sum(axis=0) / n
    else:
        v = w.T[..., None].astype(z.real.dtype)
        # a run may have no weight at all; its offset is then 0, not 0/0
        offset = (v * z).sum(axis=0) / np.where(total > 0, total, 1)[:, None].astype(v.dtype)
    return total, squared, (first + offset).astype(dtype, copy=False), offset, z


def _sums_exactly(given: np.dtype[Any], working: np.dtype[Any]) -> bool:
    """Return whether sums of such numbers need no shift: single precision or less, summed in double.

    The terms of a sum far from zero have about one exponent, and 53 bits hold 2^29 numbers of 24;
    where exponents differ more the data are not far from zero, and rounding is as small as they are.
    """
    return given in (np.float16, np.float32) and working == np.float64


def self_product(z: Array, out: Array | None = None) -> Array:
    """Return sum(z_i conj(z_j)) over the first axis of ``(N, ..., C)``, symmetric to the last bit."""
    # some kernels of BLAS raise floating-point flags for NaN and inf, which are no errors here
    with np.errstate(all="ignore"):
        if z.dtype.kind != "c":
            a = np.moveaxis(z, 0, -2)
            return np.asarray(np.matmul(a.swapaxes(-1, -2), a, out=out))
        # real products of contiguous parts: only those are one BLAS call that knows the result's symmetry
        a, b = np.moveaxis(z.real.copy(), 0, -2), np.moveaxis(z.imag.copy(), 0, -2)
        cross = np.matmul(b.swapaxes(-1, -2), a)
        result = np.empty(cross.shape, z.dtype) if out is None else out
        result.real = np.matmul(a.swapaxes(-1, -2), a) + np.matmul(b.swapaxes(-1, -2), b)
        result.imag = cross - cross.swapaxes(-1, -2)
    return result
