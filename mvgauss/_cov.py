"""The covariance of one sample, or of each sample of a stack."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from mvgauss import _blocks, _arguments, _moments, _sums
from mvgauss._arguments import Array


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
    ddof = _moments.delta_degrees(bias, ddof)
    given = _arguments.array("observations", observations, complex_ok=True)
    x, weights, result = _moments.checked(given, rowvar, aweights, fweights, dtype)
    *stack, n, c = x.shape
    out = np.empty((*stack, c, c), result)
    if weights and aweights is not None:  # which are relative: a power of four keeps their squares in range
        a = _arguments.array("aweights", aweights)
        exponent = -2 * (np.frexp(weights[0].max(axis=-1, keepdims=True))[1] // 2)
        w = np.ldexp(weights[0], exponent)
        weights = [w, w * np.ldexp(a, exponent)]
    if out.size:
        total, squared = (w.sum(axis=-1) for w in weights or [np.ones(n), np.ones(n)])
        _moments.warn_without_freedom(_sums.divisor_of(total, squared, ddof))
    blocks = [_blocks.flat(x, 2, tuple(stack)), *(_blocks.flat(w, 1, tuple(stack)) for w in weights)]
    flat = _blocks.flat_output(out, len(stack))

    def task(b: slice) -> None:
        m = _sums.of_block(*(block[b] for block in blocks), dtype=result, out=flat[b])
        _moments.over(m.scatter, _sums.divisor_of(m.sum_weights, m.sum_squared_weights, ddof), flat[b])

    _blocks.walk_stack(task, tuple(stack), item_bytes=(n + c) * c * result.itemsize)
    return out.reshape(()) if given.ndim <= 2 and c == 1 else out
