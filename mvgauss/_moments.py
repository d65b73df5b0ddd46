"""Observations -> moments (merge) -> covariance.

A weighted sample is summarised by its sum of weights, its sum of squared weights, its mean and its
scatter about the mean. The moments of two parts merge exactly into the moments of the whole, so one
formula serves one-shot, streamed and distributed fitting; a covariance is the scatter over a divisor.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from mvgauss import _blocks, _checks
from mvgauss._blocks import scratch
from mvgauss._checks import Array

__all__ = ["Moments", "cov"]

#: Items that are taken together at least: neighbours share cache lines of a channel-first embedding.
NEIGHBOURS = 16


class Moments:
    r"""Weight sums, mean and scatter of a sample, or of each sample of a stack.

    Parameters
    ----------
    observations : array_like, shape (..., N, C)
        N samples of C features; the leading axes are the stack. A vector is N samples of one
        feature.
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
        :math:`M = \sum w (x - \bar x)(x - \bar x)^H`, in that unit squared. Exactly symmetric (or
        Hermitian).

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong shape, value or kind; the message names it.

    Notes
    -----
    Each sample is first shifted by one sample of the largest weight, then centred, then multiplied
    with itself. The shift is exact for data far from zero (single precision without weights needs
    none, since its sums in double are), so the error of an entry of `scatter` is bounded by a small
    multiple of :math:`N \epsilon \sqrt{M_{ii} M_{jj}}`, whatever the offset of the data; a constant
    feature has a scatter of exactly zero.

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

    n_samples: int
    sum_weights: Array
    sum_squared_weights: Array
    mean: Array
    scatter: Array
    third: Array | None = None  # sum |x - mean|^2 (x - mean), and
    fourth: Array | None = None  # sum |x - mean|^4: kept where Ledoit-Wolf shrinkage asks for them

    def __init__(
        self,
        observations: ArrayLike,
        aweights: ArrayLike | None = None,
        *,
        fweights: ArrayLike | None = None,
        rowvar: bool = False,
        dtype: DTypeLike | None = None,
    ) -> None:
        x, weights, result = _door(observations, rowvar, aweights, fweights, dtype)
        *stack, n, c = x.shape
        shape = tuple(stack)
        whole = Moments._of_parts(
            n,
            np.empty(shape, _real(result)),
            np.empty(shape, _real(result)),
            np.empty((*shape, c), result),
            np.empty((*shape, c, c), result),
        )
        outputs = (whole.sum_weights, whole.sum_squared_weights, whole.mean)

        def kernel(x: Array, *rest: Array) -> tuple[Array, ...]:
            *w, scatter = rest
            part = of_block(x, *w, out=_room(scatter))
            if part.scatter is not scatter:
                scatter[...] = part.scatter
            return part.sum_weights, part.sum_squared_weights, part.mean

        _blocks.over_stack(
            kernel,
            shape,
            _operands(x, weights),
            outputs,
            into=[whole.scatter],
            item_bytes=_item_bytes(n, c, result),
        )
        self.__dict__.update(whole.__dict__)

    @classmethod
    def _of_parts(
        cls, n_samples: int, sum_weights: Array, sum_squared_weights: Array, mean: Array, scatter: Array
    ) -> Self:
        """Assemble moments from their numbers, unchecked."""
        self = cls.__new__(cls)
        self.n_samples = n_samples
        self.sum_weights = sum_weights
        self.sum_squared_weights = sum_squared_weights
        self.mean = mean
        self.scatter = scatter
        return self

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
            _checks.refuse("other", "Moments", type(other).__name__, TypeError)
        if other.mean.shape != self.mean.shape:
            _checks.refuse("other", f"a mean of shape {self.mean.shape}", f"{other.mean.shape}")
        whole = copy.copy(self)
        whole.scatter = self.scatter.astype(np.result_type(self.scatter, other.scatter))
        return whole._absorb(other)

    def _absorb(self, other: Moments) -> Self:
        """Become the moments of both samples; the scatter, and only it, is changed in place."""
        total = self.sum_weights + other.sum_weights
        # the share of an empty part is 0, not 0/0
        share = other.sum_weights / np.where(total > 0, total, 1)
        delta = other.mean - self.mean
        mean = self.mean + share[..., None] * delta
        if self.third is not None:
            moved, added = self._about(mean), other._about(mean)
            self.third, self.fourth = moved[0] + added[0], moved[1] + added[1]
        self.scatter += other.scatter
        d = np.sqrt(self.sum_weights * share)[..., None] * delta
        self.scatter += _self_product(d[None])
        self.mean = mean
        self.sum_weights = total
        self.sum_squared_weights = self.sum_squared_weights + other.sum_squared_weights
        self.n_samples += other.n_samples
        return self

    def _about(self, mean: Array) -> tuple[Array, Array]:
        r"""Return the third and fourth moments about another mean, unweighted.

        With :math:`z = x - \bar x`, :math:`\sum z = 0` and :math:`\delta = \bar x - m`,

        .. math::
           \sum \lVert z + \delta \rVert^2 (z + \delta) &= t + \operatorname{tr}(M)\,\delta
               + 2 M \delta + n \lVert\delta\rVert^2 \delta , \\
           \sum \lVert z + \delta \rVert^4 &= q + 4\, t^T \delta + 4\, \delta^T M \delta
               + 2 \operatorname{tr}(M) \lVert\delta\rVert^2 + n \lVert\delta\rVert^4 .
        """
        assert self.third is not None
        assert self.fourth is not None
        d, n = self.mean - mean, self.sum_weights
        m_d = np.matmul(self.scatter, d[..., None])[..., 0]
        trace = np.trace(self.scatter, axis1=-2, axis2=-1)
        dd = np.vecdot(d, d)
        third = self.third + (trace + n * dd)[..., None] * d + 2 * m_d
        fourth = self.fourth + 4 * np.vecdot(self.third, d) + 4 * np.vecdot(d, m_d)
        return third, fourth + 2 * trace * dd + n * dd**2

    def cov(self, bias: bool = False, ddof: float | None = None) -> Array:
        """Return the covariance: the scatter over its divisor.

        Parameters
        ----------
        bias : bool, default False
            Whether `ddof` defaults to 0 instead of 1.
        ddof : float, optional
            Delta degrees of freedom; wins over `bias`.

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
        divisor = self.divisor(_ddof(bias, ddof))
        _warn_without_freedom(divisor)
        return _over(self.scatter, divisor, np.empty_like(self.scatter))

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
        return _divisor(self.sum_weights, self.sum_squared_weights, ddof)


def _divisor(w: Array, v: Array, ddof: float) -> Array:
    """Return w - ddof v / w; an empty sample has neither, and -ddof degrees of freedom."""
    some = w > 0
    return np.asarray(w - ddof * np.where(some, v, 1) / np.where(some, w, 1))


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
        Delta degrees of freedom, any real number; wins over `bias`.
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
    Moments : The state it is computed from, which merges.

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
    ddof = _ddof(bias, ddof)
    given = _checks.array("observations", observations, complex_ok=True)
    x, weights, result = _door(given, rowvar, aweights, fweights, dtype)
    *stack, n, c = x.shape
    out = np.empty((*stack, c, c), result)
    if out.size:
        total, squared = (w.sum(axis=-1) for w in weights or [np.ones(n), np.ones(n)])
        _warn_without_freedom(_divisor(total, squared, ddof))

    def kernel(x: Array, *rest: Array) -> tuple[()]:
        *w, s = rest
        m = of_block(x, *w, out=_room(s))
        _over(m.scatter, m.divisor(ddof), s)
        return ()

    _blocks.over_stack(
        kernel, tuple(stack), _operands(x, weights), [], into=[out], item_bytes=_item_bytes(n, c, result)
    )
    return out.reshape(()) if given.ndim <= 2 and c == 1 else out


def _warn_without_freedom(divisor: Array) -> None:
    """Warn the caller's caller, as `numpy.cov` does, of a divisor that is not positive."""
    if (divisor <= 0).any():
        warnings.warn("Degrees of freedom <= 0 for slice", RuntimeWarning, stacklevel=3)


