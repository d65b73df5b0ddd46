"""What other people's test suites use: exact answers, bounds of errors, checks, strategies, vectors.

The oracle (`exact_cov`, `exact_mean`, `exact_pinv`, `exact_mahalanobis`, `exact_gaussian`) computes in
rational arithmetic and rounds once; `svd_gaussian` computes larger cases in double. The bounds
(`cov_bound`, `mean_bound`, `pinv_bound`, `distance_bound`) are the errors that a correct implementation
may have. The checks (`check_cov`,
`check_pinv`, `check_mahalanobis`, `check_gaussian`, and the iterators `cov_checks`, ... over single
laws) call an implementation and say which law it breaks. `load_vectors` gives the golden vectors, and
`mvgauss.testing.strategies` draws inputs; it alone needs Hypothesis (``mvgauss[testing]``).
"""

import importlib
from types import ModuleType

from mvgauss.testing._bounds import cov_bound, mean_bound
from mvgauss.testing._inverse_bounds import distance_bound, pinv_bound
from mvgauss.testing._laws import Check
from mvgauss.testing._oracle import exact_cov, exact_mean
from mvgauss.testing._oracle_gaussian import exact_gaussian, exact_mahalanobis, exact_pinv
from mvgauss.testing._oracle_svd import svd_gaussian
from mvgauss.testing._suites import (
    check_cov,
    check_gaussian,
    check_mahalanobis,
    check_pinv,
    cov_checks,
    gaussian_checks,
    mahalanobis_checks,
    pinv_checks,
)
from mvgauss.testing._vectors import Vector, load_vectors

__all__ = [
    "Check",
    "Vector",
    "check_cov",
    "check_gaussian",
    "check_mahalanobis",
    "check_pinv",
    "cov_bound",
    "cov_checks",
    "distance_bound",
    "exact_cov",
    "exact_gaussian",
    "exact_mahalanobis",
    "exact_mean",
    "exact_pinv",
    "gaussian_checks",
    "load_vectors",
    "mahalanobis_checks",
    "mean_bound",
    "pinv_bound",
    "pinv_checks",
    "svd_gaussian",
]


def __getattr__(name: str) -> ModuleType:
    """Import the strategies, and Hypothesis with them, when they are asked for."""
    if name == "strategies":
        return importlib.import_module("mvgauss.testing.strategies")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
