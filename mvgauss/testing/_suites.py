"""The checks of each function, to be run one by one or all at once."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from mvgauss.testing import _cov_contract, _cov_laws, _cov_weights, _distance_laws, _gaussian_laws, _pinv_laws
from mvgauss.testing._laws import Check, Implementation, hold, selected

__all__ = [
    "check_cov",
    "check_gaussian",
    "check_mahalanobis",
    "check_pinv",
    "cov_checks",
    "gaussian_checks",
    "mahalanobis_checks",
    "pinv_checks",
]


def cov_checks(
    *, skip: Collection[str] = (), dtype: DTypeLike = np.float64, beyond_numpy: bool = False
) -> list[Check]:
    """Return the checks of a covariance, one for each law.

    Parameters
    ----------
    skip : collection of str, optional
        Names of laws to leave out. An unknown name is an error.
    dtype : dtype, default float64
        ``float64`` for an implementation that computes in double, ``float32`` for one that computes
        in single: its data are single, it is held to the bounds of single, and the laws on dtypes
        are left out.
    beyond_numpy : bool, default False
        Whether to add two laws that `mvgauss.cov` keeps and `numpy.cov` does not.

    Returns
    -------
    list of Check
        For ``pytest.mark.parametrize("check", ...)``. Each is called with the implementation, and has a
        `name` and a `statement`.

    Raises
    ------
    ValueError
        If `skip` has an unknown name.

    See Also
    --------
    check_cov : All of them at once.

    Examples
    --------
    >>> from mvgauss import cov
    >>> from mvgauss.testing import cov_checks
    >>> for check in cov_checks(beyond_numpy=True):
    ...     check(cov)
    """
    kind = _real(dtype)
    laws = _cov_laws.LAWS + _cov_weights.LAWS + _cov_contract.LAWS + _double(kind, _cov_contract.DOUBLE)
    beyond = _cov_laws.BEYOND_NUMPY + _cov_weights.BEYOND_NUMPY if beyond_numpy else ()
    return selected(laws + beyond, kind, skip)


def check_cov(
    func: Implementation,
    *,
    skip: Collection[str] = (),
    dtype: DTypeLike = np.float64,
    beyond_numpy: bool = False,
) -> None:
    """Hold an implementation of a covariance to all laws.

    Parameters
    ----------
    func : callable
        Called as ``func(observations, rowvar=False, bias=False, ddof=None, aweights=None, *,
        fweights=None, dtype=None)`` with NumPy arrays, and only with the arguments that a law needs;
        what it returns is viewed as an array.
    skip, dtype, beyond_numpy : optional
        As in `cov_checks`.

    Raises
    ------
    AssertionError
        If a law is broken: the message has the law, the smallest input of those that were tried,
        what was expected and what came, for each of them.
    ValueError
        If `skip` has an unknown name.

    Examples
    --------
    >>> import mvgauss
    >>> from mvgauss.testing import check_cov
    >>> check_cov(mvgauss.cov)
    """
    hold(cov_checks(skip=skip, dtype=dtype, beyond_numpy=beyond_numpy), func)


def pinv_checks(*, skip: Collection[str] = (), dtype: DTypeLike = np.float64) -> list[Check]:
    """Return the checks of a pseudo-inverse of covariances, one for each law.

    Parameters
    ----------
    skip, dtype : optional
        As in `cov_checks`.

    Returns
    -------
    list of Check
        For ``pytest.mark.parametrize("check", ...)``. Each is called with the implementation.
    """
    kind = _real(dtype)
    return selected(_pinv_laws.LAWS + _double(kind, _pinv_laws.DOUBLE), kind, skip)


def check_pinv(func: Implementation, *, skip: Collection[str] = (), dtype: DTypeLike = np.float64) -> None:
    """Hold an implementation of a pseudo-inverse of covariances to all laws.

    Parameters
    ----------
    func : callable
        Called as ``func(covariance, rtol=None, *, return_rank=False)``.
    skip, dtype : optional
        As in `cov_checks`.

    Raises
    ------
    AssertionError
        If a law is broken, as in `check_cov`.
    ValueError
        If `skip` has an unknown name.

    Examples
    --------
    >>> import mvgauss
    >>> from mvgauss.testing import check_pinv
    >>> check_pinv(mvgauss.pinv)
    """
    hold(pinv_checks(skip=skip, dtype=dtype), func)


def mahalanobis_checks(*, skip: Collection[str] = (), dtype: DTypeLike = np.float64) -> list[Check]:
    """Return the checks of a Mahalanobis distance, one for each law.

    Parameters
    ----------
    skip, dtype : optional
        As in `cov_checks`.

    Returns
    -------
    list of Check
        For ``pytest.mark.parametrize("check", ...)``. Each is called with the implementation.
    """
    kind = _real(dtype)
    return selected(_distance_laws.LAWS + _double(kind, _distance_laws.DOUBLE), kind, skip)


def check_mahalanobis(
    func: Implementation, *, skip: Collection[str] = (), dtype: DTypeLike = np.float64
) -> None:
    """Hold an implementation of a Mahalanobis distance to all laws.

    Parameters
    ----------
    func : callable
        Called as ``func(x, mean, inv_covariance, *, squared=False)``.
    skip, dtype : optional
        As in `cov_checks`.

    Raises
    ------
    AssertionError
        If a law is broken, as in `check_cov`.
    ValueError
        If `skip` has an unknown name.

    Examples
    --------
    >>> import mvgauss
    >>> from mvgauss.testing import check_mahalanobis
    >>> check_mahalanobis(mvgauss.mahalanobis)
    """
    hold(mahalanobis_checks(skip=skip, dtype=dtype), func)


def gaussian_checks(
    *, skip: Collection[str] = (), dtype: DTypeLike = np.float64, reg_covar: float = 0.01
) -> list[Check]:
    """Return the checks of an estimator of one Gaussian for each patch, one for each law.

    Parameters
    ----------
    skip, dtype : optional
        As in `cov_checks`.
    reg_covar : float, default 0.01
        Ridge that the estimator adds to the diagonal: 0.01 for anomalib up to 1.2, 0.01001 for 2.x.

    Returns
    -------
    list of Check
        For ``pytest.mark.parametrize("check", ...)``. Each is called with what makes an estimator.
    """
    kind = _real(dtype)
    return selected(_gaussian_laws.LAWS + _double(kind, _gaussian_laws.DOUBLE), kind, skip, float(reg_covar))


def check_gaussian(
    factory: Callable[[], Any],
    *,
    skip: Collection[str] = (),
    dtype: DTypeLike = np.float64,
    reg_covar: float = 0.01,
) -> None:
    """Hold an estimator of one Gaussian for each patch to all laws.

    Parameters
    ----------
    factory : callable
        Without arguments; makes an estimator with ``fit(embedding)``, for ``(N, C, H, W)``, and
        then `mean`, ``(C, P)``, and `inv_covariance`, ``(P, C, C)``.
    skip, dtype, reg_covar : optional
        As in `gaussian_checks`.

    Raises
    ------
    AssertionError
        If a law is broken, as in `check_cov`.
    ValueError
        If `skip` has an unknown name.

    Examples
    --------
    >>> import mvgauss
    >>> from mvgauss.testing import check_gaussian
    >>> check_gaussian(mvgauss.MultiVariateGaussian)
    """
    hold(gaussian_checks(skip=skip, dtype=dtype, reg_covar=reg_covar), factory)


def _real(dtype: DTypeLike) -> np.dtype[Any]:
    """Return the dtype in which an implementation computes: single or double."""
    kind = np.dtype(dtype)
    if kind not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ValueError(f"dtype: expected float32 or float64, got {kind}")
    return kind


def _double(kind: np.dtype[Any], laws: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the laws of double precision where it is asked for."""
    return laws if kind == np.float64 else ()