def _over(scatter: Array, divisor: Array, out: Array) -> Array:
    """Write scatter / divisor; the parts of a complex one apart, which keeps it Hermitian."""
    divisor = np.maximum(divisor, 0).astype(scatter.real.dtype)[..., None, None]
    np.divide(scatter.real, divisor, out=out.real, casting="same_kind")
    if scatter.dtype.kind == "c":
        np.divide(scatter.imag, divisor, out=out.imag)
    return out


def of_block(x: Array, *weights: Array, out: Array, fourth: bool = False) -> Moments:
    """Return the moments of one block: ``(B, N, C)`` observations, ``(B, N)`` weights w and w a, or none.

    Computed in the dtype of `out`, which becomes the scatter. With `fourth`, for observations without
    weights, also the third and fourth.
    """
    b, n, c = x.shape
    pieces = _blocks.pieces(b, n * c * out.itemsize, least=NEIGHBOURS)
    if len(pieces) <= 1:
        return _of_piece(x, weights, out, fourth)
    parts = [_of_piece(x[i], [w[i] for w in weights], out[i], fourth) for i in pieces]

    def joined(name: str) -> Array:
        return np.concatenate([getattr(part, name) for part in parts])

    whole = Moments._of_parts(n, joined("sum_weights"), joined("sum_squared_weights"), joined("mean"), out)
    if fourth:
        whole.third, whole.fourth = joined("third"), joined("fourth")
    return whole


