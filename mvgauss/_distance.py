"""Pseudo-inverses and Mahalanobis distances of plain stacks."""

from __future__ import annotations

from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike

from mvgauss import _blocks, _arguments, _whitening
from mvgauss._arguments import Array


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
    eps = _arguments.precision(s.dtype)
    single = float(np.finfo(np.float32).eps)
    tolerance = np.asarray(c * min(eps, single)) if rtol is None else _tolerance(rtol, stack)
    inverse = np.empty(s.shape, _arguments.stored(s.dtype))
    rank = np.empty(stack, np.intp)
    blocks, limits = _blocks.flat(s, 2, stack), _blocks.flat(tolerance, 0, stack)
    out, ranks = _blocks.flat_output(inverse, len(stack)), _blocks.flat_output(rank, len(stack))

    def task(b: slice) -> None:
        block = _whitening.symmetric("covariance", blocks[b], eps)
        w = _whitening.whiten(block, np.zeros(len(block)), rtol=limits[b], eps=eps)
        out[b], ranks[b] = _whitening.self_product(w.root), w.rank

    _blocks.walk_stack(task, stack, item_bytes=2 * c * c * 8)
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
    eps = _arguments.precision(p.dtype)
    root = np.empty(p.shape, np.float64)
    inverses, roots = _blocks.flat(p, 2, p.shape[:-2]), _blocks.flat_output(root, p.ndim - 2)

    def factor(b: slice) -> None:
        block = _whitening.symmetric("inv_covariance", inverses[b], eps)
        roots[b] = _whitening.root_of("inv_covariance", block, eps)

    _blocks.walk_stack(factor, p.shape[:-2], item_bytes=4 * c * c * 8)
    n = many.shape[-2]
    result = np.empty((*stack, n), _arguments.stored(np.result_type(given, mu, p)))
    blocks = _blocks.flat(many, 2, stack), _blocks.flat(mu, 1, stack), _blocks.flat(root, 2, stack)
    out = _blocks.flat_output(result, len(stack))

    def task(b: slice) -> None:
        x, m, u = (block[b] for block in blocks)
        for run in _blocks.slices(n, 2 * len(x) * c * 8):
            y = np.matmul(deviations(x[:, run], m), u.swapaxes(1, 2))
            d = np.vecdot(y, y)
            out[b, run] = d if squared else np.sqrt(d)

    _blocks.walk_stack(task, stack, item_bytes=(2 * n + c) * c * 8)
    return result if given.ndim > 1 else result[..., 0]


def deviations(x: Array, mean: Array) -> Array:
    """Return x - mean of a block ``(B, M, C)`` and means ``(B, C)``, in double precision."""
    # samples outermost: what leaves the layout of the input costs least
    z = np.array(x.swapaxes(0, 1), np.float64, order="C")
    z -= mean
    return z.swapaxes(0, 1)


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
