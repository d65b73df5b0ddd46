"""Observations -> moments, which merge.

A weighted sample is summarised by its sum of weights, its sum of squared weights, its mean and its
scatter about the mean. The moments of two parts merge exactly into the moments of the whole, so one
formula serves one-shot, streamed and distributed fitting; a covariance is the scatter over a divisor.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from mvgauss import _blocks, _arguments
from mvgauss._arguments import Array
from mvgauss._sums import Sums, divisor_of, of_block

#: Weights in this range have squares, and sums of them, that keep all their digits.
_WEIGHTS = (1e-140, 1e140)


class Moments(Sums):
    r"""Weight sums, mean and scatter of a sample, or of each sample of a stack.

    Parameters
    ----------
    observations : array_like, shape (..., N, C)
        N samples of C features; the leading axes are the stack. A vector is N samples of one feature.
    aweights : array_like, shape (N,) or (..., N), optional
        Relative importance of each sample, as in `cov`.
    fweights : array_like of whole numbers, shape (N,) or (..., N), optional
        How many times each sample counts, as in `cov`.
    rowvar : bool, default False
        Whether the last two axes are ``(C, N)`` instead.
    dtype : dtype, optional
        In which to compute and to answer, by default at least float64.

    Attributes
    ----------
    n_samples : int
        Number of samples N, those of weight zero included.
    sum_weights : ndarray, shape (...)
        :math:`W = \sum w`, with :math:`w = f a` the product of both kinds of weights.
    sum_squared_weights : ndarray, shape (...)
        :math:`V = \sum w a`; without `fweights` this is :math:`\sum w^2`.
    mean : ndarray, shape (..., C)
        :math:`\bar x = \sum w x / W`, in the unit of the features.
    scatter : ndarray, shape (..., C, C)
        :math:`M = \sum w (x - \bar x)(x - \bar x)^H`, in that unit squared. Exactly symmetric (or Hermitian).

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, value or kind; the message names it.

    Notes
    -----
    Each sample is first shifted by one sample of the largest weight, in the precision it comes in,
    then rounded to `dtype`, centred, and multiplied with itself. The shift is exact for data far from
    zero (single precision summed in double needs none without weights), so the error of an entry of
    `scatter` is bounded by a small multiple of :math:`N \epsilon \sqrt{M_{ii} M_{jj}}`, whatever the
    offset of the data; a constant feature has a scatter of exactly zero.

    Merging follows Chan, Golub & LeVeque [1]_: with :math:`\delta = \bar x_2 - \bar x_1`,

    .. math:: M = M_1 + M_2 + \frac{W_1 W_2}{W_1 + W_2}\, \delta \delta^H .

    References
    ----------
    .. [1] T. F. Chan, G. H. Golub and R. J. LeVeque, "Updating formulae and a pairwise algorithm
       for computing sample variances", COMPSTAT 1982, doi:10.1007/978-3-642-51461-6_3.

    Examples
    --------
    >>> import numpy as np
    >>> from mvgauss import Moments
    >>> x = np.array([[0.0, 0.0], [2.0, 4.0], [4.0, 2.0]])
    >>> Moments(x).scatter
    array([[8., 4.],
           [4., 8.]])
    >>> merged = Moments(x[:1]).merge(Moments(x[1:]))
    >>> merged.mean, merged.cov()
    (array([2., 2.]), array([[4., 2.],
           [2., 4.]]))
    """

    def __init__(
        self,
        observations: ArrayLike,
        aweights: ArrayLike | None = None,
        *,
        fweights: ArrayLike | None = None,
        rowvar: bool = False,
        dtype: DTypeLike | None = None,
    ) -> None:
        x, weights, result = checked(observations, rowvar, aweights, fweights, dtype)
        if aweights is not None and weights:
            top = weights[0].max(axis=-1)
            if not ((top > _WEIGHTS[0]) & (top < _WEIGHTS[1])).all():
                got = f"{top.min():.3g}..{top.max():.3g}"
                _arguments.raise_error("aweights", "weights whose squares do not leave the range", got)
        *stack, n, c = x.shape
        real = np.result_type(np.empty(0, result).real.dtype, np.float64)
        means, scatters = np.empty((*stack, c), result), np.empty((*stack, c, c), result)
        super().__init__(n, np.empty(stack, real), np.empty(stack, real), means, scatters)
        names = ("sum_weights", "sum_squared_weights", "mean", "scatter")
        whole = [_blocks.flat_output(getattr(self, name), len(stack)) for name in names]
        blocks = [_blocks.flat(x, 2, tuple(stack)), *(_blocks.flat(w, 1, tuple(stack)) for w in weights)]

        def task(b: slice) -> None:
            part = of_block(*(block[b] for block in blocks), dtype=result)
            for out, name in zip(whole, names, strict=True):
                out[b] = getattr(part, name)

        _blocks.walk_stack(task, tuple(stack), item_bytes=(n + c) * c * result.itemsize)

    def merge(self, other: Moments) -> Moments:
        """Return the moments of both samples together; neither part changes.

        Parameters
        ----------
        other : Moments
            Of the same stack and the same number of features.

        Returns
        -------
        Moments
            Those of the union of the two samples.

        Raises
        ------
        TypeError
            If `other` is no `Moments`.
        ValueError
            If the shapes differ.
        """
        if not isinstance(other, Moments):
            _arguments.raise_error("other", "Moments", type(other).__name__, TypeError)
        if other.mean.shape != self.mean.shape:
            _arguments.raise_error("other", f"a mean of shape {self.mean.shape}", f"{other.mean.shape}")
        whole = copy.copy(self)
        whole.scatter = self.scatter.astype(np.result_type(self.scatter, other.scatter))
        return whole._absorb(other)

    def cov(self, bias: bool = False, ddof: float | None = None) -> Array:
        """Return the covariance: the scatter over its divisor.

        Parameters
        ----------
        bias : bool, default False
            Whether `ddof` defaults to 0 instead of 1.
        ddof : float, optional
            Delta degrees of freedom; overrides `bias`.

        Returns
        -------
        ndarray, shape (..., C, C)
            Exactly symmetric (Hermitian) covariances, in the unit of the features squared.

        Warns
        -----
        RuntimeWarning
            If the divisor W - ddof V/W is not positive; it then counts as zero, as in `numpy.cov`.

        Examples
        --------
        >>> import numpy as np
        >>> Moments(np.array([1.0, 3.0])).cov(ddof=0)
        array([[1.]])
        """
        divisor = self.divisor(delta_degrees(bias, ddof))
        warn_without_freedom(divisor)
        return over(self.scatter, divisor, np.empty_like(self.scatter))

    def divisor(self, ddof: float = 1.0) -> Array:
        """Return W - ddof V/W, what the scatter is divided by.

        Parameters
        ----------
        ddof : float, default 1.0
            Delta degrees of freedom.

        Returns
        -------
        ndarray, shape (...)
            N - ddof for a sample without weights.
        """
        return divisor_of(self.sum_weights, self.sum_squared_weights, ddof)


def warn_without_freedom(divisor: Array) -> None:
    """Warn the caller's caller, as `numpy.cov` does, of a divisor that is not positive."""
    if (divisor <= 0).any():
        warnings.warn("Degrees of freedom <= 0 for slice", RuntimeWarning, stacklevel=3)


