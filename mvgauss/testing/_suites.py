"""The checks of each function, to be run one by one or all at once."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from mvgauss.testing import _cov_contract, _cov_laws, _gaussian_laws, _inverse_laws
from mvgauss.testing._calls import Array
from mvgauss.testing._laws import Suite, hold

_LAWS, _FEATURES = _cov_laws.LAWS + _cov_contract.LAWS, _cov_contract.FEATURES
_COV = Suite("cov", "func", _LAWS, _FEATURES, _cov_contract.BEYOND_NUMPY)
_PINV = Suite("pinv", "func", _inverse_laws.PINV_LAWS, _inverse_laws.PINV_FEATURES)
_MAHALANOBIS = Suite("mahalanobis", "func", _inverse_laws.DISTANCE_LAWS, _inverse_laws.DISTANCE_FEATURES)
_GAUSSIAN = Suite(
    "gaussian", "factory", _gaussian_laws.LAWS, _gaussian_laws.FEATURES, more=(("reg_covar", 0.01),)
)

#: The features of each function, and what they mean.
FEATURES: dict[str, dict[str, str]] = {
    suite.name: suite.features for suite in (_COV, _PINV, _MAHALANOBIS, _GAUSSIAN)
}


def check_cov(
    func: Callable[..., Any],
    *,
    features: Collection[str] | None = None,
    skip: Collection[str] = (),
    dtype: DTypeLike = np.float64,
    asarray: Callable[[Array], Any] | None = None,
    beyond_numpy: bool = False,
) -> None:
    """Check an implementation of a covariance against all laws that apply to it.

    Parameters
    ----------
    func : callable
        Called as ``func(observations, rowvar=False, bias=False, ddof=None, aweights=None, *,
        fweights=None, dtype=None)``, and only with the arguments that a law needs.
    features : collection of str, optional
        What the implementation has beyond ``func(observations)``: some of ``FEATURES["cov"]``. Laws of
        other features are left out. By default what a loop of `numpy.cov` over a stack has.
    skip : collection of str, optional
        Names of single laws to leave out.
    dtype : dtype, default float64
        In which the implementation computes. With ``float32`` its data and the bounds are those of
        single precision, and features on dtypes are left out.
    asarray : callable, optional
        Converts NumPy's arrays to those that the implementation takes, such as `torch.asarray`. Results
        are converted back by ``__array__`` or ``__dlpack__``. With it, features of NumPy's arrays
        (``layouts``, ``lists``, ``long_double``) are left out by default.
    beyond_numpy : bool, default False
        Whether to add the features that `mvgauss.cov` has and `numpy.cov` has not.

    Raises
    ------
    AssertionError
        With each broken law, its first failing input, the expected and the actual result.

    Examples
    --------
    >>> import mvgauss
    >>> from mvgauss.testing import check_cov
    >>> check_cov(mvgauss.cov)
    >>> check_cov(lambda x: (x - x.mean(axis=0)).T @ (x - x.mean(axis=0)) / (len(x) - 1), features=[])
    """
    hold(_COV.checks(features, skip, dtype, asarray, beyond_numpy), func)


def check_pinv(func: Callable[..., Any], **options: Any) -> None:
    """Check an implementation of a pseudo-inverse against all laws that apply to it.

    Parameters
    ----------
    func : callable
        Called as ``func(covariance, rtol=None, *, return_rank=False)``.
    **options
        `features` (of ``FEATURES["pinv"]``, by default all), `skip`, `dtype`, `asarray`: see `check_cov`.
    """
    hold(pinv_checks(**options), func)


def check_mahalanobis(func: Callable[..., Any], **options: Any) -> None:
    """Check an implementation of a Mahalanobis distance against all laws that apply to it.

    Parameters
    ----------
    func : callable
        Called as ``func(x, mean, inv_covariance, *, squared=False)``.
    **options
        As in `check_pinv`, with features of ``FEATURES["mahalanobis"]``.
    """
    hold(mahalanobis_checks(**options), func)


def check_gaussian(factory: Callable[[], Any], *, reg_covar: float = 0.01, **options: Any) -> None:
    """Check an estimator of one Gaussian for each patch against all laws that apply to it.

    Parameters
    ----------
    factory : callable
        Without arguments; makes an estimator with ``fit(embedding)``, for ``(N, C, H, W)``, and
        then `mean`, ``(C, P)``, and `inv_covariance`, ``(P, C, C)``.
    reg_covar : float, default 0.01
        Ridge that the estimator adds to the diagonal: 0.01 for anomalib up to 1.2, 0.01001 for 2.x.
    **options
        As in `check_pinv`, with features of ``FEATURES["gaussian"]``.
    """
    hold(gaussian_checks(reg_covar=reg_covar, **options), factory)


cov_checks, pinv_checks = _COV.checks, _PINV.checks
mahalanobis_checks, gaussian_checks = _MAHALANOBIS.checks, _GAUSSIAN.checks
