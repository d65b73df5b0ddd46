"""Covariance -> factor, pseudo-inverse, rank, log pseudo-determinant; distances.

Everything here is one decomposition and one decision: a whitener W with W^T W = pinv(S). The
distance is the norm of W (x - mean), never negative; the pseudo-inverse is the self-product of W;
rank and log pseudo-determinant belong to the same W, so they always agree.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike

from mvgauss import _blocks, _checks, _triangles
from mvgauss._blocks import scratch
from mvgauss._checks import Array

__all__ = ["mahalanobis", "pinv"]

#: The cheap road is taken where a bound on the smallest eigenvalue clears the cut-off by this factor.
_MARGIN = 3.0

#: The same where the eigenvalues are estimated: the estimate may be low by a small factor.
_WIDE_MARGIN = 12.0


class Whitening(NamedTuple):
    """A stack of factors, and what was decided with them."""

    factor: Array  #: (B, C, C), W with W^T W = pinv(S); rows of dropped directions are zero
    rank: Array  #: (B,), how many eigenvalues lie above the cut-off
    log_pdet: Array  #: (B,), the sum of their logarithms


@overload
def pinv(
    covariance: ArrayLike, rtol: ArrayLike | None = ..., *, return_rank: Literal[False] = ...
) -> Array: ...
@overload
def pinv(
    covariance: ArrayLike, rtol: ArrayLike | None = ..., *, return_rank: Literal[True]
) -> tuple[Array, Array]: ...
@overload
def pinv(
    covariance: ArrayLike, rtol: ArrayLike | None = ..., *, return_rank: bool
) -> Array | tuple[Array, Array]: ...
def pinv(
    covariance: ArrayLike, rtol: ArrayLike | None = None, *, return_rank: bool = False
) -> Array | tuple[Array, Array]:
    r"""Pseudo-invert symmetric positive semi-definite matrices.

    Parameters
    ----------
    covariance : array_like, shape (..., C, C)
        Real, symmetric, positive semi-definite up to rounding.
    rtol : array_like, shape (...), optional
        Eigenvalues at most `rtol` times the largest count as zero. By default C times the machine
        epsilon of the data's dtype.
    return_rank : bool, default False
        Whether to return the ranks too.

    Returns
    -------
    inv_covariance : ndarray, shape (..., C, C)
        Pseudo-inverses, exactly symmetric, in the inverse of the covariance's unit. Of half and
        single precision single, else double.
    rank : ndarray of int, shape (...)
        Number of eigenvalues above the cut-off. Only with ``return_rank=True``.

    Raises
    ------
    ValueError
        If a matrix is not square, finite, symmetric or positive semi-definite (beyond rounding:
        half of the digits). The message names the first such matrix.
    TypeError
        If `covariance` is not an array of real numbers.

    See Also
    --------
    mahalanobis : Distances from pseudo-inverses.

    Notes
    -----
    One decision about what counts as zero serves the whole package. Where
    :math:`\operatorname{tr} S^{-1}`, from a Cholesky factor, proves that every eigenvalue lies well
    above the cut-off, the factor is used; elsewhere the eigenvalues decide, matrix by matrix. In
    both cases the result is :math:`W^T W`. Everything is factored in double; the cut-off of matrices
    in single precision is that of single, since their rounding errors are.

    Unlike ``numpy.linalg.pinv(hermitian=True)`` a negative rounding error among the eigenvalues is
    dropped whatever its size, never inverted, and the default cut-off follows the dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from mvgauss import pinv
    >>> pinv(np.array([[[4.0, 0.0], [0.0, 2.0]], [[1.0, 1.0], [1.0, 1.0]]]), return_rank=True)
    (array([[[0.25, 0.  ],
            [0.  , 0.5 ]],
    <BLANKLINE>
           [[0.25, 0.25],
            [0.25, 0.25]]]), array([2, 1]))
    """
    s = _square("covariance", covariance)
    return_rank = _checks.flag("return_rank", return_rank)
    stack, c = s.shape[:-2], s.shape[-1]
    eps = _checks.precision(s.dtype)
    tolerance = np.asarray(c * eps) if rtol is None else _tolerance(rtol, stack)
    inverse = np.empty(s.shape, _checks.stored(s.dtype))
    rank = np.empty(stack, np.intp)

    def kernel(block: Array, tolerance: Array) -> tuple[Array, Array]:
        w = whiten(symmetric("covariance", block, eps), tolerance, eps)
        return self_product(w.factor), w.rank

    _blocks.over_stack(kernel, stack, [(s, 2), (tolerance, 0)], [inverse, rank], item_bytes=2 * c * c * 8)
    return (inverse, rank) if return_rank else inverse


def mahalanobis(x: ArrayLike, mean: ArrayLike, inv_covariance: ArrayLike, *, squared: bool = False) -> Array:
    r"""Mahalanobis distances of samples from their Gaussian, or of stacks of samples from theirs.

    Parameters
    ----------
    x : array_like, shape (..., N, C) or (C,)
        N samples for each item of the stack; a vector is a single sample.
    mean : array_like, shape (..., C)
        Means, in the unit of `x`.
    inv_covariance : array_like, shape (..., C, C)
        Inverse covariances, symmetric positive semi-definite. The leading axes of all three
        broadcast.
    squared : bool, default False
        Whether to return squared distances instead.

    Returns
    -------
    ndarray, shape (..., N)
        Distances in standard deviations, at least 0; of a single sample, shape (...).

    Raises
    ------
    ValueError
        If shapes do not fit, a number is not finite, or an inverse covariance is not symmetric or
        has a negative eigenvalue beyond rounding. The message names the first such item.
    TypeError
        If an argument is not an array of real numbers.

    See Also
    --------
    pinv : Inverse covariances from covariances.

    Notes
    -----
    :math:`d = \lVert U (x - \mu) \rVert` with :math:`U^T U = \Sigma^{-1}`: a sum of squares, so never
    negative, unlike the quadratic form. SciPy and anomalib return the root as well, scikit-learn the
    square.

    Examples
    --------
    >>> import numpy as np
    >>> from mvgauss import mahalanobis
    >>> mahalanobis([[3.0, 4.0], [0.0, 2.0]], [0.0, 0.0], np.eye(2))
    array([5., 2.])
    >>> mahalanobis([3.0, 4.0], [0.0, 0.0], np.diag([4.0, 1.0]), squared=True)
    array(52.)
    """
    given = _checks.array("x", x)
    mu = _checks.array("mean", mean)
    p = _square("inv_covariance", inv_covariance)
    squared = _checks.flag("squared", squared)
    c = p.shape[-1]
    if given.ndim == 0 or given.shape[-1] != c:
        _checks.refuse("x", f"shape (..., N, {c}) as inv_covariance is {p.shape}", given.shape)
    if mu.ndim == 0 or mu.shape[-1] != c:
        _checks.refuse("mean", f"shape (..., {c}) as inv_covariance is {p.shape}", mu.shape)
    many = given if given.ndim > 1 else given[None]
    shapes = many.shape[:-2], mu.shape[:-1], p.shape[:-2]
    try:
        stack = np.broadcast_shapes(*shapes)
    except ValueError:
        _checks.refuse(
            "x, mean, inv_covariance",
            "stack axes that broadcast, samples of x in its last axis but one",
            f"stacks {shapes[0]}, {shapes[1]} and {shapes[2]}",
            hint="for x of shape (M, P, C) and P Gaussians, x.swapaxes(0, 1) has the stack in front",
        )
    _checks.finite("x", given)
    _checks.finite("mean", mu)
    eps = _checks.precision(p.dtype)
    root = np.empty(p.shape, np.float64)
    _blocks.over_stack(
        lambda block: (_root(symmetric("inv_covariance", block, eps), eps),),
        p.shape[:-2],
        [(p, 2)],
        [root],
        item_bytes=4 * c * c * 8,
    )
    result = np.empty((*stack, many.shape[-2]), _checks.stored(np.result_type(given, mu, p)))

    def kernel(x: Array, mu: Array, root: Array) -> tuple[Array, ...]:
        mu = mu.astype(np.float64)
        return _blocks.over_rows(
            lambda run: (distances(deviations(x[:, run], mu), root, squared),),
            x.shape[1],
            2 * len(x) * c * 8,
        )

    _blocks.over_stack(
        kernel,
        stack,
        [(many, 2), (mu, 1), (root, 2)],
        [result],
        item_bytes=(2 * many.shape[-2] + c) * c * 8,
    )
    return result if given.ndim > 1 else result[..., 0]


def deviations(x: Array, mean: Array, rest: Array | None = None) -> Array:
    """Return x - mean of a block ``(B, M, C)``, in the dtype of `mean` ``(B, C)`` and scratch memory.

    `rest` is what `mean` lost to rounding, if it did.
    """
    # samples outermost: what leaves the layout of the input costs least
    z = scratch("z", (x.shape[1], x.shape[0], x.shape[2]), mean.dtype)
    z[...] = x.swapaxes(0, 1)
    z -= mean
    if rest is not None:
        z -= rest
    return z.swapaxes(0, 1)


def squared_norms(z: Array, factor: Array) -> Array:
    """Return |W z|^2 of a block: z ``(B, M, C)``, W ``(B, C, C)``."""
    y = np.matmul(z, factor.swapaxes(1, 2), out=scratch("y", z.shape, factor.dtype))
    return np.asarray(np.vecdot(y, y))


def distances(z: Array, factor: Array, squared: bool) -> Array:
    """Return |W z| of a block, or its square."""
    result = squared_norms(z, factor)
    return result if squared else np.sqrt(result, out=result)


def whiten(s: Array, rtol: Array, eps: float, least: float = 0.0) -> Whitening:
    """Factor a block of covariances ``(B, C, C)`` of precision `eps`: the one decision.

    No eigenvalue is smaller than `least`, up to rounding: a ridge, for instance.

    The Cholesky road, W = L^-1, needs to know that all eigenvalues clear the cut-off. The largest is
    at most the trace, which `least` may clear. It is also at most |S|, and the inverse of the
    smallest at most |W|^2, in the Frobenius norm; that is a proof. Where it is not sharp enough, both
    are estimated, and have to clear the cut-off by more.
    """
    c = s.shape[-1]
    trace = np.trace(s, axis1=1, axis2=2)
    exponent = np.frexp(trace)[1]
    if (np.abs(exponent) > np.finfo(s.dtype).maxexp // 4).any():  # squares may leave the range
        half = (exponent // 2)[:, None, None]
        scaled = whiten(np.ldexp(np.ldexp(s, -half), -half), rtol, eps)  # where `least` is no help
        log_pdet = scaled.log_pdet + scaled.rank * half[:, 0, 0] * math.log(4)
        return Whitening(np.ldexp(scaled.factor, -half), scaled.rank, log_pdet)
    cut = np.broadcast_to(np.maximum(rtol, c * np.finfo(s.dtype).eps), len(s))
    with np.errstate(all="ignore"):  # a matrix that is not definite gives NaN, and goes the safe road
        w = scratch("W", s.shape, s.dtype)
        _triangles.invert_root(s, w)
        log_pdet = -2 * np.log(np.diagonal(w, axis1=1, axis2=2)).sum(axis=1, dtype=np.float64)
        proven = (trace * cut * _MARGIN < least) & np.isfinite(log_pdet)
        if not proven.all():
            proven |= _definite(s, w, cut, least)
    rank = np.full(len(s), c)
    unproven = np.flatnonzero(~proven)
    if unproven.size:
        values, vectors = np.linalg.eigh(s[unproven])
        rtol = np.broadcast_to(rtol, len(s))[unproven, None]
        keep = values > rtol * _largest("covariance", values, unproven, eps)
        scale = np.sqrt(1 / np.where(keep, values, np.inf))
        w[unproven] = scale[:, :, None] * vectors.swapaxes(1, 2)
        rank[unproven] = keep.sum(axis=1)
        log_pdet[unproven] = np.log(np.where(keep, values, 1)).sum(axis=1, dtype=np.float64)
    return Whitening(w, rank, log_pdet)


def _definite(s: Array, w: Array, cut: Array, least: float) -> Array:
    """Return where all eigenvalues of S are proven or estimated to clear the cut-off, with W^T W = S^-1."""
    size, inverse_norm = _norm(s) * cut, _norm(w) ** 2
    clear = np.asarray(size * _MARGIN < np.maximum(least, 1 / inverse_norm))
    if (open_ := np.flatnonzero(~clear & (inverse_norm < np.inf))).size:
        condition = _estimate(s[open_]) * _estimate(w[open_]) ** 2
        clear[open_] = condition * cut[open_] * _WIDE_MARGIN < 1
    return clear


def self_product(w: Array) -> Array:
    """Return W^T W of a block of factors, symmetric to the last bit."""
    return np.asarray(np.matmul(w.swapaxes(-1, -2), w))


def covariance_of(w: Array) -> Array:
    """Return pinv(W^T W) of a block of factors in double precision."""
    eps = float(np.finfo(w.dtype).eps)
    return self_product(whiten(self_product(w), np.asarray(w.shape[-1] * eps), eps).factor)


def symmetric(name: str, s: Array, eps: float) -> Array:
    """Refuse matrices that are not finite and symmetric up to rounding; return them symmetric.

    "Up to rounding" is half of the digits of their precision.
    """
    s = s.astype(np.float64, copy=False)
    t = s.swapaxes(-1, -2)
    if (s == t).all() and np.isfinite(s).all():
        return s
    size = np.abs(s).max(axis=(1, 2))
    if not np.isfinite(size).all():
        raise _checks.BadItem(int(np.argmin(np.isfinite(size))), name, "finite numbers", "NaN or inf")
    off = np.abs(s - t).max(axis=(1, 2))
    if (bad := off > math.sqrt(eps) * size).any():
        item = int(np.argmax(bad))
        raise _checks.BadItem(item, name, "symmetric matrices", f"asymmetry {off[item]:.3g}")
    return (s + t) / 2


def _root(p: Array, eps: float) -> Array:
    """Return U with U^T U = P for a block of positive semi-definite matrices."""
    root = _triangles.cholesky(p).swapaxes(1, 2)
    failed = np.flatnonzero(np.isnan(root[:, :1, :1]))
    if failed.size:
        values, vectors = np.linalg.eigh(p[failed])
        _largest("inv_covariance", values, failed, eps)
        root[failed] = np.sqrt(np.maximum(values, 0))[:, :, None] * vectors.swapaxes(1, 2)
    return root


def _norm(s: Array) -> Array:
    """Return the Frobenius norms of a block of matrices."""
    return np.asarray(np.sqrt(np.vecdot(s, s).sum(axis=-1)))


def _estimate(s: Array) -> Array:
    """Estimate the largest singular values of a block of matrices, from below.

    Power iteration on S^T S from a few random vectors: after four steps a direction that is larger
    than the others by as little as their number has taken over.
    """
    x = np.random.default_rng(0).standard_normal((s.shape[-1], 4)).astype(s.dtype)
    x = np.broadcast_to(x, (len(s), *x.shape))
    for _ in range(4):
        x = np.matmul(s.swapaxes(1, 2), np.matmul(s, x))
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(np.linalg.norm(np.matmul(s, x), axis=1).max(axis=1))


def _largest(name: str, values: Array, items: Array, eps: float) -> Array:
    """Return the largest eigenvalues, ``(B, 1)``; refuse negative ones that are no rounding."""
    top = np.maximum(values[:, -1:], 0)
    bad = values[:, 0] < -math.sqrt(eps) * np.abs(values).max(axis=1)
    if bad.any():
        first = int(np.argmax(bad))
        low = f"the eigenvalue {values[first, 0]:.3g}"
        raise _checks.BadItem(int(items[first]), name, "positive semi-definite matrices", low)
    return top


def _square(name: str, value: ArrayLike) -> Array:
    """Return an array of square matrices."""
    s = _checks.array(name, value)
    if s.ndim < 2 or s.shape[-1] != s.shape[-2]:
        _checks.refuse(name, "square matrices, shape (..., C, C)", f"shape {s.shape}")
    return s


def _tolerance(rtol: ArrayLike, stack: tuple[int, ...]) -> Array:
    """Return relative cut-offs that broadcast to the stack."""
    result = _checks.array("rtol", rtol)
    _checks.finite("rtol", result)
    if (result < 0).any():
        _checks.refuse("rtol", "numbers >= 0", f"{result.min()}")
    _checks.fits_stack("rtol", result.shape, stack)
    return result


def of_inverse(p: Array, dtype: np.dtype[Any]) -> Whitening:
    """Factor a block of inverse covariances ``(B, C, C)`` given in `dtype`."""
    eps = _checks.precision(dtype)
    p = symmetric("inv_covariance", p, eps)
    root = _root(p, eps)  # first: it knows the name of what it may have to refuse
    w = whiten(p, np.asarray(p.shape[-1] * eps), eps)
    deficient = np.flatnonzero(w.rank < p.shape[-1])
    if deficient.size:
        values, vectors = np.linalg.eigh(p[deficient])
        first = p.shape[-1] - w.rank[deficient]
        values[np.arange(p.shape[-1]) < first[:, None]] = 0
        root[deficient] = np.sqrt(values)[:, :, None] * vectors.swapaxes(1, 2)
    return Whitening(root, w.rank, -w.log_pdet)
