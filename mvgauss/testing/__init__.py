"""Tools to test implementations: exact results, error bounds, checks, strategies, golden vectors.

`exact_cov` and the like compute in rational arithmetic and round once, `svd_gaussian` larger cases in
double. `cov_bound` and the like bound the error of a correct implementation. `check_cov` and the like
(`cov_checks`, ... for single laws) call an implementation and say which law it breaks. `load_vectors`
returns golden vectors. `mvgauss.testing.strategies` draws inputs; only this module needs Hypothesis
(``mvgauss[testing]``).
"""

import importlib
from types import ModuleType

from mvgauss.testing._bounds import cov_bound, distance_bound, mean_bound, pinv_bound
from mvgauss.testing._calls import assert_within
from mvgauss.testing._laws import Check as Check
from mvgauss.testing._oracle import exact_cov, exact_mahalanobis, exact_mean, exact_pinv
from mvgauss.testing._oracle_gaussian import exact_gaussian
from mvgauss.testing._oracle_svd import svd_gaussian
from mvgauss.testing._suites import (
    FEATURES,
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

# fmt: off
__all__ = [
    "FEATURES", "Vector", "assert_within", "check_cov", "check_gaussian",
    "check_mahalanobis", "check_pinv", "cov_bound", "cov_checks", "distance_bound", "exact_cov",
    "exact_gaussian", "exact_mahalanobis", "exact_mean", "exact_pinv", "gaussian_checks",
    "load_vectors", "mahalanobis_checks", "mean_bound", "pinv_bound", "pinv_checks", "svd_gaussian",
]
# fmt: on


def __getattr__(name: str) -> ModuleType:
    """Import the strategies, and Hypothesis with them, when they are asked for."""
    if name == "strategies":
        return importlib.import_module("mvgauss.testing.strategies")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
