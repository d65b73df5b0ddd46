"""Pseudo-inverses and Mahalanobis distances of plain stacks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike

from mvgauss import _arguments
from mvgauss._arguments import Array
from mvgauss._linalg.precision import squared_norms
from mvgauss._linalg.whitening import root_of_inverse, self_product, whiten
from mvgauss._runtime import blocks


@overload
def pinv(
    covariance: ArrayLike, rtol: ArrayLike | None = ..., *, return_rank: Literal[False] = ...
) -> Array: ...
@overload
def pinv(
    covariance: ArrayLike, rtol: ArrayLike | None = ..., *, return_rank: Literal[True]
) -> tuple[Array, Array]: ...
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
        epsilon of the data's dtype, of half precision that of single.
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
    return_rank = _arguments.flag("return_rank", return_rank)
    stack, c = s.shape[:-2], s.shape[-1]
    eps = _arguments.epsilon(s.dtype)
    single = float(np.finfo(np.float32).eps)
    limit = np.asarray(c * min(eps, single)) if rtol is None else _tolerance(rtol, stack)
    matrices, limits = blocks.flat(s, 2, stack), blocks.flat(limit, 0, stack)
    dtype = _arguments.stored(s.dtype)

    def kernel(b: slice) -> tuple[Array, Array]:
        block = symmetric("covariance", matrices[b], eps)
        w = whiten(block, np.zeros(len(block)), rtol=limits[b])
        raise_if_negative("covariance", w.lowest, eps)
        return self_product(w.root).astype(dtype, copy=False), w.rank

    inverse, rank = blocks.walk(kernel, math.prod(stack), 2 * c * c * 8, stack=stack)
    inverse, rank = inverse.reshape(s.shape), rank.reshape(stack)
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
    given = _arguments.array("x", x)
    mu = _arguments.array("mean", mean)
    p = _square("inv_covariance", inv_covariance)
    squared = _arguments.flag("squared", squared)
    c = p.shape[-1]
    if given.ndim == 0 or given.shape[-1] != c:
        _arguments.raise_error("x", f"shape (..., N, {c}) as inv_covariance is {p.shape}", given.shape)
    if mu.ndim == 0 or mu.shape[-1] != c:
        _arguments.raise_error("mean", f"shape (..., {c}) as inv_covariance is {p.shape}", mu.shape)
    many = given if given.ndim > 1 else given[None]
    shapes = many.shape[:-2], mu.shape[:-1], p.shape[:-2]
    try:
        stack = np.broadcast_shapes(*shapes)
    except ValueError:
        _arguments.raise_error(
            "x, mean, inv_covariance",
            "stack axes that broadcast, samples of x in its last axis but one",
            f"stacks {shapes[0]}, {shapes[1]} and {shapes[2]}",
            hint="for x of shape (M, P, C) and P Gaussians, x.swapaxes(0, 1) has the stack in front",
        )
    _arguments.finite("x", given)
    _arguments.finite("mean", mu)
    eps = _arguments.epsilon(p.dtype)
    inverses = blocks.flat(p, 2, p.shape[:-2])

    def factor(b: slice) -> Array:
        w = root_of_inverse(symmetric("inv_covariance", inverses[b], eps))
        raise_if_negative("inv_covariance", w.lowest, eps)
        return w.root

    root = blocks.walk(factor, math.prod(p.shape[:-2]), 4 * c * c * 8, stack=p.shape[:-2]).reshape(p.shape)
    n, dtype = many.shape[-2], _arguments.stored(np.result_type(given, mu, p))
    samples, means, roots = (blocks.flat(a, k, stack) for a, k in ((many, 2), (mu, 1), (root, 2)))

    def kernel(b: slice) -> Array:
        root = roots[b]
        d = of_deviations(lambda z: squared_norms(z, root), samples[b], means[b])
        return (d if squared else np.sqrt(d)).astype(dtype, copy=False)

    result = blocks.walk(kernel, math.prod(stack), (2 * n + c) * c * 8).reshape((*stack, n))
    return result if given.ndim > 1 else np.asarray(result[..., 0])


def of_deviations(function: Callable[[Array], Array], x: Array, mean: Array) -> Array:
    """Return a function of the deviations of a block, ``(B, M, C)``, run by run to stay in the caches."""
    runs = blocks.slices(x.shape[1], 2 * len(mean) * x.shape[2] * 8)
    parts = [function(deviations(x[:, run], mean)) for run in runs]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def deviations(x: Array, mean: Array) -> Array:
    """Return x - mean of a block ``(B, M, C)`` and means ``(B, C)``, in double precision."""
    # samples outermost in memory, as in `Moments`
    z = np.array(x.swapaxes(0, 1), np.float64, order="C")
    z -= mean
    return z.swapaxes(0, 1)


def symmetric(name: str, s: Array, eps: float) -> Array:
    """Refuse matrices that are not finite and symmetric up to rounding; return them symmetric, in double.

    "Up to rounding" is half of the digits of their precision.
    """
    s = s.astype(np.float64, copy=False)
    transposed = s.swapaxes(-1, -2)
    if (s == transposed).all() and np.isfinite(s).all():
        return s
    size = np.abs(s).max(axis=(1, 2), initial=0)
    asymmetry = np.abs(s - transposed).max(axis=(1, 2), initial=0)
    finite = np.isfinite(size)
    bad = ~finite | (asymmetry > math.sqrt(eps) * size)
    if bad.any():
        item = int(np.argmax(bad))
        if not finite[item]:
            raise _arguments.BadItem(item, name, "finite numbers", "NaN or inf")
        raise _arguments.BadItem(item, name, "symmetric matrices", f"asymmetry {asymmetry[item]:.3g}")
    return np.asarray((s + transposed) / 2)


def raise_if_negative(name: str, lowest: Array, eps: float) -> None:
    """Refuse matrices with a negative eigenvalue beyond half of the digits of their precision.

    `lowest` are their smallest eigenvalues relative to the largest.
    """
    bad = lowest < -math.sqrt(eps)
    if bad.any():
        item = int(np.argmax(bad))
        got = f"an eigenvalue of {lowest[item]:.3g} times the largest"
        raise _arguments.BadItem(item, name, "positive semi-definite matrices", got)


def _square(name: str, value: ArrayLike) -> Array:
    s = _arguments.array(name, value)
    if s.ndim < 2 or s.shape[-1] != s.shape[-2]:
        _arguments.raise_error(name, "square matrices, shape (..., C, C)", f"shape {s.shape}")
    return s


def _tolerance(rtol: ArrayLike, stack: tuple[int, ...]) -> Array:
    """Return relative cut-offs that broadcast to the stack."""
    result = _arguments.array("rtol", rtol)
    _arguments.finite("rtol", result)
    if (result < 0).any():
        _arguments.raise_error("rtol", "numbers >= 0", f"{result.min()}")
    _arguments.fits_stack("rtol", result.shape, stack)
    return result