def over(scatter: Array, divisor: Array, out: Array) -> Array:
    """Write scatter / divisor; the parts of a complex one apart, which keeps it Hermitian."""
    divisor = np.maximum(divisor, 0).astype(scatter.real.dtype)[..., None, None]
    np.divide(scatter.real, divisor, out=out.real, casting="same_kind")
    if scatter.dtype.kind == "c":
        np.divide(scatter.imag, divisor, out=out.imag, casting="same_kind")
    return out


def checked(
    observations: ArrayLike,
    rowvar: bool,
    aweights: ArrayLike | None,
    fweights: ArrayLike | None,
    dtype: DTypeLike | None,
) -> tuple[Array, list[Array], np.dtype[Any]]:
    """Check the arguments; return (..., N, C) observations, [w, w a] or [], the result's dtype."""
    x = _arguments.array("observations", observations, complex_ok=True)
    rowvar = _arguments.flag("rowvar", rowvar)
    if dtype is None:
        result = np.result_type(x.dtype, np.float64)
    else:
        result = _arguments.inexact("dtype", dtype, kinds="fc")
        if x.dtype.kind == "c" and result.kind != "c":
            _arguments.raise_error("dtype", "a complex dtype for complex observations", str(result), TypeError)
    if x.ndim < 2:
        x = x.reshape(-1, 1)
    elif rowvar:
        x = x.swapaxes(-1, -2)
    stack, n = x.shape[:-2], x.shape[-2]
    if (aweights is None and fweights is None) or n == 0:
        return x, [], result
    f = np.ones(n) if fweights is None else _arguments.weights("fweights", fweights, stack, n, whole=True)
    a = np.ones(n) if aweights is None else _arguments.weights("aweights", aweights, stack, n)
    w = f * a
    if not w.any(axis=-1).all():
        _arguments.raise_error("aweights", "a sample with both weights > 0", "aweights * fweights = 0")
    with np.errstate(over="ignore", under="ignore"):  # `cov` scales them, `Moments` refuses them
        return x, [w, w * a], result


def delta_degrees(bias: bool, ddof: float | None) -> float:
    """Return the degrees of freedom that `bias` and `ddof` stand for; `ddof` wins."""
    bias = _arguments.flag("bias", bias)
    return float(not bias) if ddof is None else _arguments.number("ddof", ddof)