def _of_piece(x: Array, weights: Sequence[Array], out: Array, fourth: bool) -> Moments:
    """Return the moments of some items; samples too long for the caches are taken in runs of rows."""
    b, n, c = x.shape
    row_bytes = b * c * out.itemsize
    # a scatter to add costs as much as some rows
    least = min(2 * c, max(1, 4 * _blocks.BLOCK_BYTES // max(1, row_bytes)))
    runs = _blocks.pieces(n, row_bytes, least=least)
    if len(runs) <= 1:
        return _of_run(x, weights, out, fourth)
    reuse = _blocks.inside_walk()  # then one run is taken after the other

    def task(run: slice) -> Moments:
        own = out
        if run.start:
            own = scratch("run's scatter", out.shape, out.dtype) if reuse else np.empty_like(out)
        return _of_run(x[:, run], [w[:, run] for w in weights], own, fourth)

    parts: list[Moments] = []

    def take(part: Moments) -> None:
        if parts and fourth:
            parts[0]._absorb(part)
            return
        if parts:
            parts[0].scatter += part.scatter
            part.scatter = parts[0].scatter  # its own is done with
        parts.append(part)

    with _blocks.one_blas_thread():  # BLAS's own would be busy waiting for more long after a product
        _blocks.in_order(task, take, runs)
        return parts[0] if fourth else _united(parts)


def _united(parts: list[Moments]) -> Moments:
    """Merge the moments of runs at once, whose scatters are added up: the means have one of their own."""
    whole = parts[0]
    w = np.stack([part.sum_weights for part in parts])
    means = np.stack([part.mean for part in parts])
    whole.n_samples = sum(part.n_samples for part in parts)
    whole.sum_weights = w.sum(axis=0)
    whole.sum_squared_weights = np.stack([part.sum_squared_weights for part in parts]).sum(axis=0)
    # the share of an empty part is 0, not 0/0
    share = w / np.where(whole.sum_weights > 0, whole.sum_weights, 1)
    apart = means - means[0]
    middle = (share[..., None] * apart).sum(axis=0)
    whole.mean = (means[0] + middle).astype(whole.mean.dtype)
    d = (np.sqrt(w)[..., None] * (apart - middle)).astype(whole.mean.dtype)
    whole.scatter += _self_product(d, scratch("run's scatter", whole.scatter.shape, whole.scatter.dtype))
    return whole


def _of_run(x: Array, weights: Sequence[Array], out: Array, fourth: bool) -> Moments:
    """Return the moments of one run of rows, the scatter in `out`: shift, centre, self-product."""
    b, n, c = x.shape
    # rows outermost: what leaves the layout of the input costs least, and BLAS takes any row stride
    z = scratch("z", (n, b, c), out.dtype)
    if n == 0:
        nothing = np.zeros(b)
        return Moments._of_parts(n, nothing, nothing, np.zeros((b, c), out.dtype), _self_product(z, out))
    source = x.swapaxes(0, 1)
    if x.dtype != z.dtype or x.strides[2] != x.itemsize:
        z[...] = source  # together with a difference this would go element by element
        source = z
    if not weights:
        total = squared = np.full(b, float(n))
        mean = np.zeros((b, c), z.dtype)
        if not _sums_exactly(x.dtype, z.dtype):
            mean = source[0].copy()
            source = np.subtract(source, mean, out=z)
        offset = source.sum(axis=0) / n
        np.subtract(source, offset, out=z)
    else:
        w, wa = weights
        total, squared = w.sum(axis=1), wa.sum(axis=1)
        mean = source[np.argmax(w, axis=1), np.arange(b)]
        np.subtract(source, mean, out=z)
        v = w.T[..., None].astype(z.real.dtype)
        # a run may have no weight at all; its offset is then 0, not 0/0
        offset = (v * z).sum(axis=0) / np.where(total > 0, total, 1)[:, None].astype(v.dtype)
        z -= offset
        z *= np.sqrt(v)
    result = Moments._of_parts(n, total, squared, mean + offset, _self_product(z, out))
    if fourth:
        length = np.vecdot(z, z)
        result.third, result.fourth = (length[..., None] * z).sum(axis=0), (length**2).sum(axis=0)
    return result


def _sums_exactly(given: np.dtype[Any], working: np.dtype[Any]) -> bool:
    """Return whether sums of such numbers need no shift: single precision or less, summed in double.

    The terms of a sum far from zero have about one exponent, and 53 bits hold 2^29 numbers of 24;
    where exponents differ more the data are not far from zero, and rounding is as small as they are.
    """
    return given in (np.float16, np.float32) and working == np.float64


def _self_product(z: Array, out: Array | None = None) -> Array:
    """Return sum(z_i conj(z_j)) over the first axis of ``(N, ..., C)``, symmetric to the last bit."""
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


def _door(
    observations: ArrayLike,
    rowvar: bool,
    aweights: ArrayLike | None,
    fweights: ArrayLike | None,
    dtype: DTypeLike | None,
) -> tuple[Array, list[Array], np.dtype[Any]]:
    """Check the arguments; return (..., N, C) observations, [w, w a] or [], the result's dtype."""
    x = _checks.array("observations", observations, complex_ok=True)
    rowvar = _checks.flag("rowvar", rowvar)
    if dtype is None:
        result = np.result_type(x.dtype, np.float64)
    else:
        result = _checks.inexact("dtype", dtype, kinds="fc")
        if x.dtype.kind == "c" and result.kind != "c":
            _checks.refuse("dtype", "a complex dtype for complex observations", str(result), TypeError)
    if x.ndim < 2:
        x = x.reshape(-1, 1)
    elif rowvar:
        x = x.swapaxes(-1, -2)
    stack, n = x.shape[:-2], x.shape[-2]
    if (aweights is None and fweights is None) or n == 0:
        return x, [], result
    w = np.ones(n)
    if fweights is not None:
        w = _checks.weights("fweights", fweights, stack, n, whole=True)
    a = np.ones(n)
    if aweights is not None:
        a = _checks.weights("aweights", aweights, stack, n)
        w = w * a
        if not w.any(axis=-1).all():
            _checks.refuse("aweights", "a sample with both weights > 0", "aweights * fweights = 0")
    return x, [w, w * a], result


def _ddof(bias: bool, ddof: float | None) -> float:
    """Return the degrees of freedom that `bias` and `ddof` stand for; `ddof` wins."""
    bias = _checks.flag("bias", bias)
    return float(not bias) if ddof is None else _checks.number("ddof", ddof)


def _real(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the real dtype of the same precision, but at least double, for sums of weights."""
    return np.result_type(np.empty(0, dtype).real.dtype, np.float64)


def _room(result: Array) -> Array:
    """Return where to compute a result: there, but that half is no precision for sums."""
    return scratch("scatter", result.shape, np.float32) if result.dtype == np.float16 else result


def _operands(x: Array, weights: list[Array]) -> list[tuple[Array, int]]:
    """Return the operands of a walk, each with the number of its core axes."""
    return [(x, 2), *((w, 1) for w in weights)]


def _item_bytes(n: int, c: int, dtype: np.dtype[Any]) -> int:
    """Return what the moments of one item work on."""
    return (n + c) * c * dtype.itemsize
