"""The covariance of one sample, or of each sample of a stack."""

from __future__ import annotations

from numpy.typing import ArrayLike, DTypeLike

from mvgauss import _arguments
from mvgauss._arguments import Array
from mvgauss._stats.moments import checked_samples, delta_degrees, of_samples, warn_of_divisor


def cov(
    observations: ArrayLike,
    rowvar: bool = False,
    bias: bool = False,
    ddof: float | None = None,
    aweights: ArrayLike | None = None,
    *,
    fweights: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
) -> Array:
    r"""Estimate covariances, of one sample or of each sample of a stack.

    Up to two dimensions this is `numpy.cov` (with ``rowvar=False`` by default, as in anomalib);
    with more, it is a loop of `numpy.cov` over the leading axes that never loses an axis.

    Parameters
    ----------
    observations : array_like, shape (..., N, C)
        N samples of C features, real or complex; ``(..., C, N)`` with ``rowvar=True``. A vector is
        N samples of one feature.
    rowvar : bool, default False
        Whether the features are in rows and the samples in columns.
    bias : bool, default False
        Whether `ddof` defaults to 0 instead of 1.
    ddof : float, optional
        Delta degrees of freedom, any real number; overrides `bias`.
    aweights : array_like, shape (N,) or (..., N), optional
        Relative importance of each sample. A common factor changes nothing.
    fweights : array_like of whole numbers, shape (N,) or (..., N), optional
        How many times each sample counts: 3 is the same as the row three times.
    dtype : dtype, optional
        Of the result and of the computation, by default ``result_type(observations, float64)``.
        Half precision is computed in single and rounded once.

    Returns
    -------
    ndarray, shape (..., C, C)
        Covariances in the unit of the features squared, exactly symmetric (Hermitian). Of an
        `observations` with at most two dimensions and one feature, a 0-d array.

    Raises
    ------
    ValueError
        If weights are negative, not finite, all zero, fractional (`fweights`), or do not fit.
    TypeError
        If an argument is of the wrong kind.

    Warns
    -----
    RuntimeWarning
        If no degrees of freedom are left; the result is then inf or NaN, as in `numpy.cov`.

    See Also
    --------
    Moments : The moments that it is computed from, which can be merged.

    Notes
    -----
    With :math:`w = f a` and :math:`W = \sum w`,

    .. math:: S = \frac{1}{W - \mathrm{ddof} \sum w a / W} \sum w (x - \bar x)(x - \bar x)^H .

    NaN and inf are not refused: as in `numpy.cov` they spread to their row and column.

    ========================================  ===================================
    elsewhere                                 here
    ========================================  ===================================
    ``numpy.cov(x)``                          ``cov(x, rowvar=True)``
    ``numpy.cov(x, rowvar=False)``            ``cov(x)``
    ``[numpy.cov(y.T) for y in stack]``       ``cov(stack)``
    ``torch.cov(x, correction=k)``            ``cov(x, rowvar=True, ddof=k)``
    ``EmpiricalCovariance().fit(x)``          ``cov(x, ddof=0)``
    R ``cov.wt(x, wt)$cov``                   ``cov(x, aweights=wt)``
    ========================================  ===================================

    Examples
    --------
    >>> import numpy as np
    >>> from mvgauss import cov
    >>> x = np.array([[0.0, 0.0], [2.0, 4.0], [4.0, 2.0]])
    >>> cov(x)
    array([[4., 2.],
           [2., 4.]])
    >>> cov(np.stack([x, 10 * x]), ddof=0, fweights=[2, 1, 1])[1]
    array([[275., 175.],
           [175., 275.]])
    """
    x, weights, working = checked_samples(observations, aweights, fweights, rowvar, dtype)
    ddof = delta_degrees(bias, ddof)
    # `Moments.cov` of each block, while it is in the caches
    covariance, divisor = of_samples(x, weights, working, lambda moments: moments.over_divisor(ddof))
    warn_of_divisor(divisor)
    result = covariance.reshape((*x.shape[:-2], *covariance.shape[1:]))
    if dtype is not None:
        result = result.astype(_arguments.inexact("dtype", dtype, kinds="fc"), copy=False)
    return result.reshape(()) if result.shape == (1, 1) else result  # one variable, and no stack
